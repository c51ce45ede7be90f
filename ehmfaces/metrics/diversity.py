"""How far the faces of one set are from one another, and from those of another set. Math on arrays only.

Owns distances, nearest neighbours and the limits below which two faces count as one person. Does not know
what describes a face: any feature vectors do.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ehmfaces.types import FloatArray

_BLOCK = 1024


def pair_distances(first: FloatArray, second: FloatArray) -> FloatArray:
    """Return the Euclidean distances [N, M] of vectors [N, D] and [M, D]."""
    a, b = first.astype(np.float64), second.astype(np.float64)
    squares = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1) - 2 * a @ b.T
    distances: FloatArray = np.sqrt(squares.clip(0, None))
    return distances


def neighbor_distances(features: FloatArray, neighbor: int = 1) -> FloatArray:
    """Return each vector's distance [N] to its k-th nearest other one, for features [N, D]; N above k."""
    found = []
    for start in range(0, len(features), _BLOCK):
        distances = pair_distances(features[start : start + _BLOCK], features)
        rows = np.arange(len(distances))
        distances[rows, start + rows] = np.inf
        found.append(np.partition(distances, neighbor - 1, axis=1)[:, neighbor - 1])
    return np.concatenate(found)


def nearest_in(features: FloatArray, others: FloatArray) -> tuple[npt.NDArray[np.intp], FloatArray]:
    """Return the position [N] of each vector's nearest in another set [M, D], and its distance [N]."""
    places, distances = [], []
    for start in range(0, len(features), _BLOCK):
        block = pair_distances(features[start : start + _BLOCK], others)
        places.append(block.argmin(axis=1))
        distances.append(block.min(axis=1))
    return np.concatenate(places), np.concatenate(distances)


def pair_percentile(features: FloatArray, percent: float) -> float:
    """Return the percentile of the distances of all pairs of different vectors in [N, D].

    Holds all pairs at once: for reference sets of thousands at most.
    """
    upper = np.triu_indices(len(features), 1)
    return float(np.percentile(pair_distances(features, features)[upper], percent))


@dataclass(frozen=True)
class Likeness:
    """How alike the faces of a set are.

    Attributes:
        smallest: Distance of the two most alike.
        pairs_below: How many pairs are nearer than a limit.
        share_below: The same as a share of all pairs, 0 to 1.
        persons_below: How many faces have somebody nearer than the limit.
    """

    smallest: float
    pairs_below: int
    share_below: float
    persons_below: int


def measure_likeness(features: FloatArray, limit: float) -> Likeness:
    """Compare all pairs of features [N, D], N at least 2, with a limit."""
    smallest, pairs, persons, count = np.inf, 0, 0, len(features)
    for start in range(0, count, _BLOCK):
        distances = pair_distances(features[start : start + _BLOCK], features)
        rows = np.arange(len(distances))
        distances[rows, start + rows] = np.inf
        below = distances < limit
        smallest = min(smallest, float(distances.min()))
        pairs += int(below.sum())
        persons += int(below.any(axis=1).sum())
    return Likeness(float(smallest), pairs // 2, pairs / (count * (count - 1)), persons)
