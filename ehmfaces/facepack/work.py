"""The folder in which a pack is drawn, so that a run that was killed can go on.

Owns the pictures in it, its journal and the order of writing: first a line in the journal, then the file.
A file that is not what its line says is drawn again. Does not know who is drawn or why.
"""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ehmfaces.errors import FacepackError
from ehmfaces.facepack.journal import (
    JOURNAL_NAME,
    Draw,
    Journal,
    Papers,
    file_hash,
    read_bounded,
    read_papers,
)
from ehmfaces.images import write_bytes_atomically
from ehmfaces.types import Seed


def read_journal(folder: Path) -> Papers:
    """Return what an unfinished run left in a folder; nothing where there was none."""
    return read_papers(read_bounded(_journal_path(folder)))


def _journal_path(folder: Path) -> Path:
    return folder / f".{JOURNAL_NAME}"


class WorkFolder:
    """Pictures of a run that has not ended.

    Args:
        folder: Made where it is missing. An unfinished run of the same look goes on.
        head: Of the journal; "look" is the fingerprint of the settings.
        owns_folder: The folder is there for the run only, and goes with it.

    Raises:
        FacepackError: An unfinished run with other settings lies there.
        OSError: It cannot be written.
    """

    def __init__(self, folder: Path, head: Mapping[str, Any], *, owns_folder: bool) -> None:
        self.folder = folder
        self._owns_folder = owns_folder
        self._journal_path = _journal_path(folder)
        earlier = read_journal(folder)
        if earlier.head and earlier.head.get("look") != head["look"]:
            raise FacepackError(
                f'An unfinished run with other settings or another model lies in "{folder}". Finish it with '
                f'those, or give it up: remove "{folder if owns_folder else self._journal_path}".'
            )
        self.run = earlier.run or int(head["run"])
        self._draws = {(draw.path, draw.reroll, draw.attempt): draw for draw in earlier.draws}
        self._checked: set[Draw] = set()
        folder.mkdir(parents=True, exist_ok=True)
        if not earlier.head:
            self._journal_path.unlink(missing_ok=True)  # its head was torn: nothing was drawn
        self._journal = Journal(self._journal_path, {**head, "run": self.run})

    @property
    def paths(self) -> set[str]:
        """Return what this run has drawn so far."""
        return {path for path, _, _ in self._draws}

    def find(self, path: str, reroll: int, attempt: int, seed: Seed) -> Draw | None:
        """Return what was drawn for a path at an attempt."""
        draw = self._draws.get((path, reroll, attempt))
        return draw if draw is not None and draw.seed == seed else None

    def add(self, draw: Draw, picture: bytes, copies: Iterable[str]) -> None:
        """Note a picture and write it under its path and those of its copies.

        Raises:
            FacepackError: The disk is full or the place cannot be written.
            OSError: Likewise.
        """
        self._journal.add(draw)
        for path in (draw.path, *copies):
            write_bytes_atomically(self.folder / path, picture)
        self._draws[draw.path, draw.reroll, draw.attempt] = draw
        self._checked.add(draw)

    def is_whole(self, draw: Draw, copies: Iterable[str]) -> bool:
        """Tell whether the files of a picture are there, and as they were drawn."""
        if draw in self._checked:
            return True
        try:
            return all(
                file_hash((self.folder / path).read_bytes()) == draw.sha256 for path in (draw.path, *copies)
            )
        except OSError:
            return False

    def drop(self, path: str, copies: Iterable[str]) -> None:
        """Remove a picture that the pack is not to have."""
        for name in (path, *copies):
            (self.folder / name).unlink(missing_ok=True)

    def close(self) -> None:
        """End writing; the run can go on later. What holds no picture goes."""
        self._journal.close()
        if not self._draws:
            self.end()

    def end(self) -> None:
        """End the run for good: the journal goes, and the folder where it was the run's own."""
        self._journal.close()
        if not self.folder.is_dir():
            return
        if self._owns_folder:
            _remove_pictures(self.folder)
        self._journal_path.unlink(missing_ok=True)
        if self._owns_folder or not any(self.folder.iterdir()):
            shutil.rmtree(self.folder, ignore_errors=True)


def _remove_pictures(folder: Path) -> None:
    """Remove what lies in a folder, except for the journal, which has to go last."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
