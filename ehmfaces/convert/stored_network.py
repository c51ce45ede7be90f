"""A network as a checkpoint has it: attributes by layer and weights by name, not yet ours.

Owns the walk through pickled modules and the checked look-ups, so that converters read like tables, and the
`Conversion` that every converter makes. Knows no file format and no architecture.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ehmfaces.convert.records import FloatArray, PlainObject, StoredTensor, as_number, printable
from ehmfaces.errors import ModelError, UnsupportedModelError

MAX_MODULES = 4096
MAX_DEPTH = 16

ReadWeights = Callable[[], FloatArray]


@dataclass(frozen=True)
class Conversion:
    """What is needed to build one of our networks.

    Attributes:
        origin: What the file is, in words.
        class_name: Name of our class.
        config: Its constructor's keywords.
        weights: Parameter name -> reads its numbers, float32.
    """

    origin: str
    class_name: str
    config: dict[str, Any]
    weights: Mapping[str, ReadWeights]


class StoredNetwork:
    """A pickled module tree.

    Attributes:
        label: File name, for error texts.
        modules: Dotted path ("" = the network) -> attributes.
        tensors: Dotted name -> tensor, as in a state_dict.
    """

    def __init__(self, root: PlainObject, label: str) -> None:
        self.label = label
        self.modules: dict[str, dict[str, Any]] = {}
        self.tensors: dict[str, StoredTensor] = {}
        waiting = [("", root, 0)]
        while waiting:
            path, module, depth = waiting.pop()
            self.modules[path] = module.state
            self._collect_tensors(path, module.state)
            children = self._group(module.state, "_modules")
            if len(self.modules) + len(waiting) + len(children) > MAX_MODULES or depth > MAX_DEPTH:
                raise ModelError(
                    f"{label} holds a network of more than {MAX_MODULES} layers or {MAX_DEPTH} levels; "
                    "no StyleGAN has so many."
                )
            for name, child in children.items():
                if isinstance(child, PlainObject):
                    waiting.append((_join(path, name), child, depth + 1))
                elif child is not None:
                    raise self.unsupported(f"its layer {_join(path, name)} is no known kind of layer")

    def _group(self, state: dict[str, Any], name: str) -> dict[str, Any]:
        group = state.get(name, {})
        if not isinstance(group, dict) or not all(isinstance(key, str) for key in group):
            raise self.unsupported(f"{name} of a layer is no table of names")
        return group

    def _collect_tensors(self, path: str, state: dict[str, Any]) -> None:
        passing = state.get("_non_persistent_buffers_set")
        for group in ("_parameters", "_buffers"):
            for name, tensor in self._group(state, group).items():
                if tensor is None or (isinstance(passing, set) and name in passing):
                    continue
                if not isinstance(tensor, StoredTensor):
                    raise self.unsupported(f"{_join(path, name)} is no tensor")
                self.tensors[_join(path, name)] = tensor

    def unsupported(self, what: str) -> UnsupportedModelError:
        """Return the error for a network that cannot be converted."""
        return UnsupportedModelError(
            f"{self.label} cannot be converted: {printable(what)}. Supported are the generators and "
            "discriminators of StyleGAN2, StyleGAN2-ADA and StyleGAN3 as published."
        )

    def attribute(self, path: str, name: str) -> Any:
        """Return an attribute of a layer.

        Raises:
            UnsupportedModelError: The layer or the attribute is missing.
        """
        state = self.modules.get(path)
        if state is None or name not in state:
            raise self.unsupported(f"{path or 'the network'} has no {name}")
        return as_number(state[name])

    def whole(self, path: str, name: str, most: int) -> int:
        """Return a whole number from 0 to `most`."""
        value = self.attribute(path, name)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is not int or not 0 <= value <= most:
            raise self.unsupported(f"{path or 'the network'} has a {name} that is no whole number to {most}")
        return value

    def real(self, path: str, name: str) -> float:
        """Return a finite number."""
        value = self.attribute(path, name)
        if type(value) not in (int, float) or not math.isfinite(value):
            raise self.unsupported(f"{path or 'the network'} has a {name} that is no number")
        return float(value)

    def real_or_none(self, path: str, name: str) -> float | None:
        """Return a finite number, or None where the network has none."""
        return None if self.attribute(path, name) is None else self.real(path, name)

    def flag(self, path: str, name: str) -> bool:
        """Return a yes or no."""
        value = self.attribute(path, name)
        return value if isinstance(value, bool) else bool(self.whole(path, name, 1))

    def word(self, path: str, name: str, known: tuple[str, ...]) -> str:
        """Return one of the known words."""
        value = self.attribute(path, name)
        if value not in known:
            raise self.unsupported(f"{path or 'the network'} has another {name} than {', '.join(known)}")
        return str(value)

    def given(self, path: str, name: str) -> Any:
        """Return a keyword that a layer was made with, or None."""
        keywords = self.modules.get(path, {}).get("_init_kwargs")
        value = as_number(keywords.get(name)) if isinstance(keywords, dict) else None
        return value if isinstance(value, (int, float)) and -(2**31) < value < 2**31 else None

    def has(self, path: str, name: str) -> bool:
        """Return whether a layer has an attribute that is not None."""
        return self.modules.get(path, {}).get(name) is not None

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        if name not in self.tensors:
            raise self.unsupported(f"the weights {name} are missing")
        return self.tensors[name].shape

    def width(self, name: str) -> int:
        """Return the number of outputs of a layer, given the name of its weights."""
        shape = self.shape(name)
        if not shape:
            raise self.unsupported(f"the weights {name} are a single number")
        return shape[0]

    def agreed(self, paths: list[str], name: str, read: Callable[[str, str], Any]) -> Any:
        """Return the value that an attribute has in all these layers.

        Raises:
            UnsupportedModelError: It is missing, or not the same everywhere.
        """
        values = {read(path, name) for path in paths}
        if len(values) != 1:
            raise self.unsupported(f"its layers do not agree on {name}")
        return values.pop()


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def square_filter(taps: Sequence[float]) -> FloatArray:
    """Return the low-pass filter float32 [len, len] of sum 1 that the layers keep."""
    square = np.outer(taps, taps)
    return np.asarray(square / square.sum(), np.float32)


def solve_channels(widths: dict[int, int], hint: tuple[int, int] = (32768, 512)) -> tuple[int, int] | None:
    """Return (channel_base, channel_max) that give the widths by resolution, or None where none do.

    Example:
        >>> solve_channels({4: 512, 64: 512, 128: 256})
        (32768, 512)
        >>> solve_channels({4: 16, 8: 16, 16: 12})
        (192, 16)
    """

    def fits(base: int, most: int) -> bool:
        return all(min(base // resolution, most) == width for resolution, width in widths.items())

    if fits(*hint):
        return hint
    most = max(widths.values())
    base = max(width * resolution for resolution, width in widths.items())
    return (base, most) if fits(base, most) else None
