"""NVIDIA's PyTorch pickles (stylegan2-ada-pytorch and stylegan3) to our networks.

Owns where the two repositories keep which setting. What a layer stored is believed before what it was made
with, because defaults differ: w_avg_beta 0.995 or 0.998, conv_clamp None or 256, num_fp16_res 0 or 4. Knows
no opcodes, no files and no torch.
"""

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from ehmfaces.convert.records import PlainObject
from ehmfaces.convert.stored_network import Conversion, ReadWeights, StoredNetwork, solve_channels
from ehmfaces.convert.vocabulary import PERSISTENT
from ehmfaces.errors import UnsupportedModelError

NETWORKS = ("G_ema", "G", "D")
MAX_RESOLUTION = 8192
MAX_FEATURES = 65536
MAX_MAPPING_LAYERS = 64
MAX_TAPS = 64
DEFAULT_TAPS = [1, 3, 3, 1]
ACTIVATIONS = ("lrelu", "linear")
ARCHITECTURES = ("skip", "resnet", "orig")


def convert_nvidia(content: Any, network: str, label: str) -> Conversion:
    """Return the conversion of one network of a pickle.

    Args:
        content: What the pickle holds: dict(G, D, G_ema, ...), or one network.
        network: "G_ema", "G" or "D".
        label: File name for error texts.

    Raises:
        UnsupportedModelError: The network is missing or of another architecture.
    """
    net = StoredNetwork(_pick(content, network, label), label)
    if "synthesis.input.freqs" in net.tensors:
        return _conversion(net, "StyleGAN3", "StyleGAN3Generator", _stylegan3_generator(net))
    if "synthesis.b4.const" in net.tensors:
        return _conversion(net, "StyleGAN2", "StyleGAN2Generator", _stylegan2_generator(net))
    if "b4.out.weight" in net.tensors:
        return _conversion(net, "StyleGAN2", "StyleGAN2Discriminator", _discriminator(net))
    raise net.unsupported(f"its {network} is neither of StyleGAN2 nor of StyleGAN3")


def _pick(content: Any, network: str, label: str) -> PlainObject:
    networks = content if isinstance(content, dict) else {network: content}
    found = {name: networks[name] for name in NETWORKS if isinstance(networks.get(name), PlainObject)}
    if network in found and found[network].kind == PERSISTENT:
        chosen: PlainObject = found[network]
        return chosen
    there = f"It holds {', '.join(found)}: choose with --network." if found else "It holds no network."
    raise UnsupportedModelError(f"{label} holds no {network}. {there}")


def _conversion(net: StoredNetwork, family: str, class_name: str, config: dict[str, Any]) -> Conversion:
    weights = {name: _reader(net, name) for name in net.tensors}
    return Conversion(f"NVIDIA {family} pickle", class_name, config, weights)


def _reader(net: StoredNetwork, name: str) -> ReadWeights:
    tensor = net.tensors[name]
    if name.endswith("resample_filter") and len(tensor.shape) == 1 and tensor.shape[0] <= MAX_TAPS:
        return lambda: np.outer(tensor.read(), tensor.read())  # long filters are stored as one line
    return tensor.read


def _sizes(net: StoredNetwork, *names: str) -> dict[str, int]:
    return {name: net.whole("", name, MAX_FEATURES) for name in names}


def _number(value: float | None) -> float | int | None:
    """Return a float without a fraction as an int, as the published configs have it."""
    return int(value) if value is not None and value.is_integer() else value


def _activation(net: StoredNetwork) -> Callable[[str, str], str]:
    return lambda path, name: net.word(path, name, ACTIVATIONS)


def _architecture(net: StoredNetwork) -> Callable[[str, str], str]:
    return lambda path, name: net.word(path, name, ARCHITECTURES)


def _mapping(net: StoredNetwork) -> dict[str, Any]:
    layers = net.whole("mapping", "num_layers", MAX_MAPPING_LAYERS)
    paths = [f"mapping.fc{index}" for index in range(layers)]
    options: dict[str, Any] = {"num_layers": layers}
    if layers:
        options["activation"] = net.agreed(paths, "activation", _activation(net))
        options["lr_multiplier"] = net.agreed(paths, "bias_gain", net.real)
    if layers > 1:
        options["layer_features"] = net.width("mapping.fc0.weight")
    if "mapping.embed.weight" in net.tensors:
        options["embed_features"] = net.width("mapping.embed.weight")
    return options


