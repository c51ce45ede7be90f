"""Face rate: the share of pictures with exactly one well-formed frontal face.

Owns counting, and the sheet of the pictures that are not. Does not know what well-formed is (a checker says)
or where the pictures come from.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image as PILImage

from ehmfaces.metrics.face_checks import FaceChecker, Reason
from ehmfaces.sheets import contact_sheet
from ehmfaces.types import Image, Pixels, Seed

_KEPT, _CELL_PX, _COLUMNS = 24, 160, 8


@dataclass(frozen=True)
class Failure:
    """A picture that is no well-formed face."""

    seed: Seed
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class FaceRate:
    """How many pictures are well-formed faces.

    Attributes:
        count: Pictures looked at.
        failures: All that are not, in their order.
        samples: The first of them as pictures, 160 px.
    """

    count: int
    failures: tuple[Failure, ...]
    samples: tuple[Image, ...]

    @property
    def share(self) -> float:
        """Share of well-formed faces, 0 to 1; 0 when there are no pictures."""
        return 1 - len(self.failures) / self.count if self.count else 0.0

    @property
    def reasons(self) -> dict[Reason, int]:
        """Reason -> failures that have it, the most frequent first; one failure may have several."""
        counted = Counter(reason for failure in self.failures for reason in failure.reasons)
        return dict(counted.most_common())

    def to_dict(self) -> dict[str, Any]:
        """Return what a JSON file holds."""
        return {
            "pictures": self.count,
            "face_rate": round(self.share, 5),
            "reasons": self.reasons,
            "failures": {str(failure.seed): list(failure.reasons) for failure in self.failures},
        }


class FaceCount:
    """Counts pictures as they come by."""

    def __init__(self, checker: FaceChecker) -> None:
        """Start at none; the checker says what is wrong with a picture."""
        self.checker = checker
        self._count = 0
        self._failures: list[Failure] = []
        self._samples: list[Image] = []

    def add(self, seed: Seed, pixels: Pixels) -> None:
        """Check a picture, RGB uint8 [S, S, 3]."""
        self._count += 1
        verdict = self.checker.check(pixels)
        if not verdict.reasons:
            return
        self._failures.append(Failure(seed, verdict.reasons))
        if len(self._samples) < _KEPT:
            image = PILImage.fromarray(pixels)
            self._samples.append(image.resize((_CELL_PX, _CELL_PX), PILImage.Resampling.LANCZOS))

    def rate(self) -> FaceRate:
        """Return the rate of all pictures so far."""
        return FaceRate(self._count, tuple(self._failures), tuple(self._samples))


def measure_face_rate(pictures: Iterable[tuple[Seed, Pixels]], checker: FaceChecker) -> FaceRate:
    """Check seeds and RGB uint8 [S, S, 3] one by one."""
    faces = FaceCount(checker)
    for seed, pixels in pictures:
        faces.add(seed, pixels)
    return faces.rate()


def failure_sheet(rates: Sequence[tuple[str, FaceRate]]) -> Image | None:
    """Show the first failures of each rate, with its name, seed and reasons; None = there are none."""
    images, captions = [], []
    for name, rate in rates:
        for image, failure in zip(rate.samples, rate.failures, strict=False):
            images.append(image)
            captions.append(f"{name} #{failure.seed} {' '.join(failure.reasons)}")
    return contact_sheet(images, _COLUMNS, captions) if images else None
