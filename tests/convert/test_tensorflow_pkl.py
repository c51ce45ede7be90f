"""TensorFlow pickles, against a slow formulation written from the meaning of TensorFlow's layout."""

import numpy as np
import pytest
import torch

from ehmfaces.convert.checkpoint import hash_weights, import_checkpoint, import_nvidia_pkl, save_checkpoint
from ehmfaces.errors import UnsupportedModelError
from tests.convert.foreign_files import dumps, tensorflow_network
from tests.convert.naive_stylegan2 import dense, discriminate, normalised, synthesise

RESOLUTION = 16
WIDTHS = {4: 10, 8: 10, 16: 6}
SETTINGS = {"resolution": RESOLUTION, "num_channels": 3, "fmap_base": 48, "fmap_max": 10}
W_DIM = 12


class Numbers:
    """Random float32 arrays of a fixed seed."""

    def __init__(self, seed):
        self.random = np.random.RandomState(seed)

    def __call__(self, *shape):
        return self.random.randn(*shape).astype(np.float32)


def style_layer(numbers, inputs, outputs, kernel):
    return {
        "weight": np.asfortranarray(numbers(kernel, kernel, inputs, outputs)),
        "bias": numbers(outputs),
        "mod_weight": numbers(W_DIM, inputs),
        "mod_bias": numbers(inputs),
    }


