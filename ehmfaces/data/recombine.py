"""Many new portraits from few: recombines pairs that go together and packs them for training.

Owns reading the portraits, the choice of pairs and the packed file. Does not know how two
portraits become one (`blending`), how the portraits were found, cut out or aligned, nor what is
trained on the result. Needs the "train" extra.
"""

import csv
import json
import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage

from ehmfaces.data.blend_checks import REASONS, Reason, Rejection
from ehmfaces.data.blending import (
    Portrait,
    RecombineOptions,
    build_portrait,
    composite_pixels,
    recombine_pair,
    require_extra,
    resize_rgba,
)
from ehmfaces.errors import InputError
from ehmfaces.images import GAME_BACKGROUND
from ehmfaces.types import Pixels

__all__ = [
    "REASONS",
    "Portrait",
    "Reason",
    "RecombineOptions",
    "Recombiner",
    "Rejection",
    "find_partners",
    "is_compatible",
    "iter_recombinations",
    "load_portraits",
    "recombine_folder",
    "recombine_pair",
]

CHEEK_LIMIT_LAB = (11.0, 14.0, 14.0)
BEARD_LIMIT_L = 14.0
YAW_LIMIT = 0.15
AGE_LIMIT_YEARS = 22
TRIES_PER_HEAD = 8
TRIES_PER_PORTRAIT = 400
LABEL_FIELDS = ("name", "sex", "parent_a", "parent_b")


# --- reading -------------------------------------------------------------------------------


