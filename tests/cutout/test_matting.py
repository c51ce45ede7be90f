import numpy as np
import pytest

from ehmfaces.cutout.matting import (
    box_blur,
    decontaminate,
    nearby_foreground,
    refine_alpha,
    solve_known_background,
    stretch_alpha,
)
from ehmfaces.metrics.matting import rim_error

GAME = (31, 44, 56)
SKIN = np.array([205, 160, 135])


def soften(alpha):
    """The alpha of a network that is right but blurred."""
    return box_blur(alpha[..., None], 2)[..., 0]


def test_box_blur_by_hand():
    line = np.zeros((1, 5, 1), np.float32)
    line[0, 2] = 3
    assert box_blur(line, 1)[0, :, 0] == pytest.approx([0, 1, 1, 1, 0])
    assert box_blur(np.full((4, 4, 2), 7, np.float32), 3) == pytest.approx(7)


def test_stretch_reaches_both_ends():
    assert stretch_alpha(np.array([[0.0, 0.03, 0.5, 0.97, 1.0]], np.float32))[0].tolist() == [0, 0, 0.5, 1, 1]


def test_known_background_leaves_no_rim(head):
    image, truth = head
    pixels = np.asarray(image)
    foreground, alpha = solve_known_background(pixels, soften(truth), GAME)
    assert alpha.min() == 0
    assert alpha.max() == 1
    assert np.abs(alpha - truth).mean() < np.abs(soften(truth) - truth).mean()
    true_color = np.broadcast_to(SKIN, pixels.shape).astype(np.uint8)
    for color in ((255, 255, 255), (0, 0, 0), GAME):
        after = rim_error(foreground, alpha, true_color, truth, color)
        before = rim_error(pixels, alpha, true_color, truth, color)
        assert after < 0.6 * before


def test_dark_hair_on_the_dark_background_gets_no_hole(head):
    image, truth = head
    pixels = np.asarray(image).copy()
    pixels[30:50, 35:60] = GAME  # a patch of the background's own colour inside the person
    _, alpha = solve_known_background(pixels, truth, GAME)
    assert alpha[30:50, 35:60].min() == 1


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (33, 20), (64, 64)])
def test_nearby_colour_is_the_persons_own_at_any_size(size):
    height, width = size
    alpha = np.zeros(size, np.float32)
    alpha[height // 3 :, width // 3 :] = 1
    img = np.where(alpha[..., None] > 0, SKIN, GAME).astype(np.float32) / np.float32(255)
    near = nearby_foreground(img, alpha, 2)
    assert near.shape == (*size, 3)
    assert near == pytest.approx(np.broadcast_to(SKIN / 255, near.shape), abs=0.01)


def test_decontamination_takes_the_background_out(head):
    image, truth = head
    pixels = np.asarray(image)
    clean = decontaminate(pixels, truth)
    edge = (truth > 0.2) & (truth < 0.9)
    assert np.abs(clean[edge] - SKIN).mean() < 0.3 * np.abs(pixels[edge] - SKIN).mean()
    assert np.array_equal(clean[truth >= 1], pixels[truth >= 1])


def test_refined_alpha_is_soft_and_full(head):
    image, truth = head
    alpha = refine_alpha(np.asarray(image), soften(truth))
    assert (alpha.min(), alpha.max()) == (0, 1)
    assert ((alpha > 0) & (alpha < 1)).any()
    assert alpha.dtype == np.float32
