"""Parts of a plan for machines that do not know each other, and one pack from the parts' packs.

Owns which person belongs to which part, and the merging. A person's part depends on the seed only, so that
sorting or extending a roster moves nobody.
"""

import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, cast

from ehmfaces.errors import FacepackError, InputError
from ehmfaces.facepack.archive import ArchiveWriter
from ehmfaces.facepack.filenames import clash_key
from ehmfaces.facepack.games import GAMES
from ehmfaces.facepack.journal import MANIFEST_NAME, Draw, encode_manifest
from ehmfaces.facepack.journal import read_papers as read_manifest
from ehmfaces.facepack.manifest import REPORT_NAME, SETTINGS_NAME, STATUSES, Status
from ehmfaces.facepack.pack_files import PackFile, PackFiles, open_pack
from ehmfaces.facepack.papers import Papers, read_papers
from ehmfaces.facepack.plan import FacepackPlan, SkippedRow
from ehmfaces.facepack.uniqueness import compare_faces

OTHER_PART = "Belongs to another part."
_MOST_PARTS = 10_000
_LISTS = frozenset({"fm/config.xml", "zengm/players.json"})


def parse_shard(text: str) -> tuple[int, int]:
    """Read "2/5", the second of five parts.

    Raises:
        InputError: It is no such part.

    Example:
        >>> parse_shard("2/5")
        (2, 5)
    """
    found = re.fullmatch(r"\s*(\d{1,5})\s*/\s*(\d{1,5})\s*", text)
    part, parts = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= part <= parts <= _MOST_PARTS:
        raise InputError(f'"{text[:20]}" is no part. Write PART/PARTS, like 2/5 for the second of five.')
    return part, parts


def take_shard(plan: FacepackPlan, part: int, parts: int) -> FacepackPlan:
    """Return a plan with the portraits of one part; the other rows are skipped with a reason.

    Args:
        plan: The whole plan; a person's copies for other games stay with the person.
        part: From 1.
        parts: How many there are.
    """
    jobs = tuple(job for job in plan.jobs if job.seed % parts == part - 1)
    others = [
        SkippedRow(
            job.row_number,
            OTHER_PART,
            job.first_name,
            job.last_name,
            job.birth_date.isoformat() if job.birth_date else "",
        )
        for job in plan.jobs
        if job.seed % parts != part - 1
    ]
    skipped = sorted([*plan.skipped, *others], key=lambda row: row.row_number)
    return replace(plan, jobs=jobs, skipped=tuple(skipped))


def merge_packs(packs: Sequence[str | Path], out: str | Path) -> tuple[int, int]:
    """Write one pack from the packs of all parts: pictures by path, one report, one settings file.

    The result has the same pictures, report and settings as a pack that was made in one go.

    Args:
        packs: Folders or ZIPs made from the same roster with the same settings.
        out: The ZIP to write.

    Returns:
        Number of pictures, and of portraits that are still missing.

    Raises:
        FacepackError: A pack is none of ours or was made with other settings, a picture is in two of them
            and differs, or the ZIP cannot be written.
    """
    target = Path(out)
    if len(packs) < 2:
        raise FacepackError(f"{len(packs)} packs cannot be merged. Give two or more.")
    if target.exists():
        raise FacepackError(f'"{target}" is there already, and nothing is overwritten. Give another name.')
    opened = [open_pack(path) for path in packs]
    try:
        return _merge(opened, target)
    finally:
        for pack in opened:
            pack.close()


def _merge(packs: Sequence[PackFiles], target: Path) -> tuple[int, int]:
    documents, papers = zip(*map(_papers_of, packs), strict=True)
    for pack, one in zip(packs, papers, strict=True):
        if one.settings != papers[0].settings:
            raise FacepackError(f'"{pack.path.name}" was made with other settings than the first pack.')
    rows = _merge_rows(papers)
    pictures = _pictures_of(packs)
    draws = {draw.path: draw for pack in packs for draw in _draws_of(pack)}
    uniqueness = _uniqueness_of(documents[0], draws)
    part = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with cast(BinaryIO, part.open("wb", buffering=0)) as file:
            archive = ArchiveWriter(file)
            for path in sorted(pictures):
                archive.add(path, pictures[path][0].read(pictures[path][1]))
            archive.add(REPORT_NAME, _encode_rows(rows))
            archive.add(SETTINGS_NAME, _encode_settings(documents[0], rows, uniqueness))
            archive.add(MANIFEST_NAME, encode_manifest({"run": 1, "uniqueness": uniqueness}, draws.values()))
            archive.finish()
        part.replace(target)
    except OSError as error:
        raise FacepackError(f'"{target}" cannot be written ({error.strerror or error}).') from error
    finally:
        part.unlink(missing_ok=True)
    return len(pictures), sum(row["reason"] == OTHER_PART for row in rows)


