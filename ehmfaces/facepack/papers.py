"""Checks what only our own packs have: report, settings, and the record inside each picture.

Owns how a pack of ours is recognized and what must agree in it. Does not know how a ZIP is read.
"""

import csv
import io
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from ehmfaces.facepack.finding import Finding
from ehmfaces.facepack.manifest import REPORT_NAME, SETTINGS_NAME, STATUSES
from ehmfaces.images import parse_color
from ehmfaces.provenance import KEY, MAX_TEXT

_IN_PACK = frozenset({"made", "kept"})
_SAME_SETTINGS = ("truncation_psi", "noise_mode", "cutout", "portrait_format")


@dataclass(frozen=True)
class Papers:
    """Report and settings of one of our packs; `is_ours` is False for packs of others."""

    is_ours: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    counts: Mapping[str, Any] = field(default_factory=dict)
    rows: tuple[Mapping[str, str], ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def wants_alpha(self) -> bool:
        """Tell whether the pack was made with a transparent background."""
        return str(self.settings.get("background", "none")) == "none"

    @property
    def listed(self) -> set[str]:
        """Return the paths that the report says are in the pack."""
        return {row.get("file", "") for row in self.rows if row.get("status") in _IN_PACK} - {""}


def read_papers(report: bytes | None, settings: bytes | None) -> Papers:
    """Read report.csv and settings.json; a pack is ours when the settings say so."""
    try:
        document = json.loads(settings.decode("utf-8")) if settings is not None else {}
    except (ValueError, RecursionError):
        return Papers()
    if not isinstance(document, dict) or not isinstance(document.get("ehmfaces_version"), str):
        return Papers()
    chosen, counts = document.get("settings"), document.get("counts")
    if not isinstance(chosen, dict) or not isinstance(counts, dict):
        text = 'There are no "settings" or "counts" in it. Make the pack again.'
        return Papers(True, findings=(Finding("damaged-paper", SETTINGS_NAME, text),))
    if report is None:
        text = "The report of the pack is missing. Make the pack again."
        return Papers(True, chosen, counts, findings=(Finding("damaged-paper", REPORT_NAME, text),))
    try:
        rows = tuple(csv.DictReader(io.StringIO(report.decode("utf-8-sig"), newline="")))
        if not rows or not {"file", "status"} <= set(rows[0]):
            raise ValueError
    except (ValueError, csv.Error):
        text = "It is no report with the columns file and status. Make the pack again."
        return Papers(True, chosen, counts, findings=(Finding("damaged-paper", REPORT_NAME, text),))
    clean = tuple({str(key): value or "" for key, value in row.items() if key} for row in rows)
    return Papers(True, chosen, counts, clean)


def compare_with_files(papers: Papers, pictures: Collection[str], copies: Collection[str]) -> list[Finding]:
    """Check that report, settings and files agree.

    Args:
        papers: Of one of our packs.
        pictures: Paths of the pictures, from the folder of the report on.
        copies: Those of them that other games look at; the report names each portrait once.
    """
    if not papers.is_ours or not papers.rows:
        return list(papers.findings)
    found = list(papers.findings)
    listed = papers.listed
    for path in sorted(listed - set(pictures)):
        text = "The report says that this portrait was made. Make the pack again, or unpack it again."
        found.append(Finding("missing-file", path, text))
    for path in sorted(set(pictures) - listed - set(copies)):
        found.append(Finding("unlisted-file", path, "Somebody put it there later. Keep it, or take it out."))
    for status in STATUSES:
        number = sum(row.get("status") == status for row in papers.rows)
        if papers.counts.get(status) != number:
            text = (
                f'The settings count {papers.counts.get(status)} rows as "{status}", '
                f"the report {number}. Make the pack again."
            )
            found.append(Finding("wrong-count", SETTINGS_NAME, text))
    return found


def check_record(papers: Papers, path: str, chunks: Mapping[str, str]) -> list[Finding]:
    """Check the record inside a picture of our pack against the settings.

    Args:
        papers: Of the pack.
        path: Of the picture.
        chunks: Text chunks of the PNG.
    """
    record = _read_record(chunks.get(KEY, ""))
    if record is None:
        text = "The record of how it was made is gone; a program may have saved the picture again."
        return [Finding("no-provenance", path, text)]
    found = []
    wanted = papers.settings.get("model_hash")
    if wanted and record.get("model_hash") != wanted:
        text = f"Made with {record.get('model_id')} ({record.get('model_hash')}), not with the pack's model."
        found.append(Finding("other-model", path, text))
    different = [key for key in _SAME_SETTINGS if record.get(key) != papers.settings.get(key)]
    if not _is_same_color(record.get("background"), papers.settings.get("background")):
        different.append("background")
    if different:
        text = f"Not made with the pack's {', '.join(different)}. Make the portrait again."
        found.append(Finding("other-settings", path, text))
    return found


def _read_record(text: str) -> dict[str, Any] | None:
    try:
        record = json.loads(text) if len(text) <= MAX_TEXT else None
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and record.get("synthetic") is True else None


def _is_same_color(one: object, other: object) -> bool:
    from ehmfaces.errors import InputError

    try:
        return parse_color(str(one)) == parse_color(str(other))
    except InputError:
        return False
