"""All figures of a generator, beside what two halves of the real set give.

Owns which pictures each figure is made of, and the names. Does not know how a face is described (a function
is given, in the unit of its distances), files or the command line.

Figures with `_floor` are those of one half of the real set against the other: what a perfect generator
could reach with so few pictures.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image as PILImage

from ehmfaces.data.datasets import reduce_by_area
from ehmfaces.errors import InputError
from ehmfaces.metrics.diversity import (
    measure_likeness,
    nearest_in,
    neighbor_distances,
    pair_percentile,
)
from ehmfaces.metrics.embedding import embed_pictures
from ehmfaces.metrics.face_checks import FaceChecker
from ehmfaces.metrics.face_rate import FaceCount, FaceRate, measure_face_rate
from ehmfaces.metrics.features import LiteFeatures
from ehmfaces.metrics.fid import frechet_distance
from ehmfaces.metrics.kid import kernel_distance
from ehmfaces.metrics.nearest import nearest_pairs, pair_sheet
from ehmfaces.metrics.ppl import mean_path_length, path_lengths
from ehmfaces.metrics.precision_recall import precision_recall
from ehmfaces.metrics.reference import split_halves
from ehmfaces.pipeline import FacePipeline
from ehmfaces.types import FloatArray, Image, Pixels

Describe = Callable[[Pixels], FloatArray | None]  # uint8 [S, S, 3] -> [D], or None where there is no face
FULL_PSI, PACK_PSI = 1.0, 0.7
_PERSON_PERCENT = 1.0


@dataclass(frozen=True)
class MetricSettings:
    """How many pictures are made for what; picture i has the seed `seed` + i.

    Attributes:
        count: Pictures at truncation 1 for distances, precision, recall and the nearest training picture.
        people: Portraits at truncation 0.7 for diversity.
        paths: Paths for the path length, two pictures each.
        seed: The first seed.
        faces: Pictures for the face rate, at truncation 0.7 and as many at 1; 0 leaves it out.
    """

    count: int = 5000
    people: int = 1000
    paths: int = 200
    seed: int = 0
    faces: int = 2000


@dataclass(frozen=True)
class MetricReport:
    """What was measured.

    Attributes:
        figures: Figures by name.
        nearest_sheet: The pictures that are most like a training picture.
        face_rates: By the name of their figure; empty when left out.
    """

    figures: dict[str, float]
    nearest_sheet: Image
    face_rates: dict[str, FaceRate]


def measure_generator(
    pipeline: FacePipeline,
    reference: Pixels,
    describe: Describe,
    settings: MetricSettings,
    say: Callable[[str], None] = lambda text: None,
    *,
    training: Pixels | None = None,
) -> MetricReport:
    """Measure a generator.

    Args:
        pipeline: The generator.
        reference: Real portraits uint8 [N, S, S, 3], S at most the generator's resolution.
        describe: Describes the inner face, so that Euclidean distances tell people apart.
        settings: Numbers of pictures.
        say: Is told which part begins.
        training: Where nearest pictures are looked for, uint8 [M, S, S, 3]; None = `reference`.

    Raises:
        InputError: No face can be described in one of the sets.
        MissingExtraError: The feature network is not installed.
    """
    size = reference.shape[1]
    network = LiteFeatures().to(pipeline.device)
    say(f"Reference: {len(reference)} portraits at {size} px")
    real = embed_pictures(reference, network)
    checker = FaceChecker() if settings.faces else None
    full = _Pictures(pipeline, settings, FULL_PSI, size, checker)
    say(f"Pictures: {full.describe(settings.count)}")
    faces = _Faces(describe)
    made = embed_pictures(faces.watch(full.draw(settings.count)), network)
    figures = _compare(real, made)
    pack = _Pictures(pipeline, settings, PACK_PSI, size, checker)
    say(f"Diversity: {pack.describe(settings.people)}")
    people = _Faces(describe)
    for _ in people.watch(pack.draw(settings.people)):
        pass
    known = _Faces(describe)
    known.watch_all(reference)
    figures |= _compare_people(known.stacked("the reference set"), people.stacked("the portraits"))
    figures["faces_undescribed"] = len(made) - len(faces.places)
    nearest, sheet = _find_nearest(pipeline, faces, reference if training is None else training, settings)
    figures |= nearest
    if settings.paths:
        say(f"Path length: {settings.paths} paths")
        figures["ppl_lite0"] = mean_path_length(
            path_lengths(pipeline, network, settings.paths, settings.seed)
        )
    rates = {}
    if checker:
        rates = {f"face_rate_{some.psi:.1f}": some.count.rate() for some in (pack, full) if some.count}
        rates["face_rate_reference"] = measure_face_rate(enumerate(reference), checker)
    figures |= {name: rate.share for name, rate in rates.items()}
    return MetricReport({name: _round(value) for name, value in figures.items()}, sheet, rates)


class _Pictures:
    """A generator's pictures at one truncation; well-formed faces are counted on the way, at full size."""

    def __init__(
        self,
        pipeline: FacePipeline,
        settings: MetricSettings,
        psi: float,
        size: int,
        checker: FaceChecker | None,
    ) -> None:
        self.pipeline, self.psi, self.size = pipeline, psi, size
        self.first, self.faces = settings.seed, settings.faces
        self.count = FaceCount(checker) if checker else None

    def describe(self, wanted: int) -> str:
        """Say how many are made."""
        more = f", face rate of {self.faces}" if self.faces else ""
        return f"{wanted} at truncation {self.psi:g}{more}"

    def draw(self, wanted: int) -> Iterator[Pixels]:
        """Return the first `wanted` as uint8 [size, size, 3]; those to be counted are made in any case."""
        seeds = range(self.first, self.first + max(wanted, self.faces))
        for seed, image in self.pipeline.iter_images(seeds, truncation_psi=self.psi):
            pixels = np.asarray(image)
            if self.count and seed < self.first + self.faces:
                self.count.add(seed, pixels)
            if seed < self.first + wanted:
                yield reduce_by_area(pixels[None], self.size)[0]


