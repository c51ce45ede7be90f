"""One face: seed -> finished portrait as PNG bytes with its provenance.

Owns the order of the steps (generate, cut out, frame, encode). Does not know rosters, names or ZIPs.
"""

from dataclasses import dataclass

from ehmfaces import __version__
from ehmfaces.cutout.base import CutoutBackend, cut_out
from ehmfaces.images import encode_png
from ehmfaces.pipeline import FacePipeline
from ehmfaces.portrait.compose import compose_portrait
from ehmfaces.portrait.formats import PortraitFormat
from ehmfaces.provenance import Provenance
from ehmfaces.types import Image, NoiseMode, Seed


@dataclass
class PortraitRenderer:
    """Makes portraits with fixed settings.

    Args:
        pipeline: The generator.
        cutout: The cut-out back-end, or None to keep the generator's background.
        portrait_format: Size and framing.
        background: Colour behind the person, 0 to 255, or None for transparent.
        truncation_psi: 0 = the average face, 1 = off.
        noise_mode: "const", "random" or "none".
        truncation_cutoff: Number of leading layers that are truncated; None = all.
    """

    pipeline: FacePipeline
    cutout: CutoutBackend
    portrait_format: PortraitFormat
    background: tuple[int, int, int] | None = None
    truncation_psi: float = 0.7
    noise_mode: NoiseMode = "const"
    truncation_cutoff: int | None = None

    def render(self, seed: Seed) -> bytes:
        """Return the finished portrait of a seed as PNG bytes."""
        output = self.pipeline([seed], self.truncation_psi, self.truncation_cutoff, self.noise_mode)
        return self.encode(self.compose(output.images[0]), seed)

    __call__ = render

    def compose(self, image: Image) -> Image:
        """Cut out a picture of the generator and frame it."""
        cutout = cut_out(image, self.cutout, self.pipeline.background_color)
        return compose_portrait(cutout, self.portrait_format, self.background)

    def encode(self, portrait: Image, seed: Seed | None, mixing: dict[str, object] | None = None) -> bytes:
        """Return PNG bytes with the provenance record of these settings."""
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
        )
        return encode_png(portrait, record.to_text())


def color_text(color: tuple[int, int, int] | None) -> str:
    """Return a colour as `images.parse_color` reads it.

    Example:
        >>> color_text((31, 44, 56)), color_text(None)
        ('#1f2c38', 'none')
    """
    return "none" if color is None else "#{:02x}{:02x}{:02x}".format(*color)
