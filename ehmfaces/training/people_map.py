"""What a generator's memory of people holds, computed from the ws that portraits own.

Owns setting a `PeopleMapping`, who is fit for it, and guessing the ws of new portraits. Does not know how ws
are learned.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ehmfaces.data.attributes import LooksEstimator
from ehmfaces.metrics.face_checks import FaceChecker
from ehmfaces.models.ops import normalize_2nd_moment
from ehmfaces.models.stylegan2 import PeopleMapping, StyleGAN2Generator
from ehmfaces.tensors import pixels_from_img
from ehmfaces.training.warm_start import ridge_ws

REST = 0.3  # share of the spread of the components of z which choose nobody
EDGES = (8, 48)  # principal component of the ws with which the second and the third aspect begin
ALIKE = 25.0  # logits that somebody loses for being as unlike the first person as people are on average
SAME_SEX = 120.0  # twice the logits lost for being of the other sex
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
    male: Tensor | None = None,
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
        male: How sure it is that somebody is a man, 0 to 1 [people]: where the memory has kin, women go with
            women. None = not known.
    """
    centre = ws.mean(dim=0)
    u, s, axes = torch.linalg.svd(ws - centre, full_matrices=False)
    if mapping.kin_dim:
        mapping.kin.copy_(_kin(u * s, male, mapping.kin_dim))
    d, count, scale = mapping.places, len(s), math.sqrt(len(ws))
    starts = [min(edge, count) for edge in [0, *edges]][: len(mapping.aspects)]
    z = torch.randn(_DRAWS, mapping.z_dim, generator=torch.Generator().manual_seed(0)).to(ws.device)
    places = normalize_2nd_moment(z).split(d, dim=1)
    first = None
    for number, (aspect, start, end) in enumerate(
        zip(mapping.aspects, starts, [*starts[1:], count], strict=True)
    ):
        getattr(mapping, aspect).copy_(spread * (ws - centre) @ axes[start:end].t() @ axes[start:end])
        codes = getattr(mapping, f"{aspect}_codes").zero_()
        known = u[:, start : start + d] * scale
        codes[:, : known.shape[1]] = known
        if mapping.balanced:
            _balance(mapping, aspect, places[number], first)
        first = mapping.nearness(aspect, places[number]) if first is None else first
    strongest, last = getattr(mapping, mapping.aspects[0]), getattr(mapping, mapping.aspects[-1])
    shared = (1 - own) * last
    strongest += shared
    last -= shared
    mapping.centre.copy_(centre)
    mapping.variation.zero_()
    start, end = len(mapping.aspects) * d, min(mapping.z_dim, count)
    if end > start:
        mapping.variation[: end - start] = spread * rest / scale * s[start:end, None] * axes[start:end]
    mapping.w_avg.copy_(mapping(z)[:, 0].mean(dim=0))


def _kin(codes: Tensor, male: Tensor | None, dim: int) -> Tensor:
    """Return vectors [people, dim] whose squared distance is twice the logits that two people lose together.

    Args:
        codes: The ws' principal components, the strongest first [people, components].
        male: See `remember_people`.
        dim: Size of the vectors, 2 or more.
    """
    strong = codes[:, : dim - 1]
    alike = strong * math.sqrt(ALIKE) / strong.square().sum(dim=1).mean().clamp(min=1e-12).sqrt()
    sex = codes.new_zeros(len(codes)) if male is None else (male.to(codes) - 0.5) * math.sqrt(SAME_SEX)
    return F.pad(torch.cat([sex[:, None], alike], dim=1), (0, dim - 1 - alike.shape[1]))


def _balance(mapping: PeopleMapping, aspect: str, place: Tensor, first: Tensor | None) -> None:
    """Set the offsets of an aspect so that the places [N, d] choose everybody equally often.

    Without them, those near the centre of the places would be chosen far more often than others.
    `first` is the nearness of the first aspect [N, people], or None there.
    """
    offsets = getattr(mapping, f"{aspect}_offsets")
    offsets.copy_(-getattr(mapping, f"{aspect}_codes").square().sum(dim=1) / 2)
    for _ in range(_ROUNDS):
        often = mapping.nearness(aspect, place, first).mean(dim=0) * len(offsets)
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
def look_at_people(generator: StyleGAN2Generator, ws: Tensor, checker: FaceChecker) -> tuple[Tensor, Tensor]:
    """Look at a generator's pictures of people with ws [N, w_dim], about 0.15 s each on one core.

    Returns:
        Who is a well-formed face: bool [N]; how sure it is, by looks, that somebody is a man: float [N], 0.5
        where no face or more than one is found.
    """
    looks, found, male = LooksEstimator(), [], []
    for w in ws:
        pixels = pixels_from_img(generator.synthesis(w.expand(1, generator.num_ws, -1), "const"))[0]
        faces = checker.detector.detect(pixels)
        found.append(not checker.check(pixels).reasons)
        male.append(looks.estimate(pixels, faces[0]).male if len(faces) == 1 else 0.5)
    return torch.tensor(found), torch.tensor(male)


def draw_only(
    generator: StyleGAN2Generator, ws: Tensor, well_formed: Tensor, male: Tensor, spread: float
) -> StyleGAN2Generator:
    """Return the generator with a memory of some people only.

    Where most are not well formed, the pictures are no portraits in the game's frame, and all stay.

    Args:
        generator: Has the weights that are taken over.
        ws: Of all people [N, w_dim].
        well_formed: Who is to be drawn, bool [N].
        male: As for `remember_people` [N].
        spread: As for `remember_people`.
    """
    if int(well_formed.sum()) < len(ws) / 2:
        well_formed = torch.ones_like(well_formed)
    kept = ws[well_formed]
    network = {key: value for key, value in generator.config.items() if not key.startswith("_")}
    network["mapping_kwargs"] = {**network["mapping_kwargs"], "people": len(kept)}
    chosen = StyleGAN2Generator(**network).requires_grad_(False)
    chosen.synthesis.load_state_dict(generator.synthesis.state_dict())
    assert isinstance(chosen.mapping, PeopleMapping)
    remember_people(chosen.mapping, kept, spread=spread, male=male[well_formed])
    return chosen.eval()
