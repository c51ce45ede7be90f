"""The whole measurement of a tiny generator: what it must say of itself, and of what is not itself."""

import numpy as np
import pytest
import torch
from PIL import Image

from ehmfaces.errors import ImageError, InputError
from ehmfaces.metrics.embedding import embed_pictures
from ehmfaces.metrics.features import LiteFeatures
from ehmfaces.metrics.nearest import nearest_pairs, pair_sheet
from ehmfaces.metrics.ppl import _distance, mean_path_length, path_lengths
from ehmfaces.metrics.reference import load_reference, split_halves
from ehmfaces.metrics.report import MetricSettings, describe_figures, describe_rates, measure_generator

GAME = (31, 44, 56)


@pytest.fixture(scope="module")
def features():
    return LiteFeatures()


def flat(pixels):
    return pixels[::4, ::4].astype(np.float64).ravel()


def pictures_of(pipeline, seeds, psi=1.0):
    return np.stack([np.asarray(image) for image in pipeline(seeds, truncation_psi=psi).images])


def test_a_generator_is_near_its_own_pictures(tiny_pipeline):
    own = pictures_of(tiny_pipeline, range(1000, 1040))
    heard = []
    report = measure_generator(
        tiny_pipeline, own, flat, MetricSettings(40, 12, 3, 1000, faces=20), heard.append, training=own[:16]
    )
    figures = report.figures
    assert figures["fd_lite0"] == pytest.approx(0, abs=1e-3)
    assert figures["fd_lite0"] < figures["fd_lite0_floor"]
    assert figures["precision_lite0"] == figures["recall_lite0"] == 1
    assert figures["nearest_training_smallest"] == 0  # the training pictures are its own
    assert figures["faces_undescribed"] == 0
    assert figures["ppl_lite0"] > 0
    assert len(heard) == 4
    assert figures["face_rate_0.7"] == figures["face_rate_reference"] == 0  # no faces at 16 px
    assert report.face_rates["face_rate_1.0"].reasons == {"not-one-face": 20}
    assert [failure.seed for failure in report.face_rates["face_rate_1.0"].failures] == [*range(1000, 1020)]
    assert "face_rate_0.7: 20 of 20 are no well-formed face, not-one-face 20" in describe_rates(
        report.face_rates
    )
    wrong = measure_generator(
        tiny_pipeline, 255 - own, flat, MetricSettings(20, 12, 0, 1000, faces=0)
    ).figures
    assert wrong["fd_lite0"] > 1.5 * wrong["fd_lite0_floor"] > 0
    assert wrong["precision_lite0"] < 0.5
    assert not {"ppl_lite0", "face_rate_0.7"} & set(wrong)
    again = measure_generator(
        tiny_pipeline, 255 - own, flat, MetricSettings(20, 12, 0, 1000, faces=0)
    ).figures
    assert again == wrong


def test_floors_stand_beside_their_figures():
    lines = describe_figures({"fd_lite0": 12.0, "fd_lite0_floor": 4.0, "ppl_lite0": 3.5})
    assert len(lines) == 2
    assert lines[0].split() == ["fd_lite0", "12", "real", "halves", "4"]
    assert lines[1].split() == ["ppl_lite0", "3.5"]


def test_no_describable_face_is_said(tiny_pipeline):
    own = pictures_of(tiny_pipeline, range(8))
    with pytest.raises(InputError, match="in 0 of the reference set"):
        measure_generator(tiny_pipeline, own, lambda pixels: None, MetricSettings(8, 8, 0))


def test_embedding_does_not_depend_on_the_batch(features):
    pixels = np.random.default_rng(0).integers(0, 256, (19, 32, 32, 3), dtype=np.uint8)
    rows = embed_pictures(iter(pixels), features)
    assert rows.shape == (19, 112)
    assert np.allclose(rows[17], embed_pictures(pixels[17:18], features)[0], atol=1e-4)
    assert embed_pictures([], features).shape == (0, 112)


def test_path_length_hardly_depends_on_the_step_and_not_on_the_count(tiny_pipeline, features, monkeypatch):
    lengths = path_lengths(tiny_pipeline, features, 4, seed=5)
    assert np.array_equal(lengths[:2], path_lengths(tiny_pipeline, features, 2, seed=5))
    monkeypatch.setattr("ehmfaces.metrics.ppl.STEP", 1e-3)
    assert path_lengths(tiny_pipeline, features, 4, seed=5) == pytest.approx(lengths, rel=0.2)


def test_path_length_leaves_the_extremes_out():
    assert mean_path_length(np.array([0.0, *[5.0] * 398, 1e6])) == 5
    assert mean_path_length(np.array([1.0, 3.0])) == 2  # of so few, none
    same = [torch.ones(2, 3, 4, 4), torch.rand(1, 2, 2, 2).expand(2, 2, 2, 2)]
    assert _distance(same) == 0
    opposite = torch.stack([torch.ones(1, 2, 2), -torch.ones(1, 2, 2)])
    assert _distance([opposite]) == pytest.approx(4, rel=1e-4)


def test_halves_are_disjoint_and_fixed():
    first, second = split_halves(9)
    assert len(first) == len(second) == 4
    assert not set(first) & set(second)
    assert first.tolist() == split_halves(9)[0].tolist()


def test_reference_is_laid_over_the_background_and_reduced(tmp_path):
    for index in range(8):
        Image.new("RGBA", (32, 32), (200, 0, 0, 0 if index else 255)).save(tmp_path / f"{index}.png")
    (tmp_path / ".hidden.png").write_bytes(b"no picture")
    pixels = load_reference(tmp_path, 16, GAME)
    assert pixels.shape == (8, 16, 16, 3)
    assert pixels[0, 0, 0].tolist() == [200, 0, 0]
    assert pixels[1, 0, 0].tolist() == list(GAME)
    np.save(tmp_path / "a.npy", pixels)
    assert np.array_equal(load_reference(tmp_path / "a.npy", 16, GAME), pixels)
    with pytest.raises(InputError, match="cannot be reduced to 64"):
        load_reference(tmp_path, 64, GAME)
    Image.new("RGB", (32, 16)).save(tmp_path / "9.png")
    with pytest.raises(ImageError, match="32 x 16"):
        load_reference(tmp_path, 16, GAME)


def test_too_small_a_reference_is_refused(tmp_path):
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="holds 1 pictures"):
        load_reference(tmp_path, 16, GAME)


def test_the_sheet_shows_the_nearest_first():
    assert nearest_pairs(np.array([3.0, 1.0, 2.0]), 2) == [1, 2]
    red, blue = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    sheet = pair_sheet([(red, blue, "a")] * 6)
    assert sheet.size == (5 * 328, 2 * 176)
    assert sheet.getpixel((80, 80)) == (255, 0, 0)
    assert sheet.getpixel((240, 80)) == (0, 0, 255)
