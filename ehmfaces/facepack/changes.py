"""What a run would change in a pack: who is new, kept, drawn again or passed over.

Owns the modes and the match of names that users write. Pure: it draws and writes nothing.
"""

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from ehmfaces.errors import FacepackError
from ehmfaces.facepack.contents import PackContents
from ehmfaces.facepack.existing import folded_name, person_key
from ehmfaces.facepack.filenames import clash_key
from ehmfaces.facepack.journal import Draw
from ehmfaces.facepack.plan import FaceJob, FacepackPlan
from ehmfaces.facepack.uniqueness import DEFAULT_THRESHOLD
from ehmfaces.seeds import redraw_seed
from ehmfaces.types import Seed

Mode = Literal["keep", "refill", "overwrite"]
MODES: tuple[Mode, ...] = ("keep", "refill", "overwrite")
Action = Literal["new", "missing", "rerolled", "kept", "skipped"]
ACTIONS: tuple[Action, ...] = ("new", "missing", "rerolled", "kept", "skipped")


@dataclass(frozen=True)
class PackOptions:
    """What a run may change.

    Attributes:
        mode: "keep": pictures that are there stay, newcomers are added; "refill": only pictures that the
            pack had and lost; "overwrite": all anew, the old pack becomes a backup.
        only: Names of people; nobody else is drawn.
        reroll: Names of people who get another face; the pack remembers it.
        undo_reroll: Names of people who get the face before their last reroll.
        existing: Folders and ZIPs; who has a picture there is passed over.
        threshold: Faces that are nearer than this are drawn again; None = they are not compared.
        is_partial_published: A run that is cancelled leaves a ZIP of what is done.
    """

    mode: Mode = "keep"
    only: tuple[str, ...] = ()
    reroll: tuple[str, ...] = ()
    undo_reroll: tuple[str, ...] = ()
    existing: tuple[str, ...] = ()
    threshold: float | None = DEFAULT_THRESHOLD
    is_partial_published: bool = False

    def __post_init__(self) -> None:
        """Check mode, threshold and names.

        Raises:
            FacepackError: A mode is unknown, the threshold below 0, or a name is in two lists.
        """
        if self.mode not in MODES:
            raise FacepackError(f'Unknown mode "{str(self.mode)[:40]}". Known: {", ".join(MODES)}.')
        if self.threshold is not None and not 0 <= self.threshold <= 100:
            raise FacepackError(f"The threshold {self.threshold} is not from 0 to 100. 6 is usual.")
        both = {folded_name(name) for name in self.reroll} & {folded_name(name) for name in self.undo_reroll}
        if both:
            raise FacepackError("Somebody is both to be rerolled and to have the reroll undone. Choose one.")


@dataclass(frozen=True)
class Change:
    """What a run does for one person.

    Attributes:
        job: The person's portrait.
        action: What is done.
        reason: Why somebody is skipped, for the report.
        reroll: Number of the face that somebody asked for.
        attempt: Where uniqueness begins to count.
        earlier: As in `Draw`.
        is_fixed: The face stays even if it is like another one.
    """

    job: FaceJob
    action: Action
    reason: str = ""
    reroll: int = 0
    attempt: int = 0
    earlier: tuple[int, ...] = ()
    is_fixed: bool = False

    @property
    def is_drawn(self) -> bool:
        """Tell whether the run draws a picture."""
        return self.action in ("new", "missing", "rerolled")

    def seed(self, attempt: int) -> Seed:
        """Return the seed of the face at an attempt."""
        return redraw_seed(self.job.seed, self.reroll, attempt)


@dataclass(frozen=True)
class Changes:
    """All changes, in order of paths, and pictures that belong to nobody in the roster."""

    people: tuple[Change, ...]
    orphans: tuple[str, ...]
    notices: tuple[str, ...] = ()

    def of(self, action: Action) -> list[Change]:
        """Return the people with one action."""
        return [change for change in self.people if change.action == action]


@dataclass
class _Names:
    """The people that an option names."""

    option: str
    names: Sequence[str]
    jobs: set[str] = field(default_factory=set)

    def find(self, plan: FacepackPlan) -> "_Names":
        """Look the names up; accents, case and marks do not count.

        Raises:
            FacepackError: Nobody has such a name.
        """
        by_name: dict[str, list[str]] = {}
        for job in plan.jobs:
            stem = job.filename.rpartition(".")[0]
            for name in {folded_name(f"{job.first_name} {job.last_name}"), folded_name(stem)}:
                by_name.setdefault(name, []).append(job.path)
        for name in self.names:
            paths = by_name.get(folded_name(name.rpartition("/")[2].removesuffix(".png")))
            if not paths:
                raise FacepackError(f'{self.option}: nobody is called "{name[:60]}".{_near(name, plan)}')
            self.jobs.update(paths)
        return self


