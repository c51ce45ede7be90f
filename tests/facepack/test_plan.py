import datetime
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ehmfaces.errors import FacepackError
from ehmfaces.facepack.manifest import report_rows
from ehmfaces.facepack.plan import FacepackSettings, plan_facepack
from ehmfaces.roster.reader import read_roster
from ehmfaces.seeds import person_seed

ROSTERS = Path(__file__).resolve().parents[2] / ".." / "shared" / "rosters"
HEAD = "First Name,Last Name,DOB,Classification\n"


def plan(text, **options):
    return plan_facepack(read_roster((HEAD + text).encode(), name="players.csv"), FacepackSettings(**options))


def test_jobs_carry_folder_file_and_seed():
    job, staff = plan("Ann,Bee,13.2.2003,Player\nCy,Dee,13.2.1963,Non-Player\n", pack_key="k").jobs
    assert job.path == "players/Ann_Bee_13_2_2003.png"
    assert job.seed == person_seed("Ann", "Bee", datetime.date(2003, 2, 13), "k")
    assert staff.path == "nonplayers/Cy_Dee_13_2_1963.png"
    assert (staff.row_number, staff.note) == (3, "")


def test_clashes_are_reported_and_never_numbered():
    outcome = plan("Ann,Bee,13.2.2003,\nAnn,Bee,13.2.2003,\nann,BEE,13.2.2003,\nAnn,Bee,13.2.1973,\n")
    assert [job.row_number for job in outcome.jobs] == [2, 5]
    assert [row.row_number for row in outcome.skipped] == [3, 4]
    assert outcome.skipped[0].reason == "Same file as row 2."
    assert outcome.skipped[1].reason.startswith("Same file as row 2 on Windows")


def test_one_person_in_both_folders_has_one_face():
    player, staff = plan("Ann,Bee,13.2.2003,Player\nAnn,Bee,13.2.2003,Non-Player\n").jobs
    assert player.seed == staff.seed
    assert "same person as row 2" in staff.note


def test_rows_that_give_no_file_and_problems_are_skipped_in_order():
    outcome = plan(
        "?,***,13.2.2003,\nAnn,Bee,31.2.2003,\n" + "x" * 200 + ",Bee,13.2.2003,\n\nCy,Dee,13.2.2003,\n"
    )
    assert [row.row_number for row in outcome.skipped] == [2, 3, 4, 5]
    assert outcome.skipped[0].reason.startswith("The name has no letter")
    assert outcome.skipped[0].birth_date == "2003-02-13"
    assert outcome.skipped[1].birth_date == "31.2.2003"
    assert "at most 150" in outcome.skipped[2].reason
    assert len(outcome.jobs) == 1


def test_limit():
    outcome = plan("Ann,Bee,13.2.2003,\nCy,Dee,13.2.2003,\nEli,Foe,13.2.2003,\n", limit=2)
    assert len(outcome.jobs) == 2
    assert outcome.skipped[0].reason == "Beyond the limit of 2 portraits."
    with pytest.raises(FacepackError, match="below 0"):
        FacepackSettings(limit=-1)


def test_defaults_and_a_split_name():
    roster = read_roster(b"Name,DOB\nAnn van Bee,13.2.2003\n")
    assert plan_facepack(roster).jobs[0].note == "the name was split after its first word"


PEOPLE = [f"{first},{last},{day}.2.{year},{role}" for first, last, day, year, role in (
    ("Ann", "Bee", 13, 2003, "Player"), ("ann", "bee", 13, 2003, "Player"), ("Ann", "Bee", 13, 2003, "Staff"),
    ("Jiří", "Š/x", 14, 2001, ""), ("", "Mono", 15, 1999, ""), ("Cy", "Dee", 31, 2000, ""),
    ("Eli", "Foe", 16, 1980, "Coach"), ("x" * 200, "y", 17, 2000, ""), ("", "", 18, 2000, ""),
)]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(PEOPLE), min_size=1, max_size=20), st.randoms())
def test_order_changes_nobodys_face_or_file(rows, rng):
    rows = ["Zoe,Anchor,20.2.2002,Player", *rows]
    shuffled = rows.copy()
    rng.shuffle(shuffled)

    def faces(lines):
        return {(job.path.lower(), job.seed) for job in plan("\n".join(lines) + "\n").jobs}

    assert faces(rows) == faces(shuffled)
    assert faces(rows[: len(rows) // 2 + 1]) <= faces(rows)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(PEOPLE), min_size=1, max_size=20), st.integers(0, 5) | st.none())
def test_report_has_exactly_one_line_for_each_row(rows, limit):
    outcome = plan("\n".join(["Zoe,Anchor,20.2.2002,Player", *rows]) + "\n", limit=limit)
    lines = report_rows(outcome, {}, "Cancelled.")
    assert [line.row_number for line in lines] == list(range(2, len(rows) + 3))
    assert len({job.path.lower() for job in outcome.jobs}) == len(outcome.jobs)


@pytest.mark.skipif(not ROSTERS.is_dir(), reason="the shared rosters are not beside the checkout")
@pytest.mark.parametrize(
    ("pattern", "made", "skipped"),
    [("01*", 16, 2), ("02*", 16, 2), ("03*", 19, 2), ("04*", 16, 2), ("06*", 13, 8), ("large*", 17117, 59)],
)
def test_counts_of_the_shared_rosters(pattern, made, skipped):
    roster = read_roster(next(ROSTERS.glob(pattern)))
    outcome = plan_facepack(roster)
    assert (len(outcome.jobs), len(outcome.skipped)) == (made, skipped)
    assert made + skipped == roster.row_count


@pytest.mark.skipif(not ROSTERS.is_dir(), reason="the shared rosters are not beside the checkout")
def test_shuffled_large_roster_gives_the_same_faces():
    data = next(ROSTERS.glob("large*")).read_bytes()
    lines = data.splitlines(keepends=True)
    rest = lines[2:]
    random.Random(1).shuffle(rest)
    plans = [plan_facepack(read_roster(content)) for content in (data, b"".join([*lines[:2], *rest]))]
    assert len({frozenset((job.path, job.seed) for job in each.jobs) for each in plans}) == 1


def test_planning_loads_nothing_heavy():
    code = (
        "import sys, ehmfaces.facepack.plan, ehmfaces.facepack.writer, ehmfaces.roster.reader\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'gradio', 'ray', 'click'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_example_roster_of_invented_people():
    import ehmfaces

    path = Path(ehmfaces.__file__).parent / "ui" / "example_roster.csv"
    outcome = plan_facepack(read_roster(path))
    assert (len(outcome.jobs), outcome.skipped) == (24, ())
    assert {job.folder for job in outcome.jobs} == {"players", "nonplayers"}
