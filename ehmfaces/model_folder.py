"""A model on disk: config.json and safetensors, with or without a model_index.json above them.

Owns which classes are generators, finding and loading one, and what a folder says about itself without
loading it. Does not know how the Hub is spoken to, seeds or pictures.
"""

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from ehmfaces.errors import ModelError, UnsupportedModelError
from ehmfaces.latents.directions import Directions
from ehmfaces.models.stylegan2 import StyleGAN2Generator
from ehmfaces.models.stylegan3 import StyleGAN3Generator
from ehmfaces.repository import Snapshot, fetch, split_name, stated_license

EMBEDDED_ID = "ehmfaces/embedded"
EMBEDDED_DIR = Path(__file__).parent / "weights" / "faces"
DIRECTIONS_NAME = "directions.safetensors"
GENERATOR_CLASSES: dict[str, type[Any]] = {
    "StyleGAN2Generator": StyleGAN2Generator,
    "StyleGAN3Generator": StyleGAN3Generator,
}
# Last parts of names outside the mapping network, whose only buffer is w_avg; all else are buffers.
_PARAMETERS = ("weight", "bias", "const", "noise_strength")


@dataclass(frozen=True)
class ModelFacts:
    """What a model folder says about itself.

    Attributes:
        model_id: Name for provenance records.
        class_name: Like "StyleGAN2Generator".
        resolution: Width and height of its pictures in pixels.
        parameters: Number of learned values, or None when its files do not tell.
        license: Like "apache-2.0", or None when it does not say.
        background_color: The colour behind every head, 0 to 255, or None.
    """

    model_id: str
    class_name: str
    resolution: int
    parameters: int | None
    license: str | None
    background_color: tuple[int, int, int] | None


def find_model(name: str, revision: str | None = None, **options: Any) -> Snapshot:
    """Return the folder of a model, fetched from the Hub where that is needed.

    Args:
        name: A folder, a Hub id ("org/name" or "org/name@revision"), or the embedded model's id.
        revision: Branch, tag or commit of a Hub id.
        **options: token, cache_dir, local_files_only and force_download of `repository.fetch`.

    Raises:
        ModelError: The model is not there or cannot be had.
        UnsupportedModelError: It is something else.
    """
    if name == EMBEDDED_ID:
        return Snapshot(EMBEDDED_DIR)
    if Path(name).is_dir():
        return Snapshot(Path(name))
    if Path(name).is_file():
        raise UnsupportedModelError(
            f'"{name}" is a file; models are folders of JSON and safetensors. Turn a pickle into one with: '
            "ehmfaces model import FILE --out DIR"
        )
    repo_id, wanted = split_name(name, revision)
    return fetch(repo_id, wanted, check_folder=lambda folder: read_facts(folder, name), **options)


def read_facts(folder: Path, model_id: str) -> ModelFacts:
    """Read what a folder says about itself; no weights are loaded.

    Args:
        folder: With config.json, or with model_index.json and generator/config.json.
        model_id: Name to use when the folder has none.

    Raises:
        ModelError: Files are missing or damaged.
        UnsupportedModelError: The config names a class that ehmfaces does not know.
    """
    index = read_json(folder / "model_index.json") if (folder / "model_index.json").exists() else {}
    config = read_json(_inner(folder) / "config.json")
    class_name, resolution = config.get("_class_name"), config.get("img_resolution")
    if class_name not in GENERATOR_CLASSES:
        known = ", ".join(GENERATOR_CLASSES)
        raise UnsupportedModelError(f'"{model_id}" holds a "{class_name}", no generator. Known: {known}.')
    if not isinstance(resolution, int):
        raise ModelError(f'config.json of "{model_id}" has no img_resolution. Get the model again.')
    color = index.get("background_color", config.get("background_color"))
    return ModelFacts(
        model_id=str(index.get("model_id", model_id)),
        class_name=class_name,
        resolution=resolution,
        parameters=_count_parameters(_inner(folder)),
        license=index.get("license") or _card_license(folder / "README.md"),
        background_color=(int(color[0]), int(color[1]), int(color[2])) if color else None,
    )


def load_generator(folder: Path, model_id: str, dtype: torch.dtype = torch.float32) -> Any:
    """Load the generator of a folder, on the CPU.

    Raises:
        ModelError: Files are missing or damaged.
        UnsupportedModelError: The config names a class that ehmfaces does not know.
    """
    facts = read_facts(folder, model_id)
    try:
        generator = GENERATOR_CLASSES[facts.class_name].from_pretrained(
            _inner(folder), dtype=dtype, low_cpu_mem_usage=False, local_files_only=True, use_safetensors=True
        )
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f'The model "{model_id}" cannot be loaded: {str(error)[:200]}. Get it again (from the Hub with: '
            "ehmfaces model pull ID --force), or import it anew."
        ) from error
    # Loading puts other tensors into place. As built, the network is as fast and rounds as it did when saved.
    return generator.to(memory_format=torch.channels_last)


def load_directions(folder: Path) -> Directions | None:
    """Read the directions in w of a model folder; None when it has none.

    Raises:
        ModelError: The file is damaged.
    """
    path = folder / DIRECTIONS_NAME
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="np") as file:
            names = tuple(json.loads((file.metadata() or {})["names"]))
        values = load_file(path)
        parts = [values[key].astype(np.float32) for key in ("scores", "steps", "offsets")]
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise ModelError(f"{path.name} cannot be read ({str(error)[:100]}). Get the model again.") from error
    return Directions(names, *parts)


def save_directions(directions: Directions, folder: Path) -> None:
    """Write directions beside a model."""
    values = {"scores": directions.scores, "steps": directions.steps, "offsets": directions.offsets}
    # safetensors writes the memory as it lies
    save_file(
        {key: np.ascontiguousarray(value) for key, value in values.items()},
        folder / DIRECTIONS_NAME,
        metadata={"names": json.dumps(directions.names)},
    )
    (folder / DIRECTIONS_NAME).chmod(0o644)


def _inner(folder: Path) -> Path:
    """Return the folder that holds config.json: `generator` inside, or the folder itself."""
    return folder / "generator" if (folder / "generator" / "config.json").exists() else folder


def _count_parameters(folder: Path) -> int | None:
    """Count learned values by the headers of the safetensors files; None when a header is damaged."""
    total = 0
    try:
        for path in sorted(folder.glob("*.safetensors")):
            with safe_open(path, framework="pt") as file:
                names: list[str] = list(file.keys())
                learned = [name for name in names if _is_learned(name)]
                total += sum(prod(file.get_slice(name).get_shape()) for name in learned)
    except (OSError, SafetensorError):
        return None
    return total or None


def _is_learned(name: str) -> bool:
    last = name.rsplit(".", 1)[-1]
    return last in _PARAMETERS or (name.startswith("mapping.") and last != "w_avg")


def _card_license(card: Path) -> str | None:
    """Return the licence in the front matter of a model card, if there is one."""
    from huggingface_hub.repocard import metadata_load
    from yaml import YAMLError  # type: ignore[import-untyped]

    if not card.exists():
        return None
    try:
        return stated_license(metadata_load(card))
    except (OSError, ValueError, YAMLError):
        return None


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of a model folder.

    Raises:
        ModelError: It is missing or damaged.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ModelError(
            f'"{path.parent.name}" holds no model: {path.name} is missing. Give a folder with config.json '
            "and safetensors files, or a Hub id like org/name."
        ) from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{path.name} cannot be read ({error}). Get the model again.") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path.name} is not a JSON object. Get the model again.")
    return content
