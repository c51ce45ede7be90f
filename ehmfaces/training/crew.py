"""Processes that train as one: each shows its part of every batch, all make the same step.

Owns starting them, and what they tell each other. On a processor this is faster than one process with as
many threads, since most of a small network's operations are too short to be divided. Knows no network.
"""

import multiprocessing
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Crew:
    """One process's place among those that train together.

    Attributes:
        rank: 0 leads: it alone writes and reports.
        size: Number of processes; 1 = alone, then nothing is exchanged.
    """

    rank: int = 0
    size: int = 1

    @torch.no_grad()
    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their means over all processes, in place."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        parts = (flat / self.size).split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.reshape(tensor.shape))

    def gather(self, rows: Tensor) -> Tensor:
        """Return the rows [N, ...] of all processes [size N, ...], the leader's first; all have as many."""
        if self.size == 1:
            return rows
        parts = [torch.empty_like(rows) for _ in range(self.size)]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    def agree(self, decision: bool) -> bool:
        """Return the leader's decision."""
        if self.size == 1:
            return decision
        told = torch.tensor([decision], dtype=torch.int32)
        dist.broadcast(told, src=0)
        return bool(told)


ALONE = Crew()


def run_together(size: int, job: Callable[..., None], *args: Any) -> None:
    """Run job(crew, *args) in this process, as the leader, and in `size` - 1 others.

    Args:
        size: Number of processes; the threads of this one are divided among them.
        job: A function of a module, so that the others can import it.
        args: What can be pickled for a process of one's own, paths rather than pictures.
    """
    if size == 1:
        job(ALONE, *args)
        return
    threads = max(1, torch.get_num_threads() // size)
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        others = [
            context.Process(target=_join, args=(rank, size, store, threads, job, args), daemon=True)
            for rank in range(1, size)
        ]
        for process in others:
            process.start()
        try:
            _join(0, size, store, threads, job, args)
            for process in others:
                process.join()
        finally:
            for process in others:
                process.kill()


def _join(
    rank: int, size: int, store: Path, threads: int, job: Callable[..., None], args: tuple[Any, ...]
) -> None:
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    dist.init_process_group("gloo", init_method=store.as_uri(), rank=rank, world_size=size)
    try:
        job(Crew(rank, size), *args)
    finally:
        dist.destroy_process_group()
