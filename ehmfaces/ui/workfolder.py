"""The one private folder for everything that visitors send and get, and its cleaning.

Owns where files lie, how long, and how much they may take together. Does not know what is in them.
Names hold 128 random bits, so that nobody finds the files of somebody else by guessing.
"""

import atexit
import os
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_UPLOADS = "GRADIO_TEMP_DIR"  # where gradio stores uploads; read by it whenever it needs the path


class WorkFolder:
    """A private folder that empties itself.

    Args:
        root: Made when it is missing; readable by this user only.
    """

    def __init__(self, root: Path) -> None:
        """Make the folder."""
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.root = root
        self.used_bytes = 0  # as of the last sweep

    def new_folder(self) -> Path:
        """Make a folder with a name that cannot be guessed."""
        folder = self.root / secrets.token_hex(16)
        folder.mkdir(mode=0o700)
        return folder

    def sweep(self, age_sec: float) -> int:
        """Remove what nobody has written to for so long; returns the number of files removed.

        A folder goes as a whole, when its newest file is too old: a pack in the making stays.
        """
        oldest = time.time() - age_sec
        removed = used = 0
        for entry in self.root.iterdir():
            newest, count, size = _measure(entry)
            if newest >= oldest:
                used += size
                continue
            removed += max(count, 1)
            _remove(entry)
        self.used_bytes = used
        return removed

    def remove(self) -> None:
        """Remove the folder and all that is in it."""
        shutil.rmtree(self.root, ignore_errors=True)


def _measure(entry: Path) -> tuple[float, int, int]:
    """Return the newest change (seconds), the number of files and their bytes; links are not followed."""
    newest, count, size = 0.0, 0, 0
    paths = [entry, *entry.rglob("*")] if entry.is_dir() and not entry.is_symlink() else [entry]
    for path in paths:
        with suppress(FileNotFoundError):
            status = path.lstat()
            newest = max(newest, status.st_mtime)
            if not path.is_dir():
                count, size = count + 1, size + status.st_size
    return newest, count, size


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink(missing_ok=True)


_FOLDER: list[WorkFolder] = []
_LOCK = threading.Lock()


def work_folder() -> WorkFolder:
    """Return the folder of this process; gradio's uploads go there too.

    It lies in GRADIO_TEMP_DIR or the system's temporary folder, and goes when the program ends.
    """
    with _LOCK:
        if not _FOLDER or not _FOLDER[0].root.is_dir():
            above = (
                _FOLDER[0].root.parent if _FOLDER else Path(os.environ.get(_UPLOADS) or tempfile.gettempdir())
            )
            folder = WorkFolder(above.resolve() / f"ehmfaces-{secrets.token_hex(16)}")
            atexit.register(folder.remove)
            os.environ[_UPLOADS] = str(folder.root)
            _FOLDER[:] = [folder]
        return _FOLDER[0]


def start_sweeping(
    folder: WorkFolder, age_sec: float, interval_sec: float, report: Callable[[int], None]
) -> threading.Event:
    """Sweep now and then in a thread until the returned event is set.

    Args:
        folder: What is swept.
        age_sec: Files older than this go.
        interval_sec: Time between two sweeps.
        report: Called with the number of removed files after a sweep that removed some.
    """
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(interval_sec):
            with suppress(OSError):
                if removed := folder.sweep(age_sec):
                    report(removed)

    threading.Thread(target=run, name="sweeper", daemon=True).start()
    return stop