def _block_resolutions(net: StoredNetwork) -> list[int]:
    resolution = net.whole("", "img_resolution", MAX_RESOLUTION)
    if resolution < 8 or resolution & (resolution - 1):
        raise net.unsupported(f"its resolution {resolution} is no power of two from 8 to {MAX_RESOLUTION}")
    return [2**exponent for exponent in range(2, resolution.bit_length())]


def _channels(net: StoredNetwork, owner: str, widths: dict[int, int]) -> dict[str, int]:
    hint = (net.given(owner, "channel_base") or 32768, net.given(owner, "channel_max") or 512)
    solved = solve_channels(widths, (int(hint[0]), int(hint[1])))
    if solved is None:
        raise net.unsupported(f"its layers have unusual widths ({list(widths.values())})")
    return {"channel_base": solved[0], "channel_max": solved[1]}


def _taps(net: StoredNetwork, name: str) -> list[float]:
    """Return the 1-d filter whose outer product is stored."""
    shape = net.shape(name)
    if not shape or len(shape) > 2 or max(shape) > MAX_TAPS or len(set(shape)) != 1:
        raise net.unsupported(f"the filter {name} has the shape {list(shape)}")
    stored = net.tensors[name].read().astype(np.float64)
    line = stored if stored.ndim == 1 else stored.sum(axis=1)
    square = np.outer(line, line) if stored.ndim == 1 else stored
    default = np.outer(DEFAULT_TAPS, DEFAULT_TAPS) / np.sum(DEFAULT_TAPS) ** 2
    if square.shape == default.shape and np.allclose(square, default, atol=1e-6):
        return list(DEFAULT_TAPS)
    if not np.allclose(np.outer(line, line), square, atol=1e-5):
        raise net.unsupported(f"the filter {name} is not the square of one row")
    return [float(tap) for tap in line]


def _fp16_blocks(net: StoredNetwork, owner: str, blocks: list[str]) -> int:
    """Return num_fp16_res: as stored, as given, or as the number of blocks that use half precision."""
    if net.has(owner, "num_fp16_res"):
        return net.whole(owner, "num_fp16_res", 64)
    given = net.given(owner, "num_fp16_res")
    if given is not None:
        return int(given)
    return sum(net.flag(path, "use_fp16") for path in blocks)


def _stylegan2_generator(net: StoredNetwork) -> dict[str, Any]:
    resolutions = _block_resolutions(net)
    blocks = [f"synthesis.b{resolution}" for resolution in resolutions]
    layers = [f"{path}.{name}" for path in blocks for name in ("conv0", "conv1")][1:]
    net.agreed(layers, "activation", lambda path, name: net.word(path, name, ("lrelu",)))
    widths = {
        resolution: net.width(f"{path}.conv1.weight")
        for resolution, path in zip(resolutions, blocks, strict=True)
    }
    synthesis = {
        **_channels(net, "synthesis", widths),
        "num_fp16_res": _fp16_blocks(net, "synthesis", blocks),
        "conv_clamp": _number(net.agreed(layers, "conv_clamp", net.real_or_none)),
        "architecture": net.agreed(blocks, "architecture", _architecture(net)),
        "resample_filter": _taps(net, "synthesis.b4.resample_filter"),
        "use_noise": net.agreed(layers, "use_noise", net.flag),
    }
    beta = net.real_or_none("mapping", "w_avg_beta")
    return {
        **_sizes(net, "z_dim", "c_dim", "w_dim", "img_resolution", "img_channels"),
        "mapping_kwargs": {**_mapping(net), "w_avg_beta": beta},
        "synthesis_kwargs": synthesis,
    }


def _discriminator(net: StoredNetwork) -> dict[str, Any]:
    resolutions = _block_resolutions(net)[:0:-1]
    blocks = [f"b{resolution}" for resolution in resolutions]
    layers = [f"{path}.{name}" for path in blocks for name in ("conv0", "conv1")]
    widths = {
        **{resolution: net.width(f"b{resolution}.conv0.weight") for resolution in resolutions},
        4: net.width("b4.conv.weight"),
    }
    c_dim = net.whole("", "c_dim", MAX_FEATURES)
    return {
        **_sizes(net, "c_dim", "img_resolution", "img_channels"),
        "architecture": net.agreed([*blocks, "b4"], "architecture", _architecture(net)),
        **_channels(net, "", widths),
        "num_fp16_res": _fp16_blocks(net, "", blocks),
        "conv_clamp": _number(net.agreed([*layers, "b4.conv"], "conv_clamp", net.real_or_none)),
        "cmap_dim": net.whole("b4", "cmap_dim", MAX_FEATURES) if c_dim else None,
        "block_kwargs": {
            "activation": net.agreed(layers, "activation", _activation(net)),
            "resample_filter": _taps(net, f"{blocks[0]}.resample_filter"),
        },
        "mapping_kwargs": _mapping(net) if c_dim else {},
        "epilogue_kwargs": _epilogue(net),
    }


