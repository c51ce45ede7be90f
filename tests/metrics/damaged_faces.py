"""Real portraits broken on purpose, each in one way that generators break faces in."""

import cv2
import numpy as np

from ehmfaces.data.face_detector import LEFT_IRIS, RIGHT_IRIS

# All functions take RGB uint8 [S, S, 3], its face and a random generator.


def lay(pixels, other, mask, soft):
    """Lay another picture over one where the mask is 1, with a soft edge of `soft` pixels."""
    weight = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), soft)[..., None]
    return np.clip(pixels * (1 - weight) + other * weight, 0, 255).astype(np.uint8)


def ellipse(pixels, centre, radii):
    mask = np.zeros(pixels.shape[:2], np.uint8)
    axes = tuple(max(1, int(radius)) for radius in radii)
    return cv2.ellipse(mask, (int(centre[0]), int(centre[1])), axes, 0, 0, 360, 1, -1)


def side_of(rng):
    return 1 if rng.random() < 0.5 else -1


def half_blurred(pixels, face, rng):
    side = pixels.shape[1]
    is_left = np.arange(side)[None] < face.points[1, 0]
    mask = np.broadcast_to(is_left if side_of(rng) > 0 else ~is_left, pixels.shape[:2])
    return lay(pixels, cv2.GaussianBlur(pixels, (0, 0), 0.03 * side), mask, 0.01 * side)


def eye_painted_over(pixels, face, rng):
    iris, cheek = (LEFT_IRIS, 425) if side_of(rng) > 0 else (RIGHT_IRIS, 205)
    apart, (x, y) = face.interocular_px, face.points[cheek, :2].astype(int)
    reach = max(1, int(0.1 * apart))
    skin = pixels[y - reach : y + reach, x - reach : x + reach].reshape(-1, 3).mean(axis=0)
    mask = ellipse(pixels, face.points[iris, :2], (0.36 * apart, 0.2 * apart))
    return lay(pixels, np.broadcast_to(skin, pixels.shape), mask, 0.008 * pixels.shape[1])


def mouth_smeared(pixels, face, rng):
    side, apart = pixels.shape[1], face.interocular_px
    smeared = cv2.blur(pixels, (int(0.14 * side) | 1, int(0.06 * side) | 1))
    smeared = cv2.blur(smeared, (int(0.14 * side) | 1, 5))
    mask = ellipse(pixels, face.points[[61, 291], :2].mean(axis=0), (0.6 * apart, 0.36 * apart))
    return lay(pixels, smeared, mask, 0.012 * side)


def eye_moved(pixels, face, rng):
    apart, centre = face.interocular_px, face.points[LEFT_IRIS, :2]
    mask = ellipse(pixels, (centre[0], centre[1] + 0.15 * apart), (0.4 * apart, 0.35 * apart))
    return lay(pixels, np.roll(pixels, int(0.25 * apart), 0), mask, 0.01 * pixels.shape[1])


def halves_displaced(pixels, face, rng, shift=0.04):
    middle = int(face.points[1, 0])
    broken = pixels.copy()
    moved = np.roll(pixels, round(shift * pixels.shape[1]) * side_of(rng), 0)
    broken[:, middle:] = moved[:, middle:]
    return broken


def halves_displaced_little(pixels, face, rng):
    return halves_displaced(pixels, face, rng, 0.015)


def mirrored_halves_displaced(pixels, face, rng):
    side, middle = pixels.shape[1], int(face.points[1, 0])
    width = min(middle, side - middle)
    broken = pixels.copy()
    mirrored = pixels[:, middle - width : middle][:, ::-1]
    broken[:, middle : middle + width] = np.roll(mirrored, round(0.04 * side) * side_of(rng), 0)
    return broken


def bent(pixels, face, rng):
    side = pixels.shape[1]
    y, x = np.mgrid[:side, :side].astype(np.float32)
    rough = rng.normal(size=(2, 9, 9)).astype(np.float32) * 0.03 * side
    ways = [cv2.resize(way, (side, side), interpolation=cv2.INTER_CUBIC) for way in rough]
    edge = cv2.BORDER_REPLICATE
    return cv2.remap(pixels, x + ways[0], y + ways[1], cv2.INTER_LINEAR, borderMode=edge)


def blurred(pixels, face, rng):
    return cv2.GaussianBlur(pixels, (0, 0), 0.018 * pixels.shape[1])


def blotched(pixels, face, rng, strength=(40, 80)):
    side, stained = pixels.shape[1], pixels.astype(np.float32)
    low, high = face.points[:, :2].min(axis=0), face.points[:, :2].max(axis=0)
    for _ in range(6):
        centre = rng.uniform(low + 0.15 * (high - low), high - 0.15 * (high - low))
        radius = side * rng.uniform(0.02, 0.045)
        color = side_of(rng) * rng.uniform(*strength) * np.array([1, *rng.uniform(0.2, 1, 2)])
        spot = ellipse(pixels, centre, (radius, radius)).astype(np.float32)
        stained += cv2.GaussianBlur(spot, (0, 0), 0.008 * side)[..., None] * color
    return np.clip(stained, 0, 255).astype(np.uint8)


def blotched_heavily(pixels, face, rng):
    return blotched(pixels, face, rng, (120, 160))


DAMAGES = (
    half_blurred,
    eye_painted_over,
    eye_moved,
    mouth_smeared,
    halves_displaced,
    halves_displaced_little,
    mirrored_halves_displaced,
    bent,
    blurred,
    blotched_heavily,
    blotched,
)
