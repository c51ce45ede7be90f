"""`auto`: which engine is fastest on this machine, measured once and kept.

Owns the measurement and its cache. Precision is never changed here: it changes pictures, so a person asks
for it. torch.compile is left out, because compiling takes longer than most runs.
"""

import hashlib
import json
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import torch

from ehmfaces.errors import EHMFacesError, FacepackError
from ehmfaces.images import write_bytes_atomically
from ehmfaces.synthesis.choice import (
    EngineChoice,
    cache_folder,
    check_choice,
    machine_name,
    version_of,
)
from ehmfaces.synthesis.engines import Synthesizer, build_synthesizer

CANDIDATES = ("torch", "onnx", "openvino")
ROUNDS = 5
# An engine has to win clearly: the reference gives the same pictures everywhere.
LEAST_GAIN = 1.1
_PACKAGES = ("ehmfaces", "torch", "onnx", "onnxruntime", "openvino")


def available_choices(precision: str, device: torch.device) -> list[EngineChoice]:
    """Return what this machine can do in a precision, the reference engine first."""
    found = []
    for engine in CANDIDATES:
        choice = EngineChoice(engine, precision)
        try:
            check_choice(choice, device)
        except EHMFacesError:
            continue
        found.append(choice)
    return found


def measure(synthesizers: list[Synthesizer], ws: Any, rounds: int = ROUNDS) -> dict[str, float]:
    """Return the median milliseconds of one picture by engine; the engines take turns."""
    times: dict[str, list[float]] = {each.choice.engine: [] for each in synthesizers}
    for number in range(rounds + 1):
        for each in synthesizers:
            started = time.perf_counter()
            each(ws, "const")
            if number:  # the first one warms up
                times[each.choice.engine].append(1000 * (time.perf_counter() - started))
    return {engine: statistics.median(values) for engine, values in times.items()}


def choose_engine(
    generator: Any, precision: str, model_hash: str, say: Callable[[str], None] = lambda text: None
) -> EngineChoice:
    """Return the fastest engine, from the cache or a short measurement of one picture at a time.

    Args:
        generator: In float32, on its device.
        precision: Stays as it is.
        model_hash: Names the weights.
        say: Is told what was measured.

    Raises:
        InputError: The machine lacks the precision.
    """
    device = next(generator.parameters()).device
    choices = available_choices(precision, device)
    if not choices:
        check_choice(EngineChoice("torch", precision), device)
    path = cache_folder() / "engines" / f"{_key(device, precision, model_hash)}.json"
    figures = _read(path)
    if figures is None or set(figures) != {choice.engine for choice in choices}:
        synthesizers = [build_synthesizer(generator, choice, model_hash) for choice in choices]
        figures = measure(synthesizers, np.zeros((1, generator.num_ws, generator.w_dim), np.float32))
        with suppress(FacepackError):  # a cache that cannot be written only costs time
            write_bytes_atomically(path, json.dumps(figures).encode())
        origin = "measured now"
    else:
        origin = "measured before"
    best = _best(figures)
    listed = ", ".join(f"{engine} {ms:.1f} ms" for engine, ms in figures.items())
    say(f"Engine {best}: {listed} for a picture ({origin}, {machine_name(device)}).")
    return EngineChoice(best, precision)


def _best(figures: dict[str, float]) -> str:
    fastest = min(figures, key=lambda engine: figures[engine])
    slow = figures.get("torch", float("inf")) < figures[fastest] * LEAST_GAIN
    return "torch" if slow else fastest


def _key(device: torch.device, precision: str, model_hash: str) -> str:
    facts = [machine_name(device), precision, model_hash, str(torch.get_num_threads())]
    facts += [version_of(package) for package in _PACKAGES]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def _read(path: Any) -> dict[str, float] | None:
    """Return kept figures; damaged ones count as none."""
    try:
        figures = json.loads(path.read_text("utf-8"))
        return {str(engine): float(ms) for engine, ms in figures.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return None
