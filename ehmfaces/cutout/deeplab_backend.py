"""Our own cut-out network: DeepLabV3+ on MobileNetV2 with a decoder that brings fine edges back.

Owns the network, its config and the way from its files on disk to `predict_alpha`. Does not know
matting, training, which background is behind a person or what a portrait is.

Not covered: more than one person in a picture, whole bodies, hats, animals. It was trained on
adult heads with neck and shoulders only.
"""

import json
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval
from transformers import MobileNetV2Config, MobileNetV2ForSemanticSegmentation

from ehmfaces.errors import ModelError
from ehmfaces.types import Alpha, Pixels

EMBEDDED_DIR = Path(__file__).resolve().parents[1] / "weights" / "cutout-deeplab"


@dataclass(frozen=True)
class CutoutConfig:
    """Everything that decides the network's shape.

    Attributes:
        input_size_px: Side of the square that a picture is fitted into, a multiple of 16.
        depth_multiplier: Width of MobileNetV2.
        output_stride: How much coarser the deepest features are: 8 or 16.
        coarse_channels: Channels that DeepLabV3+ hands to the decoder; the first one is its own mask.
        decoder_channels: Channels of the decoder at a quarter, half and full resolution.
    """

    input_size_px: int = 160
    depth_multiplier: float = 0.35
    output_stride: int = 16
    coarse_channels: int = 16
    decoder_channels: tuple[int, int, int] = (24, 16, 12)


def _conv_block(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels, momentum=0.03),
        nn.ReLU(inplace=True),
    )


