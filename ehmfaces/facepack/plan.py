"""From a roster and settings to the list of portraits to make.

Owns which row becomes which file with which seed, and why a row becomes none. Pure: the same roster and
settings give the same plan, and no file, model or clock is touched. Knows no pictures.

A person's seed and file depend on nothing but the person and the settings, so that sorting, splitting
or extending a roster changes nobody's face.
"""

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ehmfaces.errors import FacepackError
from ehmfaces.facepack.filenames import clash_key
from ehmfaces.facepack.games import Game, NamedFace, NamingRules, NewgenIds, game_lists, get_games
from ehmfaces.latents.directions import Sex
from ehmfaces.roster.entry import Roster, RosterEntry
from ehmfaces.seeds import person_seed
from ehmfaces.types import NoiseMode, PngSize, Seed


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
        sex: Of everybody: "any", "men" or "women"; for models with directions.
        png_size: "full", "small" (a third of the bytes less) or "palette" (visible bands).
        zero_pad_dates: Write 07_03_2006 where the game expects 7_3_2006.
        games: Names of the games that the pack is for, with commas; each picture is there for all of them.
        latin1_names: EHM: replace letters that the game cannot store.
        fm_newgen_ids: FM: ids in config.xml with "r-" ("r"), without ("plain"), or "both".
        zengm_url: ZenGM: what stands before a picture's name in `imgURL`.
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
    sex: Sex = "any"
    png_size: PngSize = "full"
    zero_pad_dates: bool = False
    games: str = "ehm"
    latin1_names: bool = True
    fm_newgen_ids: NewgenIds = "both"
    zengm_url: str = ""
    limit: int | None = None
    model_id: str = ""
    model_hash: str = ""

    def __post_init__(self) -> None:
        """Check limit and games.

        Raises:
            FacepackError: The limit is below 0, or a game is unknown.
        """
        get_games(self.games)
        _ = self.naming
        if self.limit is not None and self.limit < 0:
            raise FacepackError(f"The limit {self.limit} is below 0. Give 0 or more, or leave it out.")

    @property
    def naming(self) -> NamingRules:
        """Return what users chose about names and lists."""
        return NamingRules(self.zero_pad_dates, self.latin1_names, self.fm_newgen_ids, self.zengm_url)


@dataclass(frozen=True)
class FaceJob:
    """One portrait to make.

    Attributes:
        row_number: Row in the roster.
        first_name: As in the roster.
        last_name: As in the roster.
        birth_date: None where the roster has none.
        folder: Folder in the pack.
        filename: Name in that folder.
        seed: Of the face.
        note: For the report.
        copies: Paths in the pack where further games look for the same picture.
        birth_year: For the lists of games; 0 = not known.
        where: File and row in it, where several rosters were read together.
    """

    row_number: int
    first_name: str
    last_name: str
    birth_date: datetime.date | None
    folder: str
    filename: str
    seed: Seed
    note: str = ""
    copies: tuple[str, ...] = ()
    birth_year: int = 0
    where: str = ""

    @property
    def place(self) -> str:
        """Return how sentences name this job's row."""
        return self.where or f"row {self.row_number}"

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

    Every job's path and copies are different from those of all others.
    """

    jobs: tuple[FaceJob, ...]
    skipped: tuple[SkippedRow, ...]
    settings: FacepackSettings
    reading: Mapping[str, Any] = field(default_factory=dict)

    def game_lists(self, done: Iterable[FaceJob]) -> list[tuple[str, bytes]]:
        """Return path and bytes of the lists that the games need beside the pictures.

        Args:
            done: Jobs whose pictures are in the pack.
        """
        faces = [
            NamedFace(path, job.first_name, job.last_name, job.birth_year)
            for job in done
            for path in (job.path, *job.copies)
        ]
        return game_lists(get_games(self.settings.games), faces, self.settings.naming)


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
    jobs: list[FaceJob] = []
    taken: dict[str, FaceJob] = {}
    people: dict[str, FaceJob] = {}
    for entry in roster.entries:
        outcome = _plan_entry(entry, settings, taken, people)
        if isinstance(outcome, FaceJob) and settings.limit is not None and len(jobs) >= settings.limit:
            outcome = _skip(entry, f"Beyond the limit of {settings.limit} portraits.")
        if isinstance(outcome, FaceJob):
            jobs.append(outcome)
            taken |= dict.fromkeys(map(clash_key, (outcome.path, *outcome.copies)), outcome)
            people.setdefault(entry.player_key, outcome)
        else:
            skipped.append(outcome)
    skipped.sort(key=lambda row: row.row_number)
    return FacepackPlan(tuple(jobs), tuple(skipped), settings, roster.reading.to_dict())


def _plan_entry(
    entry: RosterEntry,
    settings: FacepackSettings,
    taken: Mapping[str, FaceJob],
    people: Mapping[str, FaceJob],
) -> FaceJob | SkippedRow:
    games = get_games(settings.games)
    paths: list[str] = []
    notes: list[str] = []
    troubles: list[tuple[Game, str]] = []
    for game in games:
        picture = game.name_picture(entry, settings.naming)
        same_file = taken.get(clash_key(picture.name)) if picture.name else None
        if same_file is not None:
            troubles.append((game, _clash_phrase(same_file, picture.name)))
        elif picture.trouble:
            troubles.append((game, picture.trouble))
        else:
            paths.append(picture.name)
            notes += [note for note in picture.notes if note not in notes]
    if not paths:
        return _skip(entry, _sentence(dict.fromkeys(phrase for _, phrase in troubles)))
    notes += [f"no picture for {game.title}: {phrase}" for game, phrase in troubles]
    folder, _, filename = paths[0].partition("/")
    notes += _person_notes(entry, people.get(entry.player_key), folder)
    return FaceJob(
        entry.row_number,
        entry.first_name,
        entry.last_name,
        entry.birth_date,
        folder,
        filename,
        person_seed(entry.first_name, entry.last_name, entry.birth_key, settings.pack_key),
        "; ".join(notes),
        tuple(paths[1:]),
        entry.birth_date.year if entry.birth_date else entry.birth_year,
        entry.where,
    )


def _person_notes(entry: RosterEntry, same_person: FaceJob | None, folder: str) -> list[str]:
    notes = []
    if same_person is not None:
        how = "in the other folder" if folder != same_person.folder else "by name and birth date"
        notes.append(f"the same person as {same_person.place}, {how}, same face")
    if entry.name_was_split:
        notes.append("the name was split after its first word")
    if entry.where:
        notes.append(f"from {entry.where}")
    return notes


def _sentence(phrases: Iterable[str]) -> str:
    whole = "; ".join(phrases)
    return f"{whole[:1].upper()}{whole[1:]}."


def _skip(entry: RosterEntry, reason: str) -> SkippedRow:
    born = entry.birth_date.isoformat() if entry.birth_date else ""
    reason = f"{reason[:-1]} ({entry.where})." if entry.where else reason
    return SkippedRow(entry.row_number, reason, entry.first_name, entry.last_name, born)


def _clash_phrase(first: FaceJob, path: str) -> str:
    if path in (first.path, *first.copies):
        return f"same file as {first.place}"
    return f"same file as {first.place} on Windows, which takes capital and small letters as one"
