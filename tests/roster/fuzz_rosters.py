"""Feed damaged and random rosters to the reader and the plan; a case is one roster.

Run from the checkout: python tests/roster/fuzz_rosters.py --cases 200000 --seed 0
Every case must end in a Roster or an EHMFacesError; every row must be accounted for once, in the roster
and in the plan; every path must be safe on Windows. Cases are made from a seed and the case's number, so
that `--first N --cases 1` repeats one. Knows nothing of how files are read.
"""

import argparse
import contextlib
import io
import json
import random
import re
import resource
import sys
import time
import traceback
import warnings
import zipfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from openpyxl import Workbook  # noqa: E402

from ehmfaces.errors import EHMFacesError  # noqa: E402
from ehmfaces.facepack.filenames import clash_key  # noqa: E402
from ehmfaces.facepack.plan import FacepackSettings, plan_facepack  # noqa: E402
from ehmfaces.roster.reader import RosterLimits, read_roster  # noqa: E402

SLOWEST_SEC = 5.0
LIMITS = RosterLimits(max_bytes=2**20, max_rows=2000, max_columns=256)
GAMES = ("ehm", "ehm", "ehm,fm", "fm", "ootp", "fhm", "zengm", "fm,zengm,ootp,ehm,fhm")
# fmt: off
ENCODINGS = (
    "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "cp1250", "cp1251",
    "latin-1", "iso8859-2", "mac_roman",
)
ASKED_ENCODINGS = (
    *ENCODINGS, "unicode_escape", "raw_unicode_escape", "utf-7", "punycode", "idna", "rot13", "hex",
    "undefined", "x" * 50, "mbcs", "cp65001", "shift_jis", "gb18030", "\0",
)
TITLES = (
    "First Name", "Last Name", "Name", "DOB", "Date Of Birth", "Nation", "UID", "Nat", "2nd Nat", "Förnamn",
    "Efternamn", "Födelsedatum", "Příjmení", "Фамилия", "Имя", "Дата рождения", "Etunimi", "Sukunimi",
    "Syntymäaika", "Prénom", "Nom", "Date de naissance", "Vorname", "Nachname", "Geburtsdatum",
    "Classification", "born.year", "firstName", "lastName", "", "x", "Club",
)
WORDS = (
    "Ann", "Jiří", "Łukasz", "O'Neil", "Van der Berg", "Marc-André", "T.J.", "..", "../../etc", "CON",
    "nul", "a/b", "C:\\x", "<b>x</b>", "=1+1", "\u202e", "\ufeff", "\0", "é", "e\u0301", "ß", "İ", "ﬁ",
    "中文", "😀", "\ud800", "x" * 400, '"', "'", "|", ";", ",", "\t", "---", "Ã©", "JÃ¸rn", "\ufffd",
    "\u2028", "_", "con", "aux", "com1", "A" * 149, " ", "\xa0", "⅓", "’",
)
DATES = (
    "13.2.2003", "1/2/2003", "2003-02-13", "31.2.2004", "1.2.1900", "29.02.2000", "3.4.05", "Feb 3, 2001",
    "3 March 2001", "0.0.0000", "99.99.9999", "1.1.1", "", "soon", "1999", "12.12.12345", "²/³/2003",
    "١.١.٢٠٠٣", "13.2.2003 (20 years old)", "13.2.2003 00:00:00", "1-2-2003", "1.2/2003",
)
PIECES = (
    b'"', b";", b",", b"\t", b"|", b"\r", b"\n", b"\r\n", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\x1a",
    b"sep=;\n", b"staff,dmy,metric\n", b"{\\rtf1 ", b"}", b"{", b"\\u-1 ", b"\\'e9", b"\\ansicpg99999999 ",
    b"<table>", b"<tr>", b"<td>", b"</table>", b"<!--", b"&#0;", b"&#xD800;", b"&lt;", b"[{", b"}]",
    b'{"players":[', b"1e999", b"\\fldinst HYPERLINK", b"{\\fonttbl\\f0\\fcharset0 x;}", b"\\bin9999999999",
    b"<![CDATA[", b"<?xml",
)
# fmt: on


def seed_files():
    """Return the shared rosters that are small enough to be damaged quickly, and the package's example."""
    folder = ROOT / ".." / "shared" / "rosters"
    names = sorted(folder.glob("0*.csv")) if folder.is_dir() else []
    return [path.read_bytes() for path in [*names, ROOT / "ehmfaces" / "ui" / "example_roster.csv"]]


