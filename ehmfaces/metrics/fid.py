"""Fréchet distance of two sets of feature vectors. Math on arrays only.

Called `fid` with Inception features and `fd_lite0` with those of EfficientNet-lite0; the two cannot be
compared. Does not know which network made the features.

Source: Heusel et al., "GANs Trained by a Two Time-Scale Update Rule" (2017), equation 6.
"""

import numpy as np

from ehmfaces.types import FloatArray


def frechet_distance(first: FloatArray, second: FloatArray) -> float:
    """Return |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) of the Gaussians fitted to two sets.

    It is too large for few vectors: below some ten times D of them, compare with the floor only.

    Args:
        first: [N, D], N at least 2.
        second: [M, D], M at least 2.

    Example:
        >>> points = np.array([[0.0], [2.0]])
        >>> round(frechet_distance(points, points + 3), 6)
        9.0
    """
    a, b = first.astype(np.float64), second.astype(np.float64)
    cov_a, cov_b = np.cov(a, rowvar=False, ddof=1), np.cov(b, rowvar=False, ddof=1)
    cov_a, cov_b = np.atleast_2d(cov_a), np.atleast_2d(cov_b)
    root = _root(cov_a)
    # S1 S2 has the eigenvalues of S1^(1/2) S2 S1^(1/2), which is symmetric: no complex numbers on the way.
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(0, None)).sum()
    apart = np.square(a.mean(axis=0) - b.mean(axis=0)).sum()
    return max(0.0, float(apart + np.trace(cov_a) + np.trace(cov_b) - 2 * cross))


def _root(symmetric: FloatArray) -> FloatArray:
    values, vectors = np.linalg.eigh(symmetric)
    root: FloatArray = (vectors * np.sqrt(values.clip(0, None))) @ vectors.T
    return root
