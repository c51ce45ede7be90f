"""A generator as an ONNX graph: z -> picture and ws -> picture, with any batch.

Owns names of inputs and outputs, the export, half-size weights and the comparison with PyTorch. Knows no
command line and no picture files.

Graph "w": ws float32 [batch, num_ws, w_dim] -> img float32 [batch, img_channels, H, W], about [-1, 1].
Graph "z": z float32 [batch, z_dim], truncation_psi float32 [] (and c [batch, c_dim]) -> the same img.
Graph "mapping": the inputs of "z" -> ws, truncated; then "w" makes the picture, or a mix of several ws.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ehmfaces.errors import InputError, MissingExtraError, ModelError
from ehmfaces.models.stylegan2 import PeopleMapping

GRAPHS = ("z", "w", "mapping")
DEFAULT_OPSET = 18
OPSETS = (18, 23)
TOLERANCE = {"float32": 1e-4, "float16": 2e-2}
SMALLEST_HALF = 1024  # numbers; smaller constants stay as they are
_EXAMPLES = 2  # a batch of one would be taken for a constant


class WGraph(nn.Module):
    """Ws -> img."""

    synthesis: Any
    mapping: Any

    def __init__(self, generator: nn.Module, noise_mode: str) -> None:
        super().__init__()
        self.synthesis, self.noise_mode = generator.synthesis, noise_mode

    def forward(self, ws: Tensor) -> Tensor:
        """[N, num_ws, w_dim] to [N, img_channels, H, W]."""
        return self.synthesis(ws, self.noise_mode)


class ZGraph(WGraph):
    """Z -> img, with truncation as an input."""

    def __init__(self, generator: nn.Module, noise_mode: str) -> None:
        super().__init__(generator, noise_mode)
        self.mapping = generator.mapping

    def forward(self, z: Tensor, truncation_psi: Tensor, c: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """[N, z_dim], [] and [N, c_dim] to [N, img_channels, H, W]."""
        return self.synthesis(self._map(z, truncation_psi, c), self.noise_mode)

    def _map(self, z: Tensor, truncation_psi: Tensor, c: Tensor | None) -> Tensor:
        ws = self.mapping.w_avg.lerp(self.mapping(z, c), truncation_psi)
        return self.mapping.lift_ws(ws, truncation_psi) if isinstance(self.mapping, PeopleMapping) else ws


class MappingGraph(ZGraph):
    """Z -> ws, with truncation as an input."""

    def forward(self, z: Tensor, truncation_psi: Tensor, c: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """[N, z_dim], [] and [N, c_dim] to [N, num_ws, w_dim]."""
        return self._map(z, truncation_psi, c)


_NETWORKS: dict[str, type[WGraph]] = {"z": ZGraph, "w": WGraph, "mapping": MappingGraph}


def output_name(graph: str) -> str:
    """Return the name of a graph's output."""
    return "ws" if graph == "mapping" else "img"


@dataclass(frozen=True)
class GraphCheck:
    """What a comparison of a graph with PyTorch found.

    Attributes:
        difference: Largest absolute difference of img, in [-1, 1].
        tolerance: Largest one allowed.
        batches: Batch sizes that were compared.
    """

    difference: float
    tolerance: float
    batches: tuple[int, ...]


def example_inputs(generator: Any, graph: str, count: int = _EXAMPLES, seed: int = 0) -> dict[str, Tensor]:
    """Return inputs of a graph by name, drawn from a seed."""
    source = torch.Generator().manual_seed(seed)
    z = torch.randn(count, generator.z_dim, generator=source)
    c = torch.zeros(count, generator.c_dim) if generator.c_dim else None
    if graph == "w":
        with torch.inference_mode():
            ws = generator.mapping(z, c)
        return {"ws": ws.clone()}
    inputs = {"z": z, "truncation_psi": torch.tensor(0.7)}
    return inputs if c is None else inputs | {"c": c}


