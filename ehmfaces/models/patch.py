"""Discriminators that judge every place of a picture by itself: cheap to train, hard to overfit.

Owns `PatchDiscriminator` (pixels and where they are) and `FeatureHeads` (levels of a frozen feature
network). Both return one map of logits per scale; higher = more real. Knows tensors only.

Source: Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks" (2017); Sauer et al.,
"Projected GANs Converge Faster" (2021).
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.2


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


class PatchDiscriminator(nn.Module):
    """Towers at the full, the half and the quarter size, each told where in the frame it looks.

    Portraits are aligned, so that "an eye belongs here" can be learned from a place. A tower sees at most
    `view_px`: of larger pictures a random part.
    """

    def __init__(
        self,
        img_channels: int = 3,
        width: int = 32,
        scales: int = 3,
        view_px: int = 128,
        detail: float = 0.0,
    ) -> None:
        """Build the towers with random weights.

        Args:
            img_channels: Channels of the pictures.
            width: Channels of the first layer; later ones have up to four times as many.
            scales: Number of towers, each at half the size of the one before.
            view_px: Side of what a tower sees at most.
            detail: How strongly towers are shown, beside the picture, what a blur of 5 x 5 takes away;
                0 = not.
        """
        super().__init__()
        self.view_px, self.detail = view_px, detail
        seen = (2 if detail else 1) * img_channels + 2
        self.towers = nn.ModuleList(_Tower(seen, width) for _ in range(scales))

    def forward(self, img: Tensor) -> list[Tensor]:
        """Img [N, img_channels, S, S] in [-1, 1] to maps of logits [N, 1, H, W], finest first."""
        found = []
        for tower in self.towers:
            found.append(tower(self._view(img)))
            img = F.avg_pool2d(img, 2)
        return found

    def _view(self, img: Tensor) -> Tensor:
        """Return what a tower sees: pixels, their detail and their coordinates [N, channels, V, V]."""
        side = img.shape[2]
        parts = [img]
        if self.detail:
            blurred = F.avg_pool2d(img, 5, stride=1, padding=2, count_include_pad=False)
            parts.append(self.detail * (img - blurred))
        seen = with_places(torch.cat(parts, dim=1))
        if side <= self.view_px:
            return seen
        top, left = (int(v) for v in torch.randint(side - self.view_px + 1, [2]))
        return seen[:, :, top : top + self.view_px, left : left + self.view_px]

    @torch.no_grad()
    def look_closer(self) -> None:
        """Prepare for pictures of twice the size: each tower takes over the weights of the next finer one."""
        for fine, coarse in reversed(list(zip(self.towers, self.towers[1:], strict=False))):
            coarse.load_state_dict(fine.state_dict())


class FeatureHeads(nn.Module):
    """One small head on each level of a frozen feature network."""

    def __init__(self, channels: Sequence[int], width: int = 64, deep: bool = False) -> None:
        """Build one head for each of the levels' widths.

        Args:
            channels: Widths of the levels.
            width: Channels of the hidden layers.
            deep: Whether heads are told the places and have a second hidden layer, at half the size.
        """
        super().__init__()
        self.deep = deep
        self.heads = nn.ModuleList(_build_head(count, width, deep) for count in channels)

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Levels [N, C_i, H_i, W_i] to logits [N, 1, H_i, W_i], deep ones to half that size."""
        shown = [with_places(level) for level in levels] if self.deep else levels
        return [head(level) for head, level in zip(self.heads, shown, strict=True)]


def _build_head(channels: int, width: int, deep: bool) -> nn.Sequential:
    logits = _Conv(width, 1, 1, active=False)
    if not deep:
        return nn.Sequential(_Conv(channels, width, 3), logits)
    return nn.Sequential(_Conv(channels + 2, width, 3), _Conv(width, width, 4, 2), logits)


def with_places(x: Tensor) -> Tensor:
    """Append two channels to [N, C, H, H] that say where in the frame a value lies, -1 to 1."""
    line = torch.linspace(-1, 1, x.shape[2], device=x.device)
    grid = torch.stack(torch.meshgrid(line, line, indexing="ij")).expand(len(x), -1, -1, -1)
    return torch.cat([x, grid.to(x.dtype)], dim=1)
