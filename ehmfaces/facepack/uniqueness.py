"""How alike two portraits look, and who of a pack gets another face.

Owns the description of the inner face, the distance between two, and the rule of redrawing. Needs pictures
only: it does not know generators, rosters or files.

A description is small whole numbers, so that every sum in a near distance is exact in float32: the order of
summation, the number of threads and the machine change nothing. All pairs are compared with blocked matrix
products; the work grows with the square, but is seconds for 17,176 faces beside minutes of drawing.

Not covered: pictures with the face elsewhere than in this package's formats; people who differ in hair only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage

from ehmfaces.errors import ImageError
from ehmfaces.images import GAME_BACKGROUND, composite, open_image

Features = npt.NDArray[np.int8]

DEFAULT_THRESHOLD = 6.0  # the nearest two of 554 different people in the training portraits are 6.7 apart
MAX_ATTEMPTS = 12
_GRID = (16, 20)
_SCALE = 30.0  # steps of the whole numbers for one standard deviation
UNIT = 40.0 / (_SCALE * (_GRID[0] * _GRID[1]) ** 0.5)  # distance of one step in one number
_LEAST_CONTRAST = 2.0  # of 255; below that there is no face
_BLOCK = 512
_BOX = (0.3, 0.36, 0.7, 0.88)  # inner face: left, top, right, bottom; across counted from the middle


@dataclass(frozen=True)
class Nearest:
    """The two most alike faces of a pack: their positions and their distance."""

    first: int
    second: int
    distance: float


def measure_face(picture: bytes) -> Features | None:
    """Describe the inner face: brightness on a 16 x 20 grid, without mean and contrast.

    Args:
        picture: A portrait as a picture file, eyes at about half its height.

    Returns:
        int8 [320], or None where there is no picture to measure.
    """
    try:
        image = open_image(picture)
    except ImageError:
        return None
    if image.mode == "RGBA":
        image = composite(image, GAME_BACKGROUND)
    middle, height = image.width / 2, image.height
    left, top, right, bottom = _BOX
    box = (middle + (left - 0.5) * height, top * height, middle + (right - 0.5) * height, bottom * height)
    if box[0] < 0 or box[2] > image.width:
        return None
    small = image.convert("L").resize(_GRID, PILImage.Resampling.BICUBIC, box)
    gray = np.asarray(small, np.float64).ravel()
    if gray.std() < _LEAST_CONTRAST:
        return None
    flat = (gray - gray.mean()) / (gray.std() + 8)
    return np.rint(flat * _SCALE).clip(-127, 127).astype(np.int8)


def find_alike(
    features: npt.NDArray[np.int8], threshold: float
) -> tuple[list[tuple[int, int]], Nearest | None]:
    """Compare all pairs.

    Args:
        features: int8 [N, D].
        threshold: Largest distance that counts as alike.

    Returns:
        Pairs (first, second) that are alike, first below second; and the nearest pair of all, None for
        fewer than two.
    """
    values = features.astype(np.float32)
    squares = (values * values).sum(axis=1)
    limit = (threshold / UNIT) ** 2
    pairs: list[tuple[int, int]] = []
    nearest: Nearest | None = None
    for start in range(0, len(values), _BLOCK):
        block = slice(start, start + _BLOCK)
        apart = squares[block, None] + squares[None, start:] - 2 * (values[block] @ values[start:].T)
        apart[np.tril_indices(len(apart), 0, apart.shape[1])] = np.inf
        rows, columns = np.nonzero(apart <= limit)
        pairs += [(start + int(i), start + int(j)) for i, j in zip(rows, columns, strict=True)]
        i, j = divmod(int(apart.argmin()), apart.shape[1])
        distance = float(np.sqrt(max(0.0, float(apart[i, j]))) * UNIT)
        if np.isfinite(distance) and (nearest is None or distance < nearest.distance):
            nearest = Nearest(start + i, start + j, distance)
    return pairs, nearest


def choose_redrawn(
    pairs: Sequence[tuple[int, int]], ranks: Sequence[object], is_fixed: Sequence[bool]
) -> list[int]:
    """Return who gets another face so that nobody who stays is alike to somebody else who stays.

    Args:
        pairs: Positions of alike faces.
        ranks: One for each person, from the person alone and all different; the lower stays.
        is_fixed: Who stays in any case.
    """
    alike: dict[int, list[int]] = {}
    for first, second in pairs:
        alike.setdefault(first, []).append(second)
        alike.setdefault(second, []).append(first)
    stay: set[int] = set()
    redrawn: list[int] = []
    for person in sorted(alike, key=lambda index: (not is_fixed[index], ranks[index])):
        if not is_fixed[person] and any(other in stay for other in alike[person]):
            redrawn.append(person)
        else:
            stay.add(person)
    return redrawn


def summarize(
    paths: Sequence[str], nearest: Nearest | None, threshold: float | None, redrawn: int
) -> dict[str, object]:
    """Return what settings.json says about likeness.

    Args:
        paths: Of the faces that were compared, in the order of their positions.
        nearest: The two most alike.
        threshold: None = nothing was compared.
        redrawn: How many faces of the pack are not their person's first.
    """
    if threshold is None:
        return {"threshold": None}
    return {
        "threshold": threshold,
        "compared": len(paths),
        "smallest_distance": round(nearest.distance, 2) if nearest else None,
        "between": sorted((paths[nearest.first], paths[nearest.second])) if nearest else [],
        "redrawn": redrawn,
    }


def compare_faces(
    faces: Sequence[tuple[str, Features | None]], threshold: float | None, redrawn: int
) -> dict[str, object]:
    """Return what `summarize` says of faces that nobody has compared yet.

    Args:
        faces: Path and description; those without one are passed over.
        threshold: None = they are not to be compared.
        redrawn: How many of them are not their person's first.
    """
    measured = [(path, features) for path, features in faces if features is not None]
    if threshold is None or len(measured) < 2:
        return summarize([path for path, _ in measured], None, threshold, redrawn)
    _, nearest = find_alike(np.stack([features for _, features in measured]), threshold)
    return summarize([path for path, _ in measured], nearest, threshold, redrawn)


def describe_uniqueness(uniqueness: Mapping[str, Any], *, names: bool = True) -> str:
    """Return a sentence about what `summarize` gave, with a space in front; empty where nothing was compared.

    Args:
        uniqueness: As in settings.json.
        names: Say whose faces are most alike.
    """
    if not uniqueness.get("between"):
        return ""
    redrawn = f"{uniqueness['redrawn']} look-alikes were drawn again; t" if uniqueness["redrawn"] else "T"
    who = f" ({' and '.join(uniqueness['between'])})" if names else ""
    return f" {redrawn}he two most alike faces{who} are {uniqueness['smallest_distance']:.1f} apart."
