"""Judges of single places of a picture: cheap to train, hard to overfit.

Owns `BandDiscriminator` (fine detail and where it is) and `FeatureHeads` (levels of a frozen feature
network). Both return one map of logits for each scale or level; higher = more real. Knows tensors only.

Source: Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks" (2017); Denton et
al., "Deep Generative Image Models using a Laplacian Pyramid" (2015); Sauer et al., "Projected GANs Converge
Faster" (2021).
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.2
BAND_GAINS = (10.0, 5.0, 5.0)  # detail at the full, half and quarter size is that much weaker than light
BAND_COUNT = len(BAND_GAINS) + 1
SMALL_PX = 32


class _Conv(nn.Module):
    """Convolution with equalised learning rate; with `active` also leaky ReLU."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, active: bool = True
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.gain = 1 / math.sqrt(in_channels * kernel**2)
        self.stride, self.padding, self.active = stride, (kernel - 1) // 2, active

    def forward(self, x: Tensor) -> Tensor:
        y = F.conv2d(x, self.weight * self.gain, self.bias, self.stride, self.padding)
        return F.leaky_relu(y, SLOPE) * math.sqrt(2) if self.active else y


class _Tower(nn.Module):
    """Convolutions from a picture and its coordinates to logits at an eighth of its size."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _Conv(in_channels, width, 4, 2),
            _Conv(width, 2 * width, 4, 2),
            _Conv(2 * width, 4 * width, 4, 2),
            _Conv(4 * width, 4 * width, 3),
            _Conv(4 * width, 1, 3, active=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits


def add_place(x: Tensor, top: float = 0.0, left: float = 0.0, side: float = 1.0) -> Tensor:
    """Append two channels that tell where a picture, or a square part of one, lies in the frame.

    Portraits are aligned, so that "an eye belongs here" can be learned from a place.

    Args:
        x: [N, C, H, W].
        top: Upper edge of the part, as a share of the frame's side.
        left: Left edge, likewise.
        side: Side of the part, likewise.

    Returns:
        [N, C + 2, H, W]; the new channels run from -1 to 1 over the frame.
    """
    down, across = (
        2 * (start + side * (torch.arange(count, device=x.device) + 0.5) / count) - 1
        for start, count in ((top, x.shape[2]), (left, x.shape[3]))
    )
    grid = torch.stack(torch.meshgrid(down, across, indexing="ij")).to(x.dtype)
    return torch.cat([x, grid.expand(len(x), -1, -1, -1)], dim=1)


class BandDiscriminator(nn.Module):
    """Towers that see the detail of pictures at the full, half and quarter size, and one for their light.

    Detail is what a blur takes away, brought to about unit size. Light and colour are far stronger: a tower
    that sees them as well learns nothing of detail for a long time. So the last tower sees them alone, in the
    whole picture at `SMALL_PX`. The others see at most `view_px`: of larger pictures a part. Each is told
    where it is.
    """

    def __init__(self, img_channels: int = 3, width: int = 32, view_px: int = 128) -> None:
        """Build the towers with random weights."""
        super().__init__()
        self.view_px = view_px
        self.towers = nn.ModuleList(_Tower(img_channels + 2, width) for _ in range(BAND_COUNT))

    def forward(self, bands: Sequence[Tensor]) -> list[Tensor]:
        """Bands of `see` to maps of logits [N, 1, H_i, W_i], finest first."""
        return [tower(band) for tower, band in zip(self.towers, bands, strict=True)]

    def see(self, img: Tensor, place: tuple[float, float]) -> list[Tensor]:
        """Return what the towers see: detail and place, last the small picture and place, [N, C + 2, V, V].

        Args:
            img: [N, C, S, S] in [-1, 1], S at least `SMALL_PX`.
            place: Of the part that is seen of too large ones, between 0 (top, left) and 1.
        """
        small = add_place(F.adaptive_avg_pool2d(img, SMALL_PX))
        bands = []
        for gain in BAND_GAINS:
            side = img.shape[2]
            top, left = (int(share * max(0, side - self.view_px)) for share in place)
            seen = img[:, :, top : top + self.view_px, left : left + self.view_px]
            smooth = F.avg_pool2d(F.pad(seen, (2, 2, 2, 2), mode="reflect"), 5, stride=1)
            bands.append(add_place(gain * (seen - smooth), top / side, left / side, seen.shape[2] / side))
            img = F.avg_pool2d(img, 2)
        return [*bands, small]

    @torch.no_grad()
    def look_closer(self) -> None:
        """Prepare for pictures of twice the size: each tower of detail takes over from the next finer one."""
        detail = self.towers[:-1]
        for fine, coarse in reversed(list(pairwise(detail))):
            coarse.load_state_dict(fine.state_dict())


class FeatureHeads(nn.Module):
    """One small head on each level of a frozen feature network."""

    def __init__(self, channels: Sequence[int], strides: Sequence[int]) -> None:
        """Build one head for each level.

        Args:
            channels: Width of each level, without the two channels of `add_place`.
            strides: Of each head's first layer; 2 for the large levels, which then get narrower heads.
        """
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(
                _Conv(count + 2, 64 // stride, 2 + stride, stride),
                _Conv(64 // stride, 64 // stride, 3),
                _Conv(64 // stride, 1, 1, active=False),
            )
            for count, stride in zip(channels, strides, strict=True)
        )

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Levels [N, C_i + 2, H_i, W_i] to logits [N, 1, H_i / stride_i, W_i / stride_i]."""
        return [head(level) for head, level in zip(self.heads, levels, strict=True)]