def random_cells(rng):
    """Return a random table: titles that may be known, names, dates, rubbish."""
    width = rng.randint(1, 7)
    kinds = [rng.choice("wwwdduxw") for _ in range(width)]
    titles = [rng.choice(TITLES) for _ in kinds]
    if rng.random() < 0.6:
        kinds[:3], titles[:3] = rng.choice(
            (("wwd", TITLES[:2] + TITLES[3:4]), ("wdu", TITLES[2:4] + TITLES[6:7]))
        )
    rows = [titles] if rng.random() < 0.8 else []
    for _ in range(rng.randint(0, 12)):
        rows.append([random_cell(rng, kind) for kind in kinds[: rng.choice((width, width, width, 1))]])
    return rows


def random_cell(rng, kind):
    """Return a word, a date, an id or rubbish."""
    if kind == "d":
        return rng.choice(DATES)
    if kind == "u":
        return str(rng.choice((rng.getrandbits(31), "r-2002000001", "", "0", "1.0", "-5", "9" * 30)))
    if kind == "x" or rng.random() < 0.03:
        return "".join(chr(rng.choice((rng.randrange(128), rng.randrange(0x250), rng.randrange(0x110000))))
                       for _ in range(rng.randint(0, 12)))  # fmt: skip
    return rng.choice(WORDS)


def as_text(rng, cells):
    """Return cells as delimited bytes in a random encoding."""
    separator, end = rng.choice((",", ";", "\t", "|", "~")), rng.choice(("\n", "\r\n", "\r"))
    bar = "| " if separator == "|" and rng.random() < 0.5 else ""
    text = end.join(bar + separator.join(row) for row in cells) + rng.choice(("", end))
    return text.encode(rng.choice(ENCODINGS), errors="ignore")


def as_rtf(rng, cells):
    """Return cells as an RTF document."""

    def escape(text):
        return "".join(
            c if c.isalnum() and c.isascii() else f"\\u{ord(c) if ord(c) < 32768 else -5}?" for c in text
        )

    body = "\\par\n".join("| " + " | ".join(map(escape, row)) + " |" for row in cells)
    return ("{\\rtf1\\ansi\\ansicpg1252{\\fonttbl{\\f0\\fcharset0 Arial;}}\\f0 " + body + "}").encode()


def as_html(rng, cells):
    """Return cells as a page with a table; cells are not escaped, on purpose."""
    rows = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in cells)
    page = f"<html><body>{'<table>' * rng.choice((1, 1, 1, 3, 300))}{rows}</table></body></html>"
    return page.encode(rng.choice(("utf-8", "utf-8", "cp1252")), errors="ignore")


def as_json(rng, cells):
    """Return cells as a list of people or a league file."""
    titles = cells[0] if cells else []
    people = [dict(zip(titles, row, strict=False)) for row in cells[1:]]
    people += [
        {"firstName": "A", "lastName": "B", "born": {"year": rng.choice((1999, -1, 1e400, None, "x"))}}
    ]
    document = rng.choice((people, {"players": people}, {"x": people}, {"players": [1, None, people]}))
    return json.dumps(document).encode() + rng.choice((b"", b"", b"}", b"[" * 3000))


