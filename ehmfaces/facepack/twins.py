"""Finds pictures that are in a pack twice, exactly or nearly.

Owns the comparison. Does not know files, names or what a picture shows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ehmfaces.types import FloatArray

# Root mean square difference of two thumbs, 0 to 255, below which one is a copy of the other: saved
# again, or resized. See docs/checking.md for what was measured.
NEAR_LIMIT = 4.0
_BLOCK = 2048


@dataclass(frozen=True)
class Twin:
    """The picture `index` is, exactly or nearly, the earlier picture `original`."""

    index: int
    original: int
    is_exact: bool


def find_twins(digests: Sequence[bytes], thumbs: Sequence[FloatArray]) -> list[Twin]:
    """Return a twin for each picture that is like an earlier one.

    Exact twins are found by digest; near ones are looked for among the rest. Time grows with the square of
    the number, as a matrix product: 17,000 pictures take seconds.

    Args:
        digests: Equal for pictures with equal pixels.
        thumbs: float32 [T] each, 0 to 255.
    """
    first: dict[bytes, int] = {}
    twins = [
        Twin(index, original, True)
        for index, digest in enumerate(digests)
        if (original := first.setdefault(digest, index)) != index
    ]
    distinct = list(first.values())
    near = _near_pairs(np.stack([thumbs[index] for index in distinct])) if len(distinct) > 1 else {}
    twins += [Twin(distinct[index], distinct[original], False) for index, original in near.items()]
    return sorted(twins, key=lambda twin: twin.index)


def _near_pairs(thumbs: FloatArray) -> dict[int, int]:
    """Return index -> first earlier index within the limit, for thumbs [N, T]."""
    centred = thumbs - thumbs.mean(axis=0)
    squares = np.einsum("nt,nt->n", centred, centred)
    limit = NEAR_LIMIT**2 * thumbs.shape[1]
    found: dict[int, int] = {}
    for low in range(0, len(centred), _BLOCK):
        rows = centred[low : low + _BLOCK]
        for left in range(0, low + 1, _BLOCK):
            columns = slice(left, left + _BLOCK)
            distances = (
                squares[low : low + _BLOCK, None] + squares[None, columns] - 2 * rows @ centred[columns].T
            )
            for row, column in zip(*np.nonzero(distances < limit), strict=True):
                if left + column < low + row:
                    found.setdefault(int(low + row), int(left + column))
    return found
