"""What every generator promises, whatever its architecture."""

import json

import numpy as np
import pytest
import torch

from ehmfaces.errors import LatentError
from ehmfaces.hub import load_pipeline
from ehmfaces.models.stylegan2 import StyleGAN2Generator
from ehmfaces.models.stylegan3 import StyleGAN3Generator
from ehmfaces.pipeline import FacePipeline


def build(name, c_dim=0):
    torch.manual_seed(5)
    shared = {"z_dim": 8, "c_dim": c_dim, "w_dim": 16, "img_resolution": 64}
    shared["mapping_kwargs"] = {"num_layers": 2}
    widths = {"channel_base": 512, "channel_max": 40}  # some layers go in pieces, some sample by sample
    if name == "stylegan2":
        G = StyleGAN2Generator(**shared, synthesis_kwargs=widths)
    elif name == "stylegan3-t":
        G = StyleGAN3Generator(**shared, **widths, num_layers=6)
    else:
        G = StyleGAN3Generator(**shared, **widths, num_layers=6, conv_kernel=1, use_radial_filters=True)
    with torch.no_grad():
        G.mapping.w_avg.normal_()
        for key, value in G.named_parameters():
            if key.endswith(("bias", "noise_strength")) and "affine" not in key:
                value.normal_(std=0.2)
    return G.eval()


@pytest.fixture(params=["stylegan2", "stylegan3-t", "stylegan3-r"])
def generator(request):
    return build(request.param)


@pytest.fixture
def z():
    return torch.from_numpy(np.random.RandomState(1).randn(3, 8))


def near(a, b, atol=1e-4):
    return (a - b).abs().max() <= atol * max(1.0, float(b.detach().abs().max()))


def test_shape_dtype_and_determinism(generator, z):
    with torch.no_grad():
        first, second = generator(z), generator(z)
    assert first.shape == (3, 3, 64, 64)
    assert first.dtype == torch.float32
    assert torch.equal(first, second)
    assert first.std() > 0.01


def test_inference_equals_the_differentiable_path_and_batches_change_nothing(generator, z):
    with torch.inference_mode():
        fast = generator(z)
        alone = torch.cat([generator(row[None]) for row in z])
    slow = generator(z)
    assert slow.requires_grad
    assert near(fast, slow)
    assert near(alone, slow)


def test_gradients_reach_every_weight_and_the_ws(generator, z):
    ws = generator.mapping(z).detach().requires_grad_()
    grads = torch.autograd.grad(
        generator.synthesis(ws, "const").square().mean(), [ws, *generator.synthesis.parameters()]
    )
    assert all(torch.isfinite(grad).all() and grad.abs().max() > 0 for grad in grads)


def test_psi_one_is_off_and_psi_zero_is_the_average(generator, z):
    with torch.no_grad():
        assert torch.equal(generator.mapping(z, None, 1.0), generator.mapping(z))
        average = generator.mapping(z, None, 0.0)
        assert torch.allclose(average[0, 0], generator.mapping.w_avg)
        cut = generator.mapping(z, None, 0.5, 2)
        assert torch.equal(cut[:, 2:], generator.mapping(z)[:, 2:])
        assert not torch.equal(cut[:, :2], generator.mapping(z)[:, :2])


def test_noise_modes(generator, z):
    with torch.no_grad():
        images = [generator(z, noise_mode=mode) for mode in ("const", "none", "random")]
    same = torch.equal(images[0], images[1]) and torch.equal(images[0], images[2])
    assert same == isinstance(generator, StyleGAN3Generator)


def test_modes_leave_the_weights_alone(generator, z):
    with torch.no_grad():
        before = generator(z)
        state = {key: value.clone() for key, value in generator.state_dict().items()}
        generator.train().eval()
        assert all(torch.equal(state[key], value) for key, value in generator.state_dict().items())
        assert torch.equal(generator(z), before)


def test_saved_and_loaded_it_makes_the_same_pictures(generator, tmp_path):
    pipeline = FacePipeline(generator, "tests/contract")
    pipeline.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    name = type(generator).__name__
    assert index["generator"] == [f"ehmfaces.models.{name.removesuffix('Generator').lower()}", name]
    loaded = load_pipeline(str(tmp_path), "cpu")
    assert loaded.model_hash == pipeline.model_hash
    assert np.array_equal(np.asarray(loaded([3]).images[0]), np.asarray(pipeline([3]).images[0]))
    for key, value in generator.state_dict().items():  # the layout that makes it fast
        assert loaded.generator.state_dict()[key].stride() == value.stride(), key


@pytest.mark.parametrize("name", ["stylegan2", "stylegan3-t"])
def test_labels_change_the_face(name, z):
    G = build(name, c_dim=3)
    with torch.no_grad():
        one, other = (G(z[:1], torch.eye(3)[k : k + 1]) for k in (0, 1))
    assert (one - other).abs().max() > 1e-3
    assert FacePipeline(G)([1]).images[0].size == (64, 64)


def test_only_stylegan3_turns_and_shifts(generator):
    pipeline = FacePipeline(generator)
    still = np.asarray(pipeline([1]).images[0], float)
    assert np.array_equal(np.asarray(pipeline([1], rotation_deg=0.0, translation=(0, 0)).images[0]), still)
    if isinstance(generator, StyleGAN2Generator):
        with pytest.raises(LatentError, match="only StyleGAN3 can"):
            pipeline([1], rotation_deg=5)
        with pytest.raises(LatentError, match="only StyleGAN3 can"):
            pipeline([1], translation=(0.1, 0))
    else:
        moved = np.asarray(pipeline([1], translation=(0.125, 0)).images[0], float)
        inner = np.abs(moved[20:-20, 24:-16] - still[20:-20, 16:-24]).mean()
        assert inner < 0.2 * np.abs(moved - still)[20:-20, 20:-20].mean()
    with pytest.raises(LatentError, match="not a number of degrees"):
        pipeline([1], rotation_deg=float("nan"))
    with pytest.raises(LatentError, match="not two numbers"):
        pipeline([1], translation=(0.1,))


def test_layers_that_cannot_be_are_a_sentence():
    with pytest.raises(ValueError, match="num_critical 4 is not a number from 0 to below 4"):
        StyleGAN3Generator(8, 0, 8, 16, 3, num_layers=4, num_critical=4)
