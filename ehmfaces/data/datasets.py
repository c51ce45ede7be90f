"""Pictures for training, held in memory, and the endless order in which they are drawn.

Owns reading (a packed array, a folder, a ZIP with `dataset.json`), the reduction to a training
resolution, mirroring, labels, and a sampler whose place can be saved and restored exactly.
Does not know how pictures were made, what a network is, or devices other than the CPU.
"""

import json
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypedDict

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image as PILImage
from torch.utils.data import Dataset, Sampler

from ehmfaces.errors import ImageError, InputError
from ehmfaces.images import GAME_BACKGROUND
from ehmfaces.types import Pixels

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
PACKED_KEYS = ("rgb", "pixels")


class PortraitDataset(Dataset[tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]]):
    """Square pictures in memory; with `xflip` every picture comes a second time, mirrored.

    Item i is a pair: pixels uint8 [3, S, S] and label float32 [c_dim] (c_dim 0 without labels).
    Items n to 2n - 1 are the mirrored ones.

    Attributes:
        pixels: uint8 [n, S, S, 3], sRGB.
        labels: float32 [n, c_dim].
        xflip: Whether the mirrored pictures are there.

    Example:
        >>> data = PortraitDataset(np.zeros((2, 4, 4, 3), np.uint8), xflip=True)
        >>> len(data), data[3][0].shape, data.c_dim
        (4, (3, 4, 4), 0)
    """

    def __init__(
        self,
        pixels: Pixels,
        labels: npt.NDArray[np.float32] | None = None,
        *,
        xflip: bool = False,
        resolution: int | None = None,
    ) -> None:
        """Hold the pictures, reduced to `resolution`.

        Args:
            pixels: uint8 [n, S, S, 3], not copied unless reduced.
            labels: float32 [n, c_dim], or None.
            xflip: Add the mirrored pictures.
            resolution: Side to reduce to by averaging areas; at most S. None = S.

        Raises:
            InputError: There is no picture, the shapes do not fit, or the resolution does not divide S.
        """
        pixels = np.asarray(pixels)
        if pixels.ndim != 4 or pixels.shape[3] != 3 or pixels.shape[1] != pixels.shape[2]:
            raise InputError(f"Pictures have the shape {pixels.shape}. Give an array [n, S, S, 3].")
        if pixels.dtype != np.uint8 or len(pixels) == 0:
            raise InputError(f"Got {len(pixels)} pictures of {pixels.dtype}. Give at least one, uint8.")
        if labels is not None and (labels.ndim != 2 or len(labels) != len(pixels)):
            raise InputError(f"Labels have the shape {labels.shape}. Give [{len(pixels)}, c_dim].")
        self.pixels = reduce_by_area(pixels, resolution or pixels.shape[1])
        empty = np.zeros((len(pixels), 0), np.float32)
        self.labels = empty if labels is None else labels.astype(np.float32)
        self.xflip = xflip

    @property
    def resolution(self) -> int:
        """Side of the pictures in pixels."""
        return int(self.pixels.shape[1])

    @property
    def c_dim(self) -> int:
        """Length of a label."""
        return int(self.labels.shape[1])

    def __len__(self) -> int:
        return len(self.pixels) * (2 if self.xflip else 1)

    def __getitem__(self, index: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
        """Return pixels uint8 [3, S, S] and label float32 [c_dim]."""
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        turn, place = divmod(index % len(self), len(self.pixels))
        pixels = self.pixels[place]
        if turn:
            pixels = pixels[:, ::-1]
        return np.ascontiguousarray(pixels.transpose(2, 0, 1)), self.labels[place]

    def batch(self, indices: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return img float32 [N, 3, S, S] in [-1, 1] and c float32 [N, c_dim] of some items."""
        items = [self[int(index)] for index in indices]
        pixels = torch.from_numpy(np.stack([item[0] for item in items]))
        labels = torch.from_numpy(np.stack([item[1] for item in items]))
        return pixels.to(torch.float32) / 127.5 - 1, labels

    def reduced(self, resolution: int) -> "PortraitDataset":
        """Return the same pictures at a lower resolution."""
        return PortraitDataset(self.pixels, self.labels, xflip=self.xflip, resolution=resolution)


def area_shares(side: int, resolution: int) -> npt.NDArray[np.float64]:
    """Return how much each of `side` pixels adds to each of `resolution` averages [resolution, side].

    Example:
        >>> (area_shares(3, 2) * 3).round(6).tolist()
        [[2.0, 1.0, 0.0], [0.0, 1.0, 2.0]]
    """
    edges = np.arange(resolution + 1) * side / resolution
    starts, stops = edges[:-1, None], edges[1:, None]
    pixel = np.arange(side)[None]
    overlap = (np.minimum(stops, pixel + 1) - np.maximum(starts, pixel)).clip(0, None)
    shares: npt.NDArray[np.float64] = overlap * resolution / side
    return shares


def _average(picture: Pixels, shares: npt.NDArray[np.float64]) -> Pixels:
    means = np.einsum("yi,ijc,xj->yxc", shares, picture, shares, optimize=True)
    rounded: Pixels = (means + 0.5).astype(np.uint8)
    return rounded


def reduce_by_area(pixels: Pixels, resolution: int) -> Pixels:
    """Average areas of pixels, rounding half up; parts of pixels count by their share where need be.

    Args:
        pixels: uint8 [n, S, S, C], C 3 or 4.
        resolution: The new side, at most S.

    Raises:
        InputError: It is larger than S or below 1.

    Example:
        >>> reduce_by_area(np.array([0, 1, 2, 3], np.uint8).reshape(1, 2, 2, 1), 1).item()
        2
    """
    count, side, _, channels = pixels.shape
    if resolution == side:
        return pixels
    if not 1 <= resolution < side:
        raise InputError(f"Pictures of {side} px cannot be reduced to {resolution} px. Allowed: 1 to {side}.")
    if side % resolution:
        shares = area_shares(side, resolution)
        reduced = [_average(picture, shares) for picture in pixels]
        return np.stack(reduced)
    factor = side // resolution
    out = np.empty((count, resolution, resolution, channels), np.uint8)
    for index, picture in enumerate(pixels):  # one by one: the sums need four times the memory
        squares = picture.reshape(resolution, factor, resolution, factor, channels)
        sums = squares.sum(axis=(1, 3), dtype=np.uint32)
        out[index] = (sums + factor * factor // 2) // (factor * factor)
    return out


# --- reading -------------------------------------------------------------------------------


def load_dataset(
    source: str | Path,
    *,
    resolution: int | None = None,
    xflip: bool = False,
    use_labels: bool = False,
    background: tuple[int, int, int] = GAME_BACKGROUND,
) -> PortraitDataset:
    """Read pictures from whatever `source` is.

    Args:
        source: `.npz` with uint8 [n, S, S, 3] under "rgb" (labels under "labels"); `.npy` with such
            an array; a folder with `pixels.npy` or with pictures at any depth (labels from
            `dataset.json`); or a ZIP of the latter. Of a folder with `portraits/` and `labels.csv`, as
            `prepare` writes it, only the former is read.
        resolution: Side to reduce to; at most the pictures' side.
        xflip: Add the mirrored pictures.
        use_labels: Read labels.
        background: Colour to lay transparent pictures over, sRGB.

    Raises:
        InputError: There is no such source, it holds no pictures, or their sizes differ.
        ImageError: A picture cannot be read or is not square.
    """
    path = Path(source)
    if not path.exists():
        raise InputError(f'There is no data set "{path}". Give a folder, .npz, .npy or .zip file.')
    if (path / "labels.csv").is_file() and (path / "portraits").is_dir():
        path /= "portraits"
    labels: npt.NDArray[np.float32] | None
    if path.suffix == ".npz":
        pixels, labels = _read_npz(path)
    elif path.suffix == ".npy" or (path / "pixels.npy").exists():
        file = path if path.suffix == ".npy" else path / "pixels.npy"
        pixels, labels = _read_array(file), None
    elif path.is_dir() or path.suffix == ".zip":
        pixels, labels = _read_pictures(path, background, use_labels)
    else:
        raise InputError(f'"{path}" is no data set. Give a folder, .npz, .npy or .zip file.')
    if use_labels and labels is None:
        raise InputError(f'The data set "{path}" has no labels. Leave them out or add a dataset.json.')
    return PortraitDataset(pixels, labels if use_labels else None, xflip=xflip, resolution=resolution)


def _read_array(path: Path) -> Pixels:
    try:
        pixels: Pixels = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f'"{path}" cannot be read as an array ({error}). Make it anew.') from error
    return pixels


def _read_npz(path: Path) -> tuple[Pixels, npt.NDArray[np.float32] | None]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            key = next((name for name in PACKED_KEYS if name in archive), None)
            if key is None:
                raise InputError(
                    f'"{path}" holds {", ".join(archive) or "nothing"}. '
                    'It must hold "rgb", uint8 [n, S, S, 3].'
                )
            return archive[key], archive.get("labels")
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f'"{path}" cannot be read as .npz ({error}). Make it anew.') from error


def _read_pictures(
    path: Path, background: tuple[int, int, int], use_labels: bool
) -> tuple[Pixels, npt.NDArray[np.float32] | None]:
    """Read all pictures of a folder or ZIP in the order of their names."""
    with _Source(path) as source:
        names = sorted(name for name in source.names if _is_picture(name))
        if not names:
            raise InputError(f'There is no picture in "{path}". Allowed: {", ".join(PICTURE_SUFFIXES)}.')
        pictures = []
        for name in names:
            with source.open(name) as file:
                pictures.append(_read_picture(file, name, background))
            if pictures[-1].shape != pictures[0].shape:
                raise InputError(
                    f'"{name}" is {pictures[-1].shape[0]} px wide, "{names[0]}" {pictures[0].shape[0]} px. '
                    "Make all pictures the same size."
                )
        labels = _read_labels(source, names) if use_labels else None
    return np.stack(pictures), labels


def _is_picture(name: str) -> bool:
    is_hidden = PurePosixPath(name).name.startswith(".")  # such as macOS leaves in ZIP files
    return name.lower().endswith(PICTURE_SUFFIXES) and not is_hidden


class _Source:
    """The files of a folder or of a ZIP under names with forward slashes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.archive: zipfile.ZipFile | None = None
        if path.is_dir():
            self.names = [file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()]
            return
        try:
            self.archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise InputError(f'"{path}" is not a ZIP file ({error}). Make it anew.') from error
        self.names = [name for name in self.archive.namelist() if not name.endswith("/")]

    def __enter__(self) -> "_Source":
        return self

    def __exit__(self, *_: object) -> None:
        if self.archive is not None:
            self.archive.close()

    def open(self, name: str) -> IO[bytes]:
        if self.archive is not None:
            return self.archive.open(name)
        return (self.path / PurePosixPath(name)).open("rb")


def _read_picture(file: IO[bytes], name: str, background: tuple[int, int, int]) -> Pixels:
    try:
        with PILImage.open(file) as opened:
            has_alpha = opened.mode in ("RGBA", "LA", "PA") or "transparency" in opened.info
            image = opened.convert("RGBA" if has_alpha else "RGB")
    except (OSError, SyntaxError, ValueError, PILImage.DecompressionBombError) as error:
        raise ImageError(f'The picture "{name}" cannot be read ({error}). Save it as PNG.') from error
    if image.width != image.height:
        raise ImageError(
            f'The picture "{name}" is {image.width} x {image.height} px. Training needs square ones.'
        )
    if has_alpha:
        ground = PILImage.new("RGBA", image.size, (*background, 255))
        image = PILImage.alpha_composite(ground, image).convert("RGB")
    return np.asarray(image)


def _read_labels(source: _Source, names: Sequence[str]) -> npt.NDArray[np.float32] | None:
    """Read `dataset.json` as StyleGAN tools write it: class numbers become one-hot, vectors stay."""
    if "dataset.json" not in source.names:
        return None
    with source.open("dataset.json") as file:
        entries = (json.load(file) or {}).get("labels")
    if entries is None:
        return None
    known = {str(name).replace("\\", "/"): label for name, label in entries}
    missing = [name for name in names if name not in known]
    if missing:
        raise InputError(
            f'dataset.json has no label for "{missing[0]}" ({len(missing)} in all). '
            "Add them or leave labels out."
        )
    values = np.asarray([known[name] for name in names])
    if values.ndim == 1:
        return np.eye(int(values.max()) + 1, dtype=np.float32)[values.astype(np.int64)]
    return values.astype(np.float32)


# --- order ---------------------------------------------------------------------------------


class SamplerState(TypedDict):
    """Where an `EndlessSampler` is; plain numbers, for a checkpoint."""

    seed: int
    size: int
    round_number: int
    position: int


class EndlessSampler(Sampler[int]):
    """Goes through all items in a new order each round, for ever.

    Each round's order follows from the seed and the round's number alone, so the state is four
    numbers and a restored sampler goes on exactly where the saved one stood.

    Example:
        >>> sampler = EndlessSampler(3, seed=1)
        >>> sorted(sampler.take(3))
        [0, 1, 2]
        >>> other = EndlessSampler(3, seed=0)
        >>> other.load_state_dict(sampler.state_dict())
        >>> other.take(4) == sampler.take(4)
        True
    """

    def __init__(self, size: int, seed: int = 0, rank: int = 0, num_replicas: int = 1) -> None:
        """Start at the beginning.

        Args:
            size: Number of items, at least 1.
            seed: Decides the orders.
            rank: This process takes every num_replicas-th item, beginning here.
            num_replicas: Number of processes.

        Raises:
            InputError: The size is not positive or the rank out of range.
        """
        if size < 1 or not 0 <= rank < num_replicas:
            raise InputError(f"Cannot sample {size} items as process {rank} of {num_replicas}.")
        self.size, self.seed, self.rank, self.num_replicas = size, seed, rank, num_replicas
        self._round, self._position = 0, 0
        self._order = self._draw_order(0)

    def _draw_order(self, round_number: int) -> npt.NDArray[np.int64]:
        return np.random.default_rng([self.seed, round_number]).permutation(self.size)

    def _next(self) -> int:
        index = int(self._order[self._position])
        self._position += 1
        if self._position == self.size:
            self._round, self._position = self._round + 1, 0
            self._order = self._draw_order(self._round)
        return index

    def take(self, count: int) -> list[int]:
        """Return the next `count` items of this process and move on."""
        return [[self._next() for _ in range(self.num_replicas)][self.rank] for _ in range(count)]

    def __iter__(self) -> Iterator[int]:
        while True:
            yield from self.take(1)

    def state_dict(self) -> SamplerState:
        """Return where the sampler is."""
        return SamplerState(seed=self.seed, size=self.size, round_number=self._round, position=self._position)

    def load_state_dict(self, state: SamplerState | dict[str, Any]) -> None:
        """Go to where another sampler was.

        Raises:
            InputError: The other one had another number of items.
        """
        if state["size"] != self.size:
            raise InputError(
                f"The saved order is of {state['size']} pictures, the data set has {self.size}. "
                "Resume with the same data set and the same x-flip."
            )
        self.seed = int(state["seed"])
        self._round, self._position = int(state["round_number"]), int(state["position"])
        self._order = self._draw_order(self._round)


def iter_batches(
    dataset: PortraitDataset, sampler: EndlessSampler, batch_size: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield (img, c) batches for ever; the sampler's state counts exactly what was yielded.

    Args:
        dataset: Where the pictures are.
        sampler: Which come next.
        batch_size: Pictures per batch.
    """
    while True:
        yield dataset.batch(sampler.take(batch_size))
