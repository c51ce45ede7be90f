"""Real portraits are well-formed faces, broken ones are not, and the rate counts them."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("cv2", reason="needs the train extra")
pytest.importorskip("onnxruntime", reason="needs the train extra")

from ehmfaces.images import composite
from ehmfaces.metrics.face_checks import LIMITS, FaceChecker, find_reasons
from ehmfaces.metrics.face_rate import failure_sheet, measure_face_rate
from ehmfaces.metrics.reference import load_reference
from tests.metrics import damaged_faces as damages

GAME = (31, 44, 56)


@pytest.fixture(scope="module")
def checker():
    return FaceChecker()


def portraits(shared, size, step=1, start=0):
    for path in sorted((shared / "faces" / "portraits").glob("*.webp"))[start::step]:
        image = composite(Image.open(path).convert("RGBA"), GAME)
        yield path.stem, np.asarray(image.resize((size, size), Image.Resampling.LANCZOS))


@pytest.fixture(scope="module")
def some(shared):
    return list(portraits(shared, 256, 80))


def test_portraits_are_well_formed_at_any_size_and_mirrored(checker, some):
    for _, pixels in some:
        assert checker.check(pixels).reasons == ()
        assert checker.check(np.ascontiguousarray(pixels[:, ::-1])).reasons == ()
        small = np.asarray(Image.fromarray(pixels).resize((128, 128), Image.Resampling.LANCZOS))
        assert checker.check(small).reasons == ()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (damages.half_blurred, "soft"),
        (damages.eye_painted_over, "eyes"),
        (damages.eye_moved, "askew"),
        (damages.mouth_smeared, "mouth"),
        (damages.mirrored_halves_displaced, "frame"),
        (damages.blurred, "soft"),
    ],
)
def test_broken_portraits_are_caught_for_what_they_are(checker, some, damage, reason):
    rng = np.random.default_rng(1)
    found = []
    for _, pixels in some:
        [face] = checker.detector.detect(pixels)
        found.append(checker.check(damage(pixels, face, rng)).reasons)
    assert sum(bool(reasons) for reasons in found) >= len(some) - 1
    assert sum(reason in reasons for reasons in found) >= len(some) / 2


def test_none_two_misplaced_and_turned_faces(checker, some):
    pixels = some[0][1]
    assert checker.check(np.zeros((64, 64, 3), np.uint8)).reasons == ("not-one-face",)
    twice = np.hstack([pixels, pixels])
    assert checker.check(twice).reasons == ("not-one-face",)
    assert checker.check(np.roll(pixels, 20, 1)).reasons == ("frame",)
    larger = np.asarray(Image.fromarray(pixels).resize((340, 340)).crop((42, 42, 298, 298)))
    assert "frame" in checker.check(larger).reasons
    tilted = np.asarray(Image.fromarray(pixels).rotate(9, fillcolor=GAME))
    assert "frame" in checker.check(tilted).reasons


def test_reasons_come_once_and_nan_is_none_of_the_allowed_values():
    good = {name: low if low is not None else high for name, (_, low, high) in LIMITS.items()}
    assert find_reasons(good) == ()
    assert find_reasons({**good, "mouth_edge": 0.0, "mouth_detail": 0.0}) == ("mouth",)
    assert find_reasons({**good, "nose_detail": float("nan"), "score": 0.1}) == ("unsure", "nose")


def test_the_rate_counts_and_shows_what_failed(checker, some):
    empty = np.zeros((32, 32, 3), np.uint8)
    pictures = [(7, some[0][1]), (8, empty), (9, some[1][1]), (10, empty)]
    rate = measure_face_rate(iter(pictures), checker)
    assert (rate.count, rate.share) == (4, 0.5)
    assert rate.to_dict() == {
        "pictures": 4,
        "face_rate": 0.5,
        "reasons": {"not-one-face": 2},
        "failures": {"8": ["not-one-face"], "10": ["not-one-face"]},
    }
    sheet = failure_sheet([("0.7", rate)])
    assert sheet.width == 2 * 160 + 2
    assert failure_sheet([("0.7", measure_face_rate(pictures[:1], checker))]) is None
    assert measure_face_rate([], checker).share == 0


@pytest.mark.slow
@pytest.mark.parametrize("size", [128, 256, 320])
def test_99_in_100_of_all_portraits_pass(checker, shared, size):
    assert measure_face_rate(portraits(shared, size), checker).share >= 0.99


@pytest.mark.slow
def test_99_in_100_pass_as_the_reference_set(checker, shared):
    pixels = load_reference(shared / "faces" / "portraits", 128, GAME)
    assert measure_face_rate(enumerate(pixels), checker).share >= 0.99


@pytest.mark.slow
def test_share_of_broken_portraits_that_is_caught(checker, shared):
    rng = np.random.default_rng(0)
    caught, count = Counter(), 0
    originals = list(portraits(shared, 256, 7, 5))
    for (_, pixels), (_, other) in pairwise(originals):
        [face] = checker.detector.detect(pixels)
        count += 1
        for damage in damages.DAMAGES:
            caught[damage.__name__] += bool(checker.check(damage(pixels, face, rng)).reasons)
        mixed = ((pixels.astype(int) + other) // 2).astype(np.uint8)
        caught["two_blended"] += bool(checker.check(mixed).reasons)
    shares = {name: round(number / count, 2) for name, number in caught.items()}
    print(count, shares)
    for damage in damages.DAMAGES[:9]:
        if damage is not damages.halves_displaced_little:
            assert shares[damage.__name__] >= 0.9, shares
