"""How believable the picture of a w is: flaws seen on many drawn people, and a network that has learned them.

Owns both, and giving that network to a memory of people, which then names several groups for a face and moves
what is truncated towards believable faces. Does not know how flaws are seen or where models are kept.

Source: Azadi et al., "Discriminator Rejection Sampling" (2019), whose idea this moves into w space: nothing
is drawn again when a face is made.
"""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ehmfaces.errors import InputError
from ehmfaces.metrics.face_checks import FaceChecker
from ehmfaces.models.stylegan2 import PeopleMapping, StyleGAN2Generator, build_realism
from ehmfaces.tensors import choose_device
from ehmfaces.training.checkpoint import load_checkpoint, save_checkpoint
from ehmfaces.training.flaws import FlawJudge, load_flaws
from ehmfaces.training.people_map import draw_only, look_at_people, set_average
from ehmfaces.training.warm_start import load_warm_start, plain_options

# Of the memory that is chosen from: its people may differ more than they must without choice, and each face
# comes from more of them, so that hardly two faces have much in common.
ASPECTS, EDGES = ("coarse", "middle", "fine", "finer", "finest"), (6, 12, 24, 48)
MEMORY = {"edges": EDGES, "rest": 0.6, "spread": 0.96, "kinship": 0.4}
PSI = (0.6, 1.05)  # truncations at which people are judged
AT_ONCE, SAVE_EVERY = 4, 400
HELD_OUT = 8  # one in so many pictures is only to test with
# Of the fit: standard deviation of noise on a w relative to that of ws, pictures a step, rounds.
NOISE, BATCH, ROUNDS = 0.2, 64, 10
LR, WEIGHT_DECAY = 0.002, 0.3
LIFT = 2.0  # as for `PeopleMapping`


def judge_people(
    generator: StyleGAN2Generator,
    judge: FlawJudge,
    count: int,
    path: Path,
    device: str = "cpu",
    report: Callable[[dict[str, float]], None] = lambda line: None,
) -> tuple[Tensor, Tensor]:
    """Draw people and see how flawed they are; what `path` holds already is not made again.

    Returns:
        ws [count, w_dim] and flaws [count].

    Raises:
        InputError: The file is of another judge.
    """
    found = load_checkpoint(path, {}, {})[0] if path.exists() else {}
    if found and not torch.equal(found.get("weight", torch.empty(0)), judge.weight):
        raise InputError(
            f'"{path.parent.name}" holds what another file of flaws said. Give another --outdir.'
        )
    ws, flaws = list(found.get("ws", ())), list(found.get("flaws", ()))
    generator, judge = generator.to(device), judge.to(device)
    while len(ws) < count:
        source = torch.Generator().manual_seed(len(ws))
        z = torch.randn(AT_ONCE, generator.z_dim, generator=source)
        psi = PSI[0] + (PSI[1] - PSI[0]) * torch.rand(AT_ONCE, 1, generator=source)
        with torch.inference_mode():
            w = generator.mapping.w_avg.lerp(generator.mapping(z.to(device))[:, 0], psi.to(device))
            img = generator.synthesis(w[:, None].repeat(1, generator.num_ws, 1), "const").clamp(-1, 1)
        ws += w.cpu()
        flaws += judge(img).cpu()
        if len(ws) % SAVE_EVERY == 0 or len(ws) >= count:
            seen = {"ws": torch.stack(ws), "flaws": torch.stack(flaws), "weight": judge.weight}
            save_checkpoint(path, {}, {}, seen, {})
            report({"judged": len(ws), "of": count})
    return torch.stack(ws[:count]), torch.stack(flaws[:count])


def fit_realism(ws: Tensor, flaws: Tensor) -> tuple[nn.Sequential, float]:
    """Fit a network that tells how believable the picture of a w is, in standard deviations of pictures.

    Args:
        ws: [N, w_dim].
        flaws: Of `judge_people` [N].

    Returns:
        The network, and its correlation with the judge on pictures that it has not seen.

    Raises:
        InputError: There are too few pictures.
    """
    if len(ws) < BATCH * 2:
        raise InputError(f"{len(ws)} judged pictures are too few. Judge {BATCH * 2} or more, best 20,000.")
    wanted = (flaws.mean() - flaws) / flaws.std().clamp(min=1e-8)
    centre, scale = ws.mean(dim=0), ws.std(dim=0).square().mean().sqrt().clamp(min=1e-8)
    x = (ws - centre) / scale
    held_out = torch.arange(len(ws)) % HELD_OUT == 0
    source = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_realism(ws.shape[1])
    _learn(network, x[~held_out], wanted[~held_out], source)
    with torch.no_grad():
        answers = torch.stack([network(x[held_out])[:, 0], wanted[held_out]])
        entry = network[0]  # which takes over what was done to ws
        assert isinstance(entry, nn.Linear)
        entry.weight.div_(scale)
        entry.bias.sub_(entry.weight @ centre)
    return network, float(torch.corrcoef(answers)[0, 1])