def _epilogue(net: StoredNetwork) -> dict[str, Any]:
    channels, group_size = 0, None
    if "b4.mbstd" in net.modules:
        channels = net.whole("b4.mbstd", "num_channels", 64)
        group_size = net.real_or_none("b4.mbstd", "group_size")
    return {
        "mbstd_group_size": _number(group_size),
        "mbstd_num_channels": channels,
        "activation": net.word("b4.conv", "activation", ACTIVATIONS),
    }


# Settings that the synthesis network of StyleGAN3 may not store; defaults as published.
_STYLEGAN3_DEFAULTS = {
    "channel_base": 32768,
    "channel_max": 512,
    "num_critical": 2,
    "first_stopband": 2**2.1,
    "last_stopband_rel": 2**0.3,
    "margin_size": 10,
    "output_scale": 0.25,
    "num_fp16_res": 4,
}


def _stylegan3_generator(net: StoredNetwork) -> dict[str, Any]:
    net.whole("", "img_resolution", MAX_RESOLUTION)
    layers = _stylegan3_layers(net)
    synthesis: dict[str, Any] = {"num_layers": len(layers) - 1}  # the last one is ToRGB
    for name, default in _STYLEGAN3_DEFAULTS.items():
        stored = net.real("synthesis", name) if net.has("synthesis", name) else net.given("synthesis", name)
        synthesis[name] = _number(float(default if stored is None else stored))
    synthesis |= {
        "first_cutoff": _number(net.real("synthesis.input", "bandwidth")),
        "filter_size": _filter_size(net, layers[0]),
        "lrelu_upsampling": _lrelu_upsampling(net, layers[0]),
        "conv_kernel": net.whole(layers[0], "conv_kernel", 15),
        "use_radial_filters": any(net.flag(path, "down_radial") for path in layers),
        "conv_clamp": _number(net.agreed(layers, "conv_clamp", net.real_or_none)),
        "magnitude_ema_beta": net.agreed(layers, "magnitude_ema_beta", net.real),
    }
    _check_stylegan3_design(net, synthesis)
    # The mapping network of StyleGAN3 has one width and one activation.
    mapping = _mapping(net)
    mapping = {name: mapping[name] for name in ("num_layers", "lr_multiplier") if name in mapping}
    return {
        **_sizes(net, "z_dim", "c_dim", "w_dim", "img_resolution", "img_channels"),
        "mapping_kwargs": {**mapping, "w_avg_beta": net.real_or_none("mapping", "w_avg_beta")},
        **synthesis,
    }


def _check_stylegan3_design(net: StoredNetwork, options: dict[str, Any]) -> None:
    """Raise on settings whose filters would be of absurd length.

    Raises:
        UnsupportedModelError: The bands do not grow evenly from the first layer to the last.
    """
    steps = options["num_layers"] - options["num_critical"]
    first, last_rel = options["first_stopband"], options["last_stopband_rel"]
    if 0 < steps <= options["num_layers"] and 0.1 <= first <= 1e4 and 0.1 <= last_rel <= 100:
        last = net.whole("", "img_resolution", MAX_RESOLUTION) / 2 * last_rel
        if last >= 0.1 and 1 / 16 <= (last / first) ** (1 / steps) <= 16 and options["first_cutoff"] > 0:
            return
    raise net.unsupported("its frequency bands do not grow evenly from layer to layer")


def _stylegan3_layers(net: StoredNetwork) -> list[str]:
    """Return the paths of the synthesis layers L0_..., L1_..., in order."""
    found = {}
    for path in net.modules:
        match = re.fullmatch(r"synthesis\.L(\d{1,2})_\d+_\d+", path)
        if match:
            found[int(match[1])] = path
    if not found or sorted(found) != list(range(len(found))):
        raise net.unsupported("its synthesis layers are not numbered from L0 on")
    return [found[index] for index in sorted(found)]


def _filter_size(net: StoredNetwork, path: str) -> int:
    factor = max(1, net.whole(path, "up_factor", 64))
    return min(16, net.whole(path, "up_taps", 4096) // factor)


def _lrelu_upsampling(net: StoredNetwork, path: str) -> int:
    rates = [net.real(path, f"{side}_sampling_rate") for side in ("tmp", "in", "out")]
    return int(max(1, min(4, rates[0] // max(1.0, *rates[1:]))))
