import datetime
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehmfaces.errors import LatentError
from ehmfaces.seeds import (
    SEED_MAX,
    check_seed,
    latents_from_seeds,
    normalize_name,
    parse_seeds,
    person_seed,
)

BORN = datetime.date(2006, 3, 7)


@pytest.mark.parametrize(
    ("first", "last", "date", "key", "seed"),
    [
        ("Tobias", "Havelskov", BORN, "", 4048284201),
        ("Tobias", "Havelskov", BORN, "season 2", 837167842),
        ("Jiří", "Štěpnohorský", datetime.date(2003, 9, 9), "", 4171038572),
        ("", "Mononymov", datetime.date(2003, 9, 2), "", 807526779),
    ],
)
def test_seed_of_a_person_never_changes(first, last, date, key, seed):
    assert person_seed(first, last, date, key) == seed


def test_seed_of_a_person_ignores_case_spaces_and_composition():
    decomposed = unicodedata.normalize("NFD", "JIŘÍ")
    assert person_seed(f"  {decomposed} ", "x  y", BORN) == person_seed("jiří", "X Y", BORN)


def test_seed_of_a_person_depends_on_every_part():
    seeds = {
        person_seed("Ann", "Bee", BORN),
        person_seed("Bee", "Ann", BORN),
        person_seed("Ann", "Bee", BORN + datetime.timedelta(1)),
        person_seed("Ann", "Bee", BORN, "k"),
        person_seed("AnnBee", "", BORN),
    }
    assert len(seeds) == 5


@given(st.text(max_size=30), st.text(max_size=30), st.dates())
def test_seed_of_a_person_is_a_seed(first, last, date):
    assert 0 <= person_seed(first, last, date) <= SEED_MAX


@given(st.text(max_size=30))
def test_normalizing_twice_changes_nothing_in_latin_names(name):
    latin = "".join(char for char in name if char < "\u0180")
    assert normalize_name(normalize_name(latin)) == normalize_name(latin)


def test_latents_are_those_of_the_public_tools_and_independent_of_the_batch():
    z = latents_from_seeds([7, 0], 5)
    np.testing.assert_array_equal(z[1], np.random.RandomState(0).randn(1, 5)[0])
    np.testing.assert_array_equal(z[0], latents_from_seeds([7], 5)[0])
    assert latents_from_seeds([], 5).shape == (0, 5)


@pytest.mark.parametrize(("given_seed", "seed"), [(3, 3), ("12", 12), (4.0, 4), (SEED_MAX, SEED_MAX)])
def test_check_seed_accepts(given_seed, seed):
    assert check_seed(given_seed) == seed


@pytest.mark.parametrize("wrong", ["x", "", None, -1, 2**32, 1.5, "1e3", float("nan")])
def test_check_seed_refuses(wrong):
    with pytest.raises(LatentError, match="not a whole number from 0 to 4294967295"):
        check_seed(wrong)


def test_parse_seeds_keeps_order_and_ends():
    assert parse_seeds("5-7, 1,1") == [5, 6, 7, 1, 1]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a", "is not a seed"),
        ("", "is not a seed"),
        ("1,,2", "is not a seed"),
        ("9-3", "runs backwards"),
        ("0-100000", "more than 100000 seeds"),
        ("4294967296", "is not a whole number"),
    ],
)
def test_parse_seeds_refuses(text, sentence):
    with pytest.raises(LatentError, match=sentence):
        parse_seeds(text)
