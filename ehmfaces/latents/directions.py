"""Directions in w: changing sex, age, smile, skin and hair of a face, and nothing else.

Owns what may be wished for, the fit of directions on labelled ws, and moving a w along them. Arrays only;
does not know where directions are stored or pictures.

Source: linear semantics in w as in Shen et al., "Interpreting the Latent Space of GANs" (2020). Steps are
the likeliest ones under the ws' own covariance C that change one score alone: D = C S^T (S C S^T)^-1.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from ehmfaces.errors import LatentError

Sex = Literal["any", "men", "women"]
STRENGTH_RANGE = (-3.0, 3.0)
SEX_MARGIN = 0.8  # of the labels' -1 and 1; nearer to 0 faces could be either
_FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Wishes:
    """What a face is to look like; strengths count standard deviations of random faces.

    Attributes:
        sex: "men" and "women" move only the faces that are not clearly so already.
        age: Below 0 younger, above 0 older.
        smile: Above 0 smiling.
        skin: Below 0 darker, above 0 lighter.
        hair: Below 0 darker, above 0 lighter.
    """

    sex: Sex = "any"
    age: float = 0.0
    smile: float = 0.0
    skin: float = 0.0
    hair: float = 0.0

    def __post_init__(self) -> None:
        """Check all of them.

        Raises:
            LatentError: A wish is unknown or out of range.
        """
        if self.sex not in get_args(Sex):
            raise LatentError(f'Unknown sex "{str(self.sex)[:40]}". Known: {", ".join(get_args(Sex))}.')
        low, high = STRENGTH_RANGE
        for name, value in self.strengths().items():
            if not isinstance(value, (int, float)) or not low <= value <= high:
                raise LatentError(
                    f"{name} {value} is not a number from {low:g} to {high:g}. 0 changes nothing."
                )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Wishes":
        """Read what `to_dict` gave; further keys are left out.

        Raises:
            LatentError: A wish is unknown or out of range.
        """
        known = {field.name for field in fields(cls)}
        return cls(**{key: value for key, value in values.items() if key in known})

    def to_dict(self) -> dict[str, Any]:
        """Return what is wished for, without what is left as it is."""
        return {key: value for key, value in asdict(self).items() if value not in ("any", 0)}

    def strengths(self) -> dict[str, float]:
        """Return the strength of each direction but sex."""
        return {name: value for name, value in asdict(self).items() if name != "sex"}


@dataclass(frozen=True)
class Directions:
    """Directions of one generator.

    Attributes:
        names: K names, as in `Wishes`.
        scores: float32 [K, w_dim]; the dot product with w - w_avg, plus the offset, is what a face has.
        steps: float32 [K, w_dim]; adding one raises its own score by 1 and no other.
        offsets: float32 [K].
    """

    names: tuple[str, ...]
    scores: _FloatArray
    steps: _FloatArray
    offsets: _FloatArray

    def measure(self, ws: _FloatArray, w_avg: _FloatArray) -> _FloatArray:
        """Return scores float32 [N, K] for ws [N, num_ws, w_dim]."""
        measured: _FloatArray = (ws.mean(axis=1) - w_avg) @ self.scores.T + self.offsets
        return measured

    def apply(self, ws: _FloatArray, w_avg: _FloatArray, wishes: Wishes) -> _FloatArray:
        """Move ws [N, num_ws, w_dim] as wished, each face by itself and all its layers alike.

        Raises:
            LatentError: This generator has no direction for a wish.
        """
        amounts = np.zeros((len(ws), len(self.names)), np.float32)
        for name, strength in wishes.strengths().items():
            if strength:
                amounts[:, self._index(name)] = strength
        if wishes.sex != "any":
            have = self.measure(ws, w_avg)[:, (column := self._index("sex"))]
            wanted = np.maximum(np.abs(have), SEX_MARGIN) * (1 if wishes.sex == "men" else -1)
            amounts[:, column] = wanted - have
        moved: _FloatArray = (ws + (amounts @ self.steps)[:, None]).astype(np.float32)
        return moved

    def _index(self, name: str) -> int:
        if name not in self.names:
            raise LatentError(
                f'This model has no direction "{name}". Known: {", ".join(self.names) or "none"}.'
            )
        return self.names.index(name)


def fit_directions(ws: _FloatArray, labels: Mapping[str, npt.ArrayLike], ridge: float = 0.3) -> Directions:
    """Fit directions on ws whose faces are labelled.

    Args:
        ws: float32 [N, w_dim].
        labels: Name -> N values, any unit; "sex" is 1 for men and -1 for women. All other scores are
            scaled to standard deviation 1 over these ws.
        ridge: Share of the mean variance that is added to every variance before solving.
    """
    x = ws.astype(np.float64) - ws.mean(axis=0)
    covariance = x.T @ x / len(x)
    damped = covariance + ridge * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    targets = np.array([np.asarray(values, np.float64) for values in labels.values()])  # [K, N]
    means = targets.mean(axis=1)
    scores = np.linalg.solve(damped, x.T @ (targets - means[:, None]).T / len(x)).T  # [K, w_dim]
    is_sex = np.array([name == "sex" for name in labels])
    spread = np.sqrt(np.einsum("kd,de,ke->k", scores, covariance, scores))
    # Ridge shrinks scores: those of sex are stretched back to the labels' own covariance with them.
    gain = np.where(
        is_sex, ((targets - means[:, None]) * (scores @ x.T)).mean(axis=1) / spread**2, 1 / spread
    )
    scores = scores * gain[:, None]
    steps = np.linalg.solve(scores @ covariance @ scores.T, scores @ covariance)  # [K, w_dim]
    offsets = np.where(is_sex, means, 0)
    return Directions(
        tuple(labels), scores.astype(np.float32), steps.astype(np.float32), offsets.astype(np.float32)
    )
