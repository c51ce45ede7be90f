"""Options that say where portraits are made: processes here, or actors of a Ray cluster.

Owns these options; does not know what computes a picture (`synthesis`).
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from ehmfaces.cli.options import _Parsed

if TYPE_CHECKING:
    from ehmfaces.engine.base import BatchEngine
    from ehmfaces.facepack.plan import FacepackPlan


def _parse_shard(text: str) -> tuple[int, int]:
    from ehmfaces.facepack.shards import parse_shard

    return parse_shard(text)


@dataclass(frozen=True)
class WorkChoice:
    """What the options say."""

    name: str = "local"
    ray_address: str | None = None
    gpus_per_worker: float = 0.0
    shard: tuple[int, int] | None = None

    def build(self, workers: int) -> "BatchEngine":
        """Return the engine."""
        if self.name == "ray":
            from ehmfaces.engine.ray_engine import RayEngine

            return RayEngine(workers, address=self.ray_address, gpus_per_worker=self.gpus_per_worker)
        if workers > 1:
            from ehmfaces.engine.process_engine import ProcessEngine

            return ProcessEngine(workers)
        from ehmfaces.engine.local_engine import LocalEngine

        return LocalEngine()

    def part_of(self, plan: "FacepackPlan") -> "FacepackPlan":
        """Return the plan, or the part of it that was asked for."""
        if self.shard is None:
            return plan
        from ehmfaces.facepack.shards import take_shard

        return take_shard(plan, *self.shard)


def work_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --engine, --ray-address, --gpus-per-worker and --shard as one argument `engine`."""

    @click.option("--shard", type=_Parsed("part/parts", _parse_shard), metavar="PART/PARTS",
                  help="Make one part only, like 2/5; merge the packs with `ehmfaces merge`.")  # fmt: skip
    @click.option("--gpus-per-worker", type=click.FloatRange(0), default=0.0, show_default=True,
                  help="With ray: the fraction of a GPU for each worker.")  # fmt: skip
    @click.option("--ray-address", help='With ray: the cluster, "auto" on one of its machines; else Ray runs '
                  "here.")  # fmt: skip
    @click.option("--engine", "engine_name", type=click.Choice(["local", "ray"]), default="local",
                  show_default=True, help="Processes here, or actors of a Ray cluster.")  # fmt: skip
    @functools.wraps(command)
    def run(
        *args: Any,
        engine_name: str,
        ray_address: str | None,
        gpus_per_worker: float,
        shard: tuple[int, int] | None,
        **options: Any,
    ) -> Any:
        choice = WorkChoice(engine_name, ray_address, gpus_per_worker, shard)
        return command(*args, engine=choice, **options)

    return run
