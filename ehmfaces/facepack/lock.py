"""One run at a time on one pack.

Owns the lock file beside the pack. The system itself lets go of a lock whose process has ended, however it
ended, so that there are no stale ones. Knows nothing of packs.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ehmfaces.errors import FacepackError


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """Hold the lock of a pack; the file is gone afterwards.

    Args:
        target: The pack, folder or ZIP; need not exist, its parent must.

    Raises:
        FacepackError: Another run holds it.
        OSError: The place cannot be written.
    """
    path = target.with_name(f".{target.name[:100]}.lock")
    with path.open("ab") as file:
        if not _try_lock(file):
            raise FacepackError(
                f'Another run is writing "{target}" just now. Wait for its end, or write to another place.'
            )
        try:
            yield
        finally:
            if os.name != "nt":  # Windows cannot remove an open file
                path.unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def _try_lock(file: BinaryIO) -> bool:
    try:
        if os.name == "nt":  # pragma: no cover
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return _is_same_file(file)


def _is_same_file(file: BinaryIO) -> bool:
    """Tell whether the locked file still has its name; another run may just have ended and removed it."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(file.name))
    except FileNotFoundError:
        return False
