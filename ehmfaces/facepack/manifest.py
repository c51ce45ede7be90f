"""The two papers in a pack: report.csv (one line for each row of the roster) and settings.json.

Owns their form. Does not know how portraits are made or how a ZIP is written.

report.csv is UTF-8 with a byte order mark and CRLF, so that spreadsheets open it; a cell that a
spreadsheet would run as a formula gets an apostrophe in front.
"""

import csv
import dataclasses
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from ehmfaces.facepack.plan import FaceJob, FacepackPlan

Status = Literal["made", "kept", "skipped", "not made"]
STATUSES: tuple[Status, ...] = ("made", "kept", "skipped", "not made")
REPORT_NAME, SETTINGS_NAME = "report.csv", "settings.json"
SEED_RULE = (
    "First four bytes (big endian) of the SHA-256 of the UTF-8 text "
    '"ehmfaces/1", first name, last name, birth date (ISO 8601) and pack key, joined by U+001F; '
    'where there is no birth date, "uid " and the unique id, else the birth year, stands for it; '
    "names in NFC, without case, with single spaces."
)
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


@dataclass(frozen=True)
class ReportRow:
    """One line of report.csv. `birth_date` is ISO 8601 where the date could be read, else the cell's text."""

    row_number: int
    first_name: str
    last_name: str
    birth_date: str
    file: str
    status: Status
    reason: str


@dataclass(frozen=True)
class Outcome:
    """What became of one job."""

    status: Status
    reason: str = ""


def report_rows(plan: FacepackPlan, outcomes: Mapping[int, Outcome], missing: str = "") -> list[ReportRow]:
    """Return one line for each row of the roster, in its order.

    Args:
        plan: What was to be made.
        outcomes: Row number -> what became of it.
        missing: Why a job that has no outcome was not made.
    """
    rows = [
        ReportRow(row.row_number, row.first_name, row.last_name, row.birth_date, "", "skipped", row.reason)
        for row in plan.skipped
    ]
    rows += [_job_row(job, outcomes.get(job.row_number, Outcome("not made", missing))) for job in plan.jobs]
    return sorted(rows, key=lambda row: row.row_number)


def _job_row(job: FaceJob, outcome: Outcome) -> ReportRow:
    exists = outcome.status in ("made", "kept")
    reason = (job.note[:1].upper() + job.note[1:] + "." if job.note else "") if exists else outcome.reason
    return ReportRow(
        job.row_number,
        job.first_name,
        job.last_name,
        job.birth_date.isoformat() if job.birth_date else "",
        job.path if exists else "",
        outcome.status,
        reason,
    )


def count_statuses(rows: Iterable[ReportRow]) -> dict[str, int]:
    """Return how many rows there are of each status, and of all under "rows"."""
    counts = Counter(row.status for row in rows)
    return {"rows": counts.total()} | {status: counts[status] for status in STATUSES}


def encode_report(rows: Iterable[ReportRow]) -> bytes:
    """Return report.csv."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow([column.name for column in dataclasses.fields(ReportRow)])
    for row in rows:
        writer.writerow([neutralize_formula(str(cell)) for cell in dataclasses.astuple(row)])
    return b"\xef\xbb\xbf" + text.getvalue().encode("utf-8", errors="replace")


def read_report(data: bytes) -> list[ReportRow]:
    """Read report.csv as `encode_report` writes it; cells that looked like formulas keep their apostrophe."""
    lines = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""))
    names = ("first_name", "last_name", "birth_date", "file", "status", "reason")
    return [ReportRow(int(line["row_number"]), *cast(Any, [line[name] for name in names])) for line in lines]


def neutralize_formula(text: str) -> str:
    """Return a cell that no spreadsheet runs as a formula.

    Example:
        >>> neutralize_formula("=cmd|' /C calc'!A0"), neutralize_formula("Ann")
        ("'=cmd|' /C calc'!A0", 'Ann')
    """
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA_STARTS) else text


def encode_settings(
    plan: FacepackPlan, counts: Mapping[str, int], version: str, uniqueness: Mapping[str, Any] | None = None
) -> bytes:
    """Return settings.json.

    Args:
        plan: What was to be made.
        counts: As `count_statuses` gives them.
        version: Version of ehmfaces.
        uniqueness: As `uniqueness.summarize` gives it.
    """
    document = {
        "ehmfaces_version": version,
        "synthetic": True,
        "description": "Synthetic portraits: these people do not exist.",
        "settings": dataclasses.asdict(plan.settings),
        "seed_rule": SEED_RULE,
        "counts": dict(counts),
        "uniqueness": dict(uniqueness or {}),
        "reading": dict(plan.reading),
    }
    return (json.dumps(document, ensure_ascii=False, indent=2) + "\n").encode("utf-8", errors="replace")
