"""Distances of sets of vectors against closed forms and against the plain definition."""

import numpy as np
import pytest

from ehmfaces.errors import InputError
from ehmfaces.metrics import diversity, precision_recall
from ehmfaces.metrics.diversity import (
    measure_likeness,
    nearest_in,
    neighbor_distances,
    pair_distances,
    pair_percentile,
)
from ehmfaces.metrics.fid import frechet_distance
from ehmfaces.metrics.kid import kernel_distance


def normal(count, size, seed=0):
    return np.random.default_rng(seed).standard_normal((count, size))


def test_frechet_distance_of_moved_and_scaled_gaussians():
    points = normal(500, 6)
    assert frechet_distance(points, points) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(points, points + 2) == pytest.approx(24)
    points -= points.mean(axis=0)
    trace = np.trace(np.cov(points, rowvar=False))
    assert frechet_distance(points, 3 * points) == pytest.approx(4 * trace)  # (3 - 1)^2 tr S


def test_frechet_distance_equals_the_formula_with_a_general_matrix_root():
    from scipy.linalg import sqrtm

    a, b = normal(300, 5), normal(200, 5, 1) @ normal(5, 5, 2) + 1
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    shift = np.square(a.mean(0) - b.mean(0)).sum()
    expected = shift + np.trace(cov_a + cov_b - 2 * sqrtm(cov_a @ cov_b).real)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_takes_fewer_vectors_than_dimensions():
    assert frechet_distance(normal(5, 20), normal(6, 20, 1)) > 0


def test_kernel_distance_is_the_unbiased_estimate():
    a, b = normal(7, 3), normal(5, 3, 1) + 1

    def kernel(x, y):
        return (x @ y / 3 + 1) ** 3

    same_a = np.mean([kernel(x, y) for i, x in enumerate(a) for j, y in enumerate(a) if i != j])
    same_b = np.mean([kernel(x, y) for i, x in enumerate(b) for j, y in enumerate(b) if i != j])
    cross = np.mean([kernel(x, y) for x in a for y in b])
    assert kernel_distance(a, b) == pytest.approx(same_a + same_b - 2 * cross)


def test_kernel_distance_is_about_zero_for_one_source_and_not_for_two():
    values = [kernel_distance(normal(50, 4, 2 * i), normal(50, 4, 2 * i + 1)) for i in range(40)]
    assert min(values) < 0 < max(values)
    assert abs(np.mean(values)) < 3 * np.std(values) / 40**0.5
    assert kernel_distance(normal(50, 4), normal(50, 4, 1) + 1) > max(values)


def test_precision_and_recall_tell_lost_variety_from_wrong_pictures():
    left, right = normal(60, 2), normal(60, 2, 1) + 100
    both = np.concatenate([left, right])
    precision, recall = precision_recall.precision_recall(both, normal(120, 2, 2))
    assert precision > 0.9  # all are among the left ones
    assert 0.4 < recall < 0.55  # nobody covers the right ones
    assert precision_recall.precision_recall(both, both - 50) == (0, 0)
    assert precision_recall.precision_recall(both, both) == (1, 1)


def test_precision_needs_neighbours():
    with pytest.raises(InputError, match="3 pictures are too few"):
        precision_recall.precision_recall(normal(3, 2), normal(9, 2))


def test_neighbours_of_points_on_a_line():
    points = np.array([[0.0], [1.0], [3.0], [7.0]])
    assert pair_distances(points, points)[0] == pytest.approx([0, 1, 3, 7])
    assert neighbor_distances(points) == pytest.approx([1, 1, 2, 4])
    assert neighbor_distances(points, 3) == pytest.approx([7, 6, 4, 7])
    places, distances = nearest_in(np.array([[2.1], [6.0]]), points)
    assert places.tolist() == [2, 3]
    assert distances == pytest.approx([0.9, 1.0])
    assert pair_percentile(points, 0) == pytest.approx(1)
    assert pair_percentile(points, 100) == pytest.approx(7)


def test_likeness_counts_pairs_and_persons():
    found = measure_likeness(np.array([[0.0], [1.0], [2.0], [50.0], [50.0]]), 1.5)
    assert (found.smallest, found.pairs_below, found.persons_below) == (0, 3, 5)
    assert found.share_below == pytest.approx(0.3)


def test_blocks_change_nothing(monkeypatch):
    points, others = normal(50, 4), normal(30, 4, 1)

    def measure():
        return (
            measure_likeness(points, 1.5),
            neighbor_distances(points, 2).round(9).tolist(),
            nearest_in(points, others)[0].tolist(),
            precision_recall.precision_recall(points, others),
            round(kernel_distance(points, others), 9),
        )

    whole = measure()
    for module in (diversity, precision_recall):
        monkeypatch.setattr(module, "_BLOCK", 7)
    monkeypatch.setattr("ehmfaces.metrics.kid._BLOCK", 7)
    assert measure() == whole
