"""New portraits from pairs: one person's hair, outline, neck and clothes, another's inner face.

Owns the choice of pairs, the warp, the colour match, the quality checks with their reason codes
and the packed file that training reads. Does not know how the portraits were found, cut out or
aligned, nor what is trained on the result. Needs the "train" extra (OpenCV and SciPy).

Method: both faces are warped to a shape between them (piecewise affine over a Delaunay mesh of
the 478 face-mesh points), B's skin takes A's light and tint (low frequencies in CIELAB), and the
inner face is laid over A with a feathered mask.

Not covered: profiles, hands or glasses over the face edge, children; the input must be aligned.
"""

import csv
import json
import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage

from ehmfaces.errors import InputError, MissingExtraError
from ehmfaces.types import FloatArray, Pixels

GAME_BACKGROUND = (31, 44, 56)
Reason = Literal["shape", "seam", "fringe", "doubled-brow", "bright-patch"]
REASONS: tuple[Reason, ...] = ("shape", "seam", "fringe", "doubled-brow", "bright-patch")

# Indices into the 478 points of the MediaPipe face mesh.
OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
BROW_TOPS = ((70, 63, 105, 66, 107), (300, 293, 334, 296, 336))
EYE_TOPS = ((33, 160, 159, 158, 133), (263, 387, 386, 385, 362))
CHEEKS = (50, 205, 280, 425)
BEARD = (18, 200, 199, 175, 140, 369, 164)

CHEEK_LIMIT_LAB = (11.0, 14.0, 14.0)
BEARD_LIMIT_L = 14.0
YAW_LIMIT = 0.15
AGE_LIMIT_YEARS = 22
SEAM_LIMIT_L = 10.5
FRINGE_LIMIT_L = 13.5
BRIGHT_LIMIT_L = 8.0
OVAL_SHARE = 0.35  # how far the outline follows B, as a share of the inner face's k


@dataclass(frozen=True, eq=False)
class Portrait:
    """One aligned, cut-out portrait with its face mesh.

    Attributes:
        name: Id in the data set.
        sex: "male" or "female" as labelled.
        age: Years, a network's estimate.
        pixels: uint8 [S, S, 4], straight alpha.
        landmarks: float64 [478, 2], x and y in pixels of the S x S frame.
        hair_lab: CIELAB of the hair above the forehead.
        cheek_lab: CIELAB of the cheeks.
        beard_l: L* of chin and upper lip less L* of the cheeks; strongly negative with a beard.
        yaw: Nose tip's place across the face, 0 in the middle, +-0.5 at the edges.
    """

    name: str
    sex: str
    age: float
    pixels: Pixels
    landmarks: npt.NDArray[np.float64]
    hair_lab: npt.NDArray[np.float64]
    cheek_lab: npt.NDArray[np.float64]
    beard_l: float
    yaw: float


@dataclass(frozen=True)
class Rejection:
    """A pair that gave no plausible portrait, and why."""

    reason: Reason
    value: float
    limit: float


@dataclass(frozen=True)
class RecombineOptions:
    """What `recombine_pair` may vary.

    Attributes:
        k_range: How far the inner shape goes from A (0) to B (1).
        full_opacity_share: Share of results where B's inner face covers A's fully.
        partial_opacity: Opacity of B's inner face in the others.
        hair_share: Share of results whose hair takes another lightness and tint.
    """

    k_range: tuple[float, float] = (0.4, 0.85)
    full_opacity_share: float = 2 / 3
    partial_opacity: float = 0.6
    hair_share: float = 0.0


def _require_extra() -> None:
    if find_spec("cv2") is None or find_spec("scipy") is None:
        raise MissingExtraError("train", "Recombining portraits")


# --- reading -------------------------------------------------------------------------------


