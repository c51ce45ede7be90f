"""Checkpoints that resume exactly: tensors in safetensors, numbers in JSON, no pickles.

Owns the file format: `NAME.safetensors` with every module, optimizer, extra tensor and random state, and
the scalars in its metadata. Written atomically. Knows nothing of what is being trained.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ehmfaces.errors import ModelError


def save_checkpoint(
    path: Path,
    modules: Mapping[str, nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
    tensors: Mapping[str, Tensor],
    scalars: Mapping[str, Any],
) -> None:
    """Write everything that training goes on from, and the state of torch's random generator."""
    flat = {f"tensor/{name}": value for name, value in tensors.items()}
    flat["rng/torch"] = torch.get_rng_state()
    for name, module in modules.items():
        flat |= {f"module/{name}/{key}": value for key, value in module.state_dict().items()}
    layout = {}
    for name, optimizer in optimizers.items():
        state, layout[name] = _flatten_optimizer(optimizer)
        flat |= {f"optimizer/{name}/{key}": value for key, value in state.items()}
    metadata = {"scalars": json.dumps(dict(scalars)), "optimizers": json.dumps(layout)}
    part = path.with_suffix(".part")
    save_file({key: value.detach().cpu().clone().contiguous() for key, value in flat.items()}, part, metadata)
    os.replace(part, path)


def _flatten_optimizer(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], Any]:
    state = optimizer.state_dict()
    tensors, plain = {}, {}
    for index, entries in state["state"].items():
        for key, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{index}/{key}"] = value
            else:
                plain[f"{index}/{key}"] = value
    groups = [{k: v for k, v in group.items() if k != "params"} for group in state["param_groups"]]
    return tensors, {"plain": plain, "groups": groups}


def load_checkpoint(
    path: Path,
    modules: Mapping[str, nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Restore modules, optimizers and the random generator; return the tensors and the scalars.

    Raises:
        ModelError: The file is damaged or belongs to other networks.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            flat = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        for name, module in modules.items():
            module.load_state_dict(_strip(flat, f"module/{name}/"))
        layout = json.loads(metadata["optimizers"])
        for name, optimizer in optimizers.items():
            _restore_optimizer(optimizer, _strip(flat, f"optimizer/{name}/"), layout[name])
    except (OSError, KeyError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"{path.name} cannot be resumed ({str(error)[:200]}). Use the settings it was made with, "
            "or another output folder."
        ) from error
    torch.set_rng_state(flat["rng/torch"])
    return _strip(flat, "tensor/"), json.loads(metadata["scalars"])


def _strip(flat: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in flat.items() if key.startswith(prefix)}


def _restore_optimizer(optimizer: torch.optim.Optimizer, flat: Mapping[str, Tensor], layout: Any) -> None:
    state: dict[int, dict[str, Any]] = {}
    for key, value in [*flat.items(), *layout["plain"].items()]:
        index, name = key.split("/")
        state.setdefault(int(index), {})[name] = value
    current = optimizer.state_dict()
    groups = [
        {**saved, "params": group["params"]}
        for saved, group in zip(layout["groups"], current["param_groups"], strict=True)
    ]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
