"""The record inside every portrait: that it is synthetic, and how to make it again.

Owns the fields and the PNG text that holds them. Does not know how portraits are made.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from PIL import Image as PILImage

from ehmfaces.errors import ImageError
from ehmfaces.images import open_image
from ehmfaces.types import Image

KEY = "ehmfaces"
DESCRIPTION = "Synthetic portrait: this person does not exist."
MAX_TEXT = 20_000


@dataclass(frozen=True)
class Provenance:
    """How a portrait was made.

    Attributes:
        ehmfaces_version: Version of this package.
        model_id: Name of the generator.
        model_hash: First 16 hexadecimal digits of the SHA-256 over its weights.
        seed: The face's seed, or None when it was mixed.
        truncation_psi: 1 = off.
        truncation_cutoff: Number of truncated layers, or None for all.
        noise_mode: "const", "random" or "none".
        mixing: Settings of a mixed face, or None.
        cutout: Name of the cut-out back-end, or "none".
        portrait_format: Name of the format.
        background: "none" or "#rrggbb".
        synthetic: Always true.
        engine: What computed the picture.
        precision: Number format it was computed in.
        wishes: Sex, age and such that were wished for, or None.
    """

    ehmfaces_version: str
    model_id: str
    model_hash: str
    seed: int | None
    truncation_psi: float
    truncation_cutoff: int | None
    noise_mode: str
    mixing: Mapping[str, Any] | None
    cutout: str
    portrait_format: str
    background: str
    synthetic: bool = True
    engine: str = "torch"
    precision: str = "float32"
    wishes: Mapping[str, Any] | None = None

    def to_text(self) -> dict[str, str]:
        """Return the text chunks of a PNG."""
        values = asdict(self)
        if (self.engine, self.precision) == ("torch", "float32"):  # what a record without them means
            del values["engine"], values["precision"]
        if not self.wishes:
            del values["wishes"]
        return {
            "Software": f"ehmfaces {self.ehmfaces_version}",
            "Description": DESCRIPTION,
            KEY: json.dumps(values, sort_keys=True),
        }

    @classmethod
    def read(cls, source: "str | Path | bytes | Image") -> "Provenance":
        """Read the record of a portrait.

        Args:
            source: Path, PNG bytes or an opened picture.

        Raises:
            ImageError: The picture cannot be opened, has no record or a damaged one.
        """
        text = _text_of(source).get(KEY)
        if not isinstance(text, str):
            raise ImageError(
                "This picture holds no ehmfaces record. Only PNGs made by ehmfaces, and unchanged, have one."
            )
        try:
            values = json.loads(text) if len(text) <= MAX_TEXT else None
            return cls._from_values(values)
        except (ValueError, TypeError, RecursionError) as error:
            raise ImageError(
                "The ehmfaces record in this picture is damaged. Make the portrait again."
            ) from error

    @classmethod
    def _from_values(cls, values: Any) -> "Provenance":
        kinds: dict[str, tuple[type, ...]] = {
            "seed": (int, type(None)),
            "truncation_psi": (int, float),
            "truncation_cutoff": (int, type(None)),
            "mixing": (dict, type(None)),
            "wishes": (dict, type(None)),
            "synthetic": (bool,),
        }
        known = {field.name for field in fields(cls)}
        record = (
            {key: value for key, value in values.items() if key in known} if isinstance(values, dict) else {}
        )
        if any(not isinstance(value, kinds.get(key, (str,))) for key, value in record.items()):
            raise TypeError("a field has the wrong type")
        return cls(**record)


def _text_of(source: "str | Path | bytes | Image") -> Mapping[Any, Any]:
    if isinstance(source, PILImage.Image):
        return source.info
    open_image(source)  # refuses what is no picture or too large
    if isinstance(source, bytes):
        import io

        with PILImage.open(io.BytesIO(source)) as image:
            return dict(image.info)
    with PILImage.open(source) as image:
        image.load()
        return dict(image.info)