def generator_networks(architecture="skip", c_dim=0, seed=0):
    """Return the variables of mapping, synthesis and their parent."""
    n = Numbers(seed)
    mapping = {}
    if c_dim:
        mapping |= {"LabelEmbed/weight": n(c_dim, W_DIM), "LabelEmbed/bias": n(W_DIM)}
    for index in range(2):
        inputs = (8 + (W_DIM if c_dim else 0)) if index == 0 else W_DIM
        mapping |= {f"Dense{index}/weight": n(inputs, W_DIM) / 0.01, f"Dense{index}/bias": n(W_DIM) / 0.01}
    synthesis = {"4x4/Const/const": n(1, 10, 4, 4), "lod": np.float32(0)}
    number = 0
    for res, width in WIDTHS.items():
        below = WIDTHS.get(res // 2)
        layers = (
            {"Conv": (width, width)} if res == 4 else {"Conv0_up": (below, width), "Conv1": (width, width)}
        )
        for name, (inputs, outputs) in layers.items():
            layer = {**style_layer(n, inputs, outputs, 3), "noise_strength": np.float32(0.3)}
            synthesis |= {f"{res}x{res}/{name}/{key}": value for key, value in layer.items()}
            synthesis[f"noise{number}"] = n(1, 1, res, res)
            number += 1
        if architecture == "skip" or res == RESOLUTION:
            layer = style_layer(n, width, 3, 1)
            synthesis |= {f"{res}x{res}/ToRGB/{key}": value for key, value in layer.items()}
        if architecture == "resnet" and res > 4:
            synthesis[f"{res}x{res}/Skip/weight"] = n(1, 1, below, width)
    return {"dlatent_avg": n(W_DIM)}, mapping, synthesis


def generator(architecture="skip", c_dim=0, seed=0, **more):
    variables, mapping, synthesis = generator_networks(architecture, c_dim, seed)
    keywords = {
        **SETTINGS,
        "latent_size": 8,
        "dlatent_size": W_DIM,
        "label_size": c_dim,
        "mapping_layers": 2,
        "architecture": architecture,
        "mapping_fmaps": W_DIM,
        **more,
    }
    parts = {
        "mapping": tensorflow_network(mapping, keywords, function="G_mapping"),
        "synthesis": tensorflow_network(synthesis, keywords, function="G_synthesis"),
    }
    return tensorflow_network(variables, keywords, parts)


def discriminator(seed=5, function="D_stylegan2", **more):
    n = Numbers(seed)
    variables = {
        "16x16/FromRGB/weight": n(1, 1, 3, 6),
        "16x16/FromRGB/bias": n(6),
        "4x4/Conv/weight": n(3, 3, 11, 10),
        "4x4/Conv/bias": n(10),
        "4x4/Dense0/weight": n(160, 10),
        "4x4/Dense0/bias": n(10),
        "Output/weight": n(10, 1),
        "Output/bias": n(1),
    }
    for res, inputs, outputs in ((16, 6, 10), (8, 10, 10)):
        variables |= {
            f"{res}x{res}/Conv0/weight": n(3, 3, inputs, inputs),
            f"{res}x{res}/Conv0/bias": n(inputs),
            f"{res}x{res}/Conv1_down/weight": n(3, 3, inputs, outputs),
            f"{res}x{res}/Conv1_down/bias": n(outputs),
            f"{res}x{res}/Skip/weight": n(1, 1, inputs, outputs),
        }
    return tensorflow_network(variables, {**SETTINGS, **more}, function=function), variables


def written(tmp_path, G=None, D=None, Gs=None, protocol=3):
    path = tmp_path / "network.pkl"
    path.write_bytes(dumps((G or generator(seed=1), D or discriminator()[0], Gs or generator()), protocol))
    return path


def double(array):
    return torch.from_numpy(np.ascontiguousarray(array)).double()


def expected_picture(z, c, architecture, c_dim):
    """Return w and the picture of one z, by what the TensorFlow code means."""
    _, mapping, synthesis = generator_networks(architecture, c_dim)
    x = normalised(z)
    if c_dim:
        weight, bias = double(mapping["LabelEmbed/weight"].T), double(mapping["LabelEmbed/bias"])
        x = torch.cat([x, normalised(dense(c, weight, bias, active=False))])
    for index in range(2):
        weight, bias = double(mapping[f"Dense{index}/weight"].T), double(mapping[f"Dense{index}/bias"])
        x = dense(x, weight, bias, 0.01)

    def parts(prefix):
        return {
            "weight": double(synthesis[f"{prefix}/weight"].transpose(3, 2, 0, 1)),
            "bias": double(synthesis[f"{prefix}/bias"]),
            "affine_weight": double(synthesis[f"{prefix}/mod_weight"].T),
            "affine_bias": double(synthesis[f"{prefix}/mod_bias"]) + 1,
        }

    def layer(res, index):
        name = "Conv" if res == 4 else ("Conv0_up", "Conv1")[index]
        number = 0 if res == 4 else (res.bit_length() - 1) * 2 - 5 + index
        noise = double(synthesis[f"noise{number}"][0, 0])
        return {**parts(f"{res}x{res}/{name}"), "noise": noise, "strength": 0.3}

    def to_rgb(res):
        return parts(f"{res}x{res}/ToRGB") if f"{res}x{res}/ToRGB/bias" in synthesis else None

    def skip(res):
        return double(synthesis[f"{res}x{res}/Skip/weight"].transpose(3, 2, 0, 1))

    const = double(synthesis["4x4/Const/const"][0])
    return x, synthesise(x, RESOLUTION, const, layer, to_rgb, skip, architecture)


@pytest.mark.parametrize(
    ("architecture", "c_dim", "protocol"), [("skip", 0, 3), ("resnet", 0, 2), ("orig", 4, 4), ("skip", 3, 5)]
)
def test_generators_give_the_picture_that_the_layout_means(architecture, c_dim, protocol, tmp_path):
    imported = import_checkpoint(written(tmp_path, Gs=generator(architecture, c_dim), protocol=protocol))
    z, c = torch.randn(8).double(), torch.rand(max(c_dim, 1)).double()
    w, picture = expected_picture(z, c, architecture, c_dim)
    with torch.no_grad():
        ws = imported.mapping(z[None].float(), c[None].float() if c_dim else None)
        img = imported.synthesis(ws, "const")
    assert torch.allclose(ws[0, 0].double(), w, atol=1e-4)
    assert torch.allclose(img[0].double(), picture, atol=2e-4 * float(picture.abs().max()))
    assert np.allclose(imported.mapping.w_avg, generator_networks(architecture, c_dim)[0]["dlatent_avg"])


def test_the_three_networks_keep_their_places(tmp_path):
    path = written(tmp_path)
    assert hash_weights(import_checkpoint(path, "G")) != hash_weights(import_checkpoint(path, "G_ema"))
    alone = tmp_path / "alone.pkl"
    alone.write_bytes(dumps(generator(seed=1)))
    assert hash_weights(import_checkpoint(alone)) == hash_weights(import_checkpoint(path, "G"))


@pytest.mark.parametrize(("function", "group"), [("D_stylegan2", 4), ("D_main", None)])
def test_discriminators(function, group, tmp_path):
    network, variables = discriminator(function=function)
    saved = save_checkpoint(written(tmp_path, D=network), tmp_path / "out", "D")
    assert saved.model.config.epilogue_kwargs["mbstd_group_size"] == group

    def weights(layer):
        res, _, name = layer.rpartition(".")
        names = {"fromrgb": "FromRGB", "conv0": "Conv0", "conv1": "Conv1_down", "skip": "Skip"}
        source = {"conv": "4x4/Conv", "fc": "4x4/Dense0", "out": "Output"}.get(layer)
        source = source or f"{res}x{res}/{names[name]}"
        weight = variables[f"{source}/weight"]
        axes = (3, 2, 0, 1) if weight.ndim == 4 else (1, 0)
        bias = variables.get(f"{source}/bias")
        return double(weight.transpose(axes)), None if bias is None else double(bias)

    img = torch.randn(4, 3, 16, 16)
    expected = discriminate(img.double(), RESOLUTION, weights, group_size=4)
    with torch.no_grad():
        logits = saved.model(img)[:, 0].double()
    assert torch.allclose(logits, expected, atol=1e-4 * float(expected.abs().max()))


def test_conditional_discriminators_of_ada(tmp_path):
    network, variables = discriminator(
        function="D_main", label_size=3, mapping_fmaps=7, mapping_layers=1, architecture="skip"
    )
    n = Numbers(3)
    variables |= {
        "LabelEmbed/weight": n(3, 7),
        "LabelEmbed/bias": n(7),
        "Mapping0/weight": n(7, 7),
        "Mapping0/bias": n(7),
        "Output/weight": n(10, 7),
        "Output/bias": n(7),
    }
    for res, width in ((8, 10), (4, 10)):
        variables |= {f"{res}x{res}/FromRGB/weight": n(1, 1, 3, width), f"{res}x{res}/FromRGB/bias": n(width)}
    network = tensorflow_network(variables, network.state["static_kwargs"], function="D_main")
    imported = import_checkpoint(written(tmp_path, D=network), "D")
    assert imported.mapping.embed.weight.shape == (7, 3)
    assert imported.mapping.fc0.bias_gain == pytest.approx(0.1)
    assert np.array_equal(
        imported.b8.fromrgb.weight[:, :, 0, 0].numpy(force=True).T, variables["8x8/FromRGB/weight"][0, 0]
    )
    with torch.no_grad():
        assert imported(torch.randn(2, 3, 16, 16), torch.eye(3)[:2]).shape == (2, 1)


def test_names_by_level_of_detail_mean_the_plain_architecture(tmp_path):
    network = generator("orig")
    parts = network.state["components"]["synthesis"].state
    parts["variables"] = [
        (name.replace("16x16/ToRGB", "ToRGB_lod0"), value) for name, value in parts["variables"]
    ]
    del network.state["static_kwargs"]["architecture"]
    imported = import_checkpoint(written(tmp_path, Gs=network))
    assert imported.config.synthesis_kwargs["architecture"] == "orig"
    assert hash_weights(imported) == hash_weights(import_checkpoint(written(tmp_path, Gs=generator("orig"))))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"resolution": 20}, "resolution 20 is no power of two"),
        ({"resolution": "big"}, "resolution is no number"),
        ({"architecture": "odd"}, "architecture is none of skip, resnet, orig"),
        ({"nonlinearity": "relu"}, "nonlinearity is none of lrelu"),
        ({"blur_everything": 1}, "unknown setting 'blur_everything'"),
        ({"resample_kernel": None}, "resample_kernel is no row of numbers"),
        ({"mapping_layers": 10**9}, "mapping_layers is no number to 64"),
        ({"normalize_latents": False}, "does not normalise its latents"),
        ({"mapping_layers": 3}, "variable mapping/Dense2/weight is missing"),
        ({"latent_size": 9}, r"is \[12, 8\] and not \[12, 9\]"),
    ],
)
def test_other_settings_are_refused(settings, sentence, tmp_path):
    with pytest.raises(UnsupportedModelError, match=sentence):
        import_checkpoint(written(tmp_path, Gs=generator(**settings)))


