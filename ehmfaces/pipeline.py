"""FacePipeline: seeds in, pictures out.

Owns the checks of settings, the way seed -> z -> ws -> picture, mixing and blending. Every picture is
computed alone, so that it does not depend on what else is asked for. Where models lie and how the Hub is
spoken to is in `model_folder` and `repository`. Knows no portrait format or roster.
"""

import hashlib
import json
import math
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import BaseOutput
from PIL import Image as PILImage

from ehmfaces.errors import LatentError
from ehmfaces.images import encode_png
from ehmfaces.latents.directions import Directions, Wishes
from ehmfaces.latents.interpolation import blend_ws
from ehmfaces.latents.mixing import mix_ws
from ehmfaces.latents.truncation import check_truncation, truncate_ws
from ehmfaces.model_card import (
    METRICS_NAME,
    SAMPLE_PSI,
    SAMPLE_SEEDS,
    SHEET_NAME,
    CardWords,
    build_card,
    sample_sheet,
)
from ehmfaces.model_folder import (
    find_model,
    load_directions,
    load_generator,
    read_facts,
    save_directions,
)
from ehmfaces.models.stylegan2 import PeopleMapping, StyleGAN2Generator
from ehmfaces.models.stylegan3 import StyleGAN3Generator, make_transform
from ehmfaces.repository import push_folder
from ehmfaces.seeds import latents_from_seeds
from ehmfaces.synthesis.choice import REFERENCE, EngineChoice, check_choice, choice_of
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
        license: A Hub licence id like "apache-2.0", or None when it is not stated.
    """

    directions: Directions | None = None  # of this generator's w, for wishes

    def __init__(
        self,
        generator: StyleGAN2Generator | StyleGAN3Generator,
        model_id: str = "unnamed",
        background_color: Sequence[int] | None = None,
        license: str | None = None,
    ) -> None:
        """Keep the network in evaluation mode."""
        super().__init__()
        generator.eval().requires_grad_(False)
        self.register_modules(generator=generator)
        self.register_to_config(
            model_id=model_id,
            background_color=list(background_color) if background_color else None,
            license=license,
        )

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        revision: str | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        **options: Any,
    ) -> "FacePipeline":
        """Load a model of a folder or of the Hub, on the CPU. Only JSON and safetensors files are read.

        Args:
            name: A folder, or a Hub id: "org/name" or "org/name@revision".
            revision: Branch, tag or commit; None = the newest.
            dtype: Number format of the weights in memory.
            **options: For the Hub: token, cache_dir, local_files_only, force_download.

        Raises:
            ModelError: The model is not there, cannot be had or is damaged.
            UnsupportedModelError: It is something else.
        """
        snapshot = find_model(str(name), revision, **options)
        facts = read_facts(snapshot.folder, str(name))
        generator = load_generator(snapshot.folder, str(name), dtype)
        pipeline = cls(generator, facts.model_id, facts.background_color, facts.license or snapshot.license)
        pipeline.directions = load_directions(snapshot.folder)
        return pipeline

    def save_pretrained(self, save_directory: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write model_index.json and a generator folder that `from_pretrained` reads.

        Args:
            save_directory: Target; made when it is missing.
            dtype: Number format on disk; None = float16 where that changes no value, else float32.
        """
        config = {key: value for key, value in self.generator.config.items() if not key.startswith("_")}
        generator = type(self.generator)(**config)
        generator.load_state_dict(self.generator.state_dict())
        torch.nn.Module.to(generator, dtype or _lossless_dtype(generator))
        copy = FacePipeline(generator, self.model_id, self.background_color, self.license)
        DiffusionPipeline.save_pretrained(copy, save_directory)
        if self.directions is not None:
            save_directions(self.directions, Path(save_directory))
        for path in Path(save_directory).rglob("*.safetensors"):
            path.chmod(0o644)

    def save_with_card(
        self, folder: Path, name: str, words: CardWords | None = None, onnx_dir: Path | None = None
    ) -> None:
        """Write what `push_to_hub` uploads: the model under its new name, its card and a sample sheet.

        Args:
            folder: Target; made when it is missing.
            name: Hub id that the model is to have.
            words: What only a person can say.
            onnx_dir: Exported graphs that go along as `onnx`.
        """
        words = words or CardWords(self.license)
        license = words.license or self.license
        words = CardWords(license, words.data, words.metrics)
        renamed = FacePipeline(self.generator, name, self.background_color, license)
        renamed.directions = self.directions
        renamed.save_pretrained(folder)
        sheet = sample_sheet(self(SAMPLE_SEEDS, SAMPLE_PSI).images)
        (folder / SHEET_NAME).write_bytes(encode_png(sheet, {"Software": "ehmfaces", "Model": name}))
        if onnx_dir is not None:
            shutil.copytree(onnx_dir, folder / "onnx", dirs_exist_ok=True)
        card = build_card(name, self.facts, words, onnx_dir is not None)
        (folder / "README.md").write_text(card, "utf-8")
        if words.metrics:
            (folder / METRICS_NAME).write_text(json.dumps(dict(words.metrics), indent=2), "utf-8")

    def push_to_hub(
        self,
        repo_id: str,
        *,
        token: str | None = None,
        private: bool | None = None,
        revision: str | None = None,
        commit_message: str = "Upload model",
        words: CardWords | None = None,
        onnx_dir: Path | None = None,
    ) -> str:
        """Upload generator, card and sample sheet in one commit; a discriminator never goes along.

        Args:
            repo_id: Like "org/name"; made when it is missing.
            token: Must allow writing; None = HF_TOKEN or the stored one.
            private: For a new repository; None = the account's default.
            revision: A branch, made when it is missing; None = "main".
            commit_message: One line.
            words: Licence, data and metrics for the card.
            onnx_dir: Exported graphs that go along as `onnx`.

        Returns:
            The address of the commit.

        Raises:
            ModelError: The Hub does not take it; the text says why.
        """
        with tempfile.TemporaryDirectory(prefix="ehmfaces-push-") as folder:
            self.save_with_card(Path(folder), repo_id, words, onnx_dir)
            return push_folder(
                Path(folder),
                repo_id,
                token=token,
                private=private,
                revision=revision,
                commit_message=commit_message,
            )

    @property
    def model_id(self) -> str:
        """Name of the model in provenance records."""
        return str(self.config.model_id)

    @property
    def device(self) -> torch.device:
        """Where the generator is; diffusers' own property walks through all modules to tell."""
        return next(self.generator.parameters()).device

    @property
    def background_color(self) -> tuple[int, int, int] | None:
        """The known colour behind every head, 0 to 255, or None."""
        color = self.config.background_color
        return (int(color[0]), int(color[1]), int(color[2])) if color else None

    @property
    def license(self) -> str | None:
        """Licence id of the model, or None when it is not stated."""
        name = self.config.license
        return str(name) if name else None

    @property
    def facts(self) -> dict[str, Any]:
        """What a model card says: class, sizes, number of parameters, background and hash."""
        generator = self.generator
        return {
            "class_name": type(generator).__name__,
            "resolution": self.resolution,
            "parameters": f"{sum(p.numel() for p in generator.parameters()):,}",
            "z_dim": generator.z_dim,
            "w_dim": generator.w_dim,
            "c_dim": generator.c_dim,
            "num_ws": self.num_ws,
            "background_color": self.background_color,
            "model_hash": self.model_hash,
        }

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

    @property
    def engine_choice(self) -> EngineChoice:
        """How pictures are computed; eager PyTorch in float32 unless `use_engine` said otherwise."""
        return self.__dict__.get("_engine_choice", REFERENCE)

    def use_engine(
        self,
        engine: str | None = None,
        precision: str | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> "FacePipeline":
        """Choose how pictures are computed from now on; random noise is always drawn by eager PyTorch.

        Args:
            engine: "auto", "torch", "compile", "onnx" or "openvino"; None = EHMFACES_ENGINE, then "torch".
            precision: "float32", "bfloat16" or "float16"; None = EHMFACES_PRECISION, then "float32".
            say: Is told what "auto" measured.

        Returns:
            This pipeline.

        Raises:
            InputError: A name is unknown or the machine cannot do it.
            MissingExtraError: A package is missing.
        """
        choice = choice_of(engine, precision)
        synthesizer = None
        if choice.engine == "auto":
            from ehmfaces.synthesis.selection import choose_engine

            choice = choose_engine(self.generator, choice.precision, self.model_hash, say)
        check_choice(choice, self.device)
        if not choice.is_reference:
            from ehmfaces.synthesis.engines import build_synthesizer

            synthesizer = build_synthesizer(self.generator, choice, self.model_hash)
        self.__dict__.update(_engine_choice=choice, _synthesizer=synthesizer)
        return self

    def prepare_latents(
        self,
        seeds: Sequence[Seed],
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        wishes: Wishes | None = None,
    ) -> FloatLatents:
        """Return ws float32 [N, num_ws, w_dim], each row computed alone.

        Raises:
            LatentError: A seed or a truncation setting is wrong, or the model has no directions for a wish.
        """
        check_truncation(truncation_psi, truncation_cutoff, self.num_ws)
        z = latents_from_seeds(seeds, self.generator.z_dim)
        c = self._label()
        rows = [self._map(torch.from_numpy(row[None]).to(self.device), c) for row in z]
        ws = np.concatenate(rows) if rows else np.zeros((0, self.num_ws, self.generator.w_dim), np.float32)
        w_avg = self.generator.mapping.w_avg.float().cpu().numpy()
        ws = truncate_ws(ws, w_avg, truncation_psi, truncation_cutoff)
        ws = self._grant(wishes, ws, w_avg)
        return ws if truncation_psi == 1 else self._lift(ws, truncation_psi, truncation_cutoff)

    def _lift(self, ws: FloatLatents, truncation_psi: float, truncation_cutoff: int | None) -> FloatLatents:
        """Return truncated ws, more believable where the generator knows how, each row by itself."""
        mapping = self.generator.mapping
        if not isinstance(mapping, PeopleMapping):
            return ws
        lifted = np.array(ws, copy=True)
        for row in lifted:
            near = torch.from_numpy(row[:truncation_cutoff]).to(self.device)
            with torch.inference_mode():
                row[:truncation_cutoff] = mapping.lift_ws(near, truncation_psi).float().cpu().numpy()
        return lifted

    def _grant(self, wishes: Wishes | None, ws: FloatLatents, w_avg: FloatLatents) -> FloatLatents:
        """Return ws moved as wished."""
        if wishes is None or not wishes.to_dict():
            return ws
        if self.directions is None:
            raise LatentError(
                f'The model "{self.model_id}" has no directions for {", ".join(wishes.to_dict())}. '
                "Leave these wishes out, or take the embedded model."
            )
        return self.directions.apply(ws, w_avg, wishes)

    def _placement(self, rotation_deg: float, translation: Sequence[float]) -> dict[str, torch.Tensor]:
        """Return the synthesis network's keywords for a turn and a shift; none where there is neither."""
        check_placement(rotation_deg, translation)
        if not rotation_deg and not any(translation):
            return {}
        if not isinstance(self.generator, StyleGAN3Generator):
            raise LatentError(
                f"{type(self.generator).__name__} cannot turn or shift its pictures: only StyleGAN3 can. "
                "Leave rotation_deg and translation out."
            )
        return {"transform": make_transform(rotation_deg, translation).to(self.device)}

    def _label(self) -> torch.Tensor | None:
        """Return the label that stands for none: all zeros [1, c_dim]."""
        size = self.generator.c_dim
        return torch.zeros(1, size, device=self.device) if size else None

    def _map(self, z: torch.Tensor, c: torch.Tensor | None) -> FloatLatents:
        with torch.inference_mode():
            ws: FloatLatents = self.generator.mapping(z, c).float().cpu().numpy()
        return ws

    def synthesize(
        self,
        ws: FloatLatents,
        noise_mode: NoiseMode = "const",
        noise_seed: Seed = 0,
        rotation_deg: float = 0.0,
        translation: Sequence[float] = (0.0, 0.0),
    ) -> Image:
        """Return the RGB picture of one ws [num_ws, w_dim].

        Args:
            ws: float32 [num_ws, w_dim].
            noise_mode: "const" (stored noise), "random" (drawn from `noise_seed`) or "none".
            noise_seed: Only for "random".
            rotation_deg: Turn of the picture in degrees; only for generators that can (StyleGAN3).
            translation: Shift (x, y) in picture widths, positive right and down; as above.

        Raises:
            LatentError: A setting is wrong.
        """
        check_noise_mode(noise_mode)
        placed = self._placement(rotation_deg, translation)
        synthesizer = self.__dict__.get("_synthesizer")
        if synthesizer is not None and noise_mode != "random" and not placed:
            img = torch.from_numpy(synthesizer(ws[None], noise_mode))
            return PILImage.fromarray(pixels_from_img(img)[0])
        dtype = next(self.generator.parameters()).dtype
        batch = torch.from_numpy(ws[None]).to(self.device, dtype)
        with torch.inference_mode(), torch.random.fork_rng(enabled=noise_mode == "random"):
            if noise_mode == "random":
                torch.manual_seed(noise_seed)
            img = self.generator.synthesis(batch, noise_mode, **placed)
        return PILImage.fromarray(pixels_from_img(img)[0])

    def __call__(
        self,
        seeds: Sequence[Seed],
        truncation_psi: float = 0.7,
        truncation_cutoff: int | None = None,
        noise_mode: NoiseMode = "const",
        rotation_deg: float = 0.0,
        translation: Sequence[float] = (0.0, 0.0),
        wishes: Wishes | None = None,
    ) -> FaceOutput:
        """Make one face per seed.

        Args:
            seeds: Whole numbers from 0 to 2**32 - 1.
            truncation_psi: 0 = the average face, 0.7 = usual, 1 = off.
            truncation_cutoff: Number of leading layers that are truncated; None = all.
            noise_mode: "const", "random" (drawn from the face's own seed) or "none".
            rotation_deg: Turn of the pictures in degrees; only for generators that can (StyleGAN3).
            translation: Shift (x, y) in picture widths, positive right and down; as above.
            wishes: Sex, age, smile, skin and hair; only for models with directions.

        Raises:
            LatentError: A setting is wrong.
        """
        ws = self.prepare_latents(seeds, truncation_psi, truncation_cutoff, wishes)
        placed = (rotation_deg, translation)
        images = [
            self.synthesize(row, noise_mode, seed, *placed) for seed, row in zip(seeds, ws, strict=True)
        ]
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


def _lossless_dtype(network: torch.nn.Module) -> torch.dtype:
    """Return float16 when it holds every value of a network exactly, else float32."""
    values = network.state_dict().values()
    exact = all(torch.equal(value.to(torch.float16).to(value.dtype), value) for value in values)
    return torch.float16 if exact else torch.float32


def check_placement(rotation_deg: float, translation: Sequence[float]) -> None:
    """Raise unless a turn and a shift are numbers.

    Raises:
        LatentError: One of them is not.
    """
    if not math.isfinite(rotation_deg):
        raise LatentError(f"Rotation {rotation_deg} is not a number of degrees.")
    if len(translation) != 2 or not all(math.isfinite(part) for part in translation):
        raise LatentError(
            f"Translation {tuple(translation)} is not two numbers: (x, y) in picture widths, like (0.1, 0)."
        )


def check_noise_mode(noise_mode: str) -> None:
    """Raise unless the noise mode is known.

    Raises:
        LatentError: The mode is unknown.
    """
    if noise_mode not in get_args(NoiseMode):
        raise LatentError(f'Unknown noise mode "{noise_mode}". Known: {", ".join(get_args(NoiseMode))}.')