def _near(name: str, plan: FacepackPlan) -> str:
    people = {
        folded_name(f"{job.first_name} {job.last_name}"): f"{job.first_name} {job.last_name}"
        for job in plan.jobs
    }
    near = difflib.get_close_matches(folded_name(name), people, 3, 0.75)
    words = f" Did you mean {', '.join(people[key] for key in near)}?" if near else ""
    return words + " Write first and last name as in the roster."


def decide_changes(
    plan: FacepackPlan,
    pack: PackContents,
    options: PackOptions,
    *,
    existing: Mapping[str, str] | None = None,
    unfinished: Collection[str] = (),
    look: str = "",
) -> Changes:
    """Compare a plan with a pack.

    Args:
        plan: What the roster asks for.
        pack: What is there.
        options: What may change.
        existing: Person -> place of a picture elsewhere, as `find_existing` gives it.
        unfinished: Paths that an unfinished run drew; they do not count as there.
        look: Fingerprint of the settings, to say where kept pictures have other ones.

    Raises:
        FacepackError: A name is nobody's, or a reroll cannot be taken back.
    """
    decider = _Decider(plan, pack, options, existing or {}, set(map(clash_key, unfinished)))
    people = tuple(decider.decide(job) for job in sorted(plan.jobs, key=lambda job: job.path))
    wanted = {clash_key(path) for job in plan.jobs for path in (job.path, *job.copies)}
    orphans = sorted(path for key, path in pack.pictures.items() if key not in wanted | decider.unfinished)
    others = sum(
        draw.look != look
        for change in people
        if change.action == "kept" and (draw := decider.known.get(clash_key(change.job.path)))
    )
    notice = f"{others} kept pictures were made with other settings or another model than the new ones."
    return Changes(people, tuple(orphans), (notice,) if others and look else ())


class _Decider:
    """Decides for one person at a time."""

    def __init__(
        self,
        plan: FacepackPlan,
        pack: PackContents,
        options: PackOptions,
        existing: Mapping[str, str],
        unfinished: set[str],
    ) -> None:
        self.known: dict[str, Draw] = {clash_key(draw.path): draw for draw in pack.papers.draws}
        self.unfinished = unfinished
        self._pack = pack
        self._options = options
        self._existing = existing
        self._only = _Names("--only", options.only).find(plan).jobs
        self._reroll = _Names("--reroll", options.reroll).find(plan).jobs
        self._undo = _Names("--undo-reroll", options.undo_reroll).find(plan).jobs

    def decide(self, job: FaceJob) -> Change:
        """Return what happens to a person."""
        key = clash_key(job.path)
        known = self.known.get(key)
        is_there = key in self._pack.pictures and key not in self.unfinished
        before = Change(job, "missing", is_fixed=True)
        if known is not None:
            before = replace(before, reroll=known.reroll, attempt=known.attempt, earlier=known.earlier)
        if job.path in self._reroll:
            earlier = (*before.earlier, before.attempt)
            return Change(job, "rerolled", reroll=before.reroll + 1, earlier=earlier)
        if job.path in self._undo:
            return _undo(before)
        if self._only and job.path not in self._only:
            return self._kept_or_skipped(job, "Not among the people asked for.", is_there=is_there)
        if self._options.mode != "overwrite" and is_there:
            return Change(job, "kept")
        if self._options.mode != "overwrite" and known is not None:
            return before
        if self._options.mode == "refill":
            return Change(job, "skipped", "New in the roster; only lost pictures were asked for.")
        place = self._existing.get(person_key(f"{job.first_name} {job.last_name}", job.birth_date))
        if place:
            return self._kept_or_skipped(job, f"Has a picture already: {place}", is_there=is_there)
        return replace(before, action="new", attempt=0, is_fixed=False)

    def _kept_or_skipped(self, job: FaceJob, reason: str, *, is_there: bool) -> Change:
        return Change(job, "kept") if is_there else Change(job, "skipped", reason)


def _undo(before: Change) -> Change:
    if not before.reroll:
        who = f"{before.job.first_name} {before.job.last_name}".strip()
        raise FacepackError(f"--undo-reroll: the face of {who} was never rerolled in this pack.")
    return replace(
        before,
        action="rerolled",
        reroll=before.reroll - 1,
        attempt=before.earlier[-1] if before.earlier else 0,
        earlier=before.earlier[:-1],
    )