class _Faces:
    """Descriptions of the faces of a stream of pictures, and at which place of it each one was."""

    def __init__(self, describe: Describe) -> None:
        self.describe = describe
        self.places: list[int] = []
        self._rows: list[FloatArray] = []

    def watch(self, pictures: Iterator[Pixels]) -> Iterator[Pixels]:
        """Hand the pictures on and describe them on their way."""
        for place, pixels in enumerate(pictures):
            row = self.describe(pixels)
            if row is not None:
                self.places.append(place)
                self._rows.append(row)
            yield pixels

    def watch_all(self, pictures: Pixels) -> None:
        """Describe all pictures of an array."""
        for _ in self.watch(iter(pictures)):
            pass

    def stacked(self, whose: str) -> FloatArray:
        """Return [N, D]."""
        if len(self._rows) < 4:
            raise InputError(
                f"A face can be described in {len(self._rows)} of {whose}. "
                "At least 4 are needed: is the face at half the height, and is there enough contrast?"
            )
        return np.stack(self._rows)


def _compare(real: FloatArray, made: FloatArray) -> dict[str, float]:
    """Return the figures of feature vectors: made against real, and half against half."""
    first, second = (real[half] for half in split_halves(len(real)))
    precision, _ = precision_recall(real, made)
    _, recall = precision_recall(real, made[: len(real)])
    precision_floor, recall_floor = precision_recall(first, second)
    fd, floor = frechet_distance(real, made), frechet_distance(first, second)
    return {
        "fd_lite0": fd,
        "fd_lite0_floor": floor,
        "fd_lite0_multiple": fd / floor,
        "kd_lite0": kernel_distance(real, made),
        "kd_lite0_floor": kernel_distance(first, second),
        "precision_lite0": precision,
        "precision_lite0_floor": precision_floor,
        "recall_lite0": recall,
        "recall_lite0_floor": recall_floor,
    }


def _compare_people(real: FloatArray, made: FloatArray) -> dict[str, float]:
    """Return how alike the made people are, beside the real ones."""
    limit = float(np.percentile(neighbor_distances(real), _PERSON_PERCENT))
    pair_limit = pair_percentile(real, _PERSON_PERCENT)
    first, _ = split_halves(len(real))
    likeness, floor = measure_likeness(made, limit), measure_likeness(real[first], limit)
    return {
        "same_person_limit": limit,
        "same_person_pairs": likeness.pairs_below,
        "same_person_pairs_floor": floor.pairs_below,
        "same_person_faces": likeness.persons_below,
        "smallest_distance": likeness.smallest,
        "smallest_distance_floor": floor.smallest,
        "close_pair_limit": pair_limit,
        "close_pair_share": measure_likeness(made, pair_limit).share_below,
        "close_pair_share_floor": measure_likeness(real[first], pair_limit).share_below,
    }


def _find_nearest(
    pipeline: FacePipeline, faces: _Faces, training: Pixels, settings: MetricSettings
) -> tuple[dict[str, float], Image]:
    """Return distances to the training set, mirrored too, and a sheet of the ten nearest pairs."""
    known = _Faces(faces.describe)
    known.watch_all(np.concatenate([training, training[:, :, ::-1]]))
    owners = np.array(known.places) % len(training)
    described = known.stacked("the training pictures")
    found, distances = nearest_in(faces.stacked("the pictures"), described)
    first, second = split_halves(len(training))
    is_first = np.isin(known.places, first)  # as they are, not mirrored
    _, between = nearest_in(described[is_first], described[np.isin(owners, second)])
    figures = {
        "nearest_training_smallest": float(distances.min()),
        "nearest_training_smallest_floor": float(between.min()),
        "nearest_training_median": float(np.median(distances)),
        "nearest_training_median_floor": float(np.median(between)),
    }
    pairs = []
    for index in nearest_pairs(distances):
        seed = settings.seed + faces.places[index]
        twin = known.places[found[index]]
        turn, place = divmod(twin, len(training))
        pixels = training[place][:, ::-1] if turn else training[place]
        words = f"seed {seed}, picture {place}{' mirrored' if turn else ''}: {distances[index]:.1f}"
        made = pipeline([seed], truncation_psi=FULL_PSI).images[0]
        pairs.append((made, PILImage.fromarray(np.ascontiguousarray(pixels)), words))
    return figures, pair_sheet(pairs)


def _round(value: float) -> float:
    """Keep five digits: more would differ between machines."""
    return float(f"{value:.5g}")


def describe_rates(rates: dict[str, FaceRate]) -> Sequence[str]:
    """Return a line for each face rate: how many pictures failed, and why."""
    return [
        f"{name}: {len(rate.failures)} of {rate.count} are no well-formed face"
        + "".join(f", {reason} {count}" for reason, count in rate.reasons.items())
        for name, rate in rates.items()
    ]


def describe_figures(figures: dict[str, float]) -> Sequence[str]:
    """Return a line for each figure, its floor beside it."""
    lines = []
    for name, value in figures.items():
        if name.endswith("_floor"):
            continue
        floor = figures.get(f"{name}_floor")
        lines.append(f"{name:28}{value:12.5g}" + (f"   real halves {floor:.5g}" if floor is not None else ""))
    return lines