def build_graph(
    generator: Any,
    graph: str = "w",
    noise_mode: str = "const",
    opset: int = DEFAULT_OPSET,
    precision: str = "float32",
    facts: dict[str, str] | None = None,
) -> bytes:
    """Return a graph as the bytes of an .onnx file.

    Args:
        generator: In float32 on the CPU.
        graph: "z", "w" or "mapping".
        noise_mode: "const" (the stored noise is in the graph) or "none".
        opset: 18 to 23.
        precision: Number format of the stored weights; it computes in float32 always.
        facts: Written into the file's metadata.

    Raises:
        MissingExtraError: onnx or onnxscript is not installed.
        InputError: A setting is wrong.
    """
    _check_settings(graph, noise_mode, opset, precision)
    inputs = example_inputs(generator, graph)
    network = _NETWORKS[graph](generator, noise_mode).eval()
    shapes = {name: {0: "batch"} if value.ndim else None for name, value in inputs.items()}
    with _quiet_exporter(), torch.no_grad():
        program = torch.onnx.export(
            network,
            (),
            kwargs=inputs,
            dynamo=True,
            verbose=False,
            opset_version=opset,
            input_names=list(inputs),
            output_names=[output_name(graph)],
            dynamic_shapes=shapes,
        )
    assert program is not None
    model = program.model_proto
    _tidy(model)
    if precision == "float16":
        halve_weights(model)
    for key, value in {"noise_mode": noise_mode, "weights": precision, **(facts or {})}.items():
        model.metadata_props.add(key=key, value=value)
    data: bytes = model.SerializeToString()
    return data


def _check_settings(graph: str, noise_mode: str, opset: int, precision: str) -> None:
    if any(find_spec(name) is None for name in ("onnx", "onnxscript")):
        raise MissingExtraError("onnx", "The ONNX export")
    if graph not in GRAPHS:
        raise InputError(f'Unknown graph "{graph}". Known: {", ".join(GRAPHS)}.')
    if noise_mode not in ("const", "none"):
        raise InputError(f'Noise "{noise_mode}" cannot be part of a graph. Use const or none.')
    if not OPSETS[0] <= opset <= OPSETS[1]:
        raise InputError(f"Opset {opset} cannot be written. Use {OPSETS[0]} to {OPSETS[1]}.")
    if precision not in TOLERANCE:
        raise InputError(f'Weights cannot be stored as "{precision}". Use {" or ".join(TOLERANCE)}.')


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keep the exporter's remarks about itself off the screen; its errors still come."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _tidy(model: Any) -> None:
    """Drop what tells of the machine that exported: source lines and stack traces."""
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    del model.graph.metadata_props[:]
    model.producer_name = "ehmfaces"


def halve_weights(model: Any) -> None:
    """Store large float32 constants as float16, with a cast behind each: half the file, the same sums."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.data_type != TensorProto.FLOAT or values.size < SMALLEST_HALF:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def check_graph(
    data: bytes, generator: Any, graph: str, noise_mode: str, precision: str = "float32"
) -> GraphCheck:
    """Compare a graph with PyTorch for batches of 1 and 3.

    Raises:
        MissingExtraError: onnxruntime is not installed.
        ModelError: They differ by more than the tolerance.
    """
    if find_spec("onnxruntime") is None:
        raise MissingExtraError("onnx", "The comparison of an ONNX graph")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    network = _NETWORKS[graph](generator, noise_mode).eval()
    batches, worst = (1, 3), 0.0
    for count in batches:
        inputs = example_inputs(generator, graph, count, seed=count)
        feed = {name: value.numpy() for name, value in inputs.items()}
        with torch.inference_mode():
            expected = network(**inputs).numpy()
        worst = max(worst, float(np.abs(session.run([output_name(graph)], feed)[0] - expected).max()))
    check = GraphCheck(worst, TOLERANCE[precision], batches)
    if not worst <= check.tolerance:
        raise ModelError(
            f"The ONNX graph {graph} differs from PyTorch by {worst:.1e}; at most {check.tolerance:.0e} is "
            "allowed. It was not written. Try another --opset."
        )
    return check
