"""FacePipeline: seeds in, pictures out.

Owns the checks of settings, the way seed -> z -> ws -> picture, mixing and blending. Every picture is
computed alone, so that it does not depend on what else is asked for. Knows no file, format or roster.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import BaseOutput
from PIL import Image as PILImage

from ehmfaces.errors import LatentError
from ehmfaces.latents.interpolation import blend_ws
from ehmfaces.latents.mixing import mix_ws
from ehmfaces.latents.truncation import check_truncation, truncate_ws
from ehmfaces.models.stylegan2 import StyleGAN2Generator
from ehmfaces.seeds import latents_from_seeds
from ehmfaces.tensors import pixels_from_img
from ehmfaces.types import Image, NoiseMode, Seed

FloatLatents = npt.NDArray[np.float32]


@dataclass
class FaceOutput(BaseOutput):  # type: ignore[misc]
    """Pictures and where they come from.

    Attributes:
        images: N RGB pictures at the generator's resolution, person on the known background.
        seeds: N seeds; for a mixing grid, the row's seed of each picture.
        ws: float32 [N, num_ws, w_dim], after truncation.
    """

    images: list[Image]
    seeds: list[Seed]
    ws: FloatLatents


class FacePipeline(DiffusionPipeline):  # type: ignore[misc]
    """Make faces with a generator.

    Args:
        generator: The network.
        model_id: Name for provenance records.
        background_color: The colour behind every head that the generator was trained on, or None when
            it is unknown.
    """

    def __init__(
        self,
        generator: StyleGAN2Generator,
        model_id: str = "unnamed",
        background_color: Sequence[int] | None = None,
    ) -> None:
        """Keep the network in evaluation mode."""
        super().__init__()
        generator.eval().requires_grad_(False)
        self.register_modules(generator=generator)
        self.register_to_config(
            model_id=model_id, background_color=list(background_color) if background_color else None
        )

    @property
    def model_id(self) -> str:
        """Name of the model in provenance records."""
        return str(self.config.model_id)

    @property
    def background_color(self) -> tuple[int, int, int] | None:
        """The known colour behind every head, 0 to 255, or None."""
        color = self.config.background_color
        return (int(color[0]), int(color[1]), int(color[2])) if color else None

    @property
    def num_ws(self) -> int:
        """Number of style layers."""
        return int(self.generator.num_ws)

    @property
    def resolution(self) -> int:
        """Width and height of the pictures in pixels."""
        return int(self.generator.img_resolution)

    @cached_property
    def model_hash(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 over names and float32 values of all weights."""
        digest = hashlib.sha256()
        for name, value in sorted(self.generator.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def prepare_latents(
        self, seeds: Sequence[Seed], truncation_psi: float = 1.0, truncation_cutoff: int | None = None
    ) -> FloatLatents:
        """Return ws float32 [N, num_ws, w_dim], each row computed alone.

        Raises:
            LatentError: A seed or a truncation setting is wrong.
        """
        check_truncation(truncation_psi, truncation_cutoff, self.num_ws)
        z = latents_from_seeds(seeds, self.generator.z_dim)
        c = self._label()
        rows = [self._map(torch.from_numpy(row[None]).to(self.device), c) for row in z]
        ws = np.concatenate(rows) if rows else np.zeros((0, self.num_ws, self.generator.w_dim), np.float32)
        w_avg = self.generator.mapping.w_avg.float().cpu().numpy()
        return truncate_ws(ws, w_avg, truncation_psi, truncation_cutoff)

    def _label(self) -> torch.Tensor | None:
        """Return the label that stands for none: all zeros [1, c_dim]."""
        size = self.generator.c_dim
        return torch.zeros(1, size, device=self.device) if size else None

    def _map(self, z: torch.Tensor, c: torch.Tensor | None) -> FloatLatents:
        with torch.inference_mode():
            ws: FloatLatents = self.generator.mapping(z, c).float().cpu().numpy()
        return ws

    def synthesize(self, ws: FloatLatents, noise_mode: NoiseMode = "const", noise_seed: Seed = 0) -> Image:
        """Return the RGB picture of one ws [num_ws, w_dim].

        Args:
            ws: float32 [num_ws, w_dim].
            noise_mode: "const" (stored noise), "random" (drawn from `noise_seed`) or "none".
            noise_seed: Only for "random".
        """
        check_noise_mode(noise_mode)
        dtype = next(self.generator.parameters()).dtype
        batch = torch.from_numpy(ws[None]).to(self.device, dtype)
        with torch.inference_mode(), torch.random.fork_rng(enabled=noise_mode == "random"):
            if noise_mode == "random":
                torch.manual_seed(noise_seed)
            img = self.generator.synthesis(batch, noise_mode)
        return PILImage.fromarray(pixels_from_img(img)[0])

    def __call__(
        self,
        seeds: Sequence[Seed],
        truncation_psi: float = 0.7,
        truncation_cutoff: int | None = None,
        noise_mode: NoiseMode = "const",
    ) -> FaceOutput:
        """Make one face per seed.

        Args:
            seeds: Whole numbers from 0 to 2**32 - 1.
            truncation_psi: 0 = the average face, 0.7 = usual, 1 = off.
            truncation_cutoff: Number of leading layers that are truncated; None = all.
            noise_mode: "const", "random" (drawn from the face's own seed) or "none".

        Raises:
            LatentError: A setting is wrong.
        """
        ws = self.prepare_latents(seeds, truncation_psi, truncation_cutoff)
        images = [self.synthesize(row, noise_mode, seed) for seed, row in zip(seeds, ws, strict=True)]
        return FaceOutput(images=images, seeds=list(seeds), ws=ws)

    def iter_images(self, seeds: Sequence[Seed], **settings: Any) -> Iterator[tuple[Seed, Image]]:
        """Yield (seed, picture) one at a time; the settings are those of a call."""
        for seed in seeds:
            yield seed, self([seed], **settings).images[0]

    def mix(
        self,
        row_seeds: Sequence[Seed],
        col_seeds: Sequence[Seed],
        col_styles: Sequence[int],
        truncation_psi: float = 0.7,
        noise_mode: NoiseMode = "const",
    ) -> FaceOutput:
        """Cross every row face with every column face: `col_styles` layers come from the column.

        Returns:
            len(row_seeds) * len(col_seeds) pictures, row by row.

        Raises:
            LatentError: A setting is wrong.
        """
        if any(not 0 <= style < self.num_ws for style in col_styles):
            raise LatentError(f"Styles {list(col_styles)} are not layers of this model: 0-{self.num_ws - 1}.")
        ws = mix_ws(
            self.prepare_latents(row_seeds, truncation_psi),
            self.prepare_latents(col_seeds, truncation_psi),
            col_styles,
        )
        seeds = [seed for seed in row_seeds for _ in col_seeds]
        images = [self.synthesize(row, noise_mode, seed) for seed, row in zip(seeds, ws, strict=True)]
        return FaceOutput(images=images, seeds=seeds, ws=ws)

    def blend(
        self,
        seed_a: Seed,
        seed_b: Seed,
        weight: float,
        truncation_psi: float = 0.7,
        noise_mode: NoiseMode = "const",
    ) -> FaceOutput:
        """Make the weighted average of two faces: weight 0 is the first, 1 the second.

        Raises:
            LatentError: A setting is wrong.
        """
        first, second = self.prepare_latents([seed_a, seed_b], truncation_psi)
        ws = blend_ws(first, second, weight)
        image = self.synthesize(ws, noise_mode, seed_a)
        return FaceOutput(images=[image], seeds=[seed_a], ws=ws[None])


def check_noise_mode(noise_mode: str) -> None:
    """Raise unless the noise mode is known.

    Raises:
        LatentError: The mode is unknown.
    """
    if noise_mode not in get_args(NoiseMode):
        raise LatentError(f'Unknown noise mode "{noise_mode}". Known: {", ".join(get_args(NoiseMode))}.')
