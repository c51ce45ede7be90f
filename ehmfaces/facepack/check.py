"""Checks a facepack of anybody: folder or ZIP, alone or against rosters.

Owns the order of the looks and what belongs to which file. Each look is a file of its own: `pack_files`
(the container), `found_name` (names), `picture_look` (pixels), `twins` (repeated pictures), `papers` (our
own packs) and `coverage` (rosters). Nothing is changed here; `repair` mends what is safe to mend.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ehmfaces.engine.local_engine import LocalEngine
from ehmfaces.errors import FacepackError
from ehmfaces.facepack.coverage import compare_with_roster
from ehmfaces.facepack.filenames import clash_key
from ehmfaces.facepack.finding import Finding, count_severities, sort_findings
from ehmfaces.facepack.found_name import FoundName, read_name
from ehmfaces.facepack.games import GAMES
from ehmfaces.facepack.manifest import REPORT_NAME, SETTINGS_NAME
from ehmfaces.facepack.pack_files import PackFile, PackFiles, open_pack
from ehmfaces.facepack.papers import Papers, check_record, compare_with_files, read_papers
from ehmfaces.facepack.picture_look import PictureLook, look_at_picture
from ehmfaces.facepack.twins import find_twins
from ehmfaces.roster.entry import Roster

PICTURE_EXTENSIONS = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".tga")
_TEXT_EXTENSIONS = (".txt", ".md", ".csv", ".jsonl", ".json", ".xml", ".rtf", ".html", ".pdf")
_FOLDERS = ("players", "nonplayers")
_ODD_NAMES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", ".ds_store", "icon\r"})
_OTHER_GAMES = frozenset(GAMES) - {"ehm"}


@dataclass(frozen=True)
class CheckResult:
    """What a check found.

    Attributes:
        path: The folder or ZIP.
        pictures: How many pictures were looked at.
        findings: Errors first.
        moves: Path -> path for what can be mended safely by renaming; no target exists or comes twice.
        leftovers: Paths of files of operating systems, which can be put away.
    """

    path: Path
    pictures: int
    findings: tuple[Finding, ...]
    moves: dict[str, str] = field(default_factory=dict)
    leftovers: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Return how many findings there are of each severity."""
        return count_severities(self.findings)


@dataclass
class _Picture:
    """One picture of the pack and what is known about it."""

    file: PackFile
    folder: str  # "players", "nonplayers", another game's folder, or ""
    new_path: str
    name: FoundName | None = None
    look: PictureLook | None = None


