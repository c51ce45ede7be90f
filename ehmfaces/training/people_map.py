"""What a generator's memory of people holds, computed from the ws that portraits own.

Owns setting a `PeopleMapping`, and guessing the ws of new portraits. Does not know how ws are learned.
"""

import math

import torch
from torch import Tensor

from ehmfaces.models.stylegan2 import PeopleMapping, StyleGAN2Generator

REST = 0.4  # share of the spread that is left to the components of z which choose no place
_DRAWS = 4096


@torch.no_grad()
def remember_people(mapping: PeopleMapping, ws: Tensor, rest: float = REST) -> None:
    """Set a memory from the ws that it is to hold.

    The places are the strongest principal components of the ws, of unit variance, so that a random z falls
    where portraits are and those around a place are alike.

    Args:
        mapping: Changed in place.
        ws: [people, w_dim].
        rest: Share of the other components' spread with which z varies a person.
    """
    centre = ws.mean(dim=0)
    u, s, axes = torch.linalg.svd(ws - centre, full_matrices=False)
    count, d = math.sqrt(len(ws)), mapping.places
    last = min(mapping.z_dim, len(axes))
    mapping.codes.zero_()
    mapping.codes[:, : min(d, u.shape[1])] = u[:, :d] * count
    mapping.residuals.copy_(ws - centre)
    mapping.centre.copy_(centre)
    mapping.variation.zero_()
    if last > d:
        mapping.variation[: last - d] = rest / count * s[d:last, None] * axes[d:last]
    z = torch.randn(_DRAWS, mapping.z_dim, generator=torch.Generator().manual_seed(0)).to(ws.device)
    mapping.w_avg.copy_(mapping(z)[:, 0].mean(dim=0))


@torch.no_grad()
def guess_ws(generator: StyleGAN2Generator, known: Tensor, img: Tensor, penalty: float = 30.0) -> Tensor:
    """Guess ws [N, w_dim] for portraits from what the generator makes of ws that it knows.

    Ridge regression from the pictures at 16 px; good enough to go on learning from.

    Args:
        generator: In whose w space the guesses are.
        known: ws [M, w_dim] that it knows.
        img: Portraits [N, 3, S, S] in [-1, 1].
        penalty: Of the regression.
    """
    shown = [
        _small(generator.synthesis(w[:, None].expand(-1, generator.num_ws, -1), "none"))
        for w in known.split(16)
    ]
    x = torch.cat(shown)
    mean, w_mean = x.mean(dim=0), known.mean(dim=0)
    x = x - mean
    gram = x @ x.t() + penalty * torch.eye(len(x))
    solved = torch.linalg.solve(gram, known - w_mean)
    return (_small(img) - mean) @ (x.t() @ solved) + w_mean


def _small(img: Tensor) -> Tensor:
    return torch.nn.functional.adaptive_avg_pool2d(img, 16).flatten(1)
