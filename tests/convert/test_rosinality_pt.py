""".pt files of stylegan2-pytorch, against a slow formulation written from the meaning of that layout."""

import argparse

import numpy as np
import pytest
import torch

from ehmfaces.convert.checkpoint import hash_weights, import_checkpoint, save_checkpoint
from ehmfaces.errors import UnsupportedModelError
from tests.convert.foreign_files import torch_bytes
from tests.convert.naive_stylegan2 import dense, discriminate, normalised, synthesise

RESOLUTION = 16
WIDTHS = {4: 10, 8: 10, 16: 6}
W_DIM = 12
TAPS = torch.tensor([1.0, 3.0, 3.0, 1.0])


def style_layer(prefix, inputs, outputs, kernel):
    return {
        f"{prefix}.conv.weight": torch.randn(1, outputs, inputs, kernel, kernel),
        f"{prefix}.conv.modulation.weight": torch.randn(inputs, W_DIM),
        f"{prefix}.conv.modulation.bias": torch.rand(inputs) + 0.5,
    }


def generator_state(seed=0):
    torch.manual_seed(seed)
    state = {"input.input": torch.randn(1, 10, 4, 4)}
    for index in (1, 2):
        state |= {
            f"style.{index}.weight": torch.randn(W_DIM, W_DIM) / 0.01,
            f"style.{index}.bias": torch.randn(W_DIM),
        }
    kernel = torch.outer(TAPS, TAPS) / TAPS.sum() ** 2 * 4
    names = {"conv1": (10, 10, 4), "convs.0": (10, 10, 8), "convs.1": (10, 10, 8), "convs.2": (10, 6, 16)}
    names["convs.3"] = (6, 6, 16)
    for number, (name, (inputs, outputs, res)) in enumerate(names.items()):
        state |= style_layer(name, inputs, outputs, 3)
        state[f"{name}.noise.weight"] = torch.randn(1)
        state[f"{name}.activate.bias"] = torch.randn(outputs)
        state[f"noises.noise_{number}"] = torch.randn(1, 1, res, res)
        if name in ("convs.0", "convs.2"):
            state[f"{name}.conv.blur.kernel"] = kernel
    for name, width in (("to_rgb1", 10), ("to_rgbs.0", 10), ("to_rgbs.1", 6)):
        state |= {**style_layer(name, width, 3, 1), f"{name}.bias": torch.randn(1, 3, 1, 1)}
        if name != "to_rgb1":
            state[f"{name}.upsample.kernel"] = kernel
    return state


def discriminator_state(seed=2):
    torch.manual_seed(seed)
    kernel = torch.outer(TAPS, TAPS) / TAPS.sum() ** 2
    state = {
        "convs.0.0.weight": torch.randn(6, 3, 1, 1),
        "convs.0.1.bias": torch.randn(6),
        "final_conv.0.weight": torch.randn(10, 11, 3, 3),
        "final_conv.1.bias": torch.randn(10),
        "final_linear.0.weight": torch.randn(10, 160),
        "final_linear.0.bias": torch.randn(10),
        "final_linear.1.weight": torch.randn(1, 10),
        "final_linear.1.bias": torch.randn(1),
    }
    for index, inputs, outputs in ((1, 6, 10), (2, 10, 10)):
        state |= {
            f"convs.{index}.conv1.0.weight": torch.randn(inputs, inputs, 3, 3),
            f"convs.{index}.conv1.1.bias": torch.randn(inputs),
            f"convs.{index}.conv2.0.kernel": kernel,
            f"convs.{index}.conv2.1.weight": torch.randn(outputs, inputs, 3, 3),
            f"convs.{index}.conv2.2.bias": torch.randn(outputs),
            f"convs.{index}.skip.0.kernel": kernel,
            f"convs.{index}.skip.1.weight": torch.randn(outputs, inputs, 1, 1),
        }
    return state


def written(tmp_path, content, legacy=False, name="faces.pt"):
    path = tmp_path / name
    path.write_bytes(torch_bytes(content, legacy))
    return path


def expected_picture(state, z):
    x = normalised(z)
    for index in (1, 2):
        x = dense(x, state[f"style.{index}.weight"].double(), state[f"style.{index}.bias"].double(), 0.01)

    def parts(prefix, bias):
        return {
            "weight": state[f"{prefix}.conv.weight"][0].double(),
            "bias": state[bias].double().flatten(),
            "affine_weight": state[f"{prefix}.conv.modulation.weight"].double(),
            "affine_bias": state[f"{prefix}.conv.modulation.bias"].double(),
        }

    def layer(res, index):
        number = {4: 0, 8: 1, 16: 3}[res] + (index if res > 4 else 0)
        name = "conv1" if res == 4 else f"convs.{number - 1}"
        found = parts(name, f"{name}.activate.bias")
        if index == 0:  # a transposed convolution: the mirror image of zeros in between and a convolution
            found["weight"] = found["weight"].flip(2, 3)
        noise = state[f"noises.noise_{number}"][0, 0].double()
        return {**found, "noise": noise, "strength": state[f"{name}.noise.weight"].double()}

    def to_rgb(res):
        name = "to_rgb1" if res == 4 else f"to_rgbs.{res.bit_length() - 4}"
        return parts(name, f"{name}.bias")

    return x, synthesise(x, RESOLUTION, state["input.input"][0].double(), layer, to_rgb)


