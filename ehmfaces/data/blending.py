"""One new portrait from two: A's hair, outline, neck and clothes with B's inner face.

Owns the warp, the light match, the fringe and the hair variation. Does not know which pairs are
tried or where portraits are kept. Needs the "train" extra (OpenCV and SciPy).

Method: both faces are warped to a shape between them (piecewise affine over a Delaunay mesh of
the 478 face-mesh points), B's skin takes A's light and tint (low frequencies in CIELAB), and the
inner face is laid over A with feathered edges; hair over A's forehead stays on top.

Not covered: profiles, hands or glasses over the face edge, children; the input must be aligned.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec

import numpy as np
import numpy.typing as npt

from ehmfaces.data.blend_checks import Rejection, blur_widely, brow_top, check_quality
from ehmfaces.errors import MissingExtraError
from ehmfaces.types import Pixels

# Indices into the 478 points of the MediaPipe face mesh.
OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
CHEEKS = (50, 205, 280, 425)
BEARD = (18, 200, 199, 175, 140, 369, 164)

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


def require_extra() -> None:
    """Raise unless OpenCV and SciPy are installed.

    Raises:
        MissingExtraError: One is not.
    """
    if find_spec("cv2") is None or find_spec("scipy") is None:
        raise MissingExtraError("train", "Recombining portraits")


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
    require_extra()
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
    above = np.clip((brow_top(target) - 0.01 * size - rows) / (0.02 * size), 0, 1)
    soft: npt.NDArray[np.float32] = cv2.GaussianBlur(likeness * above, (0, 0), 0.01 * size)
    return soft


def _match_light(
    lab: npt.NDArray[np.float32], reference: npt.NDArray[np.float32], mask: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Replace the low frequencies of `lab` by those of `reference`, both weighed by the mask."""
    sigma = 0.09 * lab.shape[0]
    weight = np.maximum(blur_widely(mask, sigma), 1e-3)[..., None]
    difference = blur_widely((reference - lab) * mask[..., None], sigma) / weight
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


def resize_rgba(pixels: Pixels, size_px: int) -> Pixels:
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


def composite_pixels(pixels: Pixels, color: tuple[int, int, int], size_px: int) -> Pixels:
    """Lay RGBA pixels over a colour and reduce to size_px with an area filter."""
    import cv2

    alpha = pixels[..., 3:].astype(np.float32) / 255
    flat = pixels[..., :3] * alpha + np.asarray(color, np.float32) * (1 - alpha)
    if flat.shape[0] != size_px:
        flat = cv2.resize(flat, (size_px, size_px), interpolation=cv2.INTER_AREA)
    rounded: Pixels = np.rint(np.clip(flat, 0, 255)).astype(np.uint8)
    return rounded