def test_other_networks_are_refused(tmp_path):
    old = generator(c_dim=2)
    parts = old.state["components"]["mapping"].state
    parts["variables"].append(("LabelConcat/weight", np.ones((2, 8), np.float32)))
    for networks, network, sentence in (
        ({"Gs": old}, "G_ema", "that of the first StyleGAN2 code"),
        ({"D": discriminator(label_size=2)[0]}, "D", "that of the first StyleGAN2 code"),
        ({"Gs": discriminator()[0]}, "G_ema", "no generator of StyleGAN2"),
        ({"Gs": tensorflow_network((), {})}, "G_ema", "its variables are no list"),
        ({"D": generator()}, "D", "no discriminator of StyleGAN2"),
        ({"Gs": tensorflow_network({"a": "text"}, {})}, "G_ema", "'a' is no array"),
        ({"Gs": tensorflow_network({3: np.ones(1)}, {})}, "G_ema", "no pair of name and numbers"),
    ):
        with pytest.raises(UnsupportedModelError, match=sentence):
            import_checkpoint(written(tmp_path, **networks), network)
    path = tmp_path / "two.pkl"
    path.write_bytes(dumps((generator(), discriminator()[0])))
    with pytest.raises(UnsupportedModelError, match="holds 2 networks and no G_ema"):
        import_checkpoint(path)
    endless = generator()
    endless.state["components"]["again"] = endless
    with pytest.raises(UnsupportedModelError, match="more than 16 components"):
        import_checkpoint(written(tmp_path, Gs=endless))
    with pytest.raises(UnsupportedModelError, match="import_checkpoint reads it"):
        import_nvidia_pkl(written(tmp_path))
