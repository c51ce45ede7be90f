"""Perceptual path length: how evenly pictures change along short steps in w.

Owns the choice of paths and the distance. The feature distance is that of `LiteFeatures`, so the figure is
`ppl_lite0` and compares with no published `ppl`.

Source: Karras et al., "A Style-Based Generator Architecture" (2019), section 4.1, in w, whole pictures.
"""

import numpy as np
import torch
from torch import Tensor

from ehmfaces.latents.interpolation import blend_ws
from ehmfaces.metrics.features import LiteFeatures, normalize_channels
from ehmfaces.pipeline import FacePipeline
from ehmfaces.types import Seed

STEP = 1e-4  # of a whole path, as in the paper
_TRIMMED_PERCENT = 1.0


def path_lengths(
    pipeline: FacePipeline, features: LiteFeatures, count: int, seed: Seed = 0
) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Return [count] squared feature distances over squared step lengths, at truncation 1.

    Args:
        pipeline: Whose generator is measured; stored noise.
        features: The network of the distance, on the same device.
        count: Number of paths.
        seed: Decides ends and places; path i runs from the face of seed + 2 i to that of seed + 2 i + 1.
    """
    places = np.random.default_rng(seed).random(count)
    lengths = []
    for index, place in enumerate(places):
        first = seed + 2 * index
        start, stop = pipeline.prepare_latents([first, first + 1], 1.0)
        ends = [blend_ws(start, stop, at) for at in (place * (1 - STEP), place * (1 - STEP) + STEP)]
        ws = torch.from_numpy(np.stack(ends)).to(pipeline.device)
        with torch.inference_mode():
            dtype = next(pipeline.generator.parameters()).dtype
            img = pipeline.generator.synthesis(ws.to(dtype), "const").float()
            lengths.append(_distance(features(img)) / STEP**2)
    return np.array(lengths)


def mean_path_length(lengths: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> float:
    """Return the mean without the lowest and the highest hundredth, as the paper's figure has it."""
    low = np.percentile(lengths, _TRIMMED_PERCENT, method="lower")
    high = np.percentile(lengths, 100 - _TRIMMED_PERCENT, method="higher")
    return float(lengths[(lengths >= low) & (lengths <= high)].mean())


def _distance(levels: list[Tensor]) -> float:
    """Return the sum over levels of the mean squared difference of unit feature vectors of two pictures."""
    total = 0.0
    for level in levels:
        unit = normalize_channels(level.double())
        total += float((unit[0] - unit[1]).square().sum(dim=0).mean())
    return total
