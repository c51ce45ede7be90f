"""`.pt` files of stylegan2-pytorch (rosinality) to our networks.

Owns the parameter names of that code. Its weights lie as ours do, so this is renaming; what a file may lack
(the average w, the noise of older files) is made from fixed seeds. Knows no containers and no files.

Not covered: mapping networks trained with another learning-rate multiplier than 0.01 (it is not stored), and
other resampling filters in files that do not store them.
"""

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from ehmfaces.convert.records import FloatArray, StoredTensor, printable
from ehmfaces.convert.stored_network import Conversion, ReadWeights, solve_channels, square_filter
from ehmfaces.errors import UnsupportedModelError

ORIGIN = "stylegan2-pytorch (rosinality) file"
LR_MULTIPLIER = 0.01
MEAN_LATENT_SAMPLES = 4096
DEFAULT_TAPS = (1, 3, 3, 1)
_KEYS = {"G_ema": "g_ema", "G": "g", "D": "d"}


def convert_rosinality(content: Any, network: str, label: str) -> Conversion:
    """Return the conversion of one network of a `.pt` file.

    Args:
        content: What the file holds: dict(g_ema, g, d, latent_avg, ...) of state_dicts.
        network: "G_ema", "G" or "D".
        label: File name for error texts.

    Raises:
        UnsupportedModelError: The network is missing or of another architecture.
    """
    content = content if isinstance(content, dict) else {}
    state = content.get(_KEYS[network])
    if not isinstance(state, dict):
        found = [name for name, key in _KEYS.items() if isinstance(content.get(key), dict)]
        raise UnsupportedModelError(
            f'{label} holds no "{_KEYS[network]}". It holds: {", ".join(found) or "no network"}. Supported '
            "are files of stylegan2-pytorch (rosinality); choose with --network."
        )
    names = _StateDict(state, label)
    if network == "D":
        return _discriminator(names)
    average = content.get("latent_avg")
    return _generator(names, average if isinstance(average, StoredTensor) else None)


class _StateDict:
    """The tensors of a state_dict, and which of them have been asked for."""

    def __init__(self, state: dict[Any, Any], label: str) -> None:
        self.label = label
        self.tensors: dict[str, StoredTensor] = {}
        for name, value in state.items():
            if not isinstance(name, str) or not isinstance(value, StoredTensor):
                raise self.unsupported(f"{str(name)[:80]!a} is no tensor")
            self.tensors[name.removeprefix("module.")] = value
        self.used: set[str] = set()

    def unsupported(self, what: str) -> UnsupportedModelError:
        return UnsupportedModelError(
            f"{self.label} cannot be converted: {printable(what)}. Supported are the networks of "
            "stylegan2-pytorch (rosinality) as published."
        )

    def shape(self, name: str, dims: int) -> tuple[int, ...]:
        """Return the shape of a tensor with `dims` axes.

        Raises:
            UnsupportedModelError: It is missing or has another number of axes.
        """
        shape = self.tensors[name].shape if name in self.tensors else None
        if shape is None or len(shape) != dims:
            raise self.unsupported(f"{name} is {'missing' if shape is None else list(shape)}")
        return shape

    def count(self, pattern: str) -> int:
        """Return how many names match."""
        return sum(re.fullmatch(pattern, name) is not None for name in self.tensors)

    def reader(
        self, name: str, change: Callable[[FloatArray], FloatArray] = lambda values: values
    ) -> ReadWeights:
        """Return how a tensor is read."""
        if name not in self.tensors:
            raise self.unsupported(f"{name} is missing")
        self.used.add(name)
        tensor = self.tensors[name]
        return lambda: change(tensor.read())

    def taps(self, name: str) -> list[float]:
        """Return the 1-d filter of a stored kernel [k, k], or the usual one where none is stored."""
        if name not in self.tensors:
            return list(DEFAULT_TAPS)
        height, width = self.shape(name, 2)
        if height != width or not 1 <= height <= 64:
            raise self.unsupported(f"{name} is {[height, width]}")
        line = self.tensors[name].read().sum(axis=1)
        return [round(float(tap), 6) for tap in line / line.sum() * 8]  # [1, 3, 3, 1] adds up to 8

    def check_used(self) -> None:
        """Raise on tensors that would be left over."""
        kernels = {name for name in self.tensors if name.endswith("kernel")}
        left = sorted(self.tensors.keys() - self.used - kernels)
        if left:
            raise self.unsupported(f"{left[0][:80]!a} is unknown")


