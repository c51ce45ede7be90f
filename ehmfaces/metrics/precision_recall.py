"""Precision and recall of made pictures against real ones, by nearest neighbours. Math on arrays only.

Precision: share of made pictures that lie among the real ones. Recall: share of real pictures that lie
among the made ones. Both fall with fewer pictures; compare them with the same figures of two real halves.

Source: Kynkäänniemi et al., "Improved Precision and Recall Metric" (2019), equations 1 and 2, k = 3.
"""

from ehmfaces.errors import InputError
from ehmfaces.metrics.diversity import neighbor_distances, pair_distances
from ehmfaces.types import FloatArray

_BLOCK = 1024


def precision_recall(real: FloatArray, made: FloatArray, neighbors: int = 3) -> tuple[float, float]:
    """Return precision and recall, 0 to 1.

    Args:
        real: Features [N, D].
        made: Features [M, D]; recall is fair when M is about N.
        neighbors: A picture's reach is the distance to its k-th neighbour in its own set.

    Raises:
        InputError: A set has no more than `neighbors` pictures.
    """
    return _share_within(made, real, neighbors), _share_within(real, made, neighbors)


def _share_within(points: FloatArray, balls: FloatArray, neighbors: int) -> float:
    """Return the share of points within the reach of any ball."""
    if len(balls) <= neighbors:
        raise InputError(f"{len(balls)} pictures are too few: give more than {neighbors}.")
    reach = neighbor_distances(balls, neighbors)
    starts = range(0, len(points), _BLOCK)
    inside = sum(
        int((pair_distances(points[s : s + _BLOCK], balls) <= reach).any(axis=1).sum()) for s in starts
    )
    return inside / len(points)
