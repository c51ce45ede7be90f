"""Interpolation: faces between two faces. Owns the weighted average of ws. Knows no network."""

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ehmfaces.errors import LatentError


def blend_ws(
    first: npt.NDArray[np.float32], second: npt.NDArray[np.float32], weight: float
) -> npt.NDArray[np.float32]:
    """Return (1 - weight) * first + weight * second.

    Args:
        first: float32 [..., w_dim].
        second: The same shape.
        weight: 0 = first, 1 = second.

    Raises:
        LatentError: The weight is not between 0 and 1.

    Example:
        >>> blend_ws(np.zeros(2, np.float32), np.ones(2, np.float32), 0.25).tolist()
        [0.25, 0.25]
    """
    if not 0 <= weight <= 1:
        raise LatentError(f"Weight {weight} is not a number from 0 (first face) to 1 (second face).")
    return (first + np.float32(weight) * (second - first)).astype(np.float32)


def walk_ws(keys: npt.NDArray[np.float32], steps: int) -> npt.NDArray[np.float32]:
    """Return a walk through the key faces, `steps` pictures for each leg and the last key.

    Args:
        keys: float32 [K, num_ws, w_dim], K at least 2.
        steps: Pictures per leg, at least 1.

    Raises:
        LatentError: Too few keys or steps.
    """
    if len(keys) < 2 or steps < 1:
        raise LatentError(f"A walk needs two faces and one step or more, not {len(keys)} and {steps}.")
    legs = [blend_ws(start, stop, step / steps) for start, stop in pairwise(keys) for step in range(steps)]
    return np.stack([*legs, keys[-1]])
