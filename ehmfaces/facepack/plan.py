"""From a roster and settings to the list of portraits to make.

Owns which row becomes which file with which seed, and why a row becomes none. Pure: the same roster and
settings give the same plan, and no file, model or clock is touched. Knows no pictures.

A person's seed and file depend on nothing but the person and the settings, so that sorting, splitting
or extending a roster changes nobody's face.
"""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ehmfaces.errors import FacepackError
from ehmfaces.facepack.filenames import clash_key, portrait_filename
from ehmfaces.roster.entry import Roster, RosterEntry
from ehmfaces.seeds import person_seed
from ehmfaces.types import NoiseMode, Seed

Folder = Literal["players", "nonplayers"]


@dataclass(frozen=True)
class FacepackSettings:
    """What decides how a pack looks; stored in the pack.

    Attributes:
        pack_key: Another key gives everybody another face.
        portrait_format: Name of a PortraitFormat.
        background: "none", "game" or "#rrggbb".
        truncation_psi: 1 = off.
        noise_mode: Noise of the generator.
        cutout: Name of a cut-out back-end.
        zero_pad_dates: Write 07_03_2006 where the game expects 7_3_2006.
        limit: Make at most so many portraits, from the top of the roster; None = all.
        model_id: Name of the generator.
        model_hash: Hash of its weights.
    """

    pack_key: str = ""
    portrait_format: str = "ehm"
    background: str = "none"
    truncation_psi: float = 0.7
    noise_mode: NoiseMode = "const"
    cutout: str = "deeplab"
    zero_pad_dates: bool = False
    limit: int | None = None
    model_id: str = ""
    model_hash: str = ""

    def __post_init__(self) -> None:
        """Check the limit.

        Raises:
            FacepackError: The limit is below 0.
        """
        if self.limit is not None and self.limit < 0:
            raise FacepackError(f"The limit {self.limit} is below 0. Give 0 or more, or leave it out.")


@dataclass(frozen=True)
class FaceJob:
    """One portrait to make; `note` is for the report."""

    row_number: int
    first_name: str
    last_name: str
    birth_date: datetime.date
    folder: Folder
    filename: str
    seed: Seed
    note: str = ""

    @property
    def path(self) -> str:
        """Return the path in the pack, with forward slashes."""
        return f"{self.folder}/{self.filename}"


@dataclass(frozen=True)
class SkippedRow:
    """One row that gives no portrait, and why."""

    row_number: int
    reason: str
    first_name: str = ""
    last_name: str = ""
    birth_date: str = ""


@dataclass(frozen=True)
class FacepackPlan:
    """Every row of the roster is either in `jobs` or in `skipped`, in the roster's order.

    Attributes:
        jobs: Portraits to make; no two have the same file.
        skipped: Rows that give none.
        settings: What they were planned with.
        reading: How the roster was read, as plain JSON types.
    """

    jobs: tuple[FaceJob, ...]
    skipped: tuple[SkippedRow, ...]
    settings: FacepackSettings
    reading: Mapping[str, Any] = field(default_factory=dict)


def plan_facepack(roster: Roster, settings: FacepackSettings | None = None) -> FacepackPlan:
    """Plan one portrait for each person of a roster. Never raises for a row.

    Args:
        roster: As `read_roster` gives it.
        settings: None = the defaults.
    """
    settings = settings or FacepackSettings()
    skipped = [
        SkippedRow(
            problem.row_number, problem.reason, problem.first_name, problem.last_name, problem.birth_date
        )
        for problem in roster.problems
    ]
    jobs: dict[str, FaceJob] = {}
    rows_of_people: dict[str, int] = {}
    for entry in roster.entries:
        outcome = _plan_entry(entry, settings, jobs, rows_of_people)
        if isinstance(outcome, FaceJob):
            jobs[clash_key(outcome.path)] = outcome
            rows_of_people.setdefault(entry.player_key, entry.row_number)
        else:
            skipped.append(outcome)
    skipped.sort(key=lambda row: row.row_number)
    return FacepackPlan(tuple(jobs.values()), tuple(skipped), settings, roster.reading.to_dict())


def _plan_entry(
    entry: RosterEntry,
    settings: FacepackSettings,
    jobs: Mapping[str, FaceJob],
    rows_of_people: Mapping[str, int],
) -> FaceJob | SkippedRow:
    name = portrait_filename(
        entry.first_name, entry.last_name, entry.birth_date, zero_pad=settings.zero_pad_dates
    )
    folder: Folder = "players" if entry.role == "player" else "nonplayers"
    same_file = jobs.get(clash_key(f"{folder}/{name.name}"))
    if name.trouble:
        return _skip(entry, f"{name.trouble[0].upper()}{name.trouble[1:]}.")
    if same_file is not None:
        return _skip(entry, _clash_sentence(same_file, name.name))
    if settings.limit is not None and len(jobs) >= settings.limit:
        return _skip(entry, f"Beyond the limit of {settings.limit} portraits.")
    notes = list(name.notes)
    if entry.player_key in rows_of_people:
        notes.append(
            f"the same person as row {rows_of_people[entry.player_key]}, in the other folder, same face"
        )
    if entry.name_was_split:
        notes.append("the name was split after its first word")
    seed = person_seed(entry.first_name, entry.last_name, entry.birth_date, settings.pack_key)
    note = "; ".join(notes)
    return FaceJob(
        entry.row_number, entry.first_name, entry.last_name, entry.birth_date, folder, name.name, seed, note
    )


def _skip(entry: RosterEntry, reason: str) -> SkippedRow:
    return SkippedRow(
        entry.row_number, reason, entry.first_name, entry.last_name, entry.birth_date.isoformat()
    )


def _clash_sentence(first: FaceJob, filename: str) -> str:
    if first.filename == filename:
        return f"Same file as row {first.row_number}."
    return f"Same file as row {first.row_number} on Windows, which takes capital and small letters as one."
