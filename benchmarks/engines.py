"""Time every engine on the same network in one run, beside the plain formulation of `peer.py`.

Owns one table: processor milliseconds of a picture at batch 1 and 8, one thread, engines in turns, and the
ratio to the plain formulation. Processor time counts no waiting, so other load matters less.

Example:
    python -m benchmarks.engines --network sg2-256 --engines torch,onnx,openvino
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks import peer
from ehmfaces.hub import load_pipeline
from ehmfaces.launcher import tune_process
from ehmfaces.models.stylegan2 import StyleGAN2Generator
from ehmfaces.pipeline import FacePipeline
from ehmfaces.synthesis.choice import EngineChoice, machine_name
from ehmfaces.synthesis.engines import build_synthesizer


def network(name: str) -> FacePipeline:
    """Return the embedded default, or StyleGAN2 at 256 with random weights and the public widths."""
    if name == "embedded":
        return load_pipeline(None, "cpu", "torch", "float32")
    torch.manual_seed(0)
    return FacePipeline(StyleGAN2Generator(synthesis_kwargs={"channel_base": 16384}))


def runs_of(pipeline: FacePipeline, engines: list[str]) -> dict[str, Callable[[Any], Any]]:
    """Return what is timed, by name; "plain" first."""
    synthesis = pipeline.generator.synthesis

    def plain(ws: Any) -> Any:
        with torch.inference_mode():
            return peer.stylegan2(synthesis, torch.from_numpy(ws)).numpy()

    found: dict[str, Callable[[Any], Any]] = {"plain": plain}
    for engine in engines:
        each = build_synthesizer(pipeline.generator, EngineChoice(engine), pipeline.model_hash)
        found[engine] = lambda ws, each=each: each(ws, "const")
    return found


def measure(runs: dict[str, Callable[[Any], Any]], ws: Any, rounds: int) -> dict[str, float]:
    """Return the median processor milliseconds of one picture by name."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 2):
        for name, run in runs.items():
            started = time.process_time()
            run(ws)
            if number > 1:
                times[name].append(1000 * (time.process_time() - started) / len(ws))
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Time every engine beside the plain formulation.")
    parser.add_argument("--network", choices=["embedded", "sg2-256"], default="embedded")
    parser.add_argument("--engines", default="torch,onnx,openvino")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", default="1,8")
    parser.add_argument("--tuned", action="store_true", help="with the launcher's allocator settings")
    options = parser.parse_args()
    if options.tuned:
        tune_process()
    torch.set_num_threads(1)
    pipeline = network(options.network)
    runs = runs_of(pipeline, options.engines.split(","))
    machine = machine_name(torch.device("cpu"))
    print(f"{options.network}, {machine}, torch {torch.__version__}, tuned {options.tuned}")
    for batch in map(int, options.batches.split(",")):
        source = np.random.RandomState(0).randn(batch, pipeline.num_ws, pipeline.generator.w_dim)
        ws = source.astype(np.float32)
        expected = runs["plain"](ws)
        figures = measure(runs, ws, options.rounds if batch == 1 else max(options.rounds // 2, 2))
        for name, ms in figures.items():
            difference = float(np.abs(runs[name](ws) - expected).max())
            ratio = figures["plain"] / ms
            print(f"batch {batch}  {name:9} {ms:8.1f} ms  {ratio:5.2f}x  differs {difference:.0e}")


if __name__ == "__main__":
    main()
