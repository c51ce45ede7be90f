"""How flawed portraits look: learned from marks that somebody gave pictures.

Owns what is seen of a picture for that, the fit, and the file that keeps it. Does not know where pictures
come from or what is done about flaws.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from ehmfaces.errors import InputError, ModelError
from ehmfaces.images import write_bytes_atomically
from ehmfaces.metrics.features import LiteFeatures, see_levels

FLAWS = "flaws.safetensors"
MARKS = (0, 1, 2)  # no flaw, a doubtful one, a visible one
FEWEST = 40
GRID = 8  # places along a side
LEVELS = 2  # of the feature network, the deepest; of a 256 px picture they have 32 x 32 and 16 x 16 places
RIDGE = 1.0  # relative to the mean square of what is seen of a picture
FOLDS = 10


@torch.inference_mode()
def see_places(features: nn.Module, img: Tensor) -> Tensor:
    """Return what a feature network sees of pictures [N, 3, S, S] in [-1, 1]: [N, values].

    It is the mean and the standard deviation of every feature in each of 8 x 8 places.
    """
    seen = []
    for level in see_levels(features, img)[-LEVELS:]:
        mean = F.adaptive_avg_pool2d(level, GRID)
        variance = F.adaptive_avg_pool2d(level.square(), GRID) - mean.square()
        seen += [mean.flatten(1), variance.clamp(min=0).sqrt().flatten(1)]
    return torch.cat(seen, dim=1)


class FlawJudge(nn.Module):
    """Says how flawed pictures look, 0 = not to 1 = visibly, though it may say less or more."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        """Hold what was learned: weight [values] and bias [1]."""
        super().__init__()
        self.features = LiteFeatures()
        self.register_buffer("weight", weight.float())
        self.register_buffer("bias", bias.float())

    def forward(self, img: Tensor) -> Tensor:
        """Return flaws [N] of pictures [N, 3, S, S] in [-1, 1], in the game's frame."""
        return see_places(self.features, img) @ self.weight + self.bias


def fit_flaws(seen: Tensor, marks: Sequence[int]) -> tuple[Tensor, Tensor, float]:
    """Learn from marks: ridge regression.

    Args:
        seen: Of `see_places`, of N pictures [N, values].
        marks: For each of them one of `MARKS`.

    Returns:
        Weight [values] and bias [1], and how often a visible flaw is told from none or a doubtful one in
        pictures that were left out: the share of right order in pairs (AUC), 0.5 = by chance.

    Raises:
        InputError: A mark is none of them, or there are too few, or of one kind only.
    """
    strange = next((mark for mark in marks if mark not in MARKS), None)
    if strange is not None:
        raise InputError(f"A mark is {strange}. Give 0 (no flaw), 1 (a doubtful one) or 2 (a visible one).")
    given = torch.tensor(marks)
    visible = given == max(MARKS)
    if len(given) < FEWEST or not visible.any() or visible.all():
        raise InputError(
            f"{len(given)} marks, {int(visible.sum())} of them {max(MARKS)}, are too few to learn from. "
            f"Mark {FEWEST} pictures or more, best 1,000, some of them {max(MARKS)}."
        )
    wanted = given.float() / max(MARKS)
    mean, scale = seen.mean(dim=0), seen.std(dim=0) + 0.1
    x = (seen - mean) / scale
    size = x.square().sum(dim=1).mean()
    products = x @ x.t() / size
    fold, guessed = torch.arange(len(x)) % FOLDS, torch.zeros(len(x))
    for number in range(FOLDS):
        out = fold == number
        guessed[out] = products[out][:, ~out] @ _solve(products[~out][:, ~out], wanted[~out])
    weight = _solve(products, wanted) @ x / size / scale
    return weight, (wanted.mean() - mean @ weight)[None], _order(guessed, visible)


def _solve(products: Tensor, wanted: Tensor) -> Tensor:
    return torch.linalg.solve(products + RIDGE * torch.eye(len(products)), wanted - wanted.mean())


def _order(guessed: Tensor, visible: Tensor) -> float:
    """Return the share of pairs of a visible flaw and another picture that are in the right order."""
    return float((guessed[visible][:, None] > guessed[~visible]).float().mean())


def read_marks(labels: np.ndarray) -> list[int]:
    """Return the marks that a data set's labels [N, classes] stand for, one number for each picture.

    Raises:
        InputError: They are vectors.
    """
    marks = labels.argmax(axis=1)
    if not np.array_equal(labels, np.eye(labels.shape[1])[marks]):
        raise InputError("The labels in dataset.json are lists of numbers. Give each picture one: 0, 1 or 2.")
    return [int(mark) for mark in marks]


def save_flaws(weight: Tensor, bias: Tensor, path: Path, **known: Tensor) -> None:
    """Write what was learned; `known` is kept beside it, such as the marks."""
    write_bytes_atomically(path, save({"weight": weight, "bias": bias, **known}))


def load_flaws(path: Path) -> FlawJudge:
    """Load what `save_flaws` wrote.

    Raises:
        InputError: There is no such file.
        ModelError: It is damaged or of another kind.
    """
    if not path.exists():
        raise InputError(f'"{path.parent.name}" holds no {path.name}. Give one that train flaws made.')
    try:
        known = load_file(path)
        judge = FlawJudge(known["weight"], known["bias"]).eval().requires_grad_(False)
        judge(torch.zeros(1, 3, 64, 64))  # as many values as are seen?
        return judge
    except (KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f'"{path.name}" says nothing about flaws ({str(error)[:100]}). Make it again with train flaws.'
        ) from error
