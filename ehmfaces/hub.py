"""Which model is used: names, defaults and devices.

Owns the order in which a model is looked for. How the Hub is spoken to is in `repository`, what a folder
holds in `model_folder`.
"""

import os
from collections.abc import Callable
from pathlib import Path

import torch

from ehmfaces.model_folder import EMBEDDED_DIR, EMBEDDED_ID, GENERATOR_CLASSES
from ehmfaces.pipeline import FacePipeline
from ehmfaces.tensors import choose_device

__all__ = [
    "EMBEDDED_DIR",
    "EMBEDDED_ID",
    "GENERATOR_CLASSES",
    "load_pipeline",
    "model_name",
    "save_pipeline",
]


def model_name(model: str | None = None) -> str:
    """Return the model that is meant: the given one, else EHMFACES_MODEL, else the embedded default."""
    return model or os.environ.get("EHMFACES_MODEL") or EMBEDDED_ID


def load_pipeline(
    model: str | None = None,
    device: str | None = None,
    engine: str | None = None,
    precision: str | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> FacePipeline:
    """Load a generator and put it on a device.

    Args:
        model: A folder, a Hub id ("org/name" or "org/name@revision"), or None for the environment
            variable EHMFACES_MODEL and then the embedded default.
        device: Like "cpu" or "cuda"; None = the best of this machine.
        engine: What computes; None = EHMFACES_ENGINE, then "torch" (see `FacePipeline.use_engine`).
        precision: Number format; None = EHMFACES_PRECISION, then "float32".
        say: Is told what the engine "auto" measured.

    Raises:
        ModelError: The model is not there or is damaged.
        UnsupportedModelError: It is no generator that ehmfaces knows.
        InputError: The device, engine or precision cannot be used.
        MissingExtraError: The engine is not installed.
    """
    pipeline: FacePipeline = FacePipeline.from_pretrained(model_name(model)).to(choose_device(device))
    return pipeline.use_engine(engine, precision, say)


def save_pipeline(pipeline: FacePipeline, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write a pipeline as model_index.json and a generator folder that `load_pipeline` reads.

    Args:
        pipeline: What to write; it is left as it is.
        folder: Target; made when it is missing.
        dtype: Number format of the weights on disk.
    """
    pipeline.save_pretrained(folder, dtype)
