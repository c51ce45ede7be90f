"""Directions from a warm start: its ws and the labels of its portraits.

Owns the pairing of ws with people and the test on people left out. The fit itself is in
`latents.directions`.

Does not know the labels' file or where directions are kept.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ehmfaces.errors import InputError
from ehmfaces.latents.directions import Directions, fit_directions
from ehmfaces.training.warm_start import load_warm_start

FOLDS = 5


def fit_and_test(
    warm_start: Path, labels: Mapping[str, Sequence[float]]
) -> tuple[Directions, dict[str, float]]:
    """Fit directions, and say how well such a fit does on people it has not seen.

    Args:
        warm_start: Folder whose ws are of N portraits and their mirror images.
        labels: Name -> N values in the order of the portraits.

    Returns:
        Directions of all people; and from five folds over people: the share of right signs for "sex", the
        correlation with the label for each other name.

    Raises:
        InputError: The numbers of portraits and labels differ.
    """
    ws = load_warm_start(warm_start)[1].float().numpy()
    count = len(next(iter(labels.values())))
    if 2 * count != len(ws):
        raise InputError(
            f"The labels are of {count} portraits, the warm start is of {len(ws) // 2}. They must match."
        )
    both = {name: np.tile(np.asarray(values, np.float64), 2) for name, values in labels.items()}
    return fit_directions(ws, both), _test(ws, both, count)


def _test(ws: np.ndarray, labels: Mapping[str, np.ndarray], count: int) -> dict[str, float]:
    fold_of = np.tile(np.random.default_rng(0).permutation(count) % FOLDS, 2)  # a person and its mirror image
    results: dict[str, list[float]] = {name: [] for name in labels}
    for fold in range(FOLDS):
        out = fold_of == fold
        fitted = fit_directions(ws[~out], {name: values[~out] for name, values in labels.items()})
        measured = fitted.measure(ws[out][:, None], ws[~out].mean(axis=0))
        for column, (name, values) in enumerate(labels.items()):
            results[name].append(_agreement(name, measured[:, column], values[out]))
    return {name: float(np.mean(values)) for name, values in results.items()}


def _agreement(name: str, measured: np.ndarray, label: np.ndarray) -> float:
    if name == "sex":
        return float((np.sign(measured) == label).mean())
    return float(np.corrcoef(measured, label)[0, 1])
