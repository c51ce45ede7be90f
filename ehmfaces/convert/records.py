"""What a foreign checkpoint may hold: bytes, number formats, storages, tensors, arrays and plain objects.

Owns the inert records that `unpickler` fills, and their way to float32 arrays. Every size is checked against
the bytes that are there before anything is allocated. Knows no pickle, no torch and no network.

Not covered: complex, quantised, sparse and sub-byte numbers; big-endian torch files.
"""

from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

MAX_DIMS = 16
BFLOAT16 = "bfloat16"

# torch's names of number formats -> little-endian NumPy codes; bfloat16 is unknown to NumPy.
TORCH_FORMATS = {
    "float64": "<f8",
    "float32": "<f4",
    "float16": "<f2",
    "bfloat16": BFLOAT16,
    "int64": "<i8",
    "int32": "<i4",
    "int16": "<i2",
    "int8": "|i1",
    "uint8": "|u1",
    "uint16": "<u2",
    "uint32": "<u4",
    "uint64": "<u8",
    "bool": "|b1",
}
STORAGE_FORMATS = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "UntypedStorage": "uint8",
}


def printable(text: str) -> str:
    """Return a text of the file as it may be shown: short, and without characters that steer a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text[:160])


def item_bytes(torch_format: str) -> int:
    """Return the size of one number in bytes."""
    code = TORCH_FORMATS[torch_format]
    return 2 if code == BFLOAT16 else np.dtype(code).itemsize


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes that lie in the file from `start` on; not copied."""

    data: memoryview
    start: int


@dataclass(slots=True, eq=False)
class PlainObject:
    """An object of a class that is known by name only.

    Attributes:
        kind: Short name of the class, from the vocabulary.
        state: What its attributes were.
    """

    kind: str
    state: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Storage:
    """`count` numbers in a row; `data` is filled in when the file is read to the end."""

    torch_format: str
    count: int
    data: memoryview | None = None

    @property
    def nbytes(self) -> int:
        """Length in bytes."""
        return self.count * item_bytes(self.torch_format)


@dataclass(frozen=True, slots=True, eq=False)
class StoredTensor:
    """A strided view of a storage; made by `make_tensor`, which checks that it stays inside."""

    storage: Storage
    torch_format: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def read(self) -> FloatArray:
        """Return a float32 copy [*shape] in C order."""
        if self.storage.data is None or prod(self.shape) == 0:
            return np.zeros(self.shape, np.float32)
        code = TORCH_FORMATS[self.torch_format]
        numbers = np.frombuffer(self.storage.data, "<u2" if code == BFLOAT16 else code)
        strides = [step * numbers.itemsize for step in self.strides]
        view = np.lib.stride_tricks.as_strided(numbers[self.offset :], self.shape, strides, writeable=False)
        if code == BFLOAT16:  # the upper half of a float32
            return (view.astype(np.uint32) << 16).view(np.float32)
        return np.array(view, dtype=np.float32, order="C")


def is_whole(value: Any) -> bool:
    """Return whether a value is an int, and no bool."""
    return type(value) is int


def is_shape(value: Any) -> bool:
    """Return whether a value is a short row of whole numbers from 0 to 2**48."""
    return (
        isinstance(value, (tuple, list))
        and len(value) <= MAX_DIMS
        and all(is_whole(size) and 0 <= size < 2**48 for size in value)
    )


def make_tensor(
    storage: Any, offset: Any, shape: Any, strides: Any, torch_format: str | None = None
) -> StoredTensor:
    """Return a view of a storage.

    Raises:
        ValueError: The arguments are of the wrong kind, or the view is larger than the storage.
    """
    if not isinstance(storage, Storage):
        raise ValueError("a tensor without a storage")
    if not (is_shape(shape) and is_shape(strides) and is_shape([offset]) and len(shape) == len(strides)):
        raise ValueError("a tensor whose offset, shape or strides are no whole numbers")
    chosen = torch_format or storage.torch_format
    count = storage.nbytes // item_bytes(chosen)
    last = offset + sum((size - 1) * step for size, step in zip(shape, strides, strict=True))
    if prod(shape) > count or (prod(shape) > 0 and last >= count):
        raise ValueError(f"a tensor of shape {list(shape)} in a storage of {count} numbers")
    return StoredTensor(storage, chosen, offset, tuple(shape), tuple(strides))


@dataclass(slots=True, eq=False)
class NumberFormat:
    """A NumPy number format; its byte order comes with a later BUILD."""

    code: str
    order: str = "|"

    def build_state(self, state: Any) -> None:
        """Take the byte order from the state that NumPy pickles for a number format.

        Raises:
            ValueError: It is the state of a record or text format.
        """
        plain = isinstance(state, tuple) and len(state) == 8 and all(part is None for part in state[2:5])
        if not plain or state[1] not in ("<", ">", "|", "="):
            raise ValueError("a NumPy number format with fields, or with an unknown byte order")
        self.order = state[1]

    def dtype(self) -> np.dtype[Any]:
        """Return the NumPy type."""
        return np.dtype(("<" if self.order in "|=" else self.order) + self.code)


def make_number_format(code: Any) -> NumberFormat:
    """Return the format that NumPy calls `code`, like "f4".

    Raises:
        ValueError: It is no number format (objects, texts, records, dates, complex).
    """
    if not isinstance(code, str) or code.lstrip("<>|=") not in _NUMPY_CODES:
        found = ascii(code[:40]) if isinstance(code, str) else "without a name"
        raise ValueError(f"the NumPy type {found}, which is no plain number")
    return NumberFormat(code.lstrip("<>|="), code[0] if code[0] in "<>" else "|")


_NUMPY_CODES = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"}


@dataclass(slots=True, eq=False)
class StoredArray:
    """A NumPy array; empty until its contents come with a BUILD."""

    value: npt.NDArray[Any] | None = None

    def build_state(self, state: Any) -> None:
        """Take the contents from the state that NumPy pickles for an array.

        Raises:
            ValueError: It does not describe plain numbers that fill the shape.
        """
        if not isinstance(state, tuple) or len(state) != 5:
            raise ValueError("an array whose state is no tuple of five")
        _, shape, number_format, fortran, blob = state
        self.value = make_array(blob, number_format, shape, fortran is True)

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return () if self.value is None else self.value.shape

    def read(self) -> FloatArray:
        """Return a float32 copy in C order."""
        return np.array(0.0 if self.value is None else self.value, dtype=np.float32, order="C")


def make_array(blob: Any, number_format: Any, shape: Any, fortran: bool) -> npt.NDArray[Any]:
    """Return an array that lies in the file.

    Raises:
        ValueError: The arguments are of the wrong kind, or the bytes do not fill the shape.
    """
    if not isinstance(blob, Blob) or not isinstance(number_format, NumberFormat) or not is_shape(shape):
        raise ValueError("an array whose bytes, number format or shape are of the wrong kind")
    dtype = number_format.dtype()
    if prod(shape) * dtype.itemsize != len(blob.data):
        raise ValueError(f"an array of shape {list(shape)} ({dtype}) with {len(blob.data)} bytes")
    flat = np.frombuffer(blob.data, dtype)
    return flat.reshape(tuple(shape), order="F" if fortran else "C")


def as_number(value: Any) -> Any:
    """Return a 0-d array as a Python number, and everything else as it is."""
    if isinstance(value, StoredArray) and value.value is not None and value.value.ndim == 0:
        return value.value.item()
    return value
