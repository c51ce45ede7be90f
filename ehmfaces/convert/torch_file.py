"""torch's own containers as data: the zip archives and the older row of pickles with raw numbers behind.

Owns where the pieces lie in such a file and the storages in it; used for `.pt` files and for the storages
that NVIDIA's pickles nest. Never calls torch.load. Knows no network.

Not covered: TorchScript, tar files of torch 0.1, views of storages (torch 0.3), files of big-endian machines,
checksums.
"""

import io
import zipfile
from typing import Any

from ehmfaces.convert.records import STORAGE_FORMATS, Blob, Storage, is_shape
from ehmfaces.convert.unpickler import Budget, Name, Unpickler
from ehmfaces.convert.vocabulary import STORAGE_FILE, TORCH_FILE, Vocabulary
from ehmfaces.errors import ModelError, UnsafePickleError

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_VERSION = 1001
LEGACY_START = b"\x80\x02\x8a\x0a" + LEGACY_MAGIC.to_bytes(10, "little")
ZIP_START = b"PK\x03\x04"
MAX_ENTRIES = 50_000


def is_torch_file(data: memoryview) -> bool:
    """Return whether the bytes begin like a file of torch.save."""
    start = bytes(data[:14])
    return start.startswith(ZIP_START) or start == LEGACY_START


def read_torch_file(data: memoryview, label: str, budget: Budget) -> Any:
    """Return what a `.pt` file holds, as records.

    Raises:
        UnsafePickleError: It holds something else than plain data and tensors.
        ModelError: It is damaged.
    """
    return _read(data, TORCH_FILE, label, budget, base=0)


def load_storage(blob: Blob, reader: Unpickler) -> Storage:
    """Return the storage in the bytes that a pickled tensor nests.

    Raises:
        UnsafePickleError: They hold something else.
        ModelError: They are damaged.
    """
    if not is_torch_file(blob.data):
        reader.refuse("nested bytes that are no storage")
    storage = _read(blob.data, STORAGE_FILE, reader.label, reader.budget, blob.start)
    if not isinstance(storage, Storage):
        reader.refuse(f"nested bytes that hold a {type(storage).__name__} where a storage belongs")
    return storage


def _read(data: memoryview, vocabulary: Vocabulary, label: str, budget: Budget, base: int) -> Any:
    if bytes(data[:4]) == ZIP_START:
        return _Archive(data, label, base).read(vocabulary, budget)
    return _LegacyFile(data, label, base, budget).read(vocabulary)


def _storage_from(identity: tuple[Any, ...]) -> tuple[Storage, str]:
    """Return the storage that a persistent id announces, and its key.

    Raises:
        ValueError: It announces something else.
    """
    if len(identity) not in (5, 6) or identity[0] != "storage" or not isinstance(identity[1], Name):
        raise ValueError("a persistent id that is no storage")
    _, name, key, _, count = identity[:5]
    kind = name.text.rpartition(".")[2]
    if kind not in STORAGE_FORMATS:
        raise ValueError(f"a storage of {name.text}")
    if not isinstance(key, str) or not is_shape([count]):
        raise ValueError("a storage without a key or a length")
    if len(identity) == 6 and identity[5] is not None:
        raise ValueError("a view of a storage (written by torch 0.3 or older)")
    return Storage(STORAGE_FORMATS[kind], count), key


class _Storages:
    """The storages that persistent ids have announced, by key."""

    def __init__(self) -> None:
        self.by_key: dict[str, Storage] = {}

    def load(self, identity: tuple[Any, ...], reader: Unpickler) -> Storage:
        storage, key = _storage_from(identity)
        known = self.by_key.setdefault(key, storage)
        if known.torch_format != storage.torch_format or known.count != storage.count:
            raise ValueError("a storage that is announced twice, with different formats or lengths")
        return known


