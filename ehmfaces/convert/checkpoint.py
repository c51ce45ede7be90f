"""Any foreign checkpoint to one of our networks: recognised by content, read as data, checked, saved.

Owns the front door (`import_checkpoint`, `save_checkpoint`, `import_nvidia_pkl`) and the check that config
and weights belong together before memory is taken. The layouts themselves are in the converters.
"""

import hashlib
import json
import mmap
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import ModelMixin

from ehmfaces.convert.nvidia_pkl import NETWORKS, convert_nvidia
from ehmfaces.convert.records import PlainObject, printable
from ehmfaces.convert.rosinality_pt import convert_rosinality
from ehmfaces.convert.stored_network import Conversion
from ehmfaces.convert.tensorflow_pkl import convert_tensorflow
from ehmfaces.convert.torch_file import is_torch_file, load_storage, read_torch_file
from ehmfaces.convert.unpickler import Unpickler, budget_for
from ehmfaces.convert.vocabulary import TF_NETWORK, network_file
from ehmfaces.errors import InputError, ModelError, UnsupportedModelError
from ehmfaces.models.stylegan2 import StyleGAN2Discriminator, StyleGAN2Generator
from ehmfaces.models.stylegan3 import StyleGAN3Generator

_CLASSES: dict[str, type[Any]] = {
    "StyleGAN2Discriminator": StyleGAN2Discriminator,
    "StyleGAN2Generator": StyleGAN2Generator,
    "StyleGAN3Generator": StyleGAN3Generator,
}
# Files that are known, but not as checkpoints with a foreign layout: first bytes -> what to do.
_OTHER_FILES = {
    b"\x1f\x8b": "it is compressed with gzip: unpack it first",
    b"\x89HDF": "it is an HDF5 file, which is not supported",
    b"<!DO": "it is a web page, so the download went wrong: get the file again",
    b"<htm": "it is a web page, so the download went wrong: get the file again",
    b"vers": "it is a Git LFS pointer, not the file itself: get the file again",
}
_SLACK_BYTES = 2**24


@dataclass(frozen=True)
class SavedCheckpoint:
    """What was written.

    Attributes:
        origin: What the file was, in words.
        folder: Where config.json and the weights are.
        source_sha256: Hash of the foreign file.
        weights_sha256: Hash of the weights' values by name, as `hash_weights` makes it.
        model: The network.
    """

    origin: str
    folder: Path
    source_sha256: str
    weights_sha256: str
    model: Any


def import_nvidia_pkl(path: str | Path, network: str = "G_ema") -> Any:
    """Return a network of one of NVIDIA's pickles, without running anything that is in it.

    Args:
        path: File of stylegan2-ada-pytorch or stylegan3.
        network: "G_ema" (the averaged generator, the one to use), "G" or "D".

    Raises:
        UnsafePickleError: The file holds something else than numbers and known layers.
        UnsupportedModelError: The network is missing or of another architecture.
        ModelError: The file is damaged.
        InputError: There is no such file.
    """
    model, origin = _load(Path(path), network)
    if not origin.startswith("NVIDIA"):
        raise UnsupportedModelError(f"{Path(path).name} is a {origin}; import_checkpoint reads it.")
    return model.to(memory_format=torch.channels_last)


def import_checkpoint(path: str | Path, network: str = "G_ema") -> Any:
    """Return a network of any known foreign checkpoint; kinds, arguments and errors as `save_checkpoint`."""
    return _load(Path(path), network)[0].to(memory_format=torch.channels_last)


def save_checkpoint(path: Path, folder: Path, network: str = "G_ema") -> SavedCheckpoint:
    """Import a foreign checkpoint and write it as config.json and safetensors, which `load_pipeline` reads.

    Args:
        path: A pickle of stylegan2-ada-pytorch, stylegan3 or StyleGAN2 for TensorFlow, or a `.pt` file of
            stylegan2-pytorch (rosinality); recognised by content.
        folder: Target; made when it is missing, a model in it is replaced.
        network: "G_ema", "G" or "D".

    Raises:
        UnsafePickleError: The file holds something else than numbers and known layers.
        UnsupportedModelError: The network is missing or of another architecture.
        ModelError: The file is damaged.
        InputError: There is no such file, or the folder cannot be written.
    """
    model, origin = _load(path, network)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".import-", dir=folder) as unfinished:
            model.save_pretrained(unfinished)
            for written in Path(unfinished).iterdir():
                written.chmod(0o644)
                os.replace(written, folder / written.name)
    except OSError as error:
        raise InputError(f'"{folder}" cannot be written ({error.strerror}). Give another --out.') from error
    with path.open("rb") as file:
        source = hashlib.file_digest(file, "sha256").hexdigest()
    return SavedCheckpoint(origin, folder, source, hash_weights(model), model)


