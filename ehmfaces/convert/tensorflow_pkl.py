"""TensorFlow pickles of StyleGAN2 and StyleGAN2-ADA (G, D, Gs) to our networks.

Owns the variable names of that code and how its weights lie: convolutions are [height, width, in, out] and
upsampling ones are mirrored, dense ones are [in, out], style biases count from 1. Knows no opcodes and no
files.

Not covered: StyleGAN 1 and progressive networks, and the label layer of the first StyleGAN2 code (it
concatenates before it normalises), which are refused by name.
"""

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from ehmfaces.convert.records import FloatArray, PlainObject, StoredArray, as_number, printable
from ehmfaces.convert.stored_network import Conversion, ReadWeights, square_filter
from ehmfaces.convert.vocabulary import TF_NETWORK
from ehmfaces.errors import UnsupportedModelError

MAX_COMPONENTS = 16
MAX_VARIABLES = 4096
ORIGIN = "TensorFlow StyleGAN2 pickle"
# Place in the tuple that the trainer writes.
_PLACES = {"G": 0, "D": 1, "G_ema": 2}

# Settings that change training or a default of sampling, but not the network.
_WITHOUT_EFFECT = {
    "truncation_psi",
    "truncation_cutoff",
    "style_mixing_prob",
    "structure",
    "randomize_noise",
    "fused_modconv",
    "resolution_h",
    "resolution_w",
    "is_training",
    "is_validation",
    "is_template_graph",
    "return_dlatents",
    "mapping_dtype",
    "dtype",
    "fmap_min",
    "fmap_decay",
}

_Change = Callable[[FloatArray], FloatArray]


def _same(values: FloatArray) -> FloatArray:
    return values


def _dense(values: FloatArray) -> FloatArray:
    return values.transpose()


def _conv(values: FloatArray) -> FloatArray:
    return values.transpose(3, 2, 0, 1)  # [k, k, in, out] -> [out, in, k, k]


def _conv_up(values: FloatArray) -> FloatArray:
    return _conv(values[::-1, ::-1])


def _style_bias(values: FloatArray) -> FloatArray:
    return values + np.float32(1)


def _first(values: FloatArray) -> FloatArray:
    return values[0]  # [1, C, 4, 4] -> [C, 4, 4]


def _noise(values: FloatArray) -> FloatArray:
    return values[0, 0]  # [1, 1, H, W] -> [H, W]


def convert_tensorflow(networks: Any, network: str, label: str) -> Conversion:
    """Return the conversion of one network of a pickle.

    Args:
        networks: The networks in the order of the file: G, D, Gs; or a single one.
        network: "G_ema" (Gs), "G" or "D".
        label: File name for error texts.

    Raises:
        UnsupportedModelError: The network is missing or of another architecture.
    """
    place = 0 if len(networks) == 1 else _PLACES[network]
    stored = networks[place] if place < len(networks) else None
    if not isinstance(stored, PlainObject) or stored.kind != TF_NETWORK:
        raise UnsupportedModelError(
            f"{label} holds {len(networks)} networks and no {network}. It should hold G, D and Gs."
        )
    net = _TensorFlowNetwork(stored, label)
    return _discriminator(net) if network == "D" else _generator(net)