def load_portraits(faces_dir: Path, size_px: int = 256) -> list[Portrait]:
    """Read a folder with `portraits/`, `landmarks.npz` and `labels.csv`, in the order of the labels.

    Args:
        faces_dir: The folder.
        size_px: Side of the frame to work in.

    Raises:
        InputError: The folder lacks one of the three.
        MissingExtraError: The "train" extra is not installed.
    """
    _require_extra()
    faces_dir = Path(faces_dir)
    for part in ("portraits", "landmarks.npz", "labels.csv"):
        if not (faces_dir / part).exists():
            raise InputError(
                f'The folder "{faces_dir}" has no "{part}". '
                "Give a folder with portraits/, landmarks.npz and labels.csv."
            )
    with (faces_dir / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    with np.load(faces_dir / "landmarks.npz") as archive:
        return [_read_portrait(faces_dir, row, archive[row["id"]], size_px) for row in rows]


def _read_portrait(
    faces_dir: Path, row: Mapping[str, str], points: npt.NDArray[Any], size_px: int
) -> Portrait:
    with PILImage.open(faces_dir / "portraits" / f"{row['id']}.webp") as image:
        side = image.width
        pixels = np.asarray(image.convert("RGBA"))
    return build_portrait(
        row["id"],
        row["sex"],
        float(row["age"] or 0),
        _resize_rgba(pixels, size_px),
        points.astype(np.float64) * (size_px / side),
        np.array([float(row[f"hair_{channel}"] or 0) for channel in "Lab"]),
    )


def build_portrait(
    name: str,
    sex: str,
    age: float,
    pixels: Pixels,
    landmarks: npt.NDArray[np.float64],
    hair_lab: npt.NDArray[np.float64],
) -> Portrait:
    """Measure skin, beard and turn of the head and return the portrait; arguments as in `Portrait`."""
    lab = _lab_from_rgb(np.divide(pixels[..., :3], 255, dtype=np.float32))
    cheek = _sample(lab, landmarks, CHEEKS)
    beard = float(_sample(lab, landmarks, BEARD)[0] - cheek[0])
    left, right, nose = landmarks[[234, 454, 1], 0]
    yaw = float((nose - left) / max(right - left, 1.0) - 0.5)
    return Portrait(name, sex, age, pixels, landmarks, hair_lab, cheek, beard, yaw)


def _sample(
    lab: npt.NDArray[np.float32], landmarks: npt.NDArray[np.float64], indices: Sequence[int]
) -> npt.NDArray[np.float64]:
    """Return the median colour of small squares about some landmarks."""
    size = lab.shape[0]
    radius = max(1, round(0.018 * size))
    patches = []
    for x, y in np.clip(np.rint(landmarks[list(indices)]).astype(int), radius, size - radius - 1):
        patches.append(lab[y - radius : y + radius + 1, x - radius : x + radius + 1].reshape(-1, 3))
    return np.asarray(np.median(np.concatenate(patches), axis=0), dtype=np.float64)


# --- pairs ---------------------------------------------------------------------------------


def is_compatible(a: Portrait, b: Portrait) -> bool:
    """Tell whether B's inner face may go on A: same sex, near in skin, beard, turn and age."""
    near = np.abs(a.cheek_lab - b.cheek_lab) <= CHEEK_LIMIT_LAB
    return bool(
        a.name != b.name
        and a.sex == b.sex
        and near.all()
        and abs(a.beard_l - b.beard_l) <= BEARD_LIMIT_L
        and abs(a.yaw - b.yaw) <= YAW_LIMIT
        and abs(a.age - b.age) <= AGE_LIMIT_YEARS
    )


def find_partners(portraits: Sequence[Portrait]) -> list[list[int]]:
    """Return for every portrait the indices of those whose inner face it may take."""
    return [[index for index, b in enumerate(portraits) if is_compatible(a, b)] for a in portraits]


# --- one pair ------------------------------------------------------------------------------


def recombine_pair(
    a: Portrait,
    b: Portrait,
    rng: np.random.Generator,
    options: RecombineOptions | None = None,
) -> Pixels | Rejection:
    """Lay B's inner face into A's head.

    Args:
        a: Gives hair, outline, neck, clothes, light and skin tint.
        b: Gives the inner face. Same frame size as `a`.
        rng: Decides shape, opacity and hair; the same state gives the same pixels.
        options: What may vary.

    Returns:
        RGBA pixels uint8 [S, S, 4] with straight alpha, or why the pair was rejected.
    """
    _require_extra()
    options = options or RecombineOptions()
    k = rng.uniform(*options.k_range)
    opacity = 1.0 if rng.random() < options.full_opacity_share else options.partial_opacity
    changes_hair = rng.random() < options.hair_share
    hair_shift = rng.uniform(-1, 1, size=3)

    size = a.pixels.shape[0]
    target = blend_shapes(a.landmarks, b.landmarks, k, size)
    maps = _source_maps(target, (a.landmarks, b.landmarks), size)
    if maps is None:
        return Rejection("shape", 1.0, 0.0)
    rgb_a, alpha = _warp(a.pixels, maps[0])
    rgb_b, alpha_b = _warp(b.pixels, maps[1])
    lab_a, lab_b = _lab_from_rgb(rgb_a), _lab_from_rgb(rgb_b)
    free = 1 - find_fringe(lab_a, a, target)
    face = _hull_mask(target[list(OVAL)], size) * (alpha > 0.5) * (alpha_b > 0.5) * free
    mask = _inner_mask(target, size) * alpha_b * free
    matched = _match_light(lab_b, lab_a, face)
    rejection = check_quality(lab_a, lab_b, matched, mask, target)
    if rejection is not None:
        return rejection
    weight = (opacity * mask)[..., None]
    mixed = lab_a * (1 - weight) + matched * weight
    if changes_hair:
        mixed = _shift_hair(mixed, a.hair_lab, target, hair_shift)
    return _to_pixels(_rgb_from_lab(mixed), np.maximum(alpha, mask))


def blend_shapes(
    points_a: npt.NDArray[np.float64], points_b: npt.NDArray[np.float64], k: float, size: int
) -> npt.NDArray[np.float64]:
    """Return A + k (B - A) inside the face, fading to 0.35 k on the oval, so that A's hair still fits."""
    oval = points_a[list(OVAL)]
    distance = np.linalg.norm(points_a[:, None] - oval[None], axis=-1).min(axis=1)  # [478]
    inside = np.clip(distance / (0.08 * size), 0, 1)
    share = k * (OVAL_SHARE + (1 - OVAL_SHARE) * inside)
    shape: npt.NDArray[np.float64] = points_a + share[:, None] * (points_b - points_a)
    return shape


def _border_points(size: int) -> npt.NDArray[np.float64]:
    ticks = np.linspace(-1, size, 5)
    return np.array([(x, y) for x in ticks for y in ticks if {x, y} & {-1.0, float(size)}])


@lru_cache(maxsize=4)
def _grid(size: int) -> npt.NDArray[np.float64]:
    ys, xs = np.mgrid[0:size, 0:size]
    return np.stack([xs, ys], axis=-1).reshape(-1, 2).astype(np.float64)  # [S*S, 2], x then y


def _source_maps(
    target: npt.NDArray[np.float64], sources: Sequence[npt.NDArray[np.float64]], size: int
) -> list[npt.NDArray[np.float32]] | None:
    """Return for every source where each pixel of the target shape comes from, [S, S, 2]."""
    from scipy.spatial import Delaunay, QhullError

    border = _border_points(size)
    try:
        mesh = Delaunay(np.concatenate([target, border]))
    except QhullError:
        return None
    grid = _grid(size)
    simplex = mesh.find_simplex(grid)
    transform = mesh.transform[simplex]  # [S*S, 3, 2]
    two = np.einsum("nij,nj->ni", transform[:, :2], grid - transform[:, 2])
    weights = np.concatenate([two, 1 - two.sum(axis=1, keepdims=True)], axis=1)
    corners = mesh.simplices[simplex]  # [S*S, 3]
    maps = []
    for source in sources:
        points = np.concatenate([source, border])
        place = np.einsum("nk,nkd->nd", weights, points[corners])
        maps.append(place.reshape(size, size, 2).astype(np.float32))
    return maps


def _warp(
    pixels: Pixels, source_map: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return colour [S, S, 3] in [0, 1] and alpha [S, S], warped in premultiplied form."""
    import cv2

    straight = pixels.astype(np.float32) / 255
    alpha = straight[..., 3:]
    premultiplied = np.concatenate([straight[..., :3] * alpha, alpha], axis=-1)
    warped = cv2.remap(premultiplied, source_map, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    warped = np.clip(warped, 0, 1)
    out = warped[..., 3]
    return np.clip(warped[..., :3] / np.maximum(out, 1e-3)[..., None], 0, 1), out


def _hull_mask(points: npt.NDArray[np.float64], size: int) -> npt.NDArray[np.float32]:
    import cv2

    mask = np.zeros((size, size), np.uint8)
    cv2.fillConvexPoly(mask, cv2.convexHull(np.rint(points).astype(np.int32)), 1)
    return mask.astype(np.float32)


def _inner_mask(target: npt.NDArray[np.float64], size: int) -> npt.NDArray[np.float32]:
    """Return the feathered mask of the inner face, [S, S] in [0, 1]."""
    import cv2

    radius = max(1, round(0.05 * size))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    hard = cv2.erode(_hull_mask(target[list(OVAL)], size), kernel)
    soft: npt.NDArray[np.float32] = cv2.GaussianBlur(hard, (0, 0), 0.02 * size)
    return soft


def _brow_top(target: npt.NDArray[np.float64]) -> float:
    return float(target[[index for side in BROW_TOPS for index in side], 1].min())


def find_fringe(
    lab: npt.NDArray[np.float32], portrait: Portrait, target: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """Return where hair lies over the forehead, [S, S] in [0, 1]; 0 below the brows.

    Args:
        lab: CIELAB of the warped portrait.
        portrait: Whose hair and skin colours to tell apart.
        target: Landmarks of the warped portrait.
    """
    import cv2

    size = lab.shape[0]
    hair, skin = portrait.hair_lab.astype(np.float32), portrait.cheek_lab.astype(np.float32)
    apart = float(np.linalg.norm(hair - skin))
    if apart < 20:  # bald, or hair like the skin
        return np.zeros(lab.shape[:2], np.float32)
    axis = (hair - skin) / apart
    along = (lab - skin) @ axis / apart  # 0 = skin, 1 = hair
    likeness = np.clip((along - 0.4) / 0.25, 0, 1)
    rows = np.arange(size, dtype=np.float32)[:, None]
    above = np.clip((_brow_top(target) - 0.01 * size - rows) / (0.02 * size), 0, 1)
    soft: npt.NDArray[np.float32] = cv2.GaussianBlur(likeness * above, (0, 0), 0.01 * size)
    return soft


def _blur(values: npt.NDArray[np.float32], sigma: float) -> npt.NDArray[np.float32]:
    """Blur widely: through a quarter-size copy, which nobody can tell at these widths."""
    import cv2

    size = values.shape[0]
    small = cv2.resize(values, (size // 4, size // 4), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / 4)
    wide: npt.NDArray[np.float32] = cv2.resize(small, (size, size), interpolation=cv2.INTER_LINEAR)
    return wide


def _match_light(
    lab: npt.NDArray[np.float32], reference: npt.NDArray[np.float32], mask: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Replace the low frequencies of `lab` by those of `reference`, both weighed by the mask."""
    sigma = 0.09 * lab.shape[0]
    weight = np.maximum(_blur(mask, sigma), 1e-3)[..., None]
    difference = _blur((reference - lab) * mask[..., None], sigma) / weight
    return np.asarray(lab + difference, np.float32)


def _shift_hair(
    lab: npt.NDArray[np.float32],
    hair_lab: npt.NDArray[np.float64],
    target: npt.NDArray[np.float64],
    shift: npt.NDArray[np.float64],
) -> npt.NDArray[np.float32]:
    """Give what looks like the hair, outside the face, another lightness and tint.

    Args:
        lab: Picture.
        hair_lab: Colour of the hair.
        target: Landmarks.
        shift: Three numbers in [-1, 1]: lightness, red, yellow.
    """
    import cv2

    size = lab.shape[0]
    distance = (lab - hair_lab.astype(np.float32)) / np.array([22, 9, 12], np.float32)
    likeness = np.exp(-0.5 * (distance**2).sum(axis=-1))
    outside = 1 - cv2.GaussianBlur(_hull_mask(target[list(OVAL)], size), (0, 0), 0.015 * size)
    rows = np.arange(size)[:, None]
    chin = target[152, 1]
    above = np.clip((chin - rows) / (0.15 * size), 0, 1)  # clothes stay as they are
    weight = cv2.GaussianBlur((likeness * outside * above).astype(np.float32), (0, 0), 0.008 * size)
    amount = np.array([12, 4, 8], np.float32) * shift.astype(np.float32)
    shifted: npt.NDArray[np.float32] = lab + weight[..., None] * amount
    return shifted


# --- quality -------------------------------------------------------------------------------


def check_quality(
    lab_a: npt.NDArray[np.float32],
    lab_b: npt.NDArray[np.float32],
    matched: npt.NDArray[np.float32],
    mask: npt.NDArray[np.float32],
    target: npt.NDArray[np.float64],
) -> Rejection | None:
    """Return why the two warped faces do not go together, or None.

    Args:
        lab_a: CIELAB of A, float32 [S, S, 3].
        lab_b: CIELAB of B before its light was matched.
        matched: CIELAB of B after.
        mask: Inner face, float32 [S, S] in [0, 1].
        target: Landmarks of the common shape, [478, 2].
    """
    for reason, value, limit in _measure(lab_a, lab_b, matched, mask, target):
        if value > limit:
            return Rejection(reason, value, limit)
    return None


def _measure(
    lab_a: npt.NDArray[np.float32],
    lab_b: npt.NDArray[np.float32],
    matched: npt.NDArray[np.float32],
    mask: npt.NDArray[np.float32],
    target: npt.NDArray[np.float64],
) -> Iterator[tuple[Reason, float, float]]:
    ring = (mask > 0.1) & (mask < 0.9)
    gap = np.abs(lab_a[..., 0] - matched[..., 0])
    forehead = (mask > 0.1) & (np.arange(mask.shape[0])[:, None] < _brow_top(target))
    yield "seam", _mean(gap, ring), SEAM_LIMIT_L
    local: npt.NDArray[np.float32] = _blur(lab_a - matched, 0.02 * mask.shape[0])
    strange = np.abs(local[..., 0]) + 0.5 * np.hypot(local[..., 1], local[..., 2])
    yield "fringe", _percentile(strange, forehead, 95), FRINGE_LIMIT_L
    inner = mask > 0.5
    most = max(_percentile(lab[..., 0], inner, 99) for lab in (lab_a, lab_b))
    yield "bright-patch", _percentile(matched[..., 0], inner, 99.5) - most, BRIGHT_LIMIT_L
    mixed = lab_a[..., 0] * (1 - mask) + matched[..., 0] * mask
    yield "doubled-brow", float(count_dark_bands(mixed, target)), 1.0


def _mean(values: npt.NDArray[np.float32], where: npt.NDArray[np.bool_]) -> float:
    return float(values[where].mean()) if where.any() else 0.0


def _percentile(values: FloatArray, where: npt.NDArray[np.bool_], percent: float) -> float:
    return float(np.percentile(values[where], percent)) if where.any() else 0.0


def count_dark_bands(
    lightness: npt.NDArray[np.float32], target: npt.NDArray[np.float64], depth_l: float = 9.0
) -> int:
    """Count the dark bands above an eye; 1 is a brow, 2 a brow and what was left of another.

    Args:
        lightness: L* [S, S].
        target: Landmarks [478, 2].
        depth_l: How much darker than its surroundings a band must be.

    Returns:
        The greater count of the two sides, each the median over three columns.
    """
    size = lightness.shape[0]
    counts = []
    for brow, eye in zip(BROW_TOPS, EYE_TOPS, strict=True):
        per_column = []
        for brow_point, eye_point in zip(brow[1:4], eye[1:4], strict=True):
            x = int(np.clip(np.rint(target[brow_point, 0]), 1, size - 2))
            top = int(max(0, target[brow_point, 1] - 0.09 * size))
            bottom = int(target[eye_point, 1] - 0.025 * size)
            column = lightness[top : max(bottom, top + 1), x - 1 : x + 2].mean(axis=1)
            per_column.append(_count_valleys(column, depth_l))
        counts.append(int(np.median(per_column)))
    return max(counts)


def _count_valleys(values: FloatArray, depth: float) -> int:
    """Count the minima that are `depth` below a higher point on both sides."""
    count, high, low, is_falling = 0, -np.inf, np.inf, False
    for value in values:
        if is_falling:
            low = min(low, float(value))
            if value > low + depth:
                count, high, is_falling = count + 1, float(value), False
        else:
            high = max(high, float(value))
            if value < high - depth:
                low, is_falling = float(value), True
    return count


# --- colour --------------------------------------------------------------------------------


def _lab_from_rgb(rgb: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    import cv2

    lab: npt.NDArray[np.float32] = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2Lab)
    return lab


def _rgb_from_lab(lab: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    import cv2

    lab = lab.astype(np.float32)
    lab[..., 0] = np.clip(lab[..., 0], 0, 100)
    rgb: npt.NDArray[np.float32] = np.clip(cv2.cvtColor(lab, cv2.COLOR_Lab2RGB), 0, 1)
    return rgb


def _to_pixels(rgb: npt.NDArray[np.float32], alpha: npt.NDArray[np.float32]) -> Pixels:
    rgba = np.concatenate([rgb, np.clip(alpha, 0, 1)[..., None]], axis=-1)
    pixels: Pixels = np.rint(rgba * 255).astype(np.uint8)
    return pixels


def _resize_rgba(pixels: Pixels, size_px: int) -> Pixels:
    """Resize with an area filter in premultiplied form."""
    import cv2

    if pixels.shape[:2] == (size_px, size_px):
        return np.ascontiguousarray(pixels)
    straight = pixels.astype(np.float32) / 255
    premultiplied = np.concatenate([straight[..., :3] * straight[..., 3:], straight[..., 3:]], axis=-1)
    how = cv2.INTER_AREA if pixels.shape[0] > size_px else cv2.INTER_CUBIC
    small = np.clip(cv2.resize(premultiplied, (size_px, size_px), interpolation=how), 0, 1)
    alpha = small[..., 3]
    return _to_pixels(np.clip(small[..., :3] / np.maximum(alpha, 1e-3)[..., None], 0, 1), alpha)


def _composite(pixels: Pixels, color: tuple[int, int, int], size_px: int) -> Pixels:
    """Lay RGBA pixels over a colour and reduce to size_px with an area filter."""
    import cv2

    alpha = pixels[..., 3:].astype(np.float32) / 255
    flat = pixels[..., :3] * alpha + np.asarray(color, np.float32) * (1 - alpha)
    if flat.shape[0] != size_px:
        flat = cv2.resize(flat, (size_px, size_px), interpolation=cv2.INTER_AREA)
    rounded: Pixels = np.rint(np.clip(flat, 0, 255)).astype(np.uint8)
    return rounded


# --- many pairs ----------------------------------------------------------------------------

TRIES_PER_HEAD = 8
TRIES_PER_PORTRAIT = 400
LABEL_FIELDS = ("name", "sex", "parent_a", "parent_b")


@dataclass(frozen=True)
class Recombiner:
    """Makes the n-th portrait of a seed, whichever came before: order and processes change nothing.

    Attributes:
        portraits: Where heads and faces come from.
        partners: For every portrait the indices of those whose inner face it may take.
        seed: Together with the number decides a portrait.
        options: What may vary.
    """

    portraits: Sequence[Portrait]
    partners: Sequence[Sequence[int]]
    seed: int
    options: RecombineOptions

    @classmethod
    def from_folder(
        cls, faces_dir: Path, seed: int, frame_px: int, options: RecombineOptions | None = None
    ) -> "Recombiner":
        """Read the folder that `load_portraits` describes.

        Raises:
            InputError: The folder is incomplete, or no two portraits go together.
        """
        portraits = load_portraits(faces_dir, frame_px)
        partners = find_partners(portraits)
        if not any(partners):
            raise InputError(
                f'No two of the {len(portraits)} portraits in "{faces_dir}" go together. '
                "Give more portraits of the same sex and like skin."
            )
        return cls(portraits, partners, seed, options or RecombineOptions())

    def make(self, number: int) -> tuple[str, Pixels, dict[str, str]]:
        """Return name, RGBA pixels and labels of the portrait with that number."""
        rng = np.random.default_rng([self.seed, number])
        heads = [index for index, others in enumerate(self.partners) if others]
        for attempt in range(TRIES_PER_PORTRAIT):
            if attempt % TRIES_PER_HEAD == 0:
                head = heads[int(rng.integers(len(heads)))]
            face = self.partners[head][int(rng.integers(len(self.partners[head])))]
            a, b = self.portraits[head], self.portraits[face]
            pixels = recombine_pair(a, b, rng, self.options)
            if not isinstance(pixels, Rejection):
                name = f"r{number:06d}"
                labels = {"name": name, "sex": a.sex, "parent_a": a.name, "parent_b": b.name}
                return name, pixels, labels
        raise InputError(
            f"None of {TRIES_PER_PORTRAIT} pairs gave a plausible portrait. "
            "Give more portraits of the same sex and like skin."
        )


def iter_recombinations(
    faces_dir: Path,
    count: int,
    seed: int,
    size_px: int,
    *,
    first: int = 0,
    options: RecombineOptions | None = None,
) -> Iterator[tuple[str, Pixels, dict[str, str]]]:
    """Yield name, RGBA pixels [size_px, size_px, 4] and labels of `count` new portraits.

    Args:
        faces_dir: As for `load_portraits`.
        count: How many.
        seed: The same seed gives the same portraits.
        size_px: Side of the pictures; they are made at no less than 256 px and reduced.
        first: Number to begin with; 0 to 9 and then 10 to 19 equals 0 to 19.
        options: What may vary.
    """
    recombiner = Recombiner.from_folder(faces_dir, seed, max(size_px, 256), options)
    for number in range(first, first + count):
        name, pixels, labels = recombiner.make(number)
        yield name, _resize_rgba(pixels, size_px), labels


# --- one packed file -----------------------------------------------------------------------

_worker: Recombiner | None = None  # one per worker process


def recombine_folder(
    faces_dir: Path,
    out: Path,
    count: int,
    seed: int = 0,
    size_px: int = 128,
    workers: int = 1,
    *,
    background: tuple[int, int, int] = GAME_BACKGROUND,
    options: RecombineOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write `count` new portraits to `pixels.npy` and `labels.csv`; the same call resumes.

    Args:
        faces_dir: As for `load_portraits`.
        out: Folder for `pixels.npy` (uint8 [count, size_px, size_px, 3], over the background) and
            `labels.csv` (one line per finished portrait: name, sex, parent_a, parent_b).
        count: How many in all. A greater count than before adds to what is there.
        seed: The same seed gives the same files, whatever the number of workers.
        size_px: Side of the pictures; made at no less than 256 px and reduced with an area filter.
        workers: Processes.
        background: Colour beneath the cut-outs, sRGB.
        options: What may vary.
        progress: Called with done and total after each portrait.

    Returns:
        How many were made by this call.

    Raises:
        InputError: The folder cannot be used, or `out` holds other portraits.
    """
    _require_extra()
    options = options or RecombineOptions()
    _check_same_run(
        out, {"seed": seed, "size_px": size_px, "background": list(background), **asdict(options)}
    )
    done = min(_count_finished(out), count)
    packed = _open_packed(out / "pixels.npy", count, size_px)
    make = (faces_dir, seed, size_px, options)
    with (out / "labels.csv").open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, LABEL_FIELDS, lineterminator="\n")
        for number, (pixels, labels) in enumerate(_make_many(make, range(done, count), workers), done):
            packed[number] = _composite(pixels, background, size_px)
            writer.writerow(labels)
            if number % 50 == 49:
                packed.flush()
                file.flush()
            if progress is not None:
                progress(number + 1, count)
        packed.flush()
    return count - done


def _check_same_run(out: Path, settings: dict[str, object]) -> None:
    """Write the settings beside the results, or raise if other ones are there."""
    out.mkdir(parents=True, exist_ok=True)
    path, text = out / "settings.json", json.dumps(settings, indent=1, sort_keys=True) + "\n"
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise InputError(
            f'"{out}" holds portraits made with other settings (see settings.json). '
            "Give another folder, or the same seed, size and options."
        )
    path.write_text(text, encoding="utf-8")


def _count_finished(out: Path) -> int:
    """Return how many portraits are whole, and cut `labels.csv` to them (a line may be half written)."""
    path = out / "labels.csv"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    whole = [line for line in lines if line.endswith("\n")] or [",".join(LABEL_FIELDS) + "\n"]
    if not (out / "pixels.npy").exists():
        whole = whole[:1]
    path.write_text("".join(whole), encoding="utf-8", newline="")
    return len(whole) - 1


def _open_packed(path: Path, count: int, size_px: int) -> np.memmap[Any, np.dtype[np.uint8]]:
    """Return a writable memory map of at least `count` pictures, keeping those that are there."""
    shape = (count, size_px, size_px, 3)
    if path.exists():
        old = np.lib.format.open_memmap(path, mode="r+")
        if old.shape[0] >= count:
            return old
        grown = path.with_suffix(".grown.npy")
        packed = np.lib.format.open_memmap(grown, mode="w+", dtype=np.uint8, shape=shape)
        packed[: old.shape[0]] = old
        packed.flush()
        grown.replace(path)
        return packed
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)


def _make_many(
    make: tuple[Path, int, int, RecombineOptions], numbers: range, workers: int
) -> Iterator[tuple[Pixels, dict[str, str]]]:
    """Yield RGBA pixels and labels in the order of the numbers."""
    if not numbers:
        return
    if workers <= 1:
        _start_worker(*make)
        yield from map(_make_one, numbers)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start_worker, make) as pool:
        yield from pool.map(_make_one, numbers, chunksize=4)


def _start_worker(faces_dir: Path, seed: int, size_px: int, options: RecombineOptions) -> None:
    import cv2

    global _worker
    cv2.setNumThreads(1)  # processes share the cores already
    _worker = Recombiner.from_folder(faces_dir, seed, max(size_px, 256), options)


def _make_one(number: int) -> tuple[Pixels, dict[str, str]]:
    assert _worker is not None, "the worker was not started"
    _, pixels, labels = _worker.make(number)
    return pixels, labels