def _upsample(features: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(features, size=like.shape[-2:], mode="bilinear", align_corners=False)


def build_deeplab(config: CutoutConfig) -> MobileNetV2ForSemanticSegmentation:
    """Build DeepLabV3+ from transformers, without the classifier layer that segmentation never uses."""
    deeplab = MobileNetV2ForSemanticSegmentation(
        MobileNetV2Config(
            depth_multiplier=config.depth_multiplier,
            output_stride=config.output_stride,
            num_labels=config.coarse_channels,
            classifier_dropout_prob=0.0,
            tf_padding=False,
        )
    )
    deeplab.mobilenet_v2.conv_1x1 = nn.Identity()
    for module in deeplab.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.03  # transformers' 0.997 keeps the last batch only: no use when training
    return deeplab


class CutoutNetwork(nn.Module):
    """DeepLabV3+ whose coarse features are sharpened with the stem's features and the picture itself.

    Source: Chen et al., "Encoder-Decoder with Atrous Separable Convolution for Semantic Image
    Segmentation" (2018), figure 2, with two more steps in the decoder.
    """

    def __init__(self, config: CutoutConfig) -> None:
        """Build the network with random weights."""
        super().__init__()
        self.config = config
        self.deeplab = build_deeplab(config)
        backbone = self.deeplab.mobilenet_v2
        half = backbone.conv_stem.reduce_1x1.convolution.out_channels
        quarter = backbone.layer[1].reduce_1x1.convolution.out_channels
        at_quarter, at_half, at_full = config.decoder_channels
        self.decode_quarter = nn.Sequential(
            _conv_block(config.coarse_channels + quarter, at_quarter), _conv_block(at_quarter, at_quarter)
        )
        self.decode_half = _conv_block(at_quarter + half, at_half)
        self.decode_full = _conv_block(at_half + 3, at_full)
        self.to_alpha = nn.Conv2d(at_full, 1, 3, padding=1)

    def forward(self, img: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits of alpha, fine and coarse.

        Args:
            img: float32 [N, 3, H, W] in [-1, 1], RGB; H and W multiples of 16.

        Returns:
            Logits [N, 1, H, W], and the coarse ones of DeepLabV3+ itself [N, 1, H / s, W / s].
        """
        backbone = self.deeplab.mobilenet_v2
        half = backbone.conv_stem(img)  # [N, C, H / 2, W / 2]
        quarter = backbone.layer[1](backbone.layer[0](half))  # [N, C, H / 4, W / 4]
        deep = quarter
        for layer in backbone.layer[2:]:
            deep = layer(deep)
        coarse = self.deeplab.segmentation_head(deep)  # [N, C, H / s, W / s]
        x = self.decode_quarter(torch.cat([_upsample(coarse, quarter), quarter], 1))
        x = self.decode_half(torch.cat([_upsample(x, half), half], 1))
        x = self.decode_full(torch.cat([_upsample(x, img), img], 1))
        return self.to_alpha(x), coarse[:, :1]


def save_cutout_network(network: CutoutNetwork, directory: Path) -> None:
    """Write config.json and model.safetensors (float16) into a folder, which is made if need be."""
    directory.mkdir(parents=True, exist_ok=True)
    config = {"architecture": "deeplab-cutout", **asdict(network.config)}
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    tensors = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})


def _read_config(path: Path) -> CutoutConfig:
    values = json.loads(path.read_text(encoding="utf-8"))
    known = {field.name for field in fields(CutoutConfig)}
    chosen: dict[str, Any] = {
        key: tuple(v) if isinstance(v, list) else v for key, v in values.items() if key in known
    }
    return CutoutConfig(**chosen)


def read_cutout_network(directory: Path) -> CutoutNetwork:
    """Read a network in float32 as it was trained, so that training can go on from it.

    Raises:
        ModelError: The folder holds no cut-out network, or one that does not fit its config.
    """
    try:
        network = CutoutNetwork(_read_config(directory / "config.json"))
        tensors = {name: value.float() for name, value in load_file(directory / "model.safetensors").items()}
        missing = network.load_state_dict(tensors, strict=False)
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f'The folder "{directory.name}" holds no cut-out network that can be read ({error}). '
            "It needs a config.json and a model.safetensors that belong together."
        ) from error
    absent = [name for name in missing.missing_keys if not name.endswith("num_batches_tracked")]
    if absent or missing.unexpected_keys:
        raise ModelError(
            f'The weights in "{directory.name}" do not fit its config.json '
            f"({len(absent)} tensors missing, {len(missing.unexpected_keys)} too many)."
        )
    return network


def load_cutout_network(directory: Path) -> CutoutNetwork:
    """Read a network for use: evaluation mode, batch norms folded away.

    Raises:
        ModelError: The folder holds no cut-out network, or one that does not fit its config.
    """
    network = read_cutout_network(directory).eval().requires_grad_(False)
    fold_batch_norms(network)
    for module in network.modules():
        if isinstance(module, nn.ReLU6):
            module.inplace = True  # of a convolution's result, which nobody else reads
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def fold_batch_norms(network: nn.Module) -> None:
    """Fold every batch norm into the convolution before it: the same results in about half the time."""
    children = list(network.named_children())
    for (name, layer), (norm_name, norm) in pairwise(children):
        if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(network, name, fuse_conv_bn_eval(layer, norm))
            setattr(network, norm_name, nn.Identity())
    for _, child in children:
        fold_batch_norms(child)


def fit_into_square(pixels: Pixels, size_px: int) -> tuple[Tensor, tuple[int, int]]:
    """Scale a picture so that its longer side is `size_px`, and pad it to a square with its own edge.

    Args:
        pixels: uint8 [H, W, 3], RGB.
        size_px: Side of the square.

    Returns:
        float32 [1, 3, size_px, size_px] in [-1, 1], and the height and width that the picture takes
        in it, at the top left.
    """
    img = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].float() / 127.5 - 1
    height, width = pixels.shape[:2]
    scale = size_px / max(height, width)
    inner = (max(1, round(height * scale)), max(1, round(width * scale)))
    if inner != (height, width):
        img = F.interpolate(img, size=inner, mode="bilinear", align_corners=False, antialias=True)
    img = F.pad(img, (0, size_px - inner[1], 0, size_px - inner[0]), mode="replicate")
    return img, inner


class DeepLabBackend:
    """Predict alpha with our own network, offline, the same on every call."""

    name = "deeplab"

    def __init__(self, directory: Path | str | None = None, device: str | None = None) -> None:
        """Load the network.

        Args:
            directory: Folder with config.json and model.safetensors. None takes the embedded one.
            device: Where to run, like "cpu" or "cuda". None is the CPU.

        Raises:
            ModelError: The folder holds no cut-out network.
        """
        self.device = torch.device(device or "cpu")
        self.network = load_cutout_network(Path(directory or EMBEDDED_DIR)).to(self.device)

    @torch.inference_mode()
    def predict_alpha(self, pixels: Pixels) -> Alpha:
        """Return how much of each pixel is person.

        Args:
            pixels: uint8 [H, W, 3], RGB.

        Returns:
            float32 [H, W] in [0, 1].
        """
        img, (height, width) = fit_into_square(pixels, self.network.config.input_size_px)
        logits, _ = self.network(img.to(self.device, memory_format=torch.channels_last))
        alpha = torch.sigmoid(logits)[:, :, :height, :width]
        if (height, width) != pixels.shape[:2]:
            alpha = F.interpolate(alpha, size=pixels.shape[:2], mode="bicubic", align_corners=False)
        result: Alpha = alpha[0, 0].clamp(0, 1).float().cpu().numpy()
        return result
