"""The exponential moving average of a network's weights."""

import torch
from torch import nn


def half_life_images(ema_kimg: float, ema_rampup: float | None, cur_nimg: int) -> float:
    """Return the half life in pictures; shorter at the start when there is a ramp-up."""
    half_life = ema_kimg * 1000
    return half_life if ema_rampup is None else min(half_life, max(cur_nimg, 1) * ema_rampup)


@torch.no_grad()
def update_ema(average: nn.Module, current: nn.Module, images: int, half_life: float) -> None:
    """Move the average towards the current weights; buffers are copied.

    Args:
        average: Network whose weights move.
        current: Network that is trained.
        images: Pictures since the last update.
        half_life: Pictures after which half of an old weight is left.
    """
    decay = 0.5 ** (images / max(half_life, 1e-8))
    for mean, value in zip(average.parameters(), current.parameters(), strict=True):
        mean.copy_(value.lerp(mean, decay))
    for kept, buffer in zip(average.buffers(), current.buffers(), strict=True):
        kept.copy_(buffer)
