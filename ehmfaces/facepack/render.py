"""One face: seed -> finished portrait as PNG bytes with its provenance.

Owns the order of the steps (generate, cut out, frame, encode). Does not know rosters, names or ZIPs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch
from PIL import Image as PILImage

from ehmfaces import __version__
from ehmfaces.cutout.base import CutoutBackend, cut_out, load_cutout_backend
from ehmfaces.errors import ImageError, UnsupportedModelError
from ehmfaces.facepack.plan import FacepackSettings
from ehmfaces.images import encode_png, parse_color
from ehmfaces.latents.directions import Wishes
from ehmfaces.pipeline import FacePipeline
from ehmfaces.portrait.compose import compose_portrait
from ehmfaces.portrait.formats import PortraitFormat, get_format
from ehmfaces.provenance import Provenance
from ehmfaces.synthesis.choice import REFERENCE
from ehmfaces.types import Image, NoiseMode, PngSize, Seed

GAP_PX = 2
PAPER = (255, 255, 255)


@dataclass
class PortraitRenderer:
    """Makes portraits with fixed settings.

    Having one sets this process to one thread for each portrait: sums that are split over threads differ in
    their last bits, and a face must not depend on the number of cores. Speed comes from several workers.

    Args:
        pipeline: The generator.
        cutout: The cut-out back-end, or None to keep the generator's background.
        portrait_format: Size and framing.
        background: Colour behind the person, 0 to 255, or None for transparent.
        truncation_psi: 0 = the average face, 1 = off.
        noise_mode: "const", "random" or "none".
        truncation_cutoff: Number of leading layers that are truncated; None = all.
        wishes: Sex, age, smile, skin and hair.
        png_size: As `images.encode_png` takes it.
    """

    pipeline: FacePipeline
    cutout: CutoutBackend
    portrait_format: PortraitFormat
    background: tuple[int, int, int] | None = None
    truncation_psi: float = 0.7
    noise_mode: NoiseMode = "const"
    truncation_cutoff: int | None = None
    wishes: Wishes = field(default_factory=Wishes)
    png_size: PngSize = "full"

    def __post_init__(self) -> None:
        """Compute on one thread from now on."""
        torch.set_num_threads(1)

    def render(self, seed: Seed) -> bytes:
        """Return the finished portrait of a seed as PNG bytes."""
        return self.encode(self.compose(self.face(seed)), seed)

    def face(self, seed: Seed) -> Image:
        """Return the generator's picture of a seed."""
        psi, cutoff = self.truncation_psi, self.truncation_cutoff
        faces = self.pipeline([seed], psi, cutoff, self.noise_mode, wishes=self.wishes)
        image: Image = faces.images[0]
        return image

    __call__ = render

    def compose(self, image: Image) -> Image:
        """Cut out a picture of the generator and frame it."""
        cutout = cut_out(image, self.cutout, self.pipeline.background_color)
        return compose_portrait(cutout, self.portrait_format, self.background)

    def encode(self, portrait: Image, seed: Seed | None, mixing: dict[str, object] | None = None) -> bytes:
        """Return PNG bytes with the provenance record of these settings."""
        # random noise is drawn by the reference engine
        choice = REFERENCE if self.noise_mode == "random" else self.pipeline.engine_choice
        record = Provenance(
            ehmfaces_version=__version__,
            model_id=self.pipeline.model_id,
            model_hash=self.pipeline.model_hash,
            seed=seed,
            truncation_psi=self.truncation_psi,
            truncation_cutoff=self.truncation_cutoff,
            noise_mode=self.noise_mode,
            mixing=mixing,
            cutout=self.cutout.name,
            portrait_format=self.portrait_format.name,
            background=color_text(self.background),
            engine=choice.engine,
            precision=choice.precision,
            wishes=self.wishes.to_dict() or None,
        )
        return encode_png(portrait, record.to_text(), self.png_size)


def color_text(color: tuple[int, int, int] | None) -> str:
    """Return a colour as `images.parse_color` reads it.

    Example:
        >>> color_text((31, 44, 56)), color_text(None)
        ('#1f2c38', 'none')
    """
    return "none" if color is None else "#{:02x}{:02x}{:02x}".format(*color)


def renderer_for(pipeline: FacePipeline, settings: FacepackSettings) -> PortraitRenderer:
    """Return the renderer that a pack's settings ask for.

    Raises:
        InputError: A format, background or back-end is unknown.
    """
    return PortraitRenderer(
        pipeline,
        load_cutout_backend(settings.cutout),
        get_format(settings.portrait_format),
        parse_color(settings.background),
        settings.truncation_psi,
        settings.noise_mode,
        wishes=Wishes(settings.sex),
        png_size=settings.png_size,
    )


def remake(pipeline: FacePipeline, portrait: "Path | bytes") -> bytes:
    """Make a portrait again from the record inside it.

    Raises:
        ImageError: It has no record, or is of a mixed face.
        UnsupportedModelError: It was made with another generator.
        EHMFacesError: This machine lacks the engine or precision it was made with.
    """
    record = Provenance.read(portrait)
    if record.seed is None:
        raise ImageError(
            "This portrait is a mix of faces; only portraits of one seed can be made again so far."
        )
    if record.model_hash != pipeline.model_hash:
        raise UnsupportedModelError(
            f'This portrait was made with "{record.model_id}" ({record.model_hash}), not with the loaded '
            f'"{pipeline.model_id}" ({pipeline.model_hash}). Load that model.'
        )
    pipeline.use_engine(record.engine, record.precision)
    renderer = PortraitRenderer(
        pipeline,
        load_cutout_backend(record.cutout),
        get_format(record.portrait_format),
        parse_color(record.background),
        record.truncation_psi,
        cast(NoiseMode, record.noise_mode),
        record.truncation_cutoff,
        Wishes.from_dict(record.wishes or {}),
    )
    return renderer.render(record.seed)


def mixing_grid(
    pipeline: FacePipeline,
    row_seeds: Sequence[Seed],
    col_seeds: Sequence[Seed],
    col_styles: Sequence[int],
    truncation_psi: float = 0.7,
    noise_mode: NoiseMode = "const",
) -> Image:
    """Draw the figure of style mixing: column faces on top, row faces at the left, crosses between."""
    faces = pipeline([*row_seeds, *col_seeds], truncation_psi, None, noise_mode).images
    crosses = pipeline.mix(row_seeds, col_seeds, col_styles, truncation_psi, noise_mode).images
    return compose_grid(faces[: len(row_seeds)], faces[len(row_seeds) :], crosses)


def compose_grid(rows: Sequence[Image], cols: Sequence[Image], crosses: Sequence[Image]) -> Image:
    """Set pictures of one size into a grid with an empty corner.

    Args:
        rows: R pictures for the left margin.
        cols: C pictures for the top margin.
        crosses: R * C pictures, row by row.
    """
    step_x, step_y = rows[0].width + GAP_PX, rows[0].height + GAP_PX
    grid = PILImage.new("RGB", (step_x * (len(cols) + 1), step_y * (len(rows) + 1)), PAPER)
    for column, image in enumerate(cols):
        grid.paste(image, (step_x * (column + 1), 0))
    for row, image in enumerate(rows):
        grid.paste(image, (0, step_y * (row + 1)))
    for number, image in enumerate(crosses):
        row, column = divmod(number, len(cols))
        grid.paste(image, (step_x * (column + 1), step_y * (row + 1)))
    return grid