class _TensorFlowNetwork:
    """The variables of a network and its components, and the keywords that it was made with."""

    def __init__(self, root: PlainObject, label: str) -> None:
        self.label = label
        self.function = root.state.get("build_func_name")
        self.variables: dict[str, StoredArray] = {}
        self.used: set[str] = set()
        keywords = root.state.get("static_kwargs")
        self.keywords: dict[Any, Any] = dict(keywords) if isinstance(keywords, dict) else {}
        waiting = [("", root)]
        for count, (prefix, part) in enumerate(waiting):
            if count >= MAX_COMPONENTS:
                raise self.unsupported(f"it has more than {MAX_COMPONENTS} components")
            self._collect(prefix, part.state.get("variables"))
            components = part.state.get("components")
            for name, component in (components if isinstance(components, dict) else {}).items():
                if isinstance(component, PlainObject) and component.kind == TF_NETWORK:
                    waiting.append((f"{prefix}{name}/", component))

    def _collect(self, prefix: str, variables: Any) -> None:
        if not isinstance(variables, list) or len(variables) > MAX_VARIABLES:
            raise self.unsupported("its variables are no list")
        for variable in variables:
            pair = isinstance(variable, tuple) and len(variable) == 2 and isinstance(variable[0], str)
            if not pair:
                raise self.unsupported("a variable is no pair of name and numbers")
            name, value = variable
            if isinstance(value, StoredArray):
                self.variables[prefix + re.sub(r":0$", "", name)] = value
            elif type(value) not in (int, float):
                raise self.unsupported(f"its variable {name[:80]!a} is no array")
            else:
                self.variables[prefix + name] = StoredArray(np.array(value, np.float32))

    def unsupported(self, what: str) -> UnsupportedModelError:
        return UnsupportedModelError(
            f"{self.label} cannot be converted: {printable(what)}. Supported are TensorFlow pickles of "
            "StyleGAN2 and StyleGAN2-ADA as published."
        )

    def number(self, name: str, default: float | None, most: float = 2**24) -> Any:
        """Return a number that the network was made with, or the published default."""
        self.used.add(name)
        value = as_number(self.keywords.get(name, default))
        if value is None:
            return None
        if type(value) not in (int, float, bool) or not abs(value) <= most:
            raise self.unsupported(f"its {name} is no number to {most}")
        return int(value) if float(value).is_integer() else value

    def word(self, name: str, default: str, known: tuple[str, ...]) -> str:
        self.used.add(name)
        value = self.keywords.get(name, default)
        if not isinstance(value, str) or value not in known:
            raise self.unsupported(f"its {name} is none of {', '.join(known)}")
        return value

    def taps(self) -> list[float]:
        self.used.add("resample_kernel")
        value = self.keywords.get("resample_kernel", [1, 3, 3, 1])
        fits = isinstance(value, (list, tuple)) and 0 < len(value) <= 64
        if not fits or any(type(as_number(tap)) not in (int, float) for tap in value):
            raise self.unsupported("its resample_kernel is no row of numbers")
        return [as_number(tap) for tap in value]

    def check_keywords(self) -> None:
        """Raise on a setting whose effect is unknown."""
        for name in self.keywords:
            if name not in self.used and name not in _WITHOUT_EFFECT and not str(name).endswith("_func"):
                raise self.unsupported(f"it was made with the unknown setting {str(name)[:40]!a}")

    def has(self, name: str) -> bool:
        return name in self.variables

    def reader(self, name: str, change: _Change, dims: int) -> ReadWeights:
        """Return how a variable is read.

        Raises:
            UnsupportedModelError: It is missing or has another number of axes.
        """
        if name not in self.variables:
            raise self.unsupported(f"its variable {name} is missing")
        array = self.variables[name]
        if len(array.shape) != dims:
            raise self.unsupported(f"its variable {name} has the shape {list(array.shape)}")
        return lambda: change(array.read())

    def normalise(self, layer: str) -> str:
        """Rename `ToRGB_lod2/...` to its resolution; return "orig" where that was needed."""
        resolution = self.number("resolution", 1024)
        renamed = False
        for name in list(self.variables):
            match = re.fullmatch(rf"((?:synthesis/)?){layer}_lod(\d)/(.*)", name)
            if match:
                size = resolution // 2 ** int(match[2])
                self.variables[f"{match[1]}{size}x{size}/{layer}/{match[3]}"] = self.variables.pop(name)
                renamed = True
        return "orig" if renamed else ""


def _resolutions(net: _TensorFlowNetwork) -> list[int]:
    resolution = net.number("resolution", 1024)
    if type(resolution) is not int or not 8 <= resolution <= 8192 or resolution & (resolution - 1):
        raise net.unsupported(f"its resolution {resolution} is no power of two from 8 to 8192")
    return [2**exponent for exponent in range(2, resolution.bit_length())]


_ARCHITECTURES = ("skip", "resnet", "orig")
_ACTIVATIONS = ("lrelu", "linear")


