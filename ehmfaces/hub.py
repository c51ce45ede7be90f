"""Where models come from: the package, a folder or the Hub.

Owns model names, revisions and the texts when something is missing. Loads safetensors and JSON only.
"""

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from ehmfaces.errors import ModelError, UnsupportedModelError
from ehmfaces.models.stylegan2 import StyleGAN2Generator
from ehmfaces.pipeline import FacePipeline
from ehmfaces.tensors import choose_device

EMBEDDED_ID = "ehmfaces/embedded"
EMBEDDED_DIR = Path(__file__).parent / "weights" / "faces"
GENERATOR_CLASSES: dict[str, type[Any]] = {"StyleGAN2Generator": StyleGAN2Generator}
_PATTERNS = ("*.json", "*.safetensors")


def load_pipeline(model: str | None = None, device: str | None = None) -> FacePipeline:
    """Load a generator and put it on a device.

    Args:
        model: A folder, a Hub id ("org/name" or "org/name@revision"), or None for the environment
            variable EHMFACES_MODEL and then the embedded default.
        device: Like "cpu" or "cuda"; None = the best of this machine.

    Raises:
        ModelError: The model is not there or is damaged.
        UnsupportedModelError: It is no generator that ehmfaces knows.
        InputError: The device cannot be used.
    """
    name = model or os.environ.get("EHMFACES_MODEL") or EMBEDDED_ID
    local = EMBEDDED_DIR if name == EMBEDDED_ID else Path(name)
    folder = local if local.is_dir() else _download(name)
    return load_folder(folder, EMBEDDED_ID if folder == EMBEDDED_DIR else name).to(choose_device(device))


def load_folder(folder: Path, model_id: str) -> FacePipeline:
    """Load a generator's config.json and safetensors, with or without a model_index.json above them.

    Raises:
        ModelError: Files are missing or damaged.
        UnsupportedModelError: The config names a class that ehmfaces does not know.
    """
    index = _read_json(folder / "model_index.json") if (folder / "model_index.json").exists() else {}
    inner = folder / "generator" if (folder / "generator" / "config.json").exists() else folder
    config = _read_json(inner / "config.json")
    class_name = config.get("_class_name")
    if class_name not in GENERATOR_CLASSES:
        known = ", ".join(GENERATOR_CLASSES)
        raise UnsupportedModelError(f'"{model_id}" holds a "{class_name}", no generator. Known: {known}.')
    try:
        generator = GENERATOR_CLASSES[class_name].from_pretrained(
            inner, dtype=torch.float32, low_cpu_mem_usage=False, local_files_only=True, use_safetensors=True
        )
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f'The model "{model_id}" cannot be loaded: {str(error)[:200]}. Get it again, or import it anew.'
        ) from error
    background = index.get("background_color", config.get("background_color"))
    return FacePipeline(generator, model_id=index.get("model_id", model_id), background_color=background)


def _read_json(path: Path) -> dict[str, Any]:
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


def _download(name: str) -> Path:
    """Fetch JSON and safetensors files of a Hub repository into the Hub's cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    repo_id, _, revision = name.partition("@")
    try:
        return Path(snapshot_download(repo_id, revision=revision or None, allow_patterns=list(_PATTERNS)))
    except HFValidationError as error:
        raise ModelError(
            f'"{name}" is no folder here and no Hub id. Give a folder, or an id like org/name@revision.'
        ) from error
    except GatedRepoError as error:
        raise ModelError(
            f'"{name}" asks for consent: accept its terms on the Hub and set HF_TOKEN.'
        ) from error
    except RevisionNotFoundError as error:
        raise ModelError(f'"{repo_id}" has no revision "{revision}". Leave it out for the newest.') from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            f'The Hub shows no model "{repo_id}": check the name, or set HF_TOKEN if it is private.'
        ) from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise ModelError(
            f'"{name}" is no folder, not in the cache, and the Hub is away. Go online or give a folder.'
        ) from error


def save_pipeline(pipeline: FacePipeline, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write a pipeline as model_index.json and a generator folder that `load_folder` reads.

    Args:
        pipeline: What to write; it is left as it is.
        folder: Target; made when it is missing.
        dtype: Number format of the weights on disk.
    """
    config = {key: value for key, value in pipeline.generator.config.items() if not key.startswith("_")}
    generator = type(pipeline.generator)(**config)
    generator.load_state_dict(pipeline.generator.state_dict())
    torch.nn.Module.to(generator, dtype)
    FacePipeline(generator, pipeline.model_id, pipeline.background_color).save_pretrained(folder)
    for path in folder.rglob("*.safetensors"):
        path.chmod(0o644)
