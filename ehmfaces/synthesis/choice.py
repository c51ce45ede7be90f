"""What can be asked for: an engine and a number format, and whether this machine can do it.

Owns the names, the environment variables and every refusal. Imports no engine and computes nothing.
"""

import os
import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import torch

from ehmfaces.errors import InputError, MissingExtraError, ModelError

ENGINES = ("auto", "torch", "compile", "onnx", "openvino")
PRECISIONS = ("float32", "bfloat16", "float16")
# engine -> (modules, extra)
NEEDS = {
    "onnx": (("onnx", "onnxscript", "onnxruntime"), "onnx"),
    "openvino": (("onnx", "onnxscript", "openvino"), "openvino"),
}


@dataclass(frozen=True)
class EngineChoice:
    """How pictures are computed.

    Attributes:
        engine: "torch" (eager), "compile" (torch.compile), "onnx", "openvino", or "auto".
        precision: "float32", "bfloat16" or "float16".
    """

    engine: str = "torch"
    precision: str = "float32"

    @property
    def is_reference(self) -> bool:
        """Tell whether this is what every other choice is compared with."""
        return self == REFERENCE

    def __str__(self) -> str:
        """Return it for people."""
        return f"{self.engine} {self.precision}"


REFERENCE = EngineChoice()


def choice_of(engine: str | None = None, precision: str | None = None) -> EngineChoice:
    """Return what is meant: the given names, else EHMFACES_ENGINE and EHMFACES_PRECISION, else the default.

    Raises:
        InputError: A name is unknown.
    """
    engine = engine or os.environ.get("EHMFACES_ENGINE") or REFERENCE.engine
    precision = precision or os.environ.get("EHMFACES_PRECISION") or REFERENCE.precision
    if engine not in ENGINES:
        raise InputError(f'Unknown engine "{engine[:40]}". Known: {", ".join(ENGINES)}.')
    if precision not in PRECISIONS:
        raise InputError(f'Unknown precision "{precision[:40]}". Known: {", ".join(PRECISIONS)}.')
    return EngineChoice(engine, precision)


def check_choice(choice: EngineChoice, device: torch.device) -> None:
    """Raise unless this machine can do it.

    Raises:
        InputError: The processor or GPU lacks the number format, or the engine does not run there.
        MissingExtraError: A package is missing.
        ModelError: There is no C++ compiler for torch.compile.
    """
    modules, extra = NEEDS.get(choice.engine, ((), ""))
    if any(find_spec(name) is None for name in modules):
        raise MissingExtraError(extra, f'The engine "{choice.engine}"')
    if modules and device.type != "cpu":
        raise InputError(
            f'The engine "{choice.engine}" runs on the processor, not on {device.type}. '
            "Use torch or compile there, or --device cpu."
        )
    if choice.engine == "compile" and device.type == "cpu" and not has_compiler():
        raise ModelError(
            "torch.compile needs a C++ compiler and none was found. "
            "Install g++ or set CXX, or use another engine."
        )
    _check_precision(choice, device)


def _check_precision(choice: EngineChoice, device: torch.device) -> None:
    if choice.precision == "float16" and device.type == "cpu":
        raise InputError(
            "float16 is for GPUs; this runs on the processor. Use float32, or bfloat16 where it has that."
        )
    if choice.precision == "bfloat16" and choice.engine == "onnx":
        raise InputError(
            'The engine "onnx" computes in float32. Use torch, compile or openvino for bfloat16.'
        )
    if choice.precision == "bfloat16" and not has_bfloat16(device):
        raise InputError(
            f"bfloat16 would be slower here: this machine ({machine_name(device)}) has no instructions "
            "for it. Use float32."
        )


def has_compiler() -> bool:
    """Tell whether torch.compile finds a C++ compiler."""
    return any(name and shutil.which(name) for name in (os.environ.get("CXX"), "g++", "clang++"))


def has_bfloat16(device: torch.device) -> bool:
    """Tell whether a device computes in bfloat16 itself."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in checks)


def machine_name(device: torch.device) -> str:
    """Return what computes, with its instruction set."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"


def version_of(package: str) -> str:
    """Return the version of an installed package, or "none"."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def cache_folder() -> Path:
    """Return where graphs and measurements are kept: EHMFACES_CACHE, else the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("EHMFACES_CACHE") or Path(base) / "ehmfaces")
