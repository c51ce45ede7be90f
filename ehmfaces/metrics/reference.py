"""The fixed set of real portraits that a generator is measured against.

Owns reading it at the generator's resolution, one picture at a time, and its two halves. Does not know what
is measured.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from ehmfaces.data.datasets import PICTURE_SUFFIXES, load_dataset, reduce_by_area
from ehmfaces.errors import ImageError, InputError
from ehmfaces.images import Color, composite, open_image
from ehmfaces.types import Pixels

FEWEST = 8  # two halves with more pictures than the neighbours that precision needs
_SPLIT_SEED = 20_000


def load_reference(source: Path, resolution: int, background: Color) -> Pixels:
    """Return uint8 [N, S, S, 3], S = resolution, in the order of the names.

    Args:
        source: Folder of square pictures, with or without alpha, or whatever `load_dataset` reads.
        resolution: At most the pictures' own side.
        background: Colour to lay transparent pictures over.

    Raises:
        InputError: There is no such source, it has too few pictures, or they are smaller than asked for.
        ImageError: A picture cannot be read or is not square.
    """
    if source.is_dir() and not (source / "pixels.npy").exists():
        paths = sorted(p for p in source.rglob("*") if p.suffix.lower() in PICTURE_SUFFIXES and p.is_file())
        rows = [_read(path, resolution, background) for path in paths if not path.name.startswith(".")]
        pixels: Pixels = np.stack(rows) if rows else np.zeros((0, resolution, resolution, 3), np.uint8)
    else:
        pixels = load_dataset(source, resolution=resolution, background=background).pixels
    if len(pixels) < FEWEST:
        raise InputError(f'"{source}" holds {len(pixels)} pictures. Give at least {FEWEST} real portraits.')
    return pixels


def _read(path: Path, resolution: int, background: Color) -> Pixels:
    image = open_image(path)
    if image.width != image.height:
        raise ImageError(f'"{path.name}" is {image.width} x {image.height} px. Give square pictures.')
    pixels = np.asarray(composite(image, background) if image.mode == "RGBA" else image)
    return reduce_by_area(pixels[None], resolution)[0]


def split_halves(count: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the positions of two disjoint halves, the same for the same count for ever."""
    order = np.random.RandomState(_SPLIT_SEED).permutation(count)
    return np.sort(order[: count // 2]), np.sort(order[count // 2 : count // 2 * 2])