def verify_checkpoint(saved: SavedCheckpoint) -> Iterator[tuple[str, tuple[int, ...], str]]:
    """Read a written folder back and compare it with the network that was imported.

    Yields:
        Name, shape and first 16 hexadecimal digits of the SHA-256 of every weight's float32 values.

    Raises:
        ModelError: The folder does not hold the same.
    """
    read = type(saved.model).from_pretrained(saved.folder, low_cpu_mem_usage=False, local_files_only=True)
    if _plain_config(read) != _plain_config(saved.model) or hash_weights(read) != saved.weights_sha256:
        raise ModelError(f'"{saved.folder}" does not hold what was imported: the disk may be full or broken.')
    for name, value in sorted(read.state_dict().items()):
        values = value.float().contiguous().numpy()
        yield name, values.shape, hashlib.sha256(values.data).hexdigest()[:16]


def _plain_config(model: Any) -> dict[str, Any]:
    """Return the constructor's keywords as JSON has them."""
    config = {name: value for name, value in model.config.items() if not name.startswith("_")}
    plain: dict[str, Any] = json.loads(json.dumps(config))
    return plain


def hash_weights(model: ModelMixin) -> str:
    """Return the SHA-256 over names and float32 values of all weights; the files' format plays no part."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().float().contiguous().numpy().data)
    return digest.hexdigest()


def _load(path: Path, network: str) -> tuple[Any, str]:
    if network not in NETWORKS:
        raise InputError(f'Unknown network "{network}". Known: {", ".join(NETWORKS)}.')
    data = _map_file(path)
    conversion = convert(data, path.name, network)
    return build(conversion, len(data), path.name), conversion.origin


def _map_file(path: Path) -> memoryview:
    """Return the bytes of a file without reading them; they are let go with the last view of them."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise ModelError(f"{path.name} is empty. Get the file again.")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except FileNotFoundError as error:
        raise InputError(f'There is no file "{path}".') from error
    except OSError as error:
        raise InputError(f'"{path}" cannot be read ({error.strerror}). Give a checkpoint file.') from error


def convert(data: memoryview, label: str, network: str) -> Conversion:
    """Recognise a checkpoint by content and return how to build one of its networks.

    Args:
        data: The whole file.
        label: File name for error texts.
        network: "G_ema", "G" or "D".

    Raises:
        UnsafePickleError: It holds something else than numbers and known layers.
        UnsupportedModelError: The network is missing or of another architecture.
        ModelError: It is damaged.
    """
    budget = budget_for(len(data))
    if is_torch_file(data):
        return convert_rosinality(read_torch_file(data, label, budget), network, label)
    start = bytes(data[:4])
    for magic, advice in _OTHER_FILES.items():
        if start.startswith(magic):
            raise ModelError(f"{label} is no checkpoint: {advice}.")
    if bytes(data[8:10]) == b'{"':
        raise ModelError(f"{label} is a safetensors file already: give its folder as the model.")
    content = Unpickler(data, network_file(load_storage), label, budget).load()
    networks = content if isinstance(content, (tuple, list)) else [content]
    if any(isinstance(item, PlainObject) and item.kind == TF_NETWORK for item in networks):
        return convert_tensorflow(networks, network, label)
    return convert_nvidia(content, network, label)


def build(conversion: Conversion, file_bytes: int, label: str) -> Any:
    """Return the network of a conversion, after checking that its weights fit and are in the file.

    Raises:
        UnsupportedModelError: Names or shapes are not those of the network.
        ModelError: The config asks for more numbers than the file can hold.
    """
    try:
        with torch.device("meta"):
            model = _CLASSES[conversion.class_name](**conversion.config)
    except (ValueError, ArithmeticError, TypeError, KeyError, RuntimeError, AssertionError) as error:
        raise _unfit(label, conversion, f"its settings make no network ({str(error)[:80]})") from error
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    if 4 * sum(map(prod, expected.values())) > 4 * file_bytes + _SLACK_BYTES:
        raise ModelError(f"{label} describes a larger network than the file can hold. It is damaged.")
    different = sorted(expected.keys() ^ conversion.weights.keys())
    if different:
        raise _unfit(label, conversion, f"{different[0]} is missing or too many")
    state = {}
    for name, shape in expected.items():
        weights = conversion.weights[name]()
        if weights.shape != shape:
            raise _unfit(label, conversion, f"{name} is {list(weights.shape)} and not {list(shape)}")
        state[name] = torch.from_numpy(np.asarray(weights, order="C"))
    model.load_state_dict(state, assign=True)
    return model.eval()


def _unfit(label: str, conversion: Conversion, what: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{label} looks like a {conversion.origin}, but its weights do not fit {conversion.class_name}: "
        f"{printable(what)}. Changed architectures cannot be imported."
    )