def _papers_of(pack: PackFiles) -> tuple[dict[str, object], Papers]:
    by_path = {file.path: file for file in pack.files}
    settings, report = by_path.get(SETTINGS_NAME), by_path.get(REPORT_NAME)
    if settings is None or report is None:
        raise FacepackError(f'"{pack.path.name}" has no {SETTINGS_NAME} and {REPORT_NAME}: no pack of ours.')
    content = pack.read(settings)
    papers = read_papers(pack.read(report), content)
    if not papers.is_ours or papers.findings:
        raise FacepackError(f'"{pack.path.name}" is no whole pack of ours. "ehmfaces check" says why.')
    document: dict[str, object] = json.loads(content)
    return document, papers


def _draws_of(pack: PackFiles) -> tuple[Draw, ...]:
    """Return what the pack's manifest says of its pictures; nothing where it has none."""
    manifest = next((file for file in pack.files if file.path == MANIFEST_NAME), None)
    return read_manifest(pack.read(manifest)).draws if manifest else ()


def _uniqueness_of(document: dict[str, object], draws: dict[str, Draw]) -> dict[str, object]:
    """Compare the faces of all parts, as a pack made in one go does; nobody is drawn again."""
    own = document.get("uniqueness")
    threshold = own.get("threshold") if isinstance(own, dict) else None
    faces = [(path, draws[path].features) for path in sorted(draws)]
    redrawn = sum(draw.attempt > 0 for draw in draws.values())
    return compare_faces(faces, threshold if isinstance(threshold, float) else None, redrawn)


def _merge_rows(papers: Sequence[Papers]) -> list[dict[str, str]]:
    """Return for each row the one of the part that it belongs to."""
    merged: dict[str, dict[str, str]] = {}
    for one in papers:
        for row in one.rows:
            number = row.get("row_number", "")
            known = merged.get(number)
            if known is not None and _who(known) != _who(row):
                raise FacepackError(
                    f"Row {number} is {_who(known)} in one pack and {_who(row)} in another. Make all parts "
                    "from the same roster file."
                )
            if known is None or known.get("reason") == OTHER_PART:
                merged[number] = dict(row)
    return sorted(
        merged.values(), key=lambda row: int(row["row_number"]) if row["row_number"].isdecimal() else 0
    )


def _who(row: "dict[str, str] | object") -> str:
    values = cast("dict[str, str]", row)
    return f"{values.get('first_name')} {values.get('last_name')} {values.get('birth_date')}"


def _pictures_of(packs: Sequence[PackFiles]) -> dict[str, tuple[PackFiles, PackFile]]:
    """Return path -> pack and file of every picture."""
    pictures: dict[str, tuple[PackFiles, PackFile]] = {}
    seen: dict[str, str] = {}
    for pack in packs:
        for file in pack.files:
            if file.path in (REPORT_NAME, SETTINGS_NAME, MANIFEST_NAME):
                continue
            if file.path in _LISTS or file.path.partition("/")[0] in GAMES:
                raise FacepackError(
                    f'"{pack.path.name}" is a pack with lists of other games ({file.path}), which cannot be '
                    "merged. Make the parts for EHM, or use --engine ray."
                )
            known = seen.setdefault(clash_key(file.path), file.path)
            if file.path in pictures and pictures[file.path][0].read(pictures[file.path][1]) == pack.read(
                file
            ):
                continue
            if file.path in pictures or known != file.path:
                raise FacepackError(f'Two packs have different pictures as "{file.path}". Keep one of them.')
            pictures[file.path] = (pack, file)
    return pictures


def _encode_rows(rows: Sequence[dict[str, str]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\r\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return b"\xef\xbb\xbf" + text.getvalue().encode("utf-8", errors="replace")


def _encode_settings(
    document: dict[str, object], rows: Sequence[dict[str, str]], uniqueness: dict[str, object]
) -> bytes:
    counts: dict[Status | str, int] = {"rows": len(rows)}
    counts |= {status: sum(row["status"] == status for row in rows) for status in STATUSES}
    whole = document | {"counts": counts, "uniqueness": uniqueness}
    return (json.dumps(whole, ensure_ascii=False, indent=2) + "\n").encode("utf-8", errors="replace")