def _generator(net: _TensorFlowNetwork) -> Conversion:
    resolutions = _resolutions(net)
    if net.has("mapping/LabelConcat/weight"):
        raise net.unsupported("its label layer is that of the first StyleGAN2 code")
    if not net.has("synthesis/4x4/Const/const") or not net.has("dlatent_avg"):
        raise net.unsupported("it is no generator of StyleGAN2")
    renamed = net.normalise("ToRGB")
    architecture = renamed or net.word("architecture", "skip", _ARCHITECTURES)
    net.used.add("architecture")
    net.word("nonlinearity", "lrelu", ("lrelu",))
    if net.number("normalize_latents", 1) != 1:
        raise net.unsupported("it does not normalise its latents")
    beta = net.number("w_avg_beta" if "w_avg_beta" in net.keywords else "dlatent_avg_beta", 0.995)
    config = {
        "z_dim": net.number("latent_size", 512),
        "c_dim": net.number("label_size", 0),
        "w_dim": net.number("dlatent_size", 512),
        "img_resolution": resolutions[-1],
        "img_channels": net.number("num_channels", 3),
        "mapping_kwargs": {
            "num_layers": net.number("mapping_layers", 8, most=64),
            "embed_features": net.number("label_fmaps", None),
            "layer_features": net.number("mapping_fmaps", None),
            "activation": net.word("mapping_nonlinearity", "lrelu", _ACTIVATIONS),
            "lr_multiplier": net.number("mapping_lrmul", 0.01),
            "w_avg_beta": 1 if beta is None else beta,
        },
        "synthesis_kwargs": {
            "channel_base": net.number("fmap_base", 16384) * 2,
            "channel_max": net.number("fmap_max", 512),
            "num_fp16_res": net.number("num_fp16_res", 0),
            "conv_clamp": net.number("conv_clamp", None),
            "architecture": architecture,
            "resample_filter": net.taps(),
            "use_noise": bool(net.number("use_noise", 1)),
        },
    }
    net.check_keywords()
    return Conversion(ORIGIN, "StyleGAN2Generator", config, _generator_weights(net, config))


def _generator_weights(net: _TensorFlowNetwork, config: dict[str, Any]) -> dict[str, ReadWeights]:
    weights = {"mapping.w_avg": net.reader("dlatent_avg", _same, 1)}
    if config["c_dim"]:
        weights |= _dense_layer(net, "mapping.embed", "mapping/LabelEmbed")
    for index in range(config["mapping_kwargs"]["num_layers"]):
        weights |= _dense_layer(net, f"mapping.fc{index}", f"mapping/Dense{index}")
    options = config["synthesis_kwargs"]
    square = square_filter(options["resample_filter"])
    for resolution in _resolutions(net):
        target, source = f"synthesis.b{resolution}", f"synthesis/{resolution}x{resolution}"
        weights[f"{target}.resample_filter"] = square.copy
        if resolution == 4:
            weights[f"{target}.const"] = net.reader(f"{source}/Const/const", _first, 4)
            layers = [("conv1", "Conv", _conv, 0)]
        else:
            log2 = resolution.bit_length() - 1
            layers = [("conv0", "Conv0_up", _conv_up, 2 * log2 - 5), ("conv1", "Conv1", _conv, 2 * log2 - 4)]
        for name, variable, change, noise in layers:
            weights |= _style_layer(net, f"{target}.{name}", f"{source}/{variable}", change)
            weights[f"{target}.{name}.resample_filter"] = square.copy
            if options["use_noise"]:
                strength = net.reader(f"{source}/{variable}/noise_strength", _same, 0)
                weights[f"{target}.{name}.noise_strength"] = strength
                weights[f"{target}.{name}.noise_const"] = net.reader(f"synthesis/noise{noise}", _noise, 4)
        if options["architecture"] == "skip" or resolution == config["img_resolution"]:
            weights |= _style_layer(net, f"{target}.torgb", f"{source}/ToRGB", _conv)
        if options["architecture"] == "resnet" and resolution > 4:
            weights[f"{target}.skip.weight"] = net.reader(f"{source}/Skip/weight", _conv_up, 4)
            weights[f"{target}.skip.resample_filter"] = square.copy
    return weights


def _dense_layer(net: _TensorFlowNetwork, target: str, source: str) -> dict[str, ReadWeights]:
    return {
        f"{target}.weight": net.reader(f"{source}/weight", _dense, 2),
        f"{target}.bias": net.reader(f"{source}/bias", _same, 1),
    }


def _conv_layer(
    net: _TensorFlowNetwork, target: str, source: str, change: _Change = _conv
) -> dict[str, ReadWeights]:
    return {
        f"{target}.weight": net.reader(f"{source}/weight", change, 4),
        f"{target}.bias": net.reader(f"{source}/bias", _same, 1),
    }