def load_portraits(faces_dir: Path, size_px: int = 256) -> list[Portrait]:
    """Read a folder with `portraits/`, `landmarks.npz` and `labels.csv`, in the order of the labels.

    Args:
        faces_dir: The folder.
        size_px: Side of the frame to work in.

    Raises:
        InputError: The folder lacks one of the three.
        MissingExtraError: The "train" extra is not installed.
    """
    require_extra()
    faces_dir = Path(faces_dir)
    for part in ("portraits", "landmarks.npz", "labels.csv"):
        if not (faces_dir / part).exists():
            raise InputError(
                f'The folder "{faces_dir}" has no "{part}". '
                "Give a folder with portraits/, landmarks.npz and labels.csv."
            )
    with (faces_dir / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    with np.load(faces_dir / "landmarks.npz") as archive:
        return [_read_portrait(faces_dir, row, archive[row["id"]], size_px) for row in rows]


def _read_portrait(
    faces_dir: Path, row: Mapping[str, str], points: npt.NDArray[Any], size_px: int
) -> Portrait:
    with PILImage.open(faces_dir / "portraits" / f"{row['id']}.webp") as image:
        side = image.width
        pixels = np.asarray(image.convert("RGBA"))
    return build_portrait(
        row["id"],
        row["sex"],
        float(row["age"] or 0),
        resize_rgba(pixels, size_px),
        points.astype(np.float64) * (size_px / side),
        np.array([float(row[f"hair_{channel}"] or 0) for channel in "Lab"]),
    )


# --- pairs ---------------------------------------------------------------------------------


def is_compatible(a: Portrait, b: Portrait) -> bool:
    """Tell whether B's inner face may go on A: same sex, near in skin, beard, turn and age."""
    near = np.abs(a.cheek_lab - b.cheek_lab) <= CHEEK_LIMIT_LAB
    return bool(
        a.name != b.name
        and a.sex == b.sex
        and near.all()
        and abs(a.beard_l - b.beard_l) <= BEARD_LIMIT_L
        and abs(a.yaw - b.yaw) <= YAW_LIMIT
        and abs(a.age - b.age) <= AGE_LIMIT_YEARS
    )


def find_partners(portraits: Sequence[Portrait]) -> list[list[int]]:
    """Return for every portrait the indices of those whose inner face it may take."""
    return [[index for index, b in enumerate(portraits) if is_compatible(a, b)] for a in portraits]


# --- many pairs ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Recombiner:
    """Makes the n-th portrait of a seed, whichever came before: order and processes change nothing.

    Attributes:
        portraits: Where heads and faces come from.
        partners: For every portrait the indices of those whose inner face it may take.
        seed: Together with the number decides a portrait.
        options: What may vary.
    """

    portraits: Sequence[Portrait]
    partners: Sequence[Sequence[int]]
    seed: int
    options: RecombineOptions

    @classmethod
    def from_folder(
        cls, faces_dir: Path, seed: int, frame_px: int, options: RecombineOptions | None = None
    ) -> "Recombiner":
        """Read the folder that `load_portraits` describes.

        Raises:
            InputError: The folder is incomplete, or no two portraits go together.
        """
        portraits = load_portraits(faces_dir, frame_px)
        partners = find_partners(portraits)
        if not any(partners):
            raise InputError(
                f'No two of the {len(portraits)} portraits in "{faces_dir}" go together. '
                "Give more portraits of the same sex and like skin."
            )
        return cls(portraits, partners, seed, options or RecombineOptions())

    def make(self, number: int) -> tuple[str, Pixels, dict[str, str]]:
        """Return name, RGBA pixels and labels of the portrait with that number."""
        rng = np.random.default_rng([self.seed, number])
        heads = [index for index, others in enumerate(self.partners) if others]
        for attempt in range(TRIES_PER_PORTRAIT):
            if attempt % TRIES_PER_HEAD == 0:
                head = heads[int(rng.integers(len(heads)))]
            face = self.partners[head][int(rng.integers(len(self.partners[head])))]
            a, b = self.portraits[head], self.portraits[face]
            pixels = recombine_pair(a, b, rng, self.options)
            if not isinstance(pixels, Rejection):
                name = f"r{number:06d}"
                labels = {"name": name, "sex": a.sex, "parent_a": a.name, "parent_b": b.name}
                return name, pixels, labels
        raise InputError(
            f"None of {TRIES_PER_PORTRAIT} pairs gave a plausible portrait. "
            "Give more portraits of the same sex and like skin."
        )


def iter_recombinations(
    faces_dir: Path,
    count: int,
    seed: int,
    size_px: int,
    *,
    first: int = 0,
    options: RecombineOptions | None = None,
) -> Iterator[tuple[str, Pixels, dict[str, str]]]:
    """Yield name, RGBA pixels [size_px, size_px, 4] and labels of `count` new portraits.

    Args:
        faces_dir: As for `load_portraits`.
        count: How many.
        seed: The same seed gives the same portraits.
        size_px: Side of the pictures; they are made at no less than 256 px and reduced.
        first: Number to begin with; 0 to 9 and then 10 to 19 equals 0 to 19.
        options: What may vary.
    """
    recombiner = Recombiner.from_folder(faces_dir, seed, max(size_px, 256), options)
    for number in range(first, first + count):
        name, pixels, labels = recombiner.make(number)
        yield name, resize_rgba(pixels, size_px), labels


# --- one packed file -----------------------------------------------------------------------

_worker: Recombiner | None = None  # one per worker process


def recombine_folder(
    faces_dir: Path,
    out: Path,
    count: int,
    seed: int = 0,
    size_px: int = 128,
    workers: int = 1,
    *,
    background: tuple[int, int, int] = GAME_BACKGROUND,
    options: RecombineOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write `count` new portraits to `pixels.npy` and `labels.csv`; the same call resumes.

    Args:
        faces_dir: As for `load_portraits`.
        out: Folder for `pixels.npy` (uint8 [count, size_px, size_px, 3], over the background) and
            `labels.csv` (one line per finished portrait: name, sex, parent_a, parent_b).
        count: How many in all. A greater count than before adds to what is there.
        seed: The same seed gives the same files, whatever the number of workers.
        size_px: Side of the pictures; made at no less than 256 px and reduced with an area filter.
        workers: Processes.
        background: Colour beneath the cut-outs, sRGB.
        options: What may vary.
        progress: Called with done and total after each portrait.

    Returns:
        How many were made by this call.

    Raises:
        InputError: The folder cannot be used, or `out` holds other portraits.
    """
    require_extra()
    options = options or RecombineOptions()
    _check_same_run(
        out, {"seed": seed, "size_px": size_px, "background": list(background), **asdict(options)}
    )
    done = min(_count_finished(out), count)
    packed = _open_packed(out / "pixels.npy", count, size_px)
    make = (faces_dir, seed, size_px, options)
    with (out / "labels.csv").open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, LABEL_FIELDS, lineterminator="\n")
        for number, (pixels, labels) in enumerate(_make_many(make, range(done, count), workers), done):
            packed[number] = composite_pixels(pixels, background, size_px)
            writer.writerow(labels)
            if number % 50 == 49:
                packed.flush()
                file.flush()
            if progress is not None:
                progress(number + 1, count)
        packed.flush()
    return count - done


def _check_same_run(out: Path, settings: dict[str, object]) -> None:
    """Write the settings beside the results, or raise if other ones are there."""
    out.mkdir(parents=True, exist_ok=True)
    path, text = out / "settings.json", json.dumps(settings, indent=1, sort_keys=True) + "\n"
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise InputError(
            f'"{out}" holds portraits made with other settings (see settings.json). '
            "Give another folder, or the same seed, size and options."
        )
    path.write_text(text, encoding="utf-8")


def _count_finished(out: Path) -> int:
    """Return how many portraits are whole, and cut `labels.csv` to them (a line may be half written)."""
    path = out / "labels.csv"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    whole = [line for line in lines if line.endswith("\n")] or [",".join(LABEL_FIELDS) + "\n"]
    if not (out / "pixels.npy").exists():
        whole = whole[:1]
    path.write_text("".join(whole), encoding="utf-8", newline="")
    return len(whole) - 1


def _open_packed(path: Path, count: int, size_px: int) -> np.memmap[Any, np.dtype[np.uint8]]:
    """Return a writable memory map of at least `count` pictures, keeping those that are there."""
    shape = (count, size_px, size_px, 3)
    if path.exists():
        old = np.lib.format.open_memmap(path, mode="r+")
        if old.shape[0] >= count:
            return old
        grown = path.with_suffix(".grown.npy")
        packed = np.lib.format.open_memmap(grown, mode="w+", dtype=np.uint8, shape=shape)
        packed[: old.shape[0]] = old
        packed.flush()
        grown.replace(path)
        return packed
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)


def _make_many(
    make: tuple[Path, int, int, RecombineOptions], numbers: range, workers: int
) -> Iterator[tuple[Pixels, dict[str, str]]]:
    """Yield RGBA pixels and labels in the order of the numbers."""
    if not numbers:
        return
    if workers <= 1:
        _start_worker(*make)
        yield from map(_make_one, numbers)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start_worker, make) as pool:
        yield from pool.map(_make_one, numbers, chunksize=4)


def _start_worker(faces_dir: Path, seed: int, size_px: int, options: RecombineOptions) -> None:
    import cv2

    global _worker
    cv2.setNumThreads(1)  # processes share the cores already
    _worker = Recombiner.from_folder(faces_dir, seed, max(size_px, 256), options)


def _make_one(number: int) -> tuple[Pixels, dict[str, str]]:
    assert _worker is not None, "the worker was not started"
    _, pixels, labels = _worker.make(number)
    return pixels, labels
