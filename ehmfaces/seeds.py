"""Seeds: numbers that decide everything random.

Owns the way from a seed to a latent, the "1,2,5-10" notation and the seed of a person.
Does not know what a roster, a model or a picture is.
"""

import datetime
import hashlib
import re
import unicodedata
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ehmfaces.errors import LatentError
from ehmfaces.types import Seed

SEED_MAX = 2**32 - 1
_RANGE = re.compile(r"^(\d+)(?:\s*-\s*(\d+))?$")


def check_seed(seed: object) -> Seed:
    """Return the seed as an int, or raise.

    Raises:
        LatentError: The value is not a whole number from 0 to 2**32 - 1.
    """
    try:
        number = int(str(seed).strip())
    except ValueError:
        number = -1
    if isinstance(seed, float) and seed.is_integer():
        number = int(seed)
    if not 0 <= number <= SEED_MAX:
        raise LatentError(
            f'Seed "{str(seed)[:40]}" is not a whole number from 0 to {SEED_MAX}. Give one in that range.'
        )
    return number


def parse_seeds(text: str, limit: int = 100_000) -> list[Seed]:
    """Read a list of seeds and ranges, in the order given, ends included.

    Args:
        text: Like "1,2,5-10".
        limit: The most seeds that are accepted.

    Raises:
        LatentError: A part is no seed or range, or there are more than `limit`.

    Example:
        >>> parse_seeds("1, 2,5-7")
        [1, 2, 5, 6, 7]
    """
    seeds: list[Seed] = []
    for part in (piece.strip() for piece in text.split(",")):
        match = _RANGE.match(part)
        if match is None:
            raise LatentError(f'"{part[:40]}" is not a seed or a range of seeds. Write seeds like 1,2,5-10.')
        first = check_seed(match[1])
        last = check_seed(match[2]) if match[2] else first
        if last < first:
            raise LatentError(f'The range "{part[:40]}" runs backwards. Write it as {last}-{first}.')
        if len(seeds) + last - first + 1 > limit:
            raise LatentError(f'"{text[:40]}" names more than {limit} seeds. Ask for fewer at a time.')
        seeds.extend(range(first, last + 1))
    return seeds


def latents_from_seeds(seeds: Sequence[Seed], z_dim: int) -> npt.NDArray[np.float64]:
    """Draw one z per seed: `RandomState(seed).randn(z_dim)`, as the public StyleGAN tools do.

    Args:
        seeds: N whole numbers from 0 to 2**32 - 1.
        z_dim: Size of the input latent.

    Returns:
        z, float64 [N, z_dim], standard normal.
    """
    rows = [np.random.RandomState(check_seed(seed)).randn(z_dim) for seed in seeds]
    return np.stack(rows) if rows else np.zeros((0, z_dim))


def normalize_name(name: str) -> str:
    r"""Return a name as it counts for telling people apart: NFC, single spaces, no case.

    Example:
        >>> normalize_name("  Jo\u0301zef   NOWAK ") == "j\u00f3zef nowak"
        True
    """
    return " ".join(unicodedata.normalize("NFC", name).split()).casefold()


def person_seed(first_name: str, last_name: str, birth_date: datetime.date | str, pack_key: str = "") -> Seed:
    """Return the seed of a person: the same for the same name, birth date and pack key, for ever.

    The first four bytes (big endian) of the SHA-256 of the UTF-8 text
    "ehmfaces/1", first name, last name, birth date (ISO 8601) and pack key, joined by U+001F.
    Names are compared as `normalize_name` says. Where there is no birth date, the text that stands for it
    is taken as it is.

    Example:
        >>> person_seed("Tobias", "Havelskov", datetime.date(2006, 3, 7))
        4048284201
    """
    parts = (
        "ehmfaces/1",
        normalize_name(first_name),
        normalize_name(last_name),
        birth_date if isinstance(birth_date, str) else birth_date.isoformat(),
        pack_key,
    )
    digest = hashlib.sha256("\x1f".join(parts).encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:4], "big")


def redraw_seed(seed: Seed, reroll: int = 0, attempt: int = 0) -> Seed:
    """Return the seed of another face for the same person; the first one is the person's own.

    The first four bytes (big endian) of the SHA-256 of the ASCII text
    "ehmfaces/redraw/1", seed, reroll and attempt, joined by U+001F.

    Args:
        seed: As `person_seed` gives it.
        reroll: How often somebody asked for a new face.
        attempt: How often the face was too much like somebody else's.

    Example:
        >>> redraw_seed(4048284201), redraw_seed(4048284201, attempt=1)
        (4048284201, 477907965)
    """
    if not reroll and not attempt:
        return seed
    text = "\x1f".join(("ehmfaces/redraw/1", str(seed), str(reroll), str(attempt)))
    return int.from_bytes(hashlib.sha256(text.encode("ascii")).digest()[:4], "big")