def _learn(network: nn.Sequential, x: Tensor, wanted: Tensor, source: torch.Generator) -> None:
    steps = ROUNDS * len(x) // BATCH
    optimizer = torch.optim.AdamW(network.parameters(), LR, weight_decay=WEIGHT_DECAY)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = LR * 0.5 * (1 + math.cos(math.pi * step / steps))
        some = torch.randint(len(x), (BATCH,), generator=source)
        noisy = x[some] + NOISE * torch.randn(BATCH, x.shape[1], generator=source)
        loss = (network(noisy)[:, 0] - wanted[some]).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


@torch.no_grad()
def let_choose(
    generator: StyleGAN2Generator, realism: nn.Sequential, tries: int, likely: Tensor, lift: float = LIFT
) -> StyleGAN2Generator:
    """Return the generator with a memory that names groups of people and takes the first that will do.

    Args:
        generator: Has a memory of people.
        realism: Of `fit_realism`.
        tries: As for `PeopleMapping`.
        likely: Of `likely_changes`.
        lift: As for `PeopleMapping`.
    """
    network = plain_options(generator)
    network["mapping_kwargs"] = {**network["mapping_kwargs"], "tries": tries, "lift": lift}
    choosing = StyleGAN2Generator(**network).requires_grad_(False)
    choosing.load_state_dict(
        {
            **generator.state_dict(),
            **realism.state_dict(prefix="mapping.realism."),
            "mapping.likely": likely,
        },
        strict=True,
    )
    assert isinstance(choosing.mapping, PeopleMapping)
    set_average(choosing.mapping)
    return choosing.eval()


def likely_changes(ws: Tensor, held: np.ndarray | None = None) -> Tensor:
    """Return the covariance [w_dim, w_dim] of ws [N, w_dim], given that scores [K, w_dim] stay."""
    covariance = torch.cov(ws.double().t())
    if held is None:
        return covariance.to(ws)
    scores = torch.from_numpy(held).to(covariance)
    with_scores = scores @ covariance
    changes = covariance - with_scores.t() @ torch.linalg.solve(with_scores @ scores.t(), with_scores)
    return ((changes + changes.t()) / 2).to(ws)


def run_realism(
    refined: Path,
    outdir: Path,
    flaws: Path,
    held: np.ndarray | None,
    count: int,
    tries: int,
    device: str = "cpu",
    report: Callable[[dict[str, float]], None] = lambda line: None,
) -> StyleGAN2Generator:
    """See the flaws of people drawn by a refined generator, learn from it, and let it choose.

    The same call resumes.

    Args:
        refined: `OUTDIR/owned` of a refining run: generator and ws.
        outdir: Gets `people.safetensors`, `verdicts.safetensors`, and `generator/`, which is returned too.
        flaws: File of `train flaws`.
        held: Scores of directions [K, w_dim] that stay as they are where ws are moved; None = nothing stays.
        count: How many pictures are judged.
        tries: As for `PeopleMapping`.
        device: "cpu" or "cuda", for the judging.
        report: Called with figures.

    Raises:
        InputError: There is no such file or device; the generator has no memory of people; `outdir` is of
            another run.
        ModelError: The folder or the file is damaged or of another kind.
    """
    choose_device(device)  # tells at once where there is none
    generator, ws = load_warm_start(refined)
    if not isinstance(generator.mapping, PeopleMapping):
        raise InputError(
            f'The generator of "{refined.name}" has no memory of people, so there is nothing to choose from. '
            "Give OUTDIR/owned of train refine."
        )
    judge = load_flaws(flaws)
    outdir.mkdir(parents=True, exist_ok=True)
    chosen, looks = _look_once(generator.eval().requires_grad_(False), ws, outdir / "people.safetensors")
    drawing = draw_only(generator, ws, chosen, looks, ASPECTS, **MEMORY)
    drawn, seen = judge_people(drawing, judge, count, outdir / "verdicts.safetensors", device, report)
    realism, agreement = fit_realism(drawn, seen)
    report({"judged": count, "correlation_on_unseen": agreement})
    most = 2 * drawing.config.mapping_kwargs["places"]
    choosing = let_choose(drawing.cpu(), realism, min(tries, most), likely_changes(ws, held))
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
