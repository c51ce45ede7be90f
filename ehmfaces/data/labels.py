"""Labels of portraits: sex, age, smile, skin and hair as numbers.

Owns the columns of the labels file. Knows no picture and no network.
"""

import csv
from pathlib import Path

from ehmfaces.errors import InputError

_COLUMNS = ("id", "sex", "age", "expression", "skin_ita_deg", "hair_L")


def read_face_labels(path: Path) -> dict[str, list[float]]:
    """Read labels in the order of the ids.

    Args:
        path: CSV with the columns id, sex (male or female), age (years), expression ("happy" or another),
            skin_ita_deg (individual typology angle, degrees, higher = lighter), hair_L (CIELAB lightness).

    Returns:
        "sex" (1 for men, -1 for women), "age", "smile" (1 or 0), "skin" and "hair", N values each.

    Raises:
        InputError: A column or value is missing.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = sorted(csv.DictReader(file), key=lambda row: row["id"])
        return {
            "sex": [{"male": 1.0, "female": -1.0}[row["sex"]] for row in rows],
            "age": [float(row["age"]) for row in rows],
            "smile": [float(row["expression"] == "happy") for row in rows],
            "skin": [float(row["skin_ita_deg"]) for row in rows],
            "hair": [float(row["hair_L"]) for row in rows],
        }
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f'The labels "{path.name}" cannot be read ({error}). Needed: columns {", ".join(_COLUMNS)}; '
            "sex is male or female, the rest but expression are numbers."
        ) from error
