"""Style mixing: some layers from one face, the rest from another.

Owns the notation of layers and the mix on arrays. Knows no network.
Source: Karras et al., "A Style-Based Generator Architecture" (2019), section 3.1.
"""

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ehmfaces.errors import LatentError

_RANGE = re.compile(r"^(\d+)(?:\s*-\s*(\d+))?$")


def style_groups(num_ws: int) -> dict[str, list[int]]:
    """Return the layers called coarse (4 to 8 px), middle (16 to 32 px) and fine (the rest).

    Example:
        >>> style_groups(12)
        {'coarse': [0, 1, 2, 3], 'middle': [4, 5, 6, 7], 'fine': [8, 9, 10, 11]}
    """
    layers = list(range(num_ws))
    return {"coarse": layers[:4], "middle": layers[4:8], "fine": layers[8:]}


def parse_styles(text: str, num_ws: int) -> list[int]:
    """Read layers like "0-3", "4,5,8-11", "coarse" or "middle,fine", sorted.

    Raises:
        LatentError: A part is no layer of this model.

    Example:
        >>> parse_styles("coarse, 6", 10)
        [0, 1, 2, 3, 6]
    """
    groups = style_groups(num_ws)
    styles: set[int] = set()
    for part in (piece.strip().lower() for piece in text.split(",")):
        match = _RANGE.match(part)
        if part in groups:
            styles.update(groups[part])
        elif match and int(match[1]) <= int(match[2] or match[1]) < num_ws:
            styles.update(range(int(match[1]), int(match[2] or match[1]) + 1))
        else:
            raise LatentError(
                f'"{part[:40]}" names no style layers. This model has layers 0-{num_ws - 1}; '
                "write 0-3, a list like 4,5, or coarse, middle or fine."
            )
    return sorted(styles)


def mix_ws(
    row_ws: npt.NDArray[np.float32], col_ws: npt.NDArray[np.float32], col_styles: Sequence[int]
) -> npt.NDArray[np.float32]:
    """Take `col_styles` from the column faces and the other layers from the row faces.

    Args:
        row_ws: float32 [R, num_ws, w_dim].
        col_ws: float32 [C, num_ws, w_dim].
        col_styles: Layers, 0-based.

    Returns:
        float32 [R * C, num_ws, w_dim], row by row.
    """
    mixed = np.repeat(row_ws[:, None], len(col_ws), axis=1)  # [R, C, num_ws, w_dim]
    styles = list(col_styles)
    mixed[:, :, styles] = col_ws[None][:, :, styles]
    return mixed.reshape(-1, *row_ws.shape[1:])
