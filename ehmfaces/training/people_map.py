"""What a generator's memory of people holds, computed from the ws that portraits own.

Owns setting a `PeopleMapping`, who is fit for it, and guessing the ws of new portraits. Does not know how ws
are learned.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ehmfaces.metrics.face_checks import FaceChecker
from ehmfaces.models.ops import normalize_2nd_moment
from ehmfaces.models.stylegan2 import PeopleMapping, StyleGAN2Generator
from ehmfaces.tensors import pixels_from_img
from ehmfaces.training.warm_start import ridge_ws

REST = 0.3  # share of the spread of the components of z which choose nobody
EDGES = (6, 24)  # principal component of the ws with which the second and the third aspect begin
OWN = 0.8  # share of the last aspect that is somebody else's than the first
_DRAWS = 4096
_ROUNDS = 24  # of balancing


@torch.no_grad()
def remember_people(
    mapping: PeopleMapping,
    ws: Tensor,
    rest: float = REST,
    own: float = OWN,
    spread: float = 1.0,
    edges: Sequence[int] = EDGES,
) -> None:
    """Set a memory from the ws that it is to hold.

    The places of an aspect are principal components of the ws, of unit variance, so that a random z falls
    where portraits are, and those around a place are alike in that aspect. A balanced memory chooses
    everybody equally often.

    Args:
        mapping: Changed in place.
        ws: [people, w_dim].
        rest: Share of the remaining components' spread with which z varies a person.
        own: Share of the last aspect that comes from its own place; the rest comes with the first aspect.
        spread: How far from the centre people are, 1 = as far as the ws.
        edges: The component with which each aspect after the first begins; as many as the mapping has such
            aspects, or more.
    """
    centre = ws.mean(dim=0)
    u, s, axes = torch.linalg.svd(ws - centre, full_matrices=False)
    d, count, scale = mapping.places, len(s), math.sqrt(len(ws))
    starts = [0, *edges][: len(mapping.aspects)]
    z = torch.randn(_DRAWS, mapping.z_dim, generator=torch.Generator().manual_seed(0)).to(ws.device)
    places = normalize_2nd_moment(z).split(d, dim=1)
    for number, (aspect, start, end) in enumerate(
        zip(mapping.aspects, starts, [*starts[1:], count], strict=True)
    ):
        getattr(mapping, aspect).copy_(spread * (ws - centre) @ axes[start:end].t() @ axes[start:end])
        codes = getattr(mapping, f"{aspect}_codes").zero_()
        known = u[:, start : start + d] * scale
        codes[:, : known.shape[1]] = known
        if mapping.balanced:
            _balance(mapping, aspect, places[number])
    first, last = getattr(mapping, mapping.aspects[0]), getattr(mapping, mapping.aspects[-1])
    shared = (1 - own) * last
    first += shared
    last -= shared
    mapping.centre.copy_(centre)
    mapping.variation.zero_()
    start, end = len(mapping.aspects) * d, min(mapping.z_dim, count)
    if end > start:
        mapping.variation[: end - start] = spread * rest / scale * s[start:end, None] * axes[start:end]
    mapping.w_avg.copy_(mapping(z)[:, 0].mean(dim=0))


def _balance(mapping: PeopleMapping, aspect: str, place: Tensor) -> None:
    """Set the offsets of an aspect so that the places [N, d] choose everybody equally often.

    Without them, those near the centre of the places would be chosen far more often than others.
    """
    offsets = getattr(mapping, f"{aspect}_offsets")
    offsets.copy_(-getattr(mapping, f"{aspect}_codes").square().sum(dim=1) / 2)
    for _ in range(_ROUNDS):
        often = mapping.nearness(aspect, place).mean(dim=0) * len(offsets)
        offsets -= 1.5 * mapping.reach**2 * often.clamp(1e-3, 1e3).log()


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


@torch.inference_mode()
def are_well_formed(generator: StyleGAN2Generator, ws: Tensor, checker: FaceChecker) -> Tensor:
    """Return which of the people a generator shows as well-formed faces: bool [N] for ws [N, w_dim].

    About 0.1 s each on one core.
    """
    found = []
    for w in ws:
        img = generator.synthesis(w.expand(1, generator.num_ws, -1), "const")
        found.append(not checker.check(pixels_from_img(img)[0]).reasons)
    return torch.tensor(found)
