"""From a network's alpha to one with fine edges, and foreground colours without the background in them.

Owns edge refinement, matting on a known background and decontamination, in NumPy. Knows no network.

Not covered: glass, smoke and other parts that are see-through inside; two people.
"""

from collections.abc import Iterable

import numpy as np
from PIL import Image as PILImage
from PIL.Image import Resampling

from ehmfaces.types import Alpha, FloatArray, Pixels

# Below and above these the alpha is taken as exactly 0 and 1.
LOW, HIGH = 0.04, 0.96


def box_blur(values: FloatArray, radius_px: int) -> FloatArray:
    """Average [H, W, C] over squares of side 2 r + 1; borders are repeated."""
    side = 2 * radius_px + 1
    pad = [(radius_px + 1, radius_px), (radius_px + 1, radius_px), (0, 0)]
    sums = np.cumsum(np.pad(values, pad, mode="edge"), axis=0, dtype=np.float64)
    sums = np.cumsum(sums[side:] - sums[:-side], axis=1)
    blurred: FloatArray = ((sums[:, side:] - sums[:, :-side]) / side**2).astype(np.float32)
    return blurred


def stretch_alpha(alpha: Alpha) -> Alpha:
    """Move alpha so that nearly empty becomes exactly 0 and nearly full exactly 1."""
    stretched: Alpha = ((alpha - LOW) / (HIGH - LOW)).clip(0, 1).astype(np.float32)
    return stretched


def refine_alpha(pixels: Pixels, alpha: Alpha) -> Alpha:
    """Let the edge of alpha follow the picture, with a guided filter on its colours' brightness.

    Args:
        pixels: RGB uint8 [H, W, 3].
        alpha: float32 [H, W].

    Returns:
        float32 [H, W] that reaches 0 and 1.

    Source: He et al., "Guided Image Filtering" (2013), equations 5, 6 and 8.
    """
    guide = pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32) / 255
    radius = max(1, min(pixels.shape[:2]) // 100)
    stack = np.stack([guide, alpha, guide * alpha, guide * guide], axis=2)
    mean_i, mean_p, mean_ip, mean_ii = np.moveaxis(box_blur(stack, radius), 2, 0)
    slope = (mean_ip - mean_i * mean_p) / (mean_ii - mean_i * mean_i + 1e-4)
    line = np.stack([slope, mean_p - slope * mean_i], axis=2)
    mean_a, mean_b = np.moveaxis(box_blur(line, radius), 2, 0)
    guided = (mean_a * guide + mean_b).clip(0, 1)
    # Only the edge moves: inside, dark and bright patches must not become holes.
    edge = (4 * alpha * (1 - alpha)).clip(0, 1)
    return stretch_alpha(alpha + edge * 0.5 * (guided - alpha))


def decontaminate(pixels: Pixels, alpha: Alpha) -> Pixels:
    """Estimate the person's own colours in every pixel, so that no background shines through the edge.

    Args:
        pixels: RGB uint8 [H, W, 3].
        alpha: float32 [H, W].

    Returns:
        RGB uint8 [H, W, 3]; unchanged where alpha is 1.

    Source: Forte, "Approximate Fast Foreground Colour Estimation" (2021), equations 4 to 7.
    """
    img = pixels.astype(np.float32) / 255
    a = alpha[..., None]
    foreground: FloatArray = img
    background: FloatArray = img
    side = min(pixels.shape[:2])
    for radius in (max(2, side // 12), max(1, side // 60)):
        foreground, background = _blur_fusion(img, a, foreground, background, radius)
    clean = np.where(a >= 1, img, foreground.clip(0, 1))
    result: Pixels = np.rint(clean * 255).astype(np.uint8)
    return result


def _blur_fusion(
    img: FloatArray, a: FloatArray, foreground: FloatArray, background: FloatArray, radius_px: int
) -> tuple[FloatArray, FloatArray]:
    """One round of the estimate: local averages of both layers, corrected to explain the picture."""
    stack = np.concatenate([foreground * a, background * (1 - a), a], axis=2)
    blurred = box_blur(stack, radius_px)
    weight = blurred[..., 6:]
    smooth_f = blurred[..., :3] / (weight + 1e-5)
    smooth_b = blurred[..., 3:6] / (1 - weight + 1e-5)
    corrected = smooth_f + a * (img - a * smooth_f - (1 - a) * smooth_b)
    return corrected.clip(0, 1), smooth_b


def solve_known_background(
    pixels: Pixels, alpha: Alpha, background_color: tuple[int, int, int]
) -> tuple[Pixels, Alpha]:
    """Solve alpha and foreground at the edge when the colour behind the person is known.

    In I = a F + (1 - a) B, with B known and F close to the person's colour nearby, a is the share of the
    way from B to F. Where F is hardly different from B (dark hair), the network's alpha stays.

    Args:
        pixels: RGB uint8 [H, W, 3].
        alpha: The network's alpha, float32 [H, W].
        background_color: B, 0 to 255.

    Returns:
        Foreground RGB uint8 [H, W, 3] and alpha float32 [H, W] that reaches 0 and 1.
    """
    img = pixels.astype(np.float32) / np.float32(255)
    back = np.array(background_color, np.float32) / 255
    near = nearby_foreground(img, alpha, max(2, pixels.shape[0] // 48))
    foreground = np.where(alpha[..., None] > 0.5, img, near)
    refined = stretch_alpha(alpha)
    rim = (refined > 0) & (refined < 1)  # the rest is decided, and most of the picture
    here, color, color_near = alpha[rim], img[rim], near[rim]
    way = color_near - back
    length = np.einsum("pc,pc->p", way, way)
    solved = np.einsum("pc,pc->p", color - back, way) / (length + 1e-6)
    trust = length / (length + 0.1) * (4 * here * (1 - here))
    refined[rim] = stretch_alpha(here + trust * (solved.clip(0, 1) - here))
    a = refined[rim][:, None]
    unmixed = ((color - (1 - a) * back) / np.maximum(a, 0.05)).clip(0, 1)
    # A thin pixel's unmixed colour is mostly noise: fall back on the colour nearby.
    blend = (a * 1.5).clip(0, 1)
    foreground[rim] = np.where(a >= 1, color, blend * unmixed + (1 - blend) * color_near)
    result: Pixels = np.rint(foreground.clip(0, 1) * 255).astype(np.uint8)
    return result, refined


def nearby_foreground(img: FloatArray, alpha: Alpha, radius_px: int) -> FloatArray:
    """Return the person's colour around every pixel [H, W, 3], from pixels that are surely person.

    A smooth picture: it is made at half the size.
    """
    height, width = alpha.shape
    sure = ((alpha - 0.9) * 10).clip(0, 1)
    half = (max(1, width // 2), max(1, height // 2))
    total = _resize([*(np.moveaxis(img, 2, 0) * sure), sure], half, Resampling.BOX)
    close, far = (box_blur(total, max(1, radius * radius_px // 2)) for radius in (1, 4))
    mixed = close + 0.02 * far + 1e-4 * total.mean(axis=(0, 1))
    color = mixed[..., :3] / (mixed[..., 3:] + 1e-8)
    return _resize(np.moveaxis(color, 2, 0).copy(), (width, height), Resampling.BILINEAR)


def _resize(planes: Iterable[FloatArray], size: tuple[int, int], how: Resampling) -> FloatArray:
    """Scale planes [H, W] to (width, height) and lay them together as [height, width, C]."""
    scaled = [PILImage.fromarray(plane).resize(size, how) for plane in planes]
    return np.stack([np.asarray(plane) for plane in scaled], axis=2)
