"""Kernel distance of two sets of feature vectors. Math on arrays only.

Called `kid` with Inception features and `kd_lite0` with those of EfficientNet-lite0. Unlike the Fréchet
distance it is right on average for few vectors too, and may then fall below 0.

Source: Binkowski et al., "Demystifying MMD GANs" (2018), section 3: cubic kernel, unbiased estimate.
"""

import numpy as np

from ehmfaces.types import FloatArray

_BLOCK = 1024


def kernel_distance(first: FloatArray, second: FloatArray) -> float:
    """Return the unbiased squared maximum mean discrepancy under k(x, y) = (x y / D + 1)^3.

    Args:
        first: [N, D], N at least 2.
        second: [M, D], M at least 2.
    """
    a, b = first.astype(np.float64), second.astype(np.float64)
    n, m = len(a), len(b)
    within_a = (_kernel_sum(a, a) - _own_sum(a)) / (n * (n - 1))
    within_b = (_kernel_sum(b, b) - _own_sum(b)) / (m * (m - 1))
    return float(within_a + within_b - 2 * _kernel_sum(a, b) / (n * m))


def _kernel_sum(a: FloatArray, b: FloatArray) -> float:
    starts = range(0, len(a), _BLOCK)
    return float(sum(((a[s : s + _BLOCK] @ b.T / a.shape[1] + 1) ** 3).sum() for s in starts))


def _own_sum(a: FloatArray) -> float:
    return float(((np.square(a).sum(axis=1) / a.shape[1] + 1) ** 3).sum())
