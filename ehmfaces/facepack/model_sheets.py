"""The contact sheets that show what a generator can do: seeds, wishes, style mixing and walks.

Owns which sheets there are, which seeds and settings each shows, and the measure of a walk's jumps. Does not
know layout or files. Nothing is selected: seeds are shown as they come.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import get_args

import numpy as np
from PIL import Image as PILImage

from ehmfaces import __version__
from ehmfaces.cutout.base import CutoutBackend
from ehmfaces.errors import InputError
from ehmfaces.facepack.render import PortraitRenderer, color_text, mixing_grid
from ehmfaces.images import GAME_BACKGROUND, encode_png
from ehmfaces.latents.directions import Sex, Wishes
from ehmfaces.latents.interpolation import walk_ws
from ehmfaces.latents.mixing import style_groups
from ehmfaces.pipeline import FacePipeline
from ehmfaces.portrait.formats import DEFAULT_FORMAT, get_format
from ehmfaces.provenance import Provenance
from ehmfaces.sheets import add_heading, contact_sheet
from ehmfaces.types import Image, Seed

FULL_PX = 256
AGES = {"young": -1.5, "middle": 0.0, "older": 1.5}  # strength of the wish
_COLUMNS, _GROUP_SEEDS, _MIX_ROWS, _MIX_COLUMNS = 16, 32, 5, 7
_WALKS, _WALK_STEPS = 6, 11


@dataclass(frozen=True)
class ModelSheet:
    """One sheet.

    Attributes:
        name: File name without suffix.
        words: What it shows, and what was measured on it.
        png: The picture with its provenance record.
    """

    name: str
    words: str
    png: bytes


def model_sheets(
    pipeline: FacePipeline, cutout: CutoutBackend, seeds: Sequence[Seed], truncation_psi: float = 0.7
) -> Iterator[ModelSheet]:
    """Draw all sheets of a generator, one after the other.

    Args:
        pipeline: The generator; without directions there are no sheets of sex and age.
        cutout: Cuts the people out for the game's format.
        seeds: At least two; those of sex and age show the first 32, mixing the first 12, walks the first 12.
        truncation_psi: 0 = the average face, 1 = off.

    Raises:
        InputError: Fewer than two seeds.
        LatentError: The truncation is wrong.
    """
    if len(seeds) < 2:
        raise InputError(f"Sheets need at least 2 seeds, not {len(seeds)}. Give more, like 0-127.")
    renderer = PortraitRenderer(pipeline, cutout, get_format(DEFAULT_FORMAT), GAME_BACKGROUND, truncation_psi)
    yield from _seed_sheets(renderer, seeds)
    for sex, age in _groups(pipeline):
        yield _group_sheet(renderer, seeds[:_GROUP_SEEDS], sex, age)
    yield from _mixing_sheets(renderer, seeds)
    yield _walk_sheet(renderer, seeds)


def _seed_sheets(renderer: PortraitRenderer, seeds: Sequence[Seed]) -> Iterator[ModelSheet]:
    faces = [renderer.face(seed) for seed in seeds]
    names = [str(seed) for seed in seeds]
    words = f"{len(seeds)} seeds, unselected"
    whole = contact_sheet([_at_full_size(face) for face in faces], _COLUMNS, names)
    yield _finish(renderer, f"seeds-{FULL_PX}", words, whole, seeds, is_cut_out=False)
    portraits = contact_sheet([renderer.compose(face) for face in faces], _COLUMNS, names)
    size = f"{renderer.portrait_format.width_px}x{renderer.portrait_format.height_px}"
    yield _finish(renderer, f"seeds-{size}", f"{words}, as in the game", portraits, seeds)


def _groups(pipeline: FacePipeline) -> list[tuple[Sex, str]]:
    """Return sex and age of each group that the generator has directions for."""
    known = pipeline.directions.names if pipeline.directions else ()
    if not {"sex", "age"} <= set(known):
        return []
    return [(sex, age) for sex in get_args(Sex) if sex != "any" for age in AGES]


def _group_sheet(renderer: PortraitRenderer, seeds: Sequence[Seed], sex: Sex, age: str) -> ModelSheet:
    wished = replace(renderer, wishes=Wishes(sex, AGES[age]))
    portraits = [wished.compose(wished.face(seed)) for seed in seeds]
    sheet = contact_sheet(portraits, _COLUMNS, [str(seed) for seed in seeds])
    return _finish(wished, f"{sex}-{age}", f"{sex}, age {AGES[age]:+g} standard deviations", sheet, seeds)


def _mixing_sheets(renderer: PortraitRenderer, seeds: Sequence[Seed]) -> Iterator[ModelSheet]:
    """Cross faces: coarse styles from the rows; then all but the fine ones from the rows."""
    num_ws = renderer.pipeline.num_ws
    rows = seeds[: min(_MIX_ROWS, len(seeds) // 2)]
    columns = seeds[len(rows) :][:_MIX_COLUMNS]
    groups = style_groups(num_ws)
    for kind, first in (("coarse", len(groups["coarse"])), ("fine", num_ws - len(groups["fine"]))):
        if not 0 < first < num_ws:
            continue  # so few layers that there are no such styles
        layers = range(first, num_ws)
        grid = mixing_grid(renderer.pipeline, rows, columns, layers, renderer.truncation_psi)
        words = f"rows give layers 0-{first - 1}, columns {first}-{num_ws - 1}"
        yield _finish(renderer, f"mixing-{kind}", words, grid, [*rows, *columns], is_cut_out=False)


def _walk_sheet(renderer: PortraitRenderer, seeds: Sequence[Seed]) -> ModelSheet:
    pipeline = renderer.pipeline
    chosen = seeds[: 2 * _WALKS]
    pairs = list(zip(chosen[::2], chosen[1::2], strict=False))
    images, jumps = [], []
    for pair in pairs:
        ws = walk_ws(pipeline.prepare_latents(pair, renderer.truncation_psi), _WALK_STEPS)
        walk = [pipeline.synthesize(row) for row in ws]
        images += [_at_full_size(image) for image in walk]
        jumps.append(largest_jump(walk))
    captions = []
    for pair, jump in zip(pairs, jumps, strict=True):
        captions += [f"{pair[0]} to {pair[1]}: largest step {jump:.2f} x mean", *[""] * _WALK_STEPS]
    sheet = contact_sheet(images, _WALK_STEPS + 1, captions)
    words = f"walks in w; largest step between two pictures {max(jumps):.2f} times the mean of its walk"
    return _finish(
        renderer, "walk", words, sheet, [seed for pair in pairs for seed in pair], is_cut_out=False
    )


def largest_jump(walk: Sequence[Image]) -> float:
    """Return the largest step between two pictures of a walk, relative to the mean step; 1 = all alike.

    A step is the root mean square of the differences of the pixels. Pictures that are all the same have no
    steps, so no jump: 0.
    """
    pixels = [np.asarray(image, np.float64) for image in walk]
    steps = [float(np.sqrt(np.mean((b - a) ** 2))) for a, b in pairwise(pixels)]
    mean = float(np.mean(steps))
    return max(steps) / mean if mean else 0.0


def _at_full_size(image: Image) -> Image:
    if image.width == FULL_PX:
        return image
    return image.resize((FULL_PX, FULL_PX), PILImage.Resampling.LANCZOS)


def _finish(
    renderer: PortraitRenderer,
    name: str,
    words: str,
    sheet: Image,
    seeds: Sequence[Seed],
    *,
    is_cut_out: bool = True,
) -> ModelSheet:
    """Put words above a sheet and its record into it."""
    pipeline, choice = renderer.pipeline, renderer.pipeline.engine_choice
    record = Provenance(
        ehmfaces_version=__version__,
        model_id=pipeline.model_id,
        model_hash=pipeline.model_hash,
        seed=None,
        truncation_psi=renderer.truncation_psi,
        truncation_cutoff=None,
        noise_mode=renderer.noise_mode,
        mixing={"sheet": name, "seeds": list(seeds)},
        cutout=renderer.cutout.name if is_cut_out else "none",
        portrait_format=renderer.portrait_format.name if is_cut_out else "full",
        background=color_text(renderer.background if is_cut_out else None),
        engine=choice.engine,
        precision=choice.precision,
        wishes=renderer.wishes.to_dict() or None,
    )
    heading = f"{pipeline.model_id} {pipeline.model_hash}, truncation {renderer.truncation_psi:g}: {words}"
    return ModelSheet(name, words, encode_png(add_heading(sheet, heading), record.to_text()))