def _flat(values: FloatArray) -> FloatArray:
    return values.reshape(-1)


def _single(values: FloatArray) -> FloatArray:
    return values.reshape(()) if values.size == 1 else values


def _first(values: FloatArray) -> FloatArray:
    return values[0] if values.shape[:1] == (1,) else values


def _noise(values: FloatArray) -> FloatArray:
    return values[0, 0] if values.shape[:2] == (1, 1) else values


def _resolutions(names: _StateDict, blocks: int) -> list[int]:
    if not 1 <= blocks <= 11:
        raise names.unsupported(f"it has {blocks} blocks")
    return [2**exponent for exponent in range(2, 3 + blocks)]


def _solved(names: _StateDict, widths: dict[int, int]) -> dict[str, int]:
    solved = solve_channels(widths)
    if solved is None:
        raise names.unsupported(f"its layers have unusual widths ({list(widths.values())})")
    return {"channel_base": solved[0], "channel_max": solved[1]}


def _generator(names: _StateDict, average: StoredTensor | None) -> Conversion:
    blocks = names.count(r"to_rgbs\.\d+\.bias")
    resolutions = _resolutions(names, blocks)
    layers = names.count(r"style\.\d+\.weight")
    if not 1 <= layers <= 64:
        raise names.unsupported(f"it has {layers} mapping layers")
    widths = {4: names.shape("input.input", 4)[1]}
    for index, resolution in enumerate(resolutions[1:]):
        widths[resolution] = names.shape(f"convs.{2 * index + 1}.conv.weight", 5)[1]
    w_dim = names.shape("style.1.weight", 2)[1]
    taps = names.taps("convs.0.conv.blur.kernel")
    config = {
        "z_dim": w_dim,
        "c_dim": 0,
        "w_dim": w_dim,
        "img_resolution": resolutions[-1],
        "img_channels": names.shape("to_rgb1.conv.weight", 5)[1],
        "mapping_kwargs": {"num_layers": layers, "lr_multiplier": LR_MULTIPLIER, "w_avg_beta": 0.995},
        "synthesis_kwargs": {
            **_solved(names, widths),
            "num_fp16_res": 0,
            "conv_clamp": None,
            "architecture": "skip",
            "resample_filter": taps,
            "use_noise": True,
        },
    }
    weights = _generator_weights(names, resolutions, layers, square_filter(taps))
    names.check_used()
    weights["mapping.w_avg"] = (
        (lambda: _flat(average.read())) if average else _mean_latent(weights, w_dim, layers)
    )
    return Conversion(ORIGIN, "StyleGAN2Generator", config, weights)


def _generator_weights(
    names: _StateDict, resolutions: list[int], layers: int, square: FloatArray
) -> dict[str, ReadWeights]:
    weights = {"synthesis.b4.const": names.reader("input.input", _first)}
    for index in range(layers):
        for kind in ("weight", "bias"):
            weights[f"mapping.fc{index}.{kind}"] = names.reader(f"style.{index + 1}.{kind}")
    for index, resolution in enumerate(resolutions):
        target = f"synthesis.b{resolution}"
        weights[f"{target}.resample_filter"] = square.copy
        pairs = [
            ("conv0", f"convs.{2 * index - 2}", 2 * index - 1),
            ("conv1", f"convs.{2 * index - 1}", 2 * index),
        ]
        if resolution == 4:
            pairs = [("conv1", "conv1", 0)]
        for name, source, noise in pairs:
            weights |= _style_layer(names, f"{target}.{name}", source, f"{source}.activate.bias")
            weights[f"{target}.{name}.resample_filter"] = square.copy
            weights[f"{target}.{name}.noise_strength"] = names.reader(f"{source}.noise.weight", _single)
            weights[f"{target}.{name}.noise_const"] = _noise_reader(names, noise, resolution)
        source = "to_rgb1" if resolution == 4 else f"to_rgbs.{index - 1}"
        weights |= _style_layer(names, f"{target}.torgb", source, f"{source}.bias")
    return weights


