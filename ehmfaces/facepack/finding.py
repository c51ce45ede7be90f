"""What a check can find: the table of codes, the record of one finding, and the lists of findings.

Owns codes, severities and the forms (sentences, CSV, JSON). Does not know how anything is found.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from ehmfaces.facepack.manifest import neutralize_formula

Severity = Literal["error", "warning", "notice"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "notice")

# code -> severity, what it means. Codes are an interface: they stay.
CODES: dict[str, tuple[Severity, str]] = {
    # the container
    "unsafe-path": ("error", "the entry's path leads out of the pack or is no path"),
    "link": ("error", "a link instead of a file"),
    "too-large": ("error", "more, or more tightly packed, than a pack can be"),
    "damaged-entry": ("error", "the ZIP entry cannot be unpacked"),
    "repeated-entry": ("error", "the ZIP holds two entries of one name"),
    "odd-file": ("warning", "left behind by an operating system"),
    "unknown-file": ("notice", "neither a picture nor a paper of a pack"),
    # the place
    "wrong-folder": ("error", "not where the game looks"),
    "nested-folder": ("error", "in a folder inside players or nonplayers"),
    "case-clash": ("error", "one file with another one on Windows"),
    # the name
    "no-date": ("error", "the name does not end with a birth date"),
    "placeholder-date": ("error", "1.2.1900 stands for an unknown birth date"),
    "padded-date": ("error", "the date has leading zeros"),
    "numbered-name": ("error", 'ends with " (2)"'),
    "one-name": ("error", "no first and last name with one underscore between them"),
    "damaged-letters": ("error", "UTF-8 read as another code page"),
    "lost-letters": ("error", "letters were replaced by ? or a box"),
    "forbidden-letter": ("error", "a letter that Windows forbids in names"),
    "foreign-letter": ("error", "a letter that the game cannot store"),
    "decomposed-letters": ("error", "letter and accent are two signs (NFD)"),
    "stray-space": ("error", "blanks at an end of a name, or two together"),
    # the picture
    "wrong-extension": ("error", "the extension is not that of the content, or not of a game's picture"),
    "not-a-picture": ("error", "the content is no picture"),
    "damaged-picture": ("error", "the picture breaks off or is damaged"),
    "image-bomb": ("error", "its header announces far more pixels than a portrait has"),
    "too-many-pixels": ("error", "above 200 pixels"),
    "unusual-size": ("notice", "allowed, but no usual portrait size"),
    "no-alpha": ("warning", "no transparency channel"),
    "opaque": ("warning", "a transparency channel that hides nothing"),
    "weak-alpha": ("warning", "nowhere quite opaque"),
    "empty-picture": ("error", "transparent everywhere"),
    "coloured-rim": ("warning", "the old background shows round the head"),
    "same-picture": ("warning", "pixel for pixel the picture of somebody else"),
    "similar-picture": ("notice", "nearly the picture of somebody else"),
    # our own packs
    "missing-file": ("error", "the report names it, the pack does not hold it"),
    "unlisted-file": ("warning", "the pack holds it, the report does not name it"),
    "damaged-paper": ("error", "report or settings cannot be read"),
    "wrong-count": ("error", "the numbers in the settings are not those of the report"),
    "no-provenance": ("warning", "the record of how it was made is missing or damaged"),
    "other-model": ("warning", "made with another model than the settings say"),
    "other-settings": ("warning", "made with other settings than the pack's"),
    # against a roster
    "no-portrait": ("notice", "a person of the roster has no picture"),
    "not-in-roster": ("warning", "nobody in the roster has this picture"),
}
_SHOWN = 10


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        code: One of CODES.
        file: Path in the pack as it stands there; empty for the pack as a whole.
        text: What is wrong here and what to do, as a sentence.
        fix: What `--fix` does about it, as a phrase; empty = nothing.
    """

    code: str
    file: str
    text: str
    fix: str = ""

    @property
    def severity(self) -> Severity:
        """Return "error" where the game shows nothing or a wrong thing, else "warning" or "notice"."""
        return CODES[self.code][0]


def sort_findings(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return findings by severity, then in the order of the table, then by file."""
    places = {code: number for number, code in enumerate(CODES)}
    return tuple(
        sorted(
            findings, key=lambda one: (SEVERITIES.index(one.severity), places[one.code], one.file, one.text)
        )
    )


def count_severities(findings: Iterable[Finding]) -> dict[str, int]:
    """Return how many findings there are of each severity."""
    counts = Counter(finding.severity for finding in findings)
    return {severity: counts[severity] for severity in SEVERITIES}


def encode_findings(findings: Sequence[Finding]) -> bytes:
    """Return the findings as CSV (UTF-8 with a byte order mark, CRLF, no cell runs as a formula)."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(["severity", "code", "file", "text", "fix"])
    for one in findings:
        cells = (one.severity, one.code, one.file, one.text, one.fix)
        writer.writerow([neutralize_formula(printable(cell)) for cell in cells])
    return b"\xef\xbb\xbf" + text.getvalue().encode("utf-8", errors="replace")


def findings_as_json(findings: Sequence[Finding], pack: str, pictures: int) -> str:
    """Return the findings as one JSON document."""
    document = {
        "pack": pack,
        "pictures": pictures,
        "counts": count_severities(findings),
        "findings": [{"severity": one.severity, **asdict(one)} for one in findings],
    }
    return json.dumps(document, ensure_ascii=True, indent=1)


def describe_findings(findings: Sequence[Finding], shown: int = _SHOWN) -> list[str]:
    """Return lines for people: each code with its number and its first files.

    Args:
        findings: As `sort_findings` gives them.
        shown: Files of one code that are named.
    """
    lines: list[str] = []
    counts = Counter(finding.code for finding in findings)
    seen: Counter[str] = Counter()
    for one in findings:
        seen[one.code] += 1
        if seen[one.code] == 1:
            lines.append(f"{one.severity} {one.code} ({counts[one.code]}): {CODES[one.code][1]}")
        if seen[one.code] <= shown:
            lines.append(f"  {printable(f'{one.file}: ' if one.file else '')}{printable(one.text)}")
        elif seen[one.code] == shown + 1:
            lines.append(f"  ... and {counts[one.code] - shown} more; --report lists all")
    return lines


def printable(text: str) -> str:
    r"""Return a text in which no sign moves the cursor of a terminal.

    Example:
        >>> printable("a\x1b[2Jb")
        'a?[2Jb'
    """
    return "".join(char if char.isprintable() else "?" for char in text)
