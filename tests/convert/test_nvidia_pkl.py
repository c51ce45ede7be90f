"""Pickles of NVIDIA's code bases, against vectors of the official networks."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import ehmfaces
from ehmfaces.convert.checkpoint import hash_weights, import_checkpoint, save_checkpoint, verify_checkpoint
from ehmfaces.convert.stored_network import solve_channels
from ehmfaces.errors import InputError, ModelError, UnsafePickleError, UnsupportedModelError
from ehmfaces.models.stylegan2 import StyleGAN2Discriminator, StyleGAN2Generator
from ehmfaces.models.stylegan3 import StyleGAN3Generator
from tests.convert.foreign_files import EasyDict, Persistent, as_persistent, dumps, given

PARITY = Path(__file__).resolve().parents[3] / "shared" / "parity"
CLASSES = {"sg2": StyleGAN2Generator, "sg3": StyleGAN3Generator}

with_parity = pytest.mark.skipif(not PARITY.is_dir(), reason="the parity files are not beside the checkout")


def official(name, kind):
    """Return an official network, its keywords and its vectors."""
    cls = StyleGAN2Discriminator if kind == "D" else CLASSES[name[:3]]
    keywords = json.loads((PARITY / f"{name}_{kind}.json").read_text())["init_kwargs"]
    model = cls(**keywords)
    model.load_state_dict(load_file(PARITY / f"{name}_{kind}.safetensors"))
    return model.eval(), keywords, dict(np.load(PARITY / f"{name}.npz"))


def snapshot(protocol=4, **networks):
    content = {
        "G": None,
        "D": None,
        "G_ema": None,
        "augment_pipe": None,
        "training_set_kwargs": EasyDict(class_name="training.dataset.ImageFolderDataset", path="/x.zip"),
        **networks,
    }
    return dumps(content, protocol)


def written(tmp_path, data, name="network.pkl"):
    path = tmp_path / name
    path.write_bytes(data)
    return path


def close(actual, expected, atol=1e-4):
    scale = max(1.0, float(np.abs(expected).max()))
    assert np.abs(np.asarray(actual) - expected).max() <= atol * scale


@with_parity
@pytest.mark.parametrize(
    ("name", "atol"),
    [
        ("fake_ada_repo_layout_sg2_16_proto3", 2e-3),  # its picture was computed in half precision
        ("fake_sg3_repo_layout_sg2_16", 1e-5),
        ("fake_sg3_repo_layout_sg3t_16", 1e-5),
    ],
)
def test_the_shared_pickles_give_the_official_picture(name, atol):
    generator = ehmfaces.import_nvidia_pkl(PARITY / f"{name}.pkl")
    vectors = np.load(PARITY / f"{name}.npz")
    with torch.inference_mode():
        close(generator(torch.from_numpy(vectors["z"])), vectors["img_const"], atol)


@with_parity
@pytest.mark.parametrize(
    ("name", "protocol"),
    [
        ("sg2_32", 2),
        ("sg2_32_cond", 3),
        ("sg2_32_resnet_noclamp", 4),
        ("sg2_32_resnet_noclamp", 5),
        ("sg3t_32", 5),
        ("sg3r_32", 2),
    ],
)
def test_generators_of_every_protocol(name, protocol, tmp_path):
    model, keywords, vectors = official(name, "G")
    made_with = keywords.get("synthesis_kwargs", keywords)
    extra = {"synthesis": given(**made_with)}
    path = written(tmp_path, snapshot(protocol, G_ema=as_persistent(model, extra)))
    imported = import_checkpoint(path)
    assert type(imported) is type(model)
    assert hash_weights(imported) == hash_weights(model)
    c = torch.from_numpy(vectors["c"]).float() if model.c_dim else None
    with torch.inference_mode():
        close(imported(torch.from_numpy(vectors["z"]), c), vectors["img_const"])


@with_parity
@pytest.mark.parametrize("name", ["sg2_32", "sg2_32_cond", "sg2_32_resnet_noclamp"])
def test_discriminators(name, tmp_path):
    model, _, vectors = official(name, "D")
    tree = as_persistent(model, {"b4": {"architecture": model.config.architecture}})
    path = written(tmp_path, snapshot(G=as_persistent(official(name, "G")[0]), D=tree))
    saved = save_checkpoint(path, tmp_path / "out", "D")
    imported = StyleGAN2Discriminator.from_pretrained(tmp_path / "out")
    img, c = torch.from_numpy(vectors["D_img_uint8"]) / 127.5 - 1, torch.from_numpy(vectors["D_c"]).float()
    with torch.no_grad():
        close(imported(img, c), vectors["D_logits"])
    assert hash_weights(imported) == saved.weights_sha256
    with pytest.raises(UnsupportedModelError, match=r"holds no G_ema. It holds G, D: choose with --network"):
        import_checkpoint(path)


def generator2(**synthesis):
    torch.manual_seed(1)
    return StyleGAN2Generator(
        z_dim=8,
        w_dim=12,
        img_resolution=16,
        mapping_kwargs={"num_layers": 2, "layer_features": 20, "lr_multiplier": 0.02, "w_avg_beta": 0.99},
        synthesis_kwargs={"channel_base": 100, "channel_max": 10, **synthesis},
    ).eval()


@pytest.mark.parametrize(
    "synthesis",
    [
        {"architecture": "orig"},
        {"architecture": "resnet", "conv_clamp": 3.5},
        {"resample_filter": [1, 2, 1, 0.5], "use_noise": False},
        {"resample_filter": [1, 4, 6, 6, 4, 1]},
    ],
)
def test_settings_are_read_from_the_layers(synthesis, tmp_path):
    model = generator2(**synthesis)
    imported = import_checkpoint(written(tmp_path, snapshot(G_ema=as_persistent(model))))
    options = imported.config.synthesis_kwargs
    for name in ("architecture", "conv_clamp", "use_noise"):
        if name in synthesis:
            assert options[name] == synthesis[name]
    assert imported.config.mapping_kwargs["w_avg_beta"] == 0.99
    assert imported.config.mapping_kwargs["lr_multiplier"] == 0.02
    z = torch.randn(2, 8, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        assert torch.allclose(imported(z), model(z), atol=1e-5)
        # Built anew from the config alone, filters included.
        anew = StyleGAN2Generator(**{k: v for k, v in imported.config.items() if not k.startswith("_")})
        anew.load_state_dict(
            {k: v for k, v in model.state_dict().items() if not k.endswith("resample_filter")}, strict=False
        )
        assert torch.allclose(anew.eval()(z), model(z), atol=1e-4)


def test_num_fp16_res_is_kept(tmp_path):
    half = {f"synthesis.b{res}": {"use_fp16": res >= 8} for res in (4, 8, 16)}
    stored = {**half, "synthesis": {"num_fp16_res": 3}}
    for number, (extra, expected) in enumerate(
        [(half, 2), (stored, 3), ({**half, "synthesis": given(num_fp16_res=4)}, 4)]
    ):
        path = written(tmp_path, snapshot(G_ema=as_persistent(generator2(), extra)), f"{number}.pkl")
        assert import_checkpoint(path).config.synthesis_kwargs["num_fp16_res"] == expected


def test_numbers_of_every_format_become_float32(tmp_path):
    model = generator2()
    tree = as_persistent(model)
    noise = model.synthesis.b8.conv1.noise_const
    wide = torch.randn(3, 8, 20)
    tree.attributes["_modules"]["synthesis"].attributes["w_dim"] = np.int64(12)
    layer = (
        tree.attributes["_modules"]["synthesis"].attributes["_modules"]["b8"].attributes["_modules"]["conv1"]
    )
    layer.attributes["_buffers"]["noise_const"] = wide[1].t()[2:10].t()  # strides and an offset
    layer.attributes["conv_clamp"] = None
    layer.attributes["_parameters"]["noise_strength"] = torch.nn.Parameter(torch.tensor(0.5).bfloat16())
    first = tree.attributes["_modules"]["mapping"].attributes["_modules"]["fc0"].attributes
    first["_parameters"]["bias"] = torch.nn.Parameter(torch.full([20], 0.25).half())
    first["bias_gain"] = np.float64(0.02)
    imported = import_checkpoint(written(tmp_path, snapshot(G_ema=tree)))
    assert noise.shape == imported.synthesis.b8.conv1.noise_const.shape
    assert torch.equal(imported.synthesis.b8.conv1.noise_const, wide[1, :, 2:10])
    assert imported.synthesis.b8.conv1.noise_strength.item() == 0.5
    assert imported.mapping.fc0.bias.tolist() == [0.25] * 20
    assert {value.dtype for value in imported.state_dict().values()} == {torch.float32}


def test_shared_storages_and_frozen_layers(tmp_path):
    model = generator2()
    tree = as_persistent(model)
    layer = (
        tree.attributes["_modules"]["synthesis"].attributes["_modules"]["b4"].attributes["_modules"]["conv1"]
    )
    bias = layer.attributes["_parameters"].pop("bias")
    layer.attributes["_buffers"]["bias"] = bias.detach()  # frozen layers keep weights as buffers
    layer.attributes["_buffers"]["passing"] = torch.ones(1)
    layer.attributes["_non_persistent_buffers_set"].add("passing")
    assert hash_weights(import_checkpoint(written(tmp_path, snapshot(G_ema=tree)))) == hash_weights(model)


def test_a_generator_saved_alone(tmp_path):
    model = generator2()
    path = written(tmp_path, dumps(as_persistent(model), 3))
    assert hash_weights(import_checkpoint(path)) == hash_weights(model)


def test_the_folder_loads_as_a_pipeline(tmp_path):
    model = generator2()
    path = written(tmp_path, snapshot(G_ema=as_persistent(model)))
    saved = save_checkpoint(path, tmp_path / "new" / "folder")
    assert sorted(file.name for file in saved.folder.iterdir()) == [
        "config.json",
        "diffusion_pytorch_model.safetensors",
    ]
    pipeline = ehmfaces.load_pipeline(str(saved.folder), "cpu")
    assert pipeline.background_color is None
    assert pipeline.model_hash == saved.weights_sha256[:16]
    assert pipeline([3]).images[0].size == (16, 16)
    again = save_checkpoint(path, saved.folder)  # replaces what is there
    assert again.weights_sha256 == saved.weights_sha256


@pytest.mark.parametrize(
    ("path", "attributes", "sentence"),
    [
        ("", {"img_resolution": 24}, "resolution 24 is no power of two"),
        ("", {"img_resolution": 2**40}, "img_resolution that is no whole number"),
        ("", {"z_dim": 10**9}, "z_dim that is no whole number to 65536"),
        ("", {"w_dim": "wide"}, "w_dim that is no whole number"),
        ("mapping", {"num_layers": 10**6}, "num_layers that is no whole number to 64"),
        ("mapping", {"w_avg_beta": float("nan")}, "w_avg_beta that is no number"),
        ("mapping.fc1", {"activation": "relu"}, "another activation than lrelu, linear"),
        ("synthesis.b8", {"architecture": "odd"}, "another architecture than skip, resnet, orig"),
        ("synthesis.b8.conv0", {"conv_clamp": 12}, "do not agree on conv_clamp"),
        ("synthesis.b8.conv0", {"activation": "linear"}, "another activation than lrelu"),
        ("synthesis.b8.conv1", {"_parameters": {"weight": torch.ones([])}}, "are a single number"),
        ("synthesis.b8.conv1", {"_parameters": {}}, "synthesis.b8.conv1.weight are missing"),
        ("mapping", {"num_layers": 3}, "mapping.fc2 has no activation"),
        ("mapping.fc1", {"_buffers": {"more": torch.ones(1)}}, "mapping.fc1.more is missing or too many"),
        ("mapping.fc1", {"_parameters": {"weight": 3}}, "mapping.fc1.weight is no tensor"),
        ("mapping.fc1", {"_parameters": [1]}, "is no table of names"),
        ("mapping", {"num_layers": 2.0}, None),
        ("mapping.fc1", {"_modules": {"extra": 3}}, "mapping.fc1.extra is no known kind"),
        ("", {"w_dim": 13}, r"is \[10, 12\] and not \[10, 13\]"),
        ("synthesis.b4", {"_buffers": {"resample_filter": torch.eye(4)}}, "not the square of one row"),
        ("synthesis.b4", {"_buffers": {"resample_filter": torch.ones(2, 3)}}, "has the shape"),
    ],
)
def test_other_networks_are_refused(path, attributes, sentence, tmp_path):
    file = written(tmp_path, snapshot(G_ema=as_persistent(generator2(), {path: attributes})))
    if sentence is None:
        import_checkpoint(file)
        return
    with pytest.raises(UnsupportedModelError, match=sentence):
        import_checkpoint(file)


def stylegan3(extra=None):
    model = StyleGAN3Generator(
        z_dim=4, w_dim=4, img_resolution=16, channel_base=64, channel_max=4, num_layers=4, filter_size=4
    )
    made_with = given(channel_base=64, channel_max=4)
    return model, as_persistent(model, {"synthesis": made_with, **(extra or {})})


def test_stylegan3_without_stored_settings(tmp_path):
    model, tree = stylegan3()
    imported = import_checkpoint(written(tmp_path, snapshot(G_ema=tree)))
    assert hash_weights(imported) == hash_weights(model)
    assert imported.config.filter_size == 4
    assert imported.config.num_layers == 4


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        (
            {"synthesis": given(channel_base=64, channel_max=4, first_stopband=1e6)},
            "bands do not grow evenly",
        ),
        (
            {"synthesis": given(channel_base=64, channel_max=4, first_stopband=1e-9)},
            "bands do not grow evenly",
        ),
        ({"synthesis": given(channel_base=64, channel_max=4, num_critical=9)}, "bands do not grow evenly"),
        ({"synthesis": {"margin_size": 3}}, "missing or too many|larger network"),
        ({"synthesis.input": {"bandwidth": 0}}, "bands do not grow evenly"),
    ],
)
def test_other_stylegan3_designs_are_refused(extra, sentence, tmp_path):
    _, tree = stylegan3(extra)
    with pytest.raises(ModelError, match=sentence):
        import_checkpoint(written(tmp_path, snapshot(G_ema=tree)))


def test_stylegan3_layers_must_be_numbered(tmp_path):
    _, tree = stylegan3()
    del tree.attributes["_modules"]["synthesis"].attributes["_modules"]["L0_36_4"]
    with pytest.raises(UnsupportedModelError, match="not numbered from L0 on"):
        import_checkpoint(written(tmp_path, snapshot(G_ema=tree)))


def test_long_filters_are_stored_as_one_line(tmp_path):
    taps = [1, 2, 3, 4, 4, 3, 2, 1]
    model = generator2(resample_filter=taps)
    line = torch.tensor(taps, dtype=torch.float32) / sum(taps)
    extra = {
        path: {"_buffers": {**module._buffers, "resample_filter": line}}
        for path, module in model.named_modules()
        if "resample_filter" in module._buffers
    }
    imported = import_checkpoint(written(tmp_path, snapshot(G_ema=as_persistent(model, extra))))
    assert torch.allclose(
        imported.synthesis.b8.resample_filter, model.synthesis.b8.resample_filter, atol=1e-7
    )


def test_a_damaged_folder_is_found(tmp_path):
    saved = save_checkpoint(written(tmp_path, snapshot(G_ema=as_persistent(generator2()))), tmp_path / "out")
    listed = {name: shape for name, shape, _ in verify_checkpoint(saved)}
    assert listed["synthesis.b4.conv1.noise_strength"] == ()
    assert listed["mapping.fc0.weight"] == (20, 8)
    weights = saved.folder / "diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-3] ^= 255
    weights.write_bytes(data)
    with pytest.raises(ModelError, match="does not hold what was imported"):
        list(verify_checkpoint(saved))


def test_a_folder_that_cannot_be_written(tmp_path):
    path = written(tmp_path, snapshot(G_ema=as_persistent(generator2())))
    with pytest.raises(InputError, match="cannot be written"):
        save_checkpoint(path, path / "inside")


def test_names_cannot_steer_a_terminal(tmp_path):
    extra = {"mapping.fc1": {"_buffers": {"\x1b[2Jmore": torch.ones(1)}}}
    with pytest.raises(UnsupportedModelError) as caught:
        import_checkpoint(written(tmp_path, snapshot(G_ema=as_persistent(generator2(), extra))))
    assert "mapping.fc1.?[2Jmore is missing or too many" in str(caught.value)


def test_unusual_widths_are_refused(tmp_path):
    tree = as_persistent(generator2())
    block = (
        tree.attributes["_modules"]["synthesis"].attributes["_modules"]["b4"].attributes["_modules"]["conv1"]
    )
    block.attributes["_parameters"]["weight"] = torch.nn.Parameter(torch.randn(3, 10, 3, 3))
    with pytest.raises(UnsupportedModelError, match="unusual widths"):
        import_checkpoint(written(tmp_path, snapshot(G_ema=tree)))


def test_a_config_larger_than_the_file_takes_no_memory(tmp_path):
    tree = as_persistent(generator2(), {"": {"z_dim": 65000, "w_dim": 65000}})
    with pytest.raises(ModelError, match="larger network than the file can hold"):
        import_checkpoint(written(tmp_path, snapshot(G_ema=tree)))


def test_endless_module_trees_are_refused(tmp_path):
    layer = Persistent("Layer", _modules={})
    layer.attributes["_modules"]["again"] = Persistent("Layer", _modules={"a": layer, "b": layer})
    with pytest.raises(ModelError, match="more than 4096 layers or 16 levels"):
        import_checkpoint(written(tmp_path, snapshot(G_ema=Persistent("Generator", _modules={"x": layer}))))


def test_what_is_not_there(tmp_path):
    with pytest.raises(UnsupportedModelError, match=r"holds no G_ema. It holds no network"):
        import_checkpoint(written(tmp_path, dumps({"a": 1})))
    with pytest.raises(UnsupportedModelError, match="holds no G_ema"):
        import_checkpoint(written(tmp_path, dumps([1, 2])))
    with pytest.raises(UnsupportedModelError, match="neither of StyleGAN2 nor of StyleGAN3"):
        import_checkpoint(written(tmp_path, snapshot(G_ema=Persistent("Generator"))))
    with pytest.raises(InputError, match="There is no file"):
        import_checkpoint(tmp_path / "nothing.pkl")
    with pytest.raises(InputError, match="cannot be read"):
        import_checkpoint(tmp_path)
    with pytest.raises(InputError, match='Unknown network "E"'):
        import_checkpoint(tmp_path, "E")
    with pytest.raises(ModelError, match="is empty"):
        import_checkpoint(written(tmp_path, b""))


@pytest.mark.parametrize(
    ("start", "sentence"),
    [
        (b"\x1f\x8b\x08\x00", "gzip"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"<!DOCTYPE html>", "web page"),
        (b"version https://git-lfs", "Git LFS"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00" + b'{"a":{}}', "safetensors file already"),
        (b"any text", "no pickle of protocol 2 to 5"),
        (b"(lp0\n.", "no pickle of protocol 2 to 5"),
        (b"\x80\x06N.", "pickle protocol 6"),
    ],
)
def test_other_files_are_named(start, sentence, tmp_path):
    with pytest.raises(ModelError, match=sentence) as caught:
        import_checkpoint(written(tmp_path, start))
    assert "network.pkl" in str(caught.value)


def test_modules_of_torch_are_not_layers(tmp_path):
    tree = Persistent("Generator", _modules={"layer": torch.nn.Linear(1, 1)})
    with pytest.raises(UnsafePickleError, match=r"found the name torch\.nn\.modules\.linear\.Linear"):
        import_checkpoint(written(tmp_path, snapshot(G_ema=tree)))


@pytest.mark.parametrize("base", [1, 77, 256, 32768])
@pytest.mark.parametrize("most", [3, 64, 512])
def test_channels_are_solved(base, most):
    widths = {2**n: min(base // 2**n, most) for n in range(2, 9)}
    solved = solve_channels(widths)
    assert solved is not None
    assert {res: min(solved[0] // res, solved[1]) for res in widths} == widths
