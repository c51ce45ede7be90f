"""New portraits from pairs: the same seed gives the same people, and bad pairs are refused by name."""

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cv2", reason="needs the train extra")

from ehmfaces.data.blend_checks import check_quality, count_dark_bands
from ehmfaces.data.blending import blend_shapes
from ehmfaces.data.recombine import (
    Portrait,
    RecombineOptions,
    Rejection,
    find_partners,
    is_compatible,
    iter_recombinations,
    load_portraits,
    recombine_folder,
    recombine_pair,
)
from ehmfaces.errors import InputError

FACES = Path(__file__).resolve().parents[2] / ".." / "shared" / "faces"
IDS = [f"m{number:03d}" for number in range(1, 31, 2)] + [f"f{number:03d}" for number in range(8)]
GAME = (31, 44, 56)

needs_faces = pytest.mark.skipif(not FACES.exists(), reason="the shared portraits are not here")


@pytest.fixture(scope="session")
def faces_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set of some shared portraits."""
    folder = tmp_path_factory.mktemp("faces")
    (folder / "portraits").mkdir()
    for name in IDS:
        shutil.copy(FACES / "portraits" / f"{name}.webp", folder / "portraits")
    with np.load(FACES / "landmarks.npz") as points:
        np.savez(folder / "landmarks.npz", **{name: points[name] for name in IDS})
    lines = (FACES / "labels.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if line.split(",")[0] in ("id", *IDS)]
    (folder / "labels.csv").write_text("".join(kept), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def portraits(faces_dir: Path) -> list[Portrait]:
    return load_portraits(faces_dir, 256)


def first_good_pair(portraits: list[Portrait]) -> tuple[Portrait, Portrait, np.ndarray]:
    for a in portraits:
        for b in portraits:
            if is_compatible(a, b):
                result = recombine_pair(a, b, np.random.default_rng(0))
                if not isinstance(result, Rejection):
                    return a, b, result
    raise AssertionError("no pair of the test set goes together")


@needs_faces
def test_the_same_generator_gives_the_same_pixels(portraits: list[Portrait]) -> None:
    a, b, pixels = first_good_pair(portraits)
    again = recombine_pair(a, b, np.random.default_rng(0))
    other = recombine_pair(a, b, np.random.default_rng(1))
    assert np.array_equal(again, pixels)
    assert isinstance(other, Rejection) or not np.array_equal(other, pixels)


@needs_faces
def test_head_of_one_and_face_of_the_other(portraits: list[Portrait]) -> None:
    a, _, pixels = first_good_pair(portraits)
    assert pixels.shape == (256, 256, 4)
    assert pixels.dtype == np.uint8
    border = np.abs(pixels[-8:].astype(int) - a.pixels[-8:])[..., 3]  # neck and clothes stay A's
    assert border.mean() < 8
    x0, y0 = a.landmarks[[33, 70]].min(axis=0).astype(int)
    x1, y1 = a.landmarks[[263, 1]].max(axis=0).astype(int)
    inner = (slice(y0, y1), slice(x0, x1), slice(0, 3))
    change = np.abs(pixels[inner].astype(int) - a.pixels[inner]).mean()
    assert change > 4  # the eyes are no longer A's


@needs_faces
def test_hair_variation_changes_hair_and_not_the_eyes(portraits: list[Portrait]) -> None:
    a, b, _ = first_good_pair(portraits)
    plain, dyed = (
        recombine_pair(a, b, np.random.default_rng(0), RecombineOptions(hair_share=share))
        for share in (0.0, 1.0)
    )
    assert not isinstance(plain, Rejection)
    assert not isinstance(dyed, Rejection)
    change = np.abs(plain.astype(int) - dyed)[..., :3].mean(axis=2)
    x, y = a.landmarks[[33, 263]].mean(axis=0).astype(int)
    assert change[y - 10 : y + 10, x - 10 : x + 10].max() <= 1
    assert change.max() > 4


@needs_faces
def test_pairs_need_one_sex_like_skin_and_like_turn(portraits: list[Portrait]) -> None:
    a, b, _ = first_good_pair(portraits)
    assert not is_compatible(a, a)
    assert not is_compatible(a, replace(b, sex="female" if b.sex == "male" else "male"))
    assert not is_compatible(a, replace(b, cheek_lab=a.cheek_lab + np.array([12.0, 0, 0])))
    assert not is_compatible(a, replace(b, cheek_lab=a.cheek_lab + np.array([0, 0, 15.0])))
    assert not is_compatible(a, replace(b, yaw=a.yaw + 0.2))
    assert all(
        portraits[index].sex == portraits[row].sex
        for row, partners in enumerate(find_partners(portraits))
        for index in partners
    )


@needs_faces
def test_a_face_with_a_fringe_on_a_bare_forehead_is_refused(portraits: list[Portrait]) -> None:
    a = portraits[0]
    half = a.pixels.copy()
    half[: int(a.landmarks[70, 1]), :, :3] = 0  # as if a fringe hid the forehead
    result = recombine_pair(a, replace(a, name="fringe", pixels=half), np.random.default_rng(0))
    assert isinstance(result, Rejection)
    assert result.reason in ("fringe", "seam")
    assert result.value > result.limit


def test_shapes_blend_inside_and_less_on_the_oval() -> None:
    a = np.random.default_rng(0).uniform(80, 176, (478, 2))
    b = a + np.array([10.0, 0])
    target = blend_shapes(a, b, 0.8, 256)
    moved = target[:, 0] - a[:, 0]
    assert moved[10] == pytest.approx(0.35 * 8)  # on the oval
    assert moved.max() <= 8 + 1e-9


def make_brow_columns(bands: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Return L* with dark rows, and landmarks with brows at row 100 and eyes at row 128."""
    lightness = np.full((256, 256), 70, np.float32)
    for top, bottom in bands:
        lightness[top:bottom] = 30
    points = np.full((478, 2), 128.0)
    for column, brow, eye in zip(range(5), (70, 63, 105, 66, 107), (33, 160, 159, 158, 133), strict=True):
        points[brow], points[eye] = (80 + 5 * column, 100), (80 + 5 * column, 128)
    for column, brow, eye in zip(range(5), (300, 293, 334, 296, 336), (263, 387, 386, 385, 362), strict=True):
        points[brow], points[eye] = (176 - 5 * column, 100), (176 - 5 * column, 128)
    return lightness, points


