import io

import numpy as np
import pytest
from PIL import Image

from ehmfaces.facepack.plan import FacepackSettings
from ehmfaces.facepack.render import renderer_for
from ehmfaces.facepack.uniqueness import DEFAULT_THRESHOLD, choose_redrawn, find_alike, measure_face
from ehmfaces.hub import load_pipeline
from ehmfaces.latents.directions import Wishes


def brute(features):
    wide = features.astype(float)
    return np.sqrt(((wide[:, None] - wide[None]) ** 2).sum(axis=2)) * 40 / (30 * 320**0.5)


def test_all_pairs_are_compared_across_blocks():
    rng = np.random.default_rng(1)
    features = rng.integers(-90, 90, (2100, 320)).astype(np.int8)
    features[2050] = features[3] + 1
    features[1500] = features[1400]
    pairs, nearest = find_alike(features, DEFAULT_THRESHOLD)
    assert sorted(pairs) == [(3, 2050), (1400, 1500)]
    assert (nearest.first, nearest.second, nearest.distance) == (1400, 1500, 0.0)
    few = features[:60]
    apart = brute(few)[np.triu_indices(60, 1)]
    assert find_alike(few, 0)[1].distance == pytest.approx(apart.min(), abs=1e-3)
    wide = float(np.quantile(apart, 0.2))
    assert len(find_alike(few, wide)[0]) == (apart <= wide).sum()
    assert find_alike(features[:1], 9) == ([], None)


def test_who_is_redrawn_depends_on_rank_only():
    ranks = [5, 1, 4, 2]
    pairs = [(0, 1), (0, 2), (2, 3)]
    assert sorted(choose_redrawn(pairs, ranks, [False] * 4)) == [0, 2]
    assert sorted(choose_redrawn(pairs, ranks, [True, False, False, False])) == [1, 2]
    assert choose_redrawn(pairs, ranks, [True] * 4) == []
    order = [2, 0, 3, 1]
    place = {old: new for new, old in enumerate(order)}
    shuffled = choose_redrawn(
        [(place[a], place[b]) for a, b in pairs], [ranks[i] for i in order], [False] * 4
    )
    assert sorted(order[i] for i in shuffled) == [0, 2]


def test_faces_light_and_frame_do_not_count_but_features_do():
    renderer = renderer_for(load_pipeline(), FacepackSettings())
    same, other = renderer.render(1), renderer.render(2)
    wide = renderer_for(renderer.pipeline, FacepackSettings(portrait_format="ehm-200", background="game"))
    a, b, c = (measure_face(picture) for picture in (same, other, wide.render(1)))
    distances = brute(np.stack([a, b, c]))
    assert distances[0, 2] < DEFAULT_THRESHOLD / 2 < DEFAULT_THRESHOLD < distances[0, 1]
    renderer.wishes = Wishes(smile=0.2)
    assert brute(np.stack([a, measure_face(renderer.render(1))]))[0, 1] < DEFAULT_THRESHOLD


def test_what_is_no_portrait_is_not_measured():
    assert measure_face(b"no picture") is None
    file = io.BytesIO()
    Image.new("RGB", (20, 200)).save(file, "PNG")
    assert measure_face(file.getvalue()) is None
