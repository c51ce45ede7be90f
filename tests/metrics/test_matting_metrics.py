import numpy as np
import pytest

from ehmfaces.metrics.matting import edge_band, iou, mean_difference, rim_error


def test_iou_and_difference_by_hand():
    a = np.array([[1, 1, 0, 0]], np.float32)
    b = np.array([[1, 0, 1, 0]], np.float32)
    assert iou(a, b) == pytest.approx(1 / 3)
    assert iou(a * 0, b * 0) == 1
    assert mean_difference(a, b) == 0.5


def test_edge_band_is_around_the_edge():
    truth = np.zeros((9, 9), np.float32)
    truth[:, 5:] = 1
    assert np.flatnonzero(edge_band(truth, 2)[4]).tolist() == [3, 4, 5, 6]


def test_rim_error_by_hand():
    alpha = np.array([[0, 1]], np.float32)
    color = np.zeros((1, 2, 3), np.uint8)
    assert rim_error(color, alpha, color, alpha, (255, 255, 255)) == 0
    assert rim_error(color + 10, alpha, color, alpha, (255, 255, 255)) == 5
    assert rim_error(color, alpha * 0, color, alpha * 0, (9, 9, 9)) == 0