@pytest.mark.parametrize("legacy", [False, True])
def test_generators_give_the_picture_that_the_layout_means(legacy, tmp_path):
    state, average = generator_state(), torch.randn(W_DIM)
    content = {"g_ema": state, "g": generator_state(1), "d": discriminator_state(), "latent_avg": average}
    path = written(tmp_path, content, legacy)
    imported = import_checkpoint(path)
    z = torch.randn(W_DIM).double()
    w, picture = expected_picture(state, z)
    with torch.no_grad():
        ws = imported.mapping(z[None].float())
        img = imported.synthesis(ws, "const")
    assert torch.allclose(ws[0, 0].double(), w, atol=1e-4)
    assert torch.allclose(img[0].double(), picture, atol=2e-4 * float(picture.abs().max()))
    assert torch.equal(imported.mapping.w_avg, average)
    assert hash_weights(import_checkpoint(path, "G")) != hash_weights(imported)


def test_discriminators(tmp_path):
    state = discriminator_state()
    saved = save_checkpoint(written(tmp_path, {"d": state, "g_ema": {}}), tmp_path / "out", "D")

    def weights(layer):
        res, _, name = layer.rpartition(".")
        index = {"16": 1, "8": 2}.get(res)
        places = {
            "fromrgb": ("convs.0.0", "convs.0.1"),
            "conv0": (f"convs.{index}.conv1.0", f"convs.{index}.conv1.1"),
            "conv1": (f"convs.{index}.conv2.1", f"convs.{index}.conv2.2"),
            "skip": (f"convs.{index}.skip.1", ""),
            "conv": ("final_conv.0", "final_conv.1"),
            "fc": ("final_linear.0", "final_linear.0"),
            "out": ("final_linear.1", "final_linear.1"),
        }
        weight, bias = places[name]
        return state[f"{weight}.weight"].double(), state[f"{bias}.bias"].double() if bias else None

    img = torch.randn(4, 3, 16, 16)
    expected = discriminate(img.double(), RESOLUTION, weights)
    with torch.no_grad():
        logits = saved.model(img)[:, 0].double()
    assert torch.allclose(logits, expected, atol=1e-4 * float(expected.abs().max()))


def test_training_checkpoints_hold_more(tmp_path):
    torch.manual_seed(0)
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    content = {
        "g_ema": {f"module.{name}": value for name, value in generator_state().items()},
        "g_optim": optimizer.state_dict(),
        "args": argparse.Namespace(path="/data", size=RESOLUTION, lr=0.002, mixing=0.9),
        "ada_aug_p": 0.25,
    }
    assert import_checkpoint(written(tmp_path, content)).img_resolution == RESOLUTION


def test_the_average_is_computed_when_it_is_not_stored(tmp_path):
    imported = import_checkpoint(written(tmp_path, {"g_ema": generator_state()}))
    z = torch.from_numpy(np.random.RandomState(0).randn(4096, W_DIM)).float()
    with torch.no_grad():
        assert torch.allclose(imported.mapping(z)[:, 0].mean(dim=0), imported.mapping.w_avg, atol=1e-3)


def test_files_without_kernels_get_the_usual_one(tmp_path):
    state = {name: value for name, value in generator_state().items() if not name.endswith("kernel")}
    whole = import_checkpoint(written(tmp_path, {"g_ema": generator_state()}))
    assert hash_weights(import_checkpoint(written(tmp_path, {"g_ema": state}))) == hash_weights(whole)


def test_files_from_before_noise_was_stored_get_one(tmp_path):
    state = {name: value for name, value in generator_state().items() if not name.startswith("noises")}
    state["convs.0.activate.bias"] = state["convs.0.activate.bias"].reshape(1, -1, 1, 1)
    first, second = (import_checkpoint(written(tmp_path, {"g_ema": state})) for _ in range(2))
    assert hash_weights(first) == hash_weights(second)
    assert 0.5 < float(first.synthesis.b16.conv1.noise_const.std()) < 1.5


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"style.1.weight": None}, "style.1.weight is missing"),
        ({"style.1.weight": None, "style.2.weight": None}, "has 0 mapping layers"),
        ({"conv1.activate.bias": None}, "conv1.activate.bias is missing"),
        ({"input.input": torch.randn(10)}, "input.input is [10]"),
        ({"more": torch.randn(1)}, "'more' is unknown"),
        ({"more": "text"}, "'more' is no tensor"),
        ({"convs.1.conv.weight": torch.randn(1, 9, 10, 3, 3)}, "unusual widths"),
        ({"convs.0.conv.blur.kernel": torch.randn(3, 4)}, "is [3, 4]"),
        ({"conv1.noise.weight": torch.randn(3)}, "noise_strength is [3] and not []"),
        ({f"to_rgbs.{index}.bias": torch.zeros(3) for index in range(12)}, "has 12 blocks"),
    ],
)
def test_other_networks_are_refused(change, sentence, tmp_path):
    state = {**generator_state(), **change}
    state = {name: value for name, value in state.items() if value is not None}
    with pytest.raises(UnsupportedModelError) as caught:
        import_checkpoint(written(tmp_path, {"g_ema": state}))
    assert sentence in str(caught.value)


def test_what_is_not_there(tmp_path):
    path = written(tmp_path, {"g": generator_state()})
    with pytest.raises(UnsupportedModelError, match=r'holds no "g_ema". It holds: G'):
        import_checkpoint(path)
    with pytest.raises(UnsupportedModelError, match="It holds: no network"):
        import_checkpoint(written(tmp_path, [1]))
