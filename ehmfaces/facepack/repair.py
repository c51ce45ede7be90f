"""Mends what a check found and what can be mended safely.

Owns renaming and putting away, with a record to undo it. A picture's content is never changed, nothing is
overwritten and nothing is deleted: in a folder, leftovers go to a backup beside it; a ZIP stays as it is
and a mended copy is written. Does not know how anything is found.
"""

import csv
import io
import os
from pathlib import Path
from typing import BinaryIO, cast

from ehmfaces.errors import FacepackError
from ehmfaces.facepack.archive import ArchiveWriter
from ehmfaces.facepack.check import CheckResult
from ehmfaces.facepack.manifest import neutralize_formula
from ehmfaces.facepack.pack_files import open_pack
from ehmfaces.images import write_bytes_atomically

RECORD_NAME = "repairs.csv"


def describe_repairs(result: CheckResult) -> list[str]:
    """Return one line for each thing that `repair_pack` would do."""
    lines = [f"{path} -> {target}" for path, target in result.moves.items()]
    return lines + [f"{path} -> put away" for path in result.leftovers]


def repair_pack(result: CheckResult, out: str | Path | None = None) -> Path:
    """Do what is safe.

    Args:
        result: As `check_pack` gives it, of a pack that has not changed since.
        out: Of a ZIP: the copy to write. Of a folder: must be left out.

    Returns:
        The mended ZIP, or the backup folder with the record of what was done.

    Raises:
        FacepackError: A file is in the way, or cannot be written.
    """
    if result.path.is_dir():
        if out is not None:
            raise FacepackError("A folder is mended where it is. Leave --out away, or give a ZIP.")
        return _repair_folder(result)
    if out is None:
        raise FacepackError(f'"{result.path.name}" is a ZIP and stays as it is. Give --out for the copy.')
    return _repair_zip(result, Path(out))


def _repair_folder(result: CheckResult) -> Path:
    backup = _free_backup(result.path)
    steps = [(result.path / old, result.path / new) for old, new in result.moves.items()]
    steps += [(result.path / old, backup / old) for old in result.leftovers]
    write_bytes_atomically(backup / RECORD_NAME, _record(result))
    for source, target in steps:
        _move(source, target, result.path)
    return backup


def _free_backup(pack: Path) -> Path:
    whole = pack.resolve()
    for number in range(1, 1000):
        backup = whole.with_name(f"{whole.name}.backup-{number}")
        if not backup.exists():
            return backup
    raise FacepackError(f'There are 999 backups beside "{pack}". Remove some.')


def _move(source: Path, target: Path, root: Path) -> None:
    try:
        is_itself = target.exists() and os.path.samefile(source, target)
        if target.exists() and not is_itself:
            raise FacepackError(f'"{target}" appeared meanwhile, and nothing is overwritten. Check again.')
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
    except OSError as error:
        raise FacepackError(
            f'"{source}" cannot be moved ({error.strerror or error}). What was moved before is listed in '
            "the backup. Close programs that use the pack, and check again."
        ) from error
    folder = source.parent
    while folder != root and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def _repair_zip(result: CheckResult, out: Path) -> Path:
    part = out.with_name(f".{out.name}.part")
    if out.exists():
        raise FacepackError(f'"{out}" is there already, and nothing is overwritten. Give another --out.')
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with open_pack(result.path) as pack, cast(BinaryIO, part.open("wb", buffering=0)) as file:
            archive = ArchiveWriter(file)
            for one in pack.files:
                if one.path not in result.leftovers:
                    archive.add(result.moves.get(one.path, one.path), pack.read(one))
            archive.finish()
        part.replace(out)
    except OSError as error:
        raise FacepackError(f'"{out}" cannot be written ({error.strerror or error}).') from error
    finally:
        part.unlink(missing_ok=True)
    return out


def _record(result: CheckResult) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(["before", "after"])
    for old, new in [*result.moves.items(), *((path, "") for path in result.leftovers)]:
        writer.writerow([neutralize_formula(old), neutralize_formula(new)])
    return b"\xef\xbb\xbf" + text.getvalue().encode("utf-8", errors="replace")
