"""Truncation: pulling a face towards the average one.

Owns the check of the two settings and the formula on arrays. Source: Karras et al., "A Style-Based
Generator Architecture" (2019), section 3 of the appendix.
"""

import numpy as np
import numpy.typing as npt

from ehmfaces.errors import LatentError

PSI_RANGE = (-2.0, 2.0)


def check_truncation(truncation_psi: float, truncation_cutoff: int | None, num_ws: int) -> None:
    """Raise unless both settings make sense.

    Raises:
        LatentError: psi is no number from -2 to 2, or the cutoff is not in 0 to `num_ws`.
    """
    low, high = PSI_RANGE
    if not isinstance(truncation_psi, (int, float)) or not low <= truncation_psi <= high:
        raise LatentError(
            f"Truncation {truncation_psi} is not a number from {low:g} to {high:g}. "
            "0 is the average face, 0.7 is usual, 1 is off."
        )
    if truncation_cutoff is not None and not 0 <= truncation_cutoff <= num_ws:
        raise LatentError(
            f"Truncation cutoff {truncation_cutoff} is not a number of layers from 0 to {num_ws}. "
            "Leave it out to truncate all layers."
        )


def truncate_ws(
    ws: npt.NDArray[np.float32],
    w_avg: npt.NDArray[np.float32],
    truncation_psi: float,
    truncation_cutoff: int | None = None,
) -> npt.NDArray[np.float32]:
    """Return w_avg + psi (ws - w_avg) in the leading layers.

    Args:
        ws: float32 [N, num_ws, w_dim].
        w_avg: float32 [w_dim].
        truncation_psi: 1 = off, 0 = the average face.
        truncation_cutoff: Number of leading layers; None = all.

    Example:
        >>> ones = np.ones((1, 2, 3), np.float32)
        >>> truncate_ws(ones, np.zeros(3, np.float32), 0.5, 1)[0, :, 0].tolist()
        [0.5, 1.0]
    """
    near = np.array(ws, copy=True)
    if truncation_psi == 1:
        return near
    near[:, :truncation_cutoff] = w_avg + np.float32(truncation_psi) * (ws[:, :truncation_cutoff] - w_avg)
    return near
