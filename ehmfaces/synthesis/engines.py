"""Engines: each turns ws into img with one network, and does nothing else.

Owns sessions, compiled networks and the graphs that are kept in the cache. What may be asked for is in
`choice`; which engine is fastest here in `selection`. Every engine may be called from several threads.
"""

import copy
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from ehmfaces.errors import FacepackError
from ehmfaces.images import write_bytes_atomically
from ehmfaces.synthesis.choice import EngineChoice, cache_folder, check_choice, version_of
from ehmfaces.synthesis.half import HalfSynthesis
from ehmfaces.synthesis.onnx_graph import DEFAULT_OPSET, build_graph, check_graph

FloatLatents = npt.NDArray[np.float32]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Synthesizer(Protocol):
    """Computes pictures; noise is "const" or "none"."""

    choice: EngineChoice

    def __call__(self, ws: FloatLatents, noise_mode: str) -> FloatLatents:
        """Return img float32 [N, C, H, W] for ws [N, num_ws, w_dim]."""


class TorchSynthesizer:
    """PyTorch, eager or compiled, in any number format."""

    def __init__(self, generator: Any, choice: EngineChoice) -> None:
        """Copy the network where its weights change their format."""
        self.choice = choice
        self.device = next(generator.parameters()).device
        self._network = _cast_network(generator, choice)
        self._lock = threading.Lock()
        if choice.engine == "compile":
            # on a GPU this mode records CUDA graphs
            mode = "reduce-overhead" if self.device.type == "cuda" else "default"
            self._network = torch.compile(self._network, mode=mode, dynamic=False)

    def __call__(self, ws: FloatLatents, noise_mode: str) -> FloatLatents:
        """Return img float32 [N, C, H, W] for ws [N, num_ws, w_dim]."""
        batch = torch.from_numpy(ws).to(self.device, DTYPES.get(self.choice.precision, torch.float32))
        if self.choice.engine == "torch":
            return self._run(batch, noise_mode)
        with self._lock:  # compiling is not for several threads, and a CUDA graph has one result
            return self._run(batch, noise_mode)

    def _run(self, batch: torch.Tensor, noise_mode: str) -> FloatLatents:
        with torch.inference_mode():
            img: FloatLatents = self._network(batch, noise_mode).float().cpu().numpy()
        return img


def _cast_network(generator: Any, choice: EngineChoice) -> Any:
    """Return the synthesis network in a number format; float32 is the network itself."""
    if choice.precision == "float32":
        return generator.synthesis
    if choice.precision == "float16":
        return HalfSynthesis(generator.synthesis)
    return copy.deepcopy(generator.synthesis).to(DTYPES[choice.precision])


class _GraphSynthesizer:
    """What the engines for exported graphs share: one session per noise mode, made at its first use."""

    def __init__(self, generator: Any, choice: EngineChoice, model_hash: str) -> None:
        self.choice = choice
        self._generator, self._hash = generator, model_hash
        self._sessions: dict[str, Callable[[FloatLatents], FloatLatents]] = {}
        self._lock = threading.Lock()

    def __call__(self, ws: FloatLatents, noise_mode: str) -> FloatLatents:
        """Return img float32 [N, C, H, W] for ws [N, num_ws, w_dim]."""
        with self._lock:
            if noise_mode not in self._sessions:
                graph = cached_graph(self._generator, self._hash, noise_mode)
                self._sessions[noise_mode] = self._open(graph)
        return self._sessions[noise_mode](ws)

    def _open(self, graph: bytes) -> Callable[[FloatLatents], FloatLatents]:
        raise NotImplementedError


class OnnxSynthesizer(_GraphSynthesizer):
    """onnxruntime on one thread for each caller."""

    def _open(self, graph: bytes) -> Callable[[FloatLatents], FloatLatents]:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

        def run(ws: FloatLatents) -> FloatLatents:
            img: FloatLatents = session.run(["img"], {"ws": np.ascontiguousarray(ws)})[0]
            return img

        return run


class OpenvinoSynthesizer(_GraphSynthesizer):
    """OpenVINO: one thread for each picture, as many pictures at once as there are callers."""

    def _open(self, graph: bytes) -> Callable[[FloatLatents], FloatLatents]:
        import openvino

        core = openvino.Core()
        model = core.read_model(graph, b"")
        shape = model.input(0).partial_shape
        # pictures are computed one at a time, and a network of fixed shape is faster
        model.reshape([1, *(axis.get_length() for axis in list(shape)[1:])])
        hint = {"float32": "f32", "bfloat16": "bf16"}[self.choice.precision]
        streams = torch.get_num_threads() if torch.get_num_threads() > 1 else _cores()
        settings = {
            "INFERENCE_PRECISION_HINT": hint,
            "INFERENCE_NUM_THREADS": streams,
            "NUM_STREAMS": streams,
        }
        compiled = core.compile_model(model, "CPU", settings)
        requests = threading.local()

        def run(ws: FloatLatents) -> FloatLatents:
            if not hasattr(requests, "own"):
                requests.own = compiled.create_infer_request()
            rows = [requests.own.infer({0: row[None]})[0].copy() for row in ws]
            return np.concatenate(rows)

        return run


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cached_graph(generator: Any, model_hash: str, noise_mode: str) -> bytes:
    """Return the graph ws -> img of a network, exported and checked once and then kept.

    Args:
        generator: In float32 on the CPU.
        model_hash: Names the weights.
        noise_mode: "const" or "none".
    """
    name = f"{model_hash}-{noise_mode}-opset{DEFAULT_OPSET}-onnxscript{version_of('onnxscript')}.onnx"
    path = cache_folder() / "graphs" / name
    if path.is_file():
        return path.read_bytes()
    graph = build_graph(generator, "w", noise_mode, facts={"model_hash": model_hash})
    if version_of("onnxruntime") != "none":
        check_graph(graph, generator, "w", noise_mode)
    with suppress(FacepackError):  # a cache that cannot be written only costs time
        write_bytes_atomically(path, graph)
    return graph


def build_synthesizer(generator: Any, choice: EngineChoice, model_hash: str) -> Synthesizer:
    """Return an engine for a network.

    Args:
        generator: In float32, on its device.
        choice: Not "auto".
        model_hash: Names the weights.

    Raises:
        InputError: This machine cannot do it.
        MissingExtraError: A package is missing.
        ModelError: The engine does not compute the same picture.
    """
    check_choice(choice, next(generator.parameters()).device)
    if choice.engine == "onnx":
        return OnnxSynthesizer(generator, choice, model_hash)
    if choice.engine == "openvino":
        return OpenvinoSynthesizer(generator, choice, model_hash)
    return TorchSynthesizer(generator, choice)