@pytest.mark.parametrize(("bands", "count"), [([], 0), ([(100, 106)], 1), ([(90, 95), (102, 108)], 2)])
def test_dark_bands_above_the_eye_are_counted(bands: list[tuple[int, int]], count: int) -> None:
    assert count_dark_bands(*make_brow_columns(bands)) == count


def test_each_fault_has_its_reason() -> None:
    clean, points = make_brow_columns([])
    doubled, _ = make_brow_columns([(90, 95), (102, 108)])
    lab, twice = (np.stack([plane, plane * 0, plane * 0], axis=2) for plane in (clean, doubled))
    inner = np.zeros((256, 256), np.float32)
    inner[85:200, 70:190] = 1
    feathered = inner.copy()
    feathered[80:85, 70:190] = 0.5
    assert check_quality(lab, lab, lab, inner, points) is None
    brow = check_quality(twice, twice, twice, inner, points)
    seam = check_quality(lab, lab, lab - np.array([20, 0, 0], np.float32), feathered, points)
    bright = lab.copy()
    bright[150:170, 100:120, 0] = 95
    patch = check_quality(lab, lab, bright, inner, points)
    fringe = lab.copy()
    fringe[85:99, 70:190, 0] = 40
    hair = check_quality(lab, fringe, fringe, inner, points)
    assert [fault.reason for fault in (brow, seam, patch, hair) if fault] == [
        "doubled-brow",
        "seam",
        "bright-patch",
        "fringe",
    ]


@needs_faces
def test_the_stream_can_start_anywhere(faces_dir: Path) -> None:
    whole = list(iter_recombinations(faces_dir, 3, 11, 64))
    tail = list(iter_recombinations(faces_dir, 1, 11, 64, first=2))
    assert [item[0] for item in whole] == ["r000000", "r000001", "r000002"]
    assert np.array_equal(tail[0][1], whole[2][1])
    assert tail[0][2] == whole[2][2]
    assert whole[0][1].shape == (64, 64, 4)
    assert all(labels["parent_a"] != labels["parent_b"] for _, _, labels in whole)


def read_result(out: Path) -> tuple[np.ndarray, list[dict[str, str]]]:
    with (out / "labels.csv").open(encoding="utf-8", newline="") as file:
        return np.load(out / "pixels.npy"), list(csv.DictReader(file))


class InterruptedRunError(Exception):
    """Stops a run half way."""


def stop_at_two(done: int, total: int) -> None:
    if done == 2:
        raise InterruptedRunError


@needs_faces
def test_interrupted_and_resumed_equals_unbroken(faces_dir: Path, tmp_path: Path) -> None:
    assert recombine_folder(faces_dir, tmp_path / "a", 4, seed=2, size_px=32) == 4
    with pytest.raises(InterruptedRunError):
        recombine_folder(faces_dir, tmp_path / "b", 4, seed=2, size_px=32, progress=stop_at_two)
    with (tmp_path / "b" / "labels.csv").open("a") as file:
        file.write("r0000")  # a line cut short
    assert recombine_folder(faces_dir, tmp_path / "b", 4, seed=2, size_px=32) == 2
    pixels_a, labels_a = read_result(tmp_path / "a")
    pixels_b, labels_b = read_result(tmp_path / "b")
    assert np.array_equal(pixels_a, pixels_b)
    assert labels_a == labels_b
    assert (pixels_a[:, 0, 0] == GAME).all(axis=1).any()
    assert recombine_folder(faces_dir, tmp_path / "a", 4, seed=2, size_px=32) == 0


@needs_faces
@pytest.mark.slow
def test_the_number_of_workers_changes_nothing(faces_dir: Path, tmp_path: Path) -> None:
    for workers in (1, 2):
        recombine_folder(faces_dir, tmp_path / str(workers), 6, seed=4, size_px=32, workers=workers)
    one, two = (read_result(tmp_path / str(workers)) for workers in (1, 2))
    assert np.array_equal(one[0], two[0])
    assert one[1] == two[1]


@needs_faces
def test_more_can_be_added_but_not_with_other_settings(faces_dir: Path, tmp_path: Path) -> None:
    recombine_folder(faces_dir, tmp_path, 1, seed=2, size_px=32)
    before = np.load(tmp_path / "pixels.npy")
    assert recombine_folder(faces_dir, tmp_path, 2, seed=2, size_px=32) == 1
    after, labels = read_result(tmp_path)
    assert after.shape == (2, 32, 32, 3)
    assert len(labels) == 2
    assert np.array_equal(after[0], before[0])
    with pytest.raises(InputError, match="other settings"):
        recombine_folder(faces_dir, tmp_path, 3, seed=3, size_px=32)


def test_an_incomplete_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match='has no "portraits"'):
        load_portraits(tmp_path)
