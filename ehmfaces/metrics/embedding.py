"""One feature vector for each picture: the mean over the picture of EfficientNet-lite0's block 10.

Owns batching, so that any number of pictures needs the memory of one batch. Figures made of these vectors
end with `_lite0`.

Not covered: Inception, whose weights cannot be had from a package; no figure here is a published `fid`.
"""

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch

from ehmfaces.metrics.features import LiteFeatures
from ehmfaces.tensors import img_from_pixels
from ehmfaces.types import Pixels

_BATCH = 16


def embed_pictures(pictures: Iterable[Pixels], features: LiteFeatures) -> npt.NDArray[np.float32]:
    """Return float32 [N, 112] for N pictures of one size, uint8 [S, S, 3] each, taken one batch at a time."""
    device = features.mean.device
    rows = [np.zeros((0, 112), np.float32)]
    for batch in _batches(pictures):
        with torch.inference_mode():
            level = features(img_from_pixels(np.stack(batch)).to(device))[-1]
        rows.append(level.mean(dim=(2, 3)).cpu().numpy())
    return np.concatenate(rows)


def _batches(pictures: Iterable[Pixels]) -> Iterator[list[Pixels]]:
    left = iter(pictures)
    while batch := list(islice(left, _BATCH)):
        yield batch
