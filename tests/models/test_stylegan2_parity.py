"""Our StyleGAN2 against vectors of the official networks."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ehmfaces.models.stylegan2 import StyleGAN2Discriminator, StyleGAN2Generator, truncate

PARITY = Path(__file__).resolve().parents[3] / "shared" / "parity"
NAMES = ["sg2_32", "sg2_32_cond", "sg2_32_resnet_noclamp", "sg2_64"]
ATOL = 1e-4

pytestmark = pytest.mark.skipif(not PARITY.is_dir(), reason="the parity vectors are not beside the checkout")


def load(name, kind, cls):
    config = json.loads((PARITY / f"{name}_{kind}.json").read_text())["init_kwargs"]
    model = cls(**config)
    model.load_state_dict(load_file(PARITY / f"{name}_{kind}.safetensors"))
    return model.eval()


@pytest.fixture(params=NAMES)
def case(request):
    vectors = dict(np.load(PARITY / f"{request.param}.npz"))
    return request.param, {key: value for key, value in vectors.items() if value.dtype.kind != "U"}, vectors


def tensor(array):
    return torch.from_numpy(np.asarray(array)).float() if array.dtype != np.int64 else torch.from_numpy(array)


def close(actual, expected, atol=ATOL):
    scale = max(1.0, float(np.abs(expected).max()))
    assert np.abs(actual.detach().numpy() - expected).max() <= atol * scale


def test_mapping_and_truncation(case):
    name, v, _ = case
    G = load(name, "G", StyleGAN2Generator)
    z, c = torch.from_numpy(v["z"]), tensor(v["c"])
    close(G.mapping(z, c), v["w"], 1e-5)
    close(G.mapping(z, c, truncation_psi=0.7), v["w_psi07"], 1e-5)
    close(G.mapping(z, c, truncation_psi=0.5, truncation_cutoff=4), v["w_psi05_cut4"], 1e-5)


@pytest.mark.parametrize("grad", [True, False])
def test_pictures(case, grad):
    name, v, _ = case
    G = load(name, "G", StyleGAN2Generator)
    checks = {
        "img_const": ("w", "const"),
        "img_none": ("w", "none"),
        "img_const_psi07": ("w_psi07", "const"),
        "img_const_psi05_cut4": ("w_psi05_cut4", "const"),
        "img_mix_const": ("mix_w_row0_col1_layers0to2", "const"),
    }
    with torch.set_grad_enabled(grad):
        for key, (ws, noise_mode) in checks.items():
            if key in v:
                count = len(v[key])
                close(G.synthesis(tensor(v[ws])[:count], noise_mode), v[key])


def test_pictures_as_uint8(case):
    name, v, _ = case
    if "img_const_uint8_nhwc" not in v:
        pytest.skip("no such vector")
    G = load(name, "G", StyleGAN2Generator)
    with torch.no_grad():
        img = G(torch.from_numpy(v["z"]), tensor(v["c"]))
    pixels = (img.permute(0, 2, 3, 1) * 127.5 + 128).clamp(0, 255).to(torch.uint8).numpy()
    difference = np.abs(pixels.astype(int) - v["img_const_uint8_nhwc"].astype(int))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


def test_mixing_takes_layers_from_the_other_seed(case):
    _, v, _ = case
    ws = tensor(v["w"])
    mixed = ws[:1].clone()
    mixed[:, 0:3] = ws[1:2, 0:3]
    other = ws[1:2].clone()
    other[:, 0:3] = ws[0:1, 0:3]
    expected = v["mix_w_row0_col1_layers0to2"]
    assert min(np.abs(m.numpy() - expected).max() for m in (mixed, other)) < 1e-6


def test_discriminator_logits(case):
    name, v, _ = case
    D = load(name, "D", StyleGAN2Discriminator)
    img, c = tensor(v["D_img_uint8"]) / 127.5 - 1, tensor(v["D_c"])
    close(D(img, c), v["D_logits"])
    close(D(img[:4], c[:4]), v["D_logits_first4"])
    close(D(img[:1], c[:1]), v["D_logits_first1"])
    with torch.no_grad():
        fake = load(name, "G", StyleGAN2Generator)(torch.from_numpy(v["z"]), tensor(v["c"]))
    close(D(fake, tensor(v["c"])), v["D_logits_of_img_const"])


@pytest.mark.parametrize("name", ["sg2_32", "sg2_32_cond"])
def test_r1_and_discriminator_gradients(name):
    v = dict(np.load(PARITY / f"{name}.npz"))
    D = load(name, "D", StyleGAN2Discriminator)
    img, c = (tensor(v["D_img_uint8"])[:4] / 127.5 - 1).requires_grad_(), tensor(v["D_c"])[:4]
    logits = D(img, c)
    (grad,) = torch.autograd.grad(logits.sum(), img, create_graph=True)
    penalty = grad.square().sum([1, 2, 3])
    close(penalty, v["r1_penalty"], 1e-5)
    loss = (torch.nn.functional.softplus(-logits) + penalty[:, None] * (10 / 2)).mean()
    close(loss, v["D_loss_real_plus_r1_gamma10"])
    loss.backward()
    gradients = {key: p.grad for key, p in D.named_parameters()}
    for key, norm in zip(v["D_grad_names"], v["D_grad_norms"], strict=True):
        assert float(gradients[str(key)].norm()) == pytest.approx(norm, rel=2e-3, abs=1e-5)


@pytest.mark.parametrize("name", ["sg2_32", "sg2_32_cond"])
def test_path_lengths_and_generator_gradients(name):
    # In double precision: in float32 an activation near 0 may fall on either side of the leaky ReLU's kink,
    # which depends on the processor and changes a gradient by a thousandth.
    v = dict(np.load(PARITY / f"{name}.npz"))
    G = load(name, "G", StyleGAN2Generator)
    G.synthesis.double()
    c = tensor(v["c"])[:2]
    ws = G.mapping(torch.from_numpy(v["z"])[:2], c).double()
    img = G.synthesis(ws, "const")
    noise = tensor(v["pl_noise_f16"]).double() / img.shape[2]
    (grad,) = torch.autograd.grad((img * noise).sum(), ws, create_graph=True)
    lengths = grad.square().sum(2).mean(1).sqrt()
    close(lengths, v["pl_lengths"], 1e-5)
    D = load(name, "D", StyleGAN2Discriminator)
    for block_name, block in D.named_children():
        if block_name != "mapping":  # labels are embedded in float32
            block.double()
    loss = torch.nn.functional.softplus(-D(img, c)).mean() + 2 * (lengths - 0.5).square().mean()
    loss.backward()  # pl_weight 2, running mean of path lengths 0.5
    gradients = {key: p.grad for key, p in G.named_parameters()}
    for key, norm in zip(v["G_grad_names"], v["G_grad_norms"], strict=True):
        assert float(gradients[str(key)].norm()) == pytest.approx(norm, rel=1e-4, abs=1e-6), key


def test_truncation_of_one_changes_nothing():
    ws = torch.randn(2, 4, 8)
    assert torch.allclose(truncate(ws, torch.randn(8), 1.0, None), ws, atol=1e-6)