def check_pack(
    path: str | Path,
    rosters: Iterable[Roster] = (),
    *,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> CheckResult:
    """Check a facepack for Eastside Hockey Manager.

    Pictures of other games in our own packs are looked at, but their names are not judged.

    Args:
        path: Folder or ZIP.
        rosters: The people that the pack is for; none = only the pack itself is checked.
        workers: Threads that look at pictures.
        progress: Called with the number of pictures done and of all.

    Raises:
        FacepackError: It is neither a folder nor a ZIP, or cannot be read.
    """
    with open_pack(path) as pack:
        return _Check(pack, tuple(rosters)).run(workers, progress)


class _Check:
    """One check while it runs."""

    def __init__(self, pack: PackFiles, rosters: Sequence[Roster]) -> None:
        self.pack = pack
        self.rosters = rosters
        self.findings = list(pack.findings)
        self.leftovers: list[str] = []
        self.root, self.papers = _find_papers(pack)
        self.pictures: list[_Picture] = []

    def run(self, workers: int, progress: Callable[[int, int], None] | None) -> CheckResult:
        for file in self.pack.files:
            self._sort_in(file)
        self._check_places()
        self._check_names()
        self._look(workers, progress)
        self._check_twins()
        self._check_papers()
        self._check_rosters()
        moves = self._safe_moves()
        findings = [_without_fix(one, moves, self.leftovers) for one in self.findings]
        return CheckResult(
            self.pack.path, len(self.pictures), sort_findings(findings), moves, tuple(self.leftovers)
        )

    def _sort_in(self, file: PackFile) -> None:
        path = PurePosixPath(file.path)
        name, extension = path.name.lower(), path.suffix.lower()
        if name in _ODD_NAMES or name.startswith("._") or "__MACOSX" in path.parts:
            self.leftovers.append(file.path)
            text = "An operating system left it behind; it does nothing here."
            self.findings.append(Finding("odd-file", file.path, text, "is put away"))
        elif extension in PICTURE_EXTENSIONS:
            self.pictures.append(_Picture(file, self._folder_of(path), file.path))
        elif extension not in _TEXT_EXTENSIONS:
            text = "The game does not read this file. Is it a picture without its extension?"
            self.findings.append(Finding("unknown-file", file.path, text))

    def _folder_of(self, path: PurePosixPath) -> str:
        folders = [part.lower() for part in path.parent.parts]
        if self.papers.is_ours and path.as_posix().startswith(self.root):
            own = path.as_posix()[len(self.root) :].partition("/")[0]
            if own in _OTHER_GAMES:
                return own
        for folder in folders:
            if folder in _FOLDERS:
                return folder
        here = self.pack.path.name.lower()
        return here if not folders and here in _FOLDERS and not self.pack.is_zip else ""

    def _is_for_ehm(self, picture: _Picture) -> bool:
        return picture.folder not in _OTHER_GAMES

    def _check_places(self) -> None:
        lost: set[str] = set()
        for picture in filter(self._is_for_ehm, self.pictures):
            parent, _, name = picture.file.path.rpartition("/")
            if not picture.folder:
                lost.add(parent)
                continue
            parts = parent.split("/") if parent else []
            depth = next((i for i, part in enumerate(parts) if part.lower() == picture.folder), -1) + 1
            if parts[depth:]:
                right = "/".join([*parts[:depth], name])
                picture.new_path = right
                text = f"The game does not look into folders inside {picture.folder}. Move it up."
                self.findings.append(
                    Finding("nested-folder", picture.file.path, text, f"is moved to {right}")
                )
        for folder in sorted(lost):
            text = 'The game looks into "players" (players) and "nonplayers" (staff). Put the pictures there.'
            self.findings.append(Finding("wrong-folder", folder, text))

    def _check_names(self) -> None:
        taken: dict[str, str] = {}
        for picture in self.pictures:
            path = picture.file.path
            other = taken.setdefault(clash_key(path), path)
            if other != path:
                text = f'On Windows this is one file with "{other}". Keep one of them.'
                self.findings.append(Finding("case-clash", path, text))
            if self._is_for_ehm(picture):
                folder, slash, name = picture.new_path.rpartition("/")
                stem, dot, extension = name.rpartition(".")
                picture.name = read_name(stem)
                picture.new_path = f"{folder}{slash}{picture.name.repaired}{dot}{extension}"
                self.findings += picture.name.findings(path, picture.new_path)

    def _look(self, workers: int, progress: Callable[[int, int], None] | None) -> None:
        looks = LocalEngine(workers).map(lambda: self._look_at, iter(self.pictures))
        for picture, result in zip(self.pictures, looks, strict=True):
            path = picture.file.path
            if isinstance(result.error, FacepackError):
                text = f"The file cannot be used: {result.error}. Pack it again."
                self.findings.append(Finding("damaged-entry", path, text))
            elif result.error is not None:
                raise result.error
            elif result.value is not None:
                picture.look = result.value
                self._take_look(picture, result.value)
            if progress is not None:
                progress(result.index + 1, len(self.pictures))

    def _look_at(self, picture: _Picture) -> PictureLook:
        return look_at_picture(
            self.pack.read(picture.file),
            PurePosixPath(picture.file.path).suffix,
            wants_alpha=not self.papers.is_ours or self.papers.wants_alpha,
            is_for_ehm=self._is_for_ehm(picture),
        )

    def _take_look(self, picture: _Picture, look: PictureLook) -> None:
        path = picture.file.path
        fix = ""
        if look.right_extension:
            picture.new_path = picture.new_path.rpartition(".")[0] + look.right_extension
            fix = f"is renamed to {picture.new_path}"
        self.findings += [
            Finding(code, path, text, fix if code == "wrong-extension" else "")
            for code, text in look.troubles
        ]
        if self.papers.is_ours and look.digest:
            self.findings += check_record(self.papers, path, look.text)

    def _check_twins(self) -> None:
        looked = [
            (one, one.look)
            for one in sorted(self.pictures, key=lambda picture: picture.file.path)
            if self._is_for_ehm(one)
            and one.look is not None
            and one.look.digest
            and not any(code == "empty-picture" for code, _ in one.look.troubles)
        ]
        for twin in find_twins([look.digest for _, look in looked], [look.thumb for _, look in looked]):
            path, other = looked[twin.index][0].file.path, looked[twin.original][0].file.path
            if _is_same_person(path, other):
                continue
            code = "same-picture" if twin.is_exact else "similar-picture"
            text = f'{"The same" if twin.is_exact else "Nearly the same"} picture as "{other}".'
            self.findings.append(Finding(code, path, f"{text} Give one of the two another face."))

    def _check_papers(self) -> None:
        inside = [one for one in self.pictures if one.file.path.startswith(self.root)]
        paths = [one.file.path[len(self.root) :] for one in inside]
        listed = self.papers.listed
        copies = [path for path in paths if path.partition("/")[0] in _OTHER_GAMES and path not in listed]
        self.findings += compare_with_files(self.papers, paths, copies)

    def _check_rosters(self) -> None:
        if not self.rosters:
            return
        named = [one for one in self.pictures if one.name is not None]
        names = {one.file.path: one.name for one in named if one.name is not None and one.name.birth_date}
        roles = {one.file.path: one.folder for one in named}
        entries = (entry for roster in self.rosters for entry in roster.entries)
        found = compare_with_roster(entries, names, roles)
        by_path = {one.file.path: one for one in named}
        for finding in found:
            if finding.code == "wrong-folder":
                _move_over(by_path[finding.file])
        self.findings += found

    def _safe_moves(self) -> dict[str, str]:
        """Return the moves whose targets are free and wanted once; in our own packs nothing is moved."""
        if self.papers.is_ours:
            return {}
        asked = {one.file.path: one.new_path for one in self.pictures if one.new_path != one.file.path}
        taken = {clash_key(file.path): file.path for file in self.pack.files}
        wanted: dict[str, int] = {}
        for target in asked.values():
            wanted[clash_key(target)] = wanted.get(clash_key(target), 0) + 1
        return {
            path: target
            for path, target in asked.items()
            if wanted[clash_key(target)] == 1 and taken.get(clash_key(target), path) == path
        }


def _move_over(picture: _Picture) -> None:
    """Send a picture to the other one of the two folders."""
    parts = picture.new_path.split("/")
    other = _FOLDERS[1 - _FOLDERS.index(picture.folder)]
    for place, part in enumerate(parts[:-1]):
        if part.lower() == picture.folder:
            parts[place] = other
            picture.new_path = "/".join(parts)
            return


def _is_same_person(path: str, other: str) -> bool:
    """Tell whether two pictures are one person's, as player and as staff."""
    return clash_key(path.rpartition("/")[2]) == clash_key(other.rpartition("/")[2])


def _without_fix(finding: Finding, moves: dict[str, str], leftovers: Sequence[str]) -> Finding:
    """Return a finding that promises only what `--fix` will do, with the final name."""
    if not finding.fix or finding.file in leftovers:
        return finding
    target = moves.get(finding.file)
    return Finding(finding.code, finding.file, finding.text, f"becomes {target}" if target else "")


def _find_papers(pack: PackFiles) -> tuple[str, Papers]:
    """Return the folder (ending with a slash, or empty) and the papers of our pack."""
    by_path = {file.path: file for file in pack.files}
    for path in sorted(_named(by_path, SETTINGS_NAME), key=lambda path: path.count("/")):
        root = path[: -len(SETTINGS_NAME)]
        papers = read_papers(_content(pack, by_path.get(root + REPORT_NAME)), _content(pack, by_path[path]))
        if papers.is_ours:
            return root, papers
    return "", Papers()


def _named(paths: Iterable[str], name: str) -> Iterator[str]:
    return (path for path in paths if path.rpartition("/")[2] == name)


def _content(pack: PackFiles, file: PackFile | None) -> bytes | None:
    try:
        return pack.read(file) if file is not None else None
    except FacepackError:
        return None
