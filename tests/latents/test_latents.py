import numpy as np
import pytest

from ehmfaces.errors import LatentError
from ehmfaces.latents.interpolation import blend_ws, walk_ws
from ehmfaces.latents.mixing import mix_ws, parse_styles, style_groups
from ehmfaces.latents.truncation import check_truncation, truncate_ws


def ws(count, value=0.0):
    return np.full((count, 6, 4), value, np.float32)


def test_truncation_formula_and_checks():
    near = truncate_ws(ws(1, 2.0), np.ones(4, np.float32), 0.25, 3)
    assert near[0, :3] == pytest.approx(1.25)
    assert near[0, 3:] == pytest.approx(2.0)
    assert np.array_equal(truncate_ws(ws(1, 2.3), np.ones(4, np.float32), 1.0), ws(1, 2.3))
    check_truncation(0.7, None, 6)
    for psi, cutoff in ((9, None), (float("nan"), None), ("x", None), (0.7, 7), (0.7, -1)):
        with pytest.raises(LatentError, match="Truncation"):
            check_truncation(psi, cutoff, 6)


def test_mixing_is_row_by_row():
    rows = np.stack([np.full((6, 4), i, np.float32) for i in (1, 2)])
    cols = np.stack([np.full((6, 4), i, np.float32) for i in (10, 20, 30)])
    mixed = mix_ws(rows, cols, [0, 5])
    assert mixed.shape == (6, 6, 4)
    assert mixed[4, :, 0].tolist() == [20, 2, 2, 2, 2, 20]


def test_styles_notation():
    assert style_groups(10)["fine"] == [8, 9]
    assert parse_styles("0-2,5", 6) == [0, 1, 2, 5]
    assert parse_styles("Middle", 6) == [4, 5]
    for wrong in ("", "6", "3-1", "0-6", "nose", "-1", "1;2"):
        with pytest.raises(LatentError, match="layers 0-5"):
            parse_styles(wrong, 6)


def test_blend_and_walk():
    assert blend_ws(ws(1), ws(1, 4.0), 0.5) == pytest.approx(2.0)
    walk = walk_ws(np.concatenate([ws(1), ws(1, 4.0), ws(1, 0.0)]), 4)
    assert walk[:, 0, 0].tolist() == [0, 1, 2, 3, 4, 3, 2, 1, 0]
    with pytest.raises(LatentError, match="Weight"):
        blend_ws(ws(1), ws(1), -0.1)
    with pytest.raises(LatentError, match="two faces"):
        walk_ws(ws(1), 4)