def _style_layer(
    net: _TensorFlowNetwork, target: str, source: str, change: _Change
) -> dict[str, ReadWeights]:
    return {
        **_conv_layer(net, target, source, change),
        f"{target}.affine.weight": net.reader(f"{source}/mod_weight", _dense, 2),
        f"{target}.affine.bias": net.reader(f"{source}/mod_bias", _style_bias, 1),
    }


def _discriminator(net: _TensorFlowNetwork) -> Conversion:
    resolutions = _resolutions(net)[:0:-1]
    if not net.has("Output/weight") or not net.has("4x4/Dense0/weight"):
        raise net.unsupported("it is no discriminator of StyleGAN2")
    renamed = net.normalise("FromRGB")
    architecture = renamed or net.word("architecture", "resnet", _ARCHITECTURES)
    net.used.add("architecture")
    activation = net.word("nonlinearity", "lrelu", _ACTIVATIONS)
    c_dim = net.number("label_size", 0)
    first_code = net.function == "D_stylegan2"  # its default group has 4 pictures, later ones the whole batch
    if c_dim and first_code:
        raise net.unsupported("its label layer is that of the first StyleGAN2 code")
    features = net.number("mapping_fmaps", None)
    mapping = {
        "num_layers": net.number("mapping_layers", 0, most=64),
        "embed_features": features,
        "layer_features": features,
        "activation": activation,
        "lr_multiplier": net.number("mapping_lrmul", 0.1),
    }
    net.number("freeze_layers", 0)
    config = {
        "c_dim": c_dim,
        "img_resolution": resolutions[0],
        "img_channels": net.number("num_channels", 3),
        "architecture": architecture,
        "channel_base": net.number("fmap_base", 16384) * 2,
        "channel_max": net.number("fmap_max", 512),
        "num_fp16_res": net.number("num_fp16_res", 0),
        "conv_clamp": net.number("conv_clamp", None),
        "cmap_dim": features if c_dim else None,
        "block_kwargs": {"activation": activation, "resample_filter": net.taps()},
        "mapping_kwargs": mapping if c_dim else {},
        "epilogue_kwargs": {
            "mbstd_group_size": net.number("mbstd_group_size", 4 if first_code else None),
            "mbstd_num_channels": net.number("mbstd_num_features", 1),
            "activation": activation,
        },
    }
    net.check_keywords()
    return Conversion(ORIGIN, "StyleGAN2Discriminator", config, _discriminator_weights(net, config))


def _discriminator_weights(net: _TensorFlowNetwork, config: dict[str, Any]) -> dict[str, ReadWeights]:
    square = square_filter(config["block_kwargs"]["resample_filter"])
    default = square_filter([1, 3, 3, 1])
    weights: dict[str, ReadWeights] = {}
    for resolution in _resolutions(net)[:0:-1]:
        target, source = f"b{resolution}", f"{resolution}x{resolution}"
        layers = {"conv0": "Conv0", "conv1": "Conv1_down"}
        if config["architecture"] == "skip" or resolution == config["img_resolution"]:
            layers["fromrgb"] = "FromRGB"
        weights[f"{target}.resample_filter"] = square.copy
        for name, variable in layers.items():
            weights |= _conv_layer(net, f"{target}.{name}", f"{source}/{variable}")
            weights[f"{target}.{name}.resample_filter"] = square.copy
        if config["architecture"] == "resnet":
            weights[f"{target}.skip.weight"] = net.reader(f"{source}/Skip/weight", _conv, 4)
            weights[f"{target}.skip.resample_filter"] = square.copy
    weights |= _conv_layer(net, "b4.conv", "4x4/Conv")
    weights["b4.conv.resample_filter"] = default.copy
    if config["architecture"] == "skip":
        weights |= _conv_layer(net, "b4.fromrgb", "4x4/FromRGB")
        weights["b4.fromrgb.resample_filter"] = default.copy
    weights |= _dense_layer(net, "b4.fc", "4x4/Dense0")
    weights |= _dense_layer(net, "b4.out", "Output")
    if config["c_dim"]:
        weights |= _dense_layer(net, "mapping.embed", "LabelEmbed")
        for index in range(config["mapping_kwargs"]["num_layers"]):
            weights |= _dense_layer(net, f"mapping.fc{index}", f"Mapping{index}")
    return weights