class _LegacyFile:
    """Five pickles in a row (magic number, version, system, object, keys), then the raw storages."""

    def __init__(self, data: memoryview, label: str, base: int, budget: Budget) -> None:
        self.data, self.label, self.base, self.budget = data, label, base, budget
        self.position = 0
        self.storages = _Storages()

    def read(self, vocabulary: Vocabulary) -> Any:
        if self._next({}) != LEGACY_MAGIC or self._next({}) != LEGACY_VERSION:
            raise self._damaged("it does not begin like a file of torch.save")
        system = self._next({})
        if not isinstance(system, dict) or system.get("little_endian") is not True:
            raise self._damaged("it was not written on a little-endian machine, which cannot be read")
        content = self._next(vocabulary, with_storages=True)
        keys = self._next({})
        known = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
        if not known or sorted(keys) != sorted(self.storages.by_key):
            raise self._damaged("its storages are not those that its tensors need")
        for key in keys:
            self._fill(self.storages.by_key[key])
        return content

    def _next(self, vocabulary: Vocabulary, with_storages: bool = False) -> Any:
        load = self.storages.load if with_storages else None
        reader = Unpickler(
            self.data, vocabulary, self.label, self.budget, load, start=self.position, base=self.base
        )
        content = reader.load()
        self.position = reader.position
        return content

    def _fill(self, storage: Storage) -> None:
        start = self.position + 8
        count = int.from_bytes(self.data[self.position : start], "little", signed=True)
        self.position = start + storage.nbytes
        if count != storage.count:
            raise self._damaged(f"a storage of {storage.count:,} numbers is announced, but {count:,} follow")
        if self.position > len(self.data):
            left = max(0, len(self.data) - start)
            raise self._damaged(
                f"a storage of {storage.count:,} numbers is announced, {left:,} bytes are left"
            )
        storage.data = self.data[start : self.position]

    def _damaged(self, what: str) -> ModelError:
        return ModelError(
            f"{self.label}, byte {self.base + self.position:,}: {what}. The file is damaged or of an unknown "
            "kind: get it again."
        )


class _Window(io.RawIOBase):
    """A read-only file over bytes that are not copied."""

    def __init__(self, data: memoryview) -> None:
        super().__init__()
        self.data, self.position = data, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: len(self.data)}[whence]
        if start + offset < 0:
            raise ValueError("a seek before the start")
        self.position = start + offset
        return self.position

    def tell(self) -> int:
        return self.position

    def readinto(self, buffer: Any) -> int:
        piece = self.data[self.position : self.position + len(buffer)]
        buffer[: len(piece)] = piece
        self.position += len(piece)
        return len(piece)


class _Archive:
    """A zip file with data.pkl and one uncompressed entry per storage."""

    def __init__(self, data: memoryview, label: str, base: int) -> None:
        self.data, self.label, self.base = data, label, base
        self.storages = _Storages()
        self.entries = self._directory()
        found = [name for name in self.entries if name.endswith("/data.pkl")]
        if len(found) != 1:
            raise self._damaged(f"a zip file with {len(found)} data.pkl, so not a file of torch.save")
        self.prefix = found[0].removesuffix("data.pkl")

    def _directory(self) -> dict[str, zipfile.ZipInfo]:
        try:
            with zipfile.ZipFile(io.BufferedReader(_Window(self.data))) as archive:
                listed = archive.infolist()
        except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError, OverflowError) as error:
            raise self._damaged(f"the zip file cannot be read ({error})") from error
        entries = {info.filename: info for info in listed}
        if len(entries) != len(listed) or len(listed) > MAX_ENTRIES:
            raise UnsafePickleError(
                f"{self.label}, byte {self.base:,}: found a zip file with names that are there twice, or "
                f"with more than {MAX_ENTRIES:,} entries. torch.save writes no such file. Nothing was run."
            )
        return entries

    def _entry(self, name: str) -> tuple[memoryview, int]:
        """Return the bytes of an entry and where they lie."""
        info = self.entries.get(self.prefix + name)
        if info is None:
            raise self._damaged(f"the zip file lacks {name[:80]!a}")
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 0x41:
            raise self._damaged(f"{name[:80]!a} is compressed or encrypted, which torch.save never does")
        head = bytes(self.data[info.header_offset : info.header_offset + 30])
        if len(head) < 30 or head[:4] != ZIP_START:
            raise self._damaged(f"{name[:80]!a} is not where the directory says")
        start = info.header_offset + 30
        start += int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
        if start + info.file_size > len(self.data):
            raise self._damaged(f"{name[:80]!a} breaks off")
        return self.data[start : start + info.file_size], start

    def read(self, vocabulary: Vocabulary, budget: Budget) -> Any:
        if self.prefix + "constants.pkl" in self.entries:
            raise self._damaged("it is a TorchScript program, no checkpoint")
        if self.prefix + "byteorder" in self.entries and bytes(self._entry("byteorder")[0]) != b"little":
            raise self._damaged("it was not written on a little-endian machine, which cannot be read")
        pickled, start = self._entry("data.pkl")
        reader = Unpickler(
            pickled, vocabulary, self.label, budget, self.storages.load, base=self.base + start
        )
        content = reader.load()
        for key, storage in self.storages.by_key.items():
            storage.data, _ = self._entry(f"data/{key}")
            if len(storage.data) != storage.nbytes:
                raise self._damaged(
                    f"a storage of {storage.nbytes:,} bytes is announced, {len(storage.data):,} are there"
                )
        return content

    def _damaged(self, what: str) -> ModelError:
        return ModelError(
            f"{self.label}, byte {self.base:,}: {what}. Get the file again, or ask for a safetensors file."
        )
