"""What a generator's memory of people holds, computed from the ws that portraits own.

Owns setting a `PeopleMapping`, and guessing the ws of new portraits. Does not know how ws are learned.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ehmfaces.models.stylegan2 import PeopleMapping, StyleGAN2Generator
from ehmfaces.training.warm_start import ridge_ws

REST = 0.3  # share of the spread of the components of z which choose nobody
FINE = 0.8  # share of the small that is somebody else's than the large
_DRAWS = 4096


@torch.no_grad()
def remember_people(
    mapping: PeopleMapping, ws: Tensor, rest: float = REST, fine: float = FINE, spread: float = 1.0
) -> None:
    """Set a memory from the ws that it is to hold.

    The places are principal components of the ws, of unit variance, so that a random z falls where portraits
    are, and those around a place are alike: the strongest for the large, the next ones for the small. What
    lies along the strongest is the large, everything else the small.

    Args:
        mapping: Changed in place.
        ws: [people, w_dim].
        rest: Share of the remaining components' spread with which z varies a person.
        fine: Share of the small that comes from the second place; the rest comes with the large.
        spread: How far from the centre people are, 1 = as far as the ws.
    """
    centre = ws.mean(dim=0)
    u, s, axes = torch.linalg.svd(ws - centre, full_matrices=False)
    d, count, scale = mapping.places, len(s), math.sqrt(len(ws))
    large = (ws - centre) @ axes[:d].t() @ axes[:d]
    small = ws - centre - large
    for codes, first in ((mapping.coarse_codes, 0), (mapping.fine_codes, d)):
        codes.zero_()
        known = u[:, first : first + d] * scale
        codes[:, : known.shape[1]] = known
    mapping.coarse.copy_(spread * (large + (1 - fine) * small))
    mapping.fine.copy_(spread * fine * small)
    mapping.centre.copy_(centre)
    mapping.variation.zero_()
    last = min(mapping.z_dim, count)
    if last > 2 * d:
        mapping.variation[: last - 2 * d] = spread * rest / scale * s[2 * d : last, None] * axes[2 * d : last]
    z = torch.randn(_DRAWS, mapping.z_dim, generator=torch.Generator().manual_seed(0)).to(ws.device)
    mapping.w_avg.copy_(mapping(z)[:, 0].mean(dim=0))


@torch.no_grad()
def guess_ws(generator: StyleGAN2Generator, known: Tensor, img: Tensor) -> Tensor:
    """Guess ws [N, w_dim] for portraits from what the generator makes of ws that it knows.

    Good enough to go on learning from.

    Args:
        generator: In whose w space the guesses are.
        known: ws [M, w_dim] that it knows.
        img: Portraits [N, 3, S, S] in [-1, 1].
    """
    made = [
        F.adaptive_avg_pool2d(generator.synthesis(w[:, None].expand(-1, generator.num_ws, -1), "none"), 16)
        for w in known.split(16)
    ]
    return ridge_ws(torch.cat(made), known, img)