def _style_layer(names: _StateDict, target: str, source: str, bias: str) -> dict[str, ReadWeights]:
    return {
        f"{target}.weight": names.reader(f"{source}.conv.weight", _first),
        f"{target}.bias": names.reader(bias, _flat),
        f"{target}.affine.weight": names.reader(f"{source}.conv.modulation.weight"),
        f"{target}.affine.bias": names.reader(f"{source}.conv.modulation.bias"),
    }


def _noise_reader(names: _StateDict, index: int, resolution: int) -> ReadWeights:
    """Return the stored noise picture; files from before it was stored get one from a fixed seed."""
    if f"noises.noise_{index}" in names.tensors:
        return names.reader(f"noises.noise_{index}", _noise)
    return lambda: np.random.RandomState(index).randn(resolution, resolution).astype(np.float32)


def _mean_latent(weights: dict[str, ReadWeights], w_dim: int, layers: int) -> ReadWeights:
    """Return the average w of fixed seeds: the mapping network computed in NumPy."""

    def compute() -> FloatArray:
        x = np.random.RandomState(0).randn(MEAN_LATENT_SAMPLES, w_dim).astype(np.float32)
        x /= np.sqrt(np.mean(x**2, axis=1, keepdims=True) + 1e-8)
        for index in range(layers):
            weight, bias = weights[f"mapping.fc{index}.weight"](), weights[f"mapping.fc{index}.bias"]()
            x = x @ (weight.T * np.float32(LR_MULTIPLIER / np.sqrt(weight.shape[1]))) + bias * LR_MULTIPLIER
            x = np.where(x > 0, x, 0.2 * x) * np.float32(np.sqrt(2))
        return np.asarray(x.mean(axis=0), np.float32)

    return compute


def _discriminator(names: _StateDict) -> Conversion:
    blocks = names.count(r"convs\.\d+\.skip\.1\.weight")
    resolutions = _resolutions(names, blocks)[:0:-1]
    widths = {
        resolution: names.shape(f"convs.{index + 1}.conv1.0.weight", 4)[0]
        for index, resolution in enumerate(resolutions)
    }
    widths[4] = names.shape("final_conv.0.weight", 4)[0]
    taps = names.taps("convs.1.conv2.0.kernel")
    config = {
        "c_dim": 0,
        "img_resolution": resolutions[0],
        "img_channels": names.shape("convs.0.0.weight", 4)[1],
        "architecture": "resnet",
        **_solved(names, widths),
        "num_fp16_res": 0,
        "conv_clamp": None,
        "block_kwargs": {"resample_filter": taps},
        "epilogue_kwargs": {"mbstd_group_size": 4, "mbstd_num_channels": 1},
    }
    weights = _discriminator_weights(names, resolutions, square_filter(taps))
    names.check_used()
    return Conversion(ORIGIN, "StyleGAN2Discriminator", config, weights)


def _discriminator_weights(
    names: _StateDict, resolutions: list[int], square: FloatArray
) -> dict[str, ReadWeights]:
    default = square_filter(list(DEFAULT_TAPS))
    layers = {f"b{resolutions[0]}.fromrgb": ("convs.0.0", "convs.0.1")}
    weights: dict[str, ReadWeights] = {}
    for index, resolution in enumerate(resolutions, start=1):
        layers[f"b{resolution}.conv0"] = (f"convs.{index}.conv1.0", f"convs.{index}.conv1.1")
        layers[f"b{resolution}.conv1"] = (f"convs.{index}.conv2.1", f"convs.{index}.conv2.2")
        weights[f"b{resolution}.skip.weight"] = names.reader(f"convs.{index}.skip.1.weight")
        for owner in (f"b{resolution}", f"b{resolution}.skip"):
            weights[f"{owner}.resample_filter"] = square.copy
    layers["b4.conv"] = ("final_conv.0", "final_conv.1")
    for target, (conv, activation) in layers.items():
        weights[f"{target}.weight"] = names.reader(f"{conv}.weight")
        weights[f"{target}.bias"] = names.reader(f"{activation}.bias", _flat)
        weights[f"{target}.resample_filter"] = default.copy if target == "b4.conv" else square.copy
    for index, target in enumerate(("b4.fc", "b4.out")):
        for kind in ("weight", "bias"):
            weights[f"{target}.{kind}"] = names.reader(f"final_linear.{index}.{kind}")
    return weights