def as_workbook(rng, cells):
    """Return cells as an .xlsx whose parts may be damaged inside the ZIP."""
    book = Workbook()
    for row in cells:
        book.active.append([cell if is_xml_text(cell) else "?" for cell in row])
    file = io.BytesIO()
    book.save(file)
    if rng.random() < 0.5:
        return file.getvalue()
    out = io.BytesIO()
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(out, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if rng.random() < 0.25:
                data = damage(rng, data)
            if rng.random() > 0.03:
                target.writestr(name, data)
    return out.getvalue()


def is_xml_text(text):
    """Tell whether a workbook can hold a text."""
    return all(c >= " " and not 0xD7FF < ord(c) < 0xE000 and ord(c) not in (0xFFFE, 0xFFFF) for c in text)


def damage(rng, data):
    """Return bytes with a few random changes."""
    data = bytearray(data[: rng.choice((500, 1500, 3000, 9000))])
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(6)
        if kind == 0:
            data[at:at] = rng.choice(PIECES)
        elif kind == 1:
            data[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 2:
            del data[at : at + rng.choice((1, 3, 50, 1000))]
        elif kind == 3:
            start = rng.randrange(len(data) + 1)
            data[at:at] = data[start : start + rng.choice((1, 10, 200))]
        elif kind == 4:
            data[at:at] = rng.choice((*WORDS, *DATES)).encode("utf-8", "ignore")
        else:
            data[at : at + 2] = rng.randbytes(rng.randrange(5))
    return bytes(data)


def make_case(rng, seeds):
    """Return one roster as bytes, and its kind."""
    chance = rng.random()
    if chance < 0.20:
        return damage(rng, rng.choice(seeds)), "damaged file"
    if chance < 0.23:
        return rng.randbytes(rng.choice((1, 5, 50, 500))), "random bytes"
    cells = random_cells(rng)
    makers = ((0.72, as_text), (0.80, as_rtf), (0.88, as_html), (0.98, as_json), (1.0, as_workbook))
    maker = next(maker for limit, maker in makers if chance < limit)
    data = maker(rng, cells)
    return (damage(rng, data) if rng.random() < 0.4 else data), maker.__name__


def random_options(rng):
    """Return what a user may have chosen, mostly nothing."""
    options = {"needs_birth_date": rng.random() < 0.6}
    if rng.random() < 0.05:
        options["encoding"] = rng.choice(ASKED_ENCODINGS)
    if rng.random() < 0.05:
        options["separator"] = rng.choice((",", ";", "tab", "a", '"', "", "||", "\0", "\ud800"))
    if rng.random() < 0.05:
        options["header"] = rng.choice((0, 1, 2, 5, 10**9, -1))
    if rng.random() < 0.05:
        options["date_order"] = rng.choice(("dmy", "mdy", "ymd", "ydm"))
    if rng.random() < 0.05:
        field = rng.choice(("name", "first_name", "birth_date", "uid", "oops"))
        options["columns"] = {field: rng.choice((0, 1, 99, -1, "DOB", "x"))}
    if rng.random() < 0.05:
        options["sheet"] = rng.choice(("Sheet", "sheet", "other", ""))
    return options


def check(roster, plan):
    """Check what must hold for every roster and plan."""
    numbers = [row.row_number for row in (*roster.entries, *roster.problems)]
    assert len(numbers) == len(set(numbers)) == roster.row_count, "rows of the roster"
    planned = [row.row_number for row in (*plan.jobs, *plan.skipped)]
    assert sorted(planned) == sorted(numbers), "rows of the plan"
    assert all(problem.reason for problem in roster.problems), "problems without a reason"
    assert all(row.reason for row in plan.skipped), "skipped without a reason"
    paths = [path for job in plan.jobs for path in (job.path, *job.copies)]
    assert len({clash_key(path) for path in paths}) == len(paths), "paths clash"
    for path in paths:
        folder, _, name = path.partition("/")
        assert folder in ("players", "nonplayers", "fm", "ootp", "fhm", "zengm"), path
        assert re.fullmatch(r'[^.<>:"/\\|?* ][^<>:"/\\|?*]*\.png', name), path
        assert name.isprintable(), path
        assert ".." not in name, path
        assert len(name.encode()) <= 250, path
        assert name.split(".")[0].rstrip().lower() not in ("con", "prn", "aux", "nul", "com1", "lpt1"), path
        assert folder not in ("players", "nonplayers") or max(name) <= "\u00ff", path
    json.dumps(dict(plan.reading)).encode()
    for path, data in plan.game_lists(plan.jobs):
        assert path.startswith(("fm/", "zengm/")), path
        assert data, path


def run_case(number, seed, seeds):
    """Run one case; return its kind and what came of it."""
    rng = random.Random(f"{seed}/{number}")
    data, kind = make_case(rng, seeds)
    options, games = random_options(rng), rng.choice(GAMES)
    try:
        roster = read_roster(data, name="r", limits=LIMITS, **options)
    except EHMFacesError as error:
        return kind, "refused" if str(error).strip() else "refused without a text"
    check(roster, plan_facepack(roster, FacepackSettings(games=games)))
    return kind, "read"


def main():
    """Run cases from the command line; exit code 1 when one failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=200_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", default="0")
    parser.add_argument("--found", type=Path, help="Folder for the rosters that failed.")
    asked = parser.parse_args()
    warnings.simplefilter("error")
    seeds, counts, failed, slowest = seed_files(), Counter(), 0, (0.0, 0)
    began = time.monotonic()
    for number in range(asked.first, asked.first + asked.cases):
        start = time.monotonic()
        try:
            counts[run_case(number, asked.seed, seeds)] += 1
        except Exception:
            failed += 1
            print(f"case {number}:", traceback.format_exc(limit=-4), flush=True)
            if asked.found:
                asked.found.mkdir(parents=True, exist_ok=True)
                rng = random.Random(f"{asked.seed}/{number}")
                (asked.found / str(number)).write_bytes(make_case(rng, seeds)[0])
        slowest = max(slowest, (time.monotonic() - start, number))
        if number % 5000 == 4999:
            print(f"{number + 1} cases, {time.monotonic() - began:.0f} s, {failed} failed", flush=True)
    for (kind, outcome), count in sorted(counts.items()):
        print(f"{kind:14} {outcome:8} {count}")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{asked.cases} cases in {time.monotonic() - began:.0f} s, {failed} failed")
    print(f"slowest {slowest[0]:.2f} s (case {slowest[1]}), peak memory {memory} MB")
    return 1 if failed or slowest[0] > SLOWEST_SEC else 0


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
