"""What a generator's memory of people holds, computed from the ws that portraits own.

Owns setting a `PeopleMapping`, who is fit for it, and guessing the ws of new portraits. Does not know how ws
are learned.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ehmfaces.data.attributes import LooksEstimator
from ehmfaces.metrics.face_checks import FaceChecker
from ehmfaces.models.ops import normalize_2nd_moment
from ehmfaces.models.stylegan2 import PeopleMapping, StyleGAN2Generator
from ehmfaces.tensors import pixels_from_img
from ehmfaces.training.warm_start import plain_options, ridge_ws
from ehmfaces.types import Pixels

REST = 0.3  # share of the spread of the components of z which choose nobody
EDGES = (8, 48)  # principal component of the ws with which the second and the third aspect begin
ALIKE = 4.0  # logits that somebody loses for being as unlike the first person as people are on average
# Twice the logits lost for the other sex, for a standard deviation of side light, and of lightness.
SAME_LOOKS = (120.0, 30.0, 10.0)
LOOKS = len(SAME_LOOKS)
SIDE_LIGHT, DARK = 0.7, 0.12  # whose face is lit more from one side, or is darker, is not drawn
# The inner face in the frame, shares of the side; the columns of its left and of its right half.
FACE_ROWS, FACE_COLUMNS = (0.37, 0.72), (0.32, 0.48, 0.52, 0.68)
OWN = 0.8  # share of the last aspect that is somebody else's than the first
_DRAWS, _AT_ONCE = 4096, 256
_ROUNDS = 24  # of balancing


@torch.no_grad()
def remember_people(
    mapping: PeopleMapping,
    ws: Tensor,
    rest: float = REST,
    own: float = OWN,
    spread: float = 1.0,
    edges: Sequence[int] = EDGES,
    looks: Tensor | None = None,
    kinship: float = 1.0,
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
        looks: Of `look_at_people` [people, LOOKS]: where the memory has kin, those of one sex and in one
            light go together. None = not known.
        kinship: Factor on all logits that people lose for being unlike the first.
    """
    centre = ws.mean(dim=0)
    u, s, axes = torch.linalg.svd(ws - centre, full_matrices=False)
    if mapping.kin_dim:
        mapping.kin.copy_(math.sqrt(kinship) * _kin(u * s, looks, mapping.kin_dim))
    d, count, scale = mapping.places, len(s), math.sqrt(len(ws))
    starts = [min(edge, count) for edge in [0, *edges]][: len(mapping.aspects)]
    z = _draw_many(mapping).to(ws.device)
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
    set_average(mapping)


def _draw_many(mapping: PeopleMapping) -> Tensor:
    return torch.randn(_DRAWS, mapping.z_dim, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def set_average(mapping: PeopleMapping) -> None:
    """Set w_avg to the mean of what random z give, always the same ones."""
    z = _draw_many(mapping).to(mapping.centre.device)
    mapping.w_avg.copy_(torch.cat([mapping(some)[:, 0] for some in z.split(_AT_ONCE)]).mean(dim=0))


def _kin(codes: Tensor, looks: Tensor | None, dim: int) -> Tensor:
    """Return vectors [people, dim] whose squared distance is twice the logits that two people lose together.

    Args:
        codes: The ws' principal components, the strongest first [people, components].
        looks: See `remember_people`.
        dim: Size of the vectors, more than `LOOKS`.
    """
    strong = codes[:, : dim - LOOKS]
    alike = strong * math.sqrt(ALIKE) / strong.square().sum(dim=1).mean().clamp(min=1e-12).sqrt()
    alike = F.pad(alike, (0, dim - LOOKS - alike.shape[1]))
    if looks is None:
        return F.pad(alike, (LOOKS, 0))
    seen = looks.to(codes)
    spread = (seen - seen.mean(dim=0)) / seen.std(dim=0).clamp(min=1e-6)
    spread[:, 0] = seen[:, 0] - 0.5
    return torch.cat([spread * codes.new_tensor(SAME_LOOKS).sqrt(), alike], dim=1)


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
        Who is a well-formed face in usual light: bool [N]; and looks [N, LOOKS]: how sure it is that
        somebody is a man (0.5 where no face or more than one is found), how much lighter the left half of the
        face is, relative to the whole, and its lightness, 0 to 1.
    """
    estimator, found, looks = LooksEstimator(), [], []
    for w in ws:
        pixels = pixels_from_img(generator.synthesis(w.expand(1, generator.num_ws, -1), "const"))[0]
        faces = checker.detector.detect(pixels)
        side, lightness = measure_light(pixels)
        usual = abs(side) < SIDE_LIGHT and lightness > DARK
        found.append(usual and not checker.check(pixels).reasons)
        male = estimator.estimate(pixels, faces[0]).male if len(faces) == 1 else 0.5
        looks.append((male, side, lightness))
    return torch.tensor(found), torch.tensor(looks)


def measure_light(pixels: Pixels) -> tuple[float, float]:
    """Return how much lighter the left half of the inner face is, relative to the whole, and its lightness.

    Args:
        pixels: A portrait in the frame of the game's packs, RGB uint8 [S, S, 3].
    """
    luma = pixels @ np.array([0.299, 0.587, 0.114]) / 255
    top, bottom = (round(share * len(luma)) for share in FACE_ROWS)
    first, second, third, fourth = (round(share * len(luma)) for share in FACE_COLUMNS)
    face = luma[top:bottom]
    whole = float(face[:, first:fourth].mean())
    side = float(face[:, first:second].mean() - face[:, third:fourth].mean())
    return side / max(whole, 1e-6), whole


def draw_only(
    generator: StyleGAN2Generator,
    ws: Tensor,
    chosen: Tensor,
    looks: Tensor,
    aspects: Sequence[str] | None = None,
    **memory: Any,
) -> StyleGAN2Generator:
    """Return the generator with a memory of some people only.

    Where it would be less than half of them, the pictures are no portraits in the game's frame, and all stay.

    Args:
        generator: Has the weights that are taken over.
        ws: Of all people [N, w_dim].
        chosen: Who is to be drawn, bool [N].
        looks: Of `look_at_people` [N, LOOKS].
        aspects: Names, where they are others than the generator's.
        memory: Further options of `remember_people`.
    """
    if int(chosen.sum()) < len(ws) / 2:
        chosen = torch.ones_like(chosen)
    kept = ws[chosen]
    network = plain_options(generator)
    network["mapping_kwargs"] = {**network["mapping_kwargs"], "people": len(kept)}
    if aspects is not None:
        most = generator.z_dim // (len(aspects) + 1)  # something is left to vary the rest
        places = min(network["mapping_kwargs"].get("places", most), most)
        network["mapping_kwargs"] |= {"aspects": list(aspects), "places": places}
    drawing = StyleGAN2Generator(**network).requires_grad_(False)
    drawing.synthesis.load_state_dict(generator.synthesis.state_dict())
    assert isinstance(drawing.mapping, PeopleMapping)
    remember_people(drawing.mapping, kept, looks=looks[chosen], **memory)
    return drawing.eval()
