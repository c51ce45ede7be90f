"""Bounded random rosters in the default run; the long run is fuzz_rosters.py beside this file."""

import importlib.util
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ehmfaces.errors import EHMFacesError, RosterError
from ehmfaces.facepack.plan import FacepackSettings, plan_facepack
from ehmfaces.roster.reader import read_roster

spec = importlib.util.spec_from_file_location("fuzz_rosters", Path(__file__).with_name("fuzz_rosters.py"))
fuzz = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fuzz)


def test_some_cases_of_the_long_run():
    seeds = fuzz.seed_files()
    outcomes = {fuzz.run_case(number, "default run", seeds) for number in range(400)}
    kinds = {kind for kind, _ in outcomes}
    assert {"as_text", "as_rtf", "as_html", "as_json", "damaged file", "random bytes"} <= kinds
    assert {outcome for _, outcome in outcomes} == {"read", "refused"}


@pytest.mark.slow
def test_many_cases_of_the_long_run():
    seeds = fuzz.seed_files()
    for number in range(20_000):
        fuzz.run_case(number, "slow run", seeds)


def test_a_case_can_be_made_again():
    seeds = fuzz.seed_files()
    first, again = (fuzz.make_case(random.Random("0/5"), seeds) for _ in range(2))
    assert first == again


def assert_sentence(text):
    assert text.endswith("."), text


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode("utf-8", "replace")))
def test_any_bytes_are_read_or_refused_with_a_sentence(data):
    try:
        roster = read_roster(data, needs_birth_date=False)
    except EHMFacesError as error:
        assert_sentence(str(error))
        return
    fuzz.check(roster, plan_facepack(roster, FacepackSettings(games="ehm,fm,ootp")))


@pytest.mark.parametrize(
    "data",
    [
        b"{\\rtf1 \\par }",  # a document without any text
        b"{\\rtf1 }" + b"\\par" * 50,
    ],
)
def test_found_documents_without_text(data):
    with pytest.raises(RosterError, match="is empty"):
        read_roster(data)


def test_found_notations_that_warn():
    with pytest.raises(RosterError, match="no encoding"):
        read_roster(b"First Name,Last Name,DOB\nA\\ ,B,13.2.2003\n", encoding="unicode_escape")
