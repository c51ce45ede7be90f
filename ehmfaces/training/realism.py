"""How believable the picture of a w is: verdicts on many drawn people, and a network that has learned them.

Owns both, and giving that network to a memory of people, which then names several groups for a face.
Does not know how judges were trained or where models are kept.

Source: Azadi et al., "Discriminator Rejection Sampling" (2019), whose idea this moves into w space: nothing
is drawn again when a face is made.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ehmfaces.errors import InputError
from ehmfaces.metrics.face_checks import FaceChecker
from ehmfaces.metrics.features import LiteFeatures
from ehmfaces.models.stylegan2 import PeopleMapping, StyleGAN2Generator, build_realism
from ehmfaces.tensors import choose_device
from ehmfaces.training.checkpoint import load_checkpoint, save_checkpoint
from ehmfaces.training.detail_loop import HEAD_LEVELS
from ehmfaces.training.people_map import draw_only, look_at_people, set_average
from ehmfaces.training.refine_loop import TOWERS, load_judges, see_levels
from ehmfaces.training.warm_start import load_warm_start, plain_options

# Of the memory that is chosen from: its people may differ more than they must without choice, and each face
# comes from more of them, so that hardly two faces have much in common.
ASPECTS, EDGES = ("coarse", "middle", "fine", "finer", "finest"), (5, 10, 20, 40)
MEMORY = {"edges": EDGES, "rest": 0.5, "spread": 0.96, "kinship": 0.4}
PSI = (0.6, 1.05)  # truncations at which people are judged
LOW = 0.05  # quantile of a judge's places that counts beside their mean: flaws are small
# Towers like strong detail more than photographs have it: pictures that they praise have stains and harsh
# shadows. So what they say is taken off, with this weight, from what the heads on features say.
AGAINST_TOWERS = 0.7
# Both overlook stains on dark skin and smeared features, which are measured at their places in the frame
# (shares of the side: top, bottom, left, right): how uneven the skin is, relative to its lightness, is taken
# off; how much stronger the features' shapes are than their grain is added.
SKIN = ((0.53, 0.64, 0.355, 0.44), (0.53, 0.64, 0.56, 0.645), (0.355, 0.42, 0.40, 0.60))
EYES = ((0.455, 0.525, 0.335, 0.445), (0.455, 0.525, 0.555, 0.665))
NOSE, MOUTH = ((0.57, 0.65, 0.44, 0.56),), ((0.67, 0.755, 0.41, 0.59),)
SHAPES_PX = 64  # side of the picture in which spots and shapes are looked at
AGAINST_SPOTS, FOR_CLARITY = 1.0, 1.0
MEASURES = 2
AT_ONCE, SAVE_EVERY = 4, 400
HELD_OUT = 8  # one in so many pictures is only to test with
# Of the fit: standard deviation of noise on a w relative to that of ws, pictures a step, rounds.
NOISE, BATCH, ROUNDS = 0.2, 64, 10
LR, WEIGHT_DECAY = 0.002, 0.3


@torch.inference_mode()
def judge_pictures(judges: nn.ModuleDict, features: nn.Module, img: Tensor) -> Tensor:
    """Return verdicts on pictures [N, 3, S, S] in [-1, 1].

    These are what each judge says in the mean, then in its low places, then how spotted the skin and how
    clear the features are: [N, 2 judges + 2].
    """
    levels = see_levels(features, img)
    on_features = judges["heads"]([levels[level] for level in HEAD_LEVELS])
    maps = [logits.flatten(1) for logits in (*judges["D"](img), *on_features)]
    means = [logits.mean(dim=1) for logits in maps]
    lows = [logits.quantile(LOW, dim=1) for logits in maps]
    return torch.stack([*means, *lows, measure_spots(img), measure_clarity(img)], dim=1)


def measure_spots(img: Tensor) -> Tensor:
    """Return how uneven the skin of portraits [N, 3, S, S] in [-1, 1] is: a logarithm [N], about -4 to -1.

    It is the spread of what is smaller than a ninth of the side, relative to the skin's lightness.
    """
    small = F.interpolate(_luma(img), (SHAPES_PX, SHAPES_PX), mode="area")
    spread, lightness = _cut(_without_blur(small, 7), SKIN).std(dim=1), _cut(small, SKIN).mean(dim=1)
    return (spread / lightness.clamp(min=0.02)).clamp(min=1e-3).log()


def measure_clarity(img: Tensor) -> Tensor:
    """Return how clear eyes and mouth of portraits [N, 3, S, S] in [-1, 1] are: logarithms [N], 1 to 5.

    It is the spread there of shapes smaller than a ninth of the side, over the spread of what is finer than
    three pixels at eyes and nose (where grain, and hints of nose rings, are at their worst).
    """
    luma = _luma(img)
    shapes = _without_blur(F.interpolate(luma, (SHAPES_PX, SHAPES_PX), mode="area"), 7)
    grain = _without_blur(luma, 3)
    clear = [_cut(shapes, part).std(dim=1).clamp(min=1e-4).log() for part in (EYES, MOUTH)]
    grainy = [_cut(grain, part).std(dim=1).clamp(min=1e-4).log() for part in (EYES, NOSE)]
    return torch.stack(clear).sum(dim=0) - torch.stack(grainy).sum(dim=0)


def _luma(img: Tensor) -> Tensor:
    """Return the lightness of pictures as [N, 1, S, S] in [0, 1]."""
    weights = img.new_tensor([0.299, 0.587, 0.114])[:, None, None]
    return ((img.float() * weights).sum(dim=1, keepdim=True) + 1) / 2


def _without_blur(luma: Tensor, size_px: int) -> Tensor:
    return luma - F.avg_pool2d(luma, size_px, 1, size_px // 2, count_include_pad=False)


def _cut(luma: Tensor, places: Sequence[tuple[float, ...]]) -> Tensor:
    """Return the pixels [N, pixels] of some places in [N, 1, S, S]."""
    edges = [[round(share * luma.shape[2]) for share in place] for place in places]
    return torch.cat([luma[:, 0, a:b, c:d].flatten(1) for a, b, c, d in edges], dim=1)


def judge_people(
    generator: StyleGAN2Generator,
    judges: nn.ModuleDict,
    count: int,
    path: Path,
    device: str = "cpu",
    report: Callable[[dict[str, float]], None] = lambda line: None,
) -> tuple[Tensor, Tensor]:
    """Draw people and let judges see them; what `path` holds already is not made again.

    Returns:
        ws [count, w_dim] and verdicts [count, 2 judges + 2].
    """
    found = load_checkpoint(path, {}, {})[0] if path.exists() else {}
    ws, verdicts = list(found.get("ws", ())), list(found.get("verdicts", ()))
    generator, judges, features = generator.to(device), judges.to(device), LiteFeatures().to(device)
    while len(ws) < count:
        source = torch.Generator().manual_seed(len(ws))
        z = torch.randn(AT_ONCE, generator.z_dim, generator=source)
        psi = PSI[0] + (PSI[1] - PSI[0]) * torch.rand(AT_ONCE, 1, generator=source)
        with torch.inference_mode():
            w = generator.mapping.w_avg.lerp(generator.mapping(z.to(device))[:, 0], psi.to(device))
            img = generator.synthesis(w[:, None].repeat(1, generator.num_ws, 1), "const").clamp(-1, 1)
        ws += w.cpu()
        verdicts += judge_pictures(judges, features, img).cpu()
        if len(ws) % SAVE_EVERY == 0 or len(ws) >= count:
            save_checkpoint(path, {}, {}, {"ws": torch.stack(ws), "verdicts": torch.stack(verdicts)}, {})
            report({"judged": len(ws), "of": count})
    return torch.stack(ws[:count]), torch.stack(verdicts[:count])


def believability(verdicts: Tensor) -> Tensor:
    """Return one figure for each row of verdicts [N, 2 judges + 2], of mean 0 and standard deviation 1."""
    spots, clarity = _standard(verdicts[:, -MEASURES:]).unbind(dim=1)
    towers, heads = verdicts[:, :-MEASURES].unflatten(1, (2, -1)).tensor_split([TOWERS], dim=2)
    heads, towers = (_standard(_standard(some).mean(dim=(1, 2))) for some in (heads, towers))
    return _standard(heads - AGAINST_TOWERS * towers - AGAINST_SPOTS * spots.relu() + FOR_CLARITY * clarity)


def fit_realism(ws: Tensor, verdicts: Tensor) -> tuple[nn.Sequential, float]:
    """Fit a network that tells how believable the picture of a w is.

    It learns every judge's verdict as well, which keeps it from learning by heart; only the sum comes out.

    Args:
        ws: [N, w_dim].
        verdicts: Of `judge_people` [N, 2 judges + 2].

    Returns:
        The network, and its correlation with the judges on pictures that it has not seen.

    Raises:
        InputError: There are too few pictures.
    """
    if len(ws) < BATCH * 2:
        raise InputError(f"{len(ws)} judged pictures are too few. Judge {BATCH * 2} or more, best 20,000.")
    wanted = torch.cat([_standard(verdicts), believability(verdicts)[:, None]], dim=1)
    centre, scale = ws.mean(dim=0), ws.std(dim=0).square().mean().sqrt().clamp(min=1e-8)
    x = (ws - centre) / scale
    held_out = torch.arange(len(ws)) % HELD_OUT == 0
    source = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_realism(ws.shape[1], wanted.shape[1])
    _learn(network, x[~held_out], wanted[~held_out], source)
    with torch.no_grad():
        answers = torch.stack([network(x[held_out])[:, -1], wanted[held_out, -1]])
        state = network.state_dict()
        entry, exit_ = "0", str(len(network) - 1)
        weight = state[f"{entry}.weight"] / scale
        state |= {f"{entry}.weight": weight, f"{entry}.bias": state[f"{entry}.bias"] - weight @ centre}
        state |= {f"{exit_}.{name}": state[f"{exit_}.{name}"][-1:] for name in ("weight", "bias")}
        result = build_realism(ws.shape[1])
        result.load_state_dict(state)
    return result, float(torch.corrcoef(answers)[0, 1])


def _learn(network: nn.Sequential, x: Tensor, wanted: Tensor, source: torch.Generator) -> None:
    steps = ROUNDS * len(x) // BATCH
    optimizer = torch.optim.AdamW(network.parameters(), LR, weight_decay=WEIGHT_DECAY)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = LR * 0.5 * (1 + math.cos(math.pi * step / steps))
        some = torch.randint(len(x), (BATCH,), generator=source)
        noisy = x[some] + NOISE * torch.randn(BATCH, x.shape[1], generator=source)
        loss = (network(noisy) - wanted[some]).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


def _standard(values: Tensor) -> Tensor:
    """Return values [N, ...] with mean 0 and standard deviation 1 over the first dimension."""
    return (values - values.mean(dim=0)) / values.std(dim=0).clamp(min=1e-8)


@torch.no_grad()
def let_choose(generator: StyleGAN2Generator, realism: nn.Sequential, tries: int) -> StyleGAN2Generator:
    """Return the generator with a memory that names groups of people and takes the first that will do."""
    network = plain_options(generator)
    network["mapping_kwargs"] = {**network["mapping_kwargs"], "tries": tries}
    choosing = StyleGAN2Generator(**network).requires_grad_(False)
    choosing.load_state_dict(
        {**generator.state_dict(), **realism.state_dict(prefix="mapping.realism.")}, strict=True
    )
    assert isinstance(choosing.mapping, PeopleMapping)
    set_average(choosing.mapping)
    return choosing.eval()


def run_realism(
    refined: Path,
    outdir: Path,
    count: int,
    tries: int,
    device: str = "cpu",
    report: Callable[[dict[str, float]], None] = lambda line: None,
) -> StyleGAN2Generator:
    """Judge people drawn by a refined generator, learn from it, and let it choose; the same call resumes.

    Args:
        refined: `OUTDIR/owned` of a refining run: generator, ws and judges.
        outdir: Gets `people.safetensors`, `verdicts.safetensors`, and `generator/`, which is returned too.
        count: How many pictures are judged.
        tries: As for `PeopleMapping`.
        device: "cpu" or "cuda", for the judging.
        report: Called with figures.

    Raises:
        InputError: There are no judges, or no such device; the generator has no memory of people; `outdir`
            is of another run.
        ModelError: The folder or its judges are damaged or of another kind.
    """
    choose_device(device)  # tells at once where there is none
    generator, ws = load_warm_start(refined)
    if not isinstance(generator.mapping, PeopleMapping):
        raise InputError(
            f'The generator of "{refined.name}" has no memory of people, so there is nothing to choose from. '
            "Give OUTDIR/owned of train refine."
        )
    judges = load_judges(refined, generator.img_resolution)
    outdir.mkdir(parents=True, exist_ok=True)
    chosen, looks = _look_once(generator.eval().requires_grad_(False), ws, outdir / "people.safetensors")
    drawing = draw_only(generator, ws, chosen, looks, ASPECTS, **MEMORY)
    drawn, verdicts = judge_people(drawing, judges, count, outdir / "verdicts.safetensors", device, report)
    realism, agreement = fit_realism(drawn, verdicts)
    report({"judged": count, "correlation_on_unseen": agreement})
    most = 2 * drawing.config.mapping_kwargs["places"]
    choosing = let_choose(drawing.cpu(), realism, min(tries, most))
    choosing.save_pretrained(outdir / "generator")
    return choosing


def _look_once(generator: StyleGAN2Generator, ws: Tensor, path: Path) -> tuple[Tensor, Tensor]:
    """Return what `look_at_people` does, from a file where it has been done.

    Raises:
        InputError: The file is of other people.
    """
    if path.exists():
        known, _ = load_checkpoint(path, {}, {})
        if not torch.equal(known["ws"], ws):
            raise InputError(
                f'"{path.parent.name}" holds verdicts on the people of another run. Give another --outdir.'
            )
        return known["chosen"], known["looks"]
    chosen, looks = look_at_people(generator, ws, FaceChecker())
    save_checkpoint(path, {}, {}, {"ws": ws, "chosen": chosen, "looks": looks}, {})
    return chosen, looks
