"""The detail stage: an auto-decoder's smooth pictures become sharp, on a processor, in an hour or two.

After the warm start the network knows people but not skin, hair and edges. Here it goes on reproducing the
owned portraits while discriminators of places, not of whole faces, ask for detail, in owned portraits and in
the people that the mapping network draws; those stay tied to what the warm start shows of them at a low
resolution. Owns that loop and its result, a generator. Does not know where portraits come from.

Source: Larsen et al., "Autoencoding beyond pixels" (2016), for the sum of both losses; Esser et al., "Taming
Transformers" (2021), for weighing them by their gradients.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_model, save_file
from torch import Tensor, nn

from ehmfaces.errors import InputError, ModelError
from ehmfaces.metrics.face_checks import FaceChecker
from ehmfaces.metrics.features import LiteFeatures, see_levels
from ehmfaces.models.patch import FeatureHeads, PatchDiscriminator
from ehmfaces.models.stylegan2 import PeopleMapping, StyleGAN2Generator
from ehmfaces.training.checkpoint import load_checkpoint, save_checkpoint
from ehmfaces.training.ema import update_ema
from ehmfaces.training.people_map import LOOKS, draw_only, guess_ws, look_at_people, remember_people
from ehmfaces.training.stats import Stats
from ehmfaces.training.warm_start import load_warm_start, plain_options, shrink, write_warm_start

CHECKPOINT = "detail.safetensors"
JUDGES = "judges.safetensors"
MIXED = 0.25  # share of drawn people with two sources of style
FEATURE_PX = 256  # the feature network sees larger pictures at this size
HEAD_LEVELS = {1: 16, 2: 24, 3: 40, 4: 112}  # level of the feature network: its width
KIN_DIM = 24 + LOOKS  # principal components, and looks
BALANCE_INTERVAL = 8  # steps between two measurements of the gradients' lengths


@dataclass(frozen=True)
class DetailConfig:
    """Options of the detail stage.

    Attributes:
        stages: (resolution in pixels, thousands of pictures shown there), each from the weights before.
        channel_base: Width of the generator; the warm start's is widened without changing its pictures.
        batch_size: Pictures per step, half of them owned portraits, half drawn people.
        adversarial: Length of the adversarial gradient relative to that of what holds the pictures.
        ramp_kimg: The adversarial gradient rises over this long at the start of each stage.
        heads_share: Share of the feature heads in the adversarial loss; the rest is the patches'.
        tie_weight: Weight of the tie of drawn people to the warm start's picture at `tie_px`.
        spread: How far from the average people are drawn, 1 = as far as the portraits' ws are.
        least_psi: They are drawn at truncations from here to 1.
        decay_share: Share of the plan over which all rates fall to a tenth, at its end.
        r1_pixels, r1_levels: R1 of the patch discriminator and of the feature heads.
        compiled: Whether the synthesis network is compiled (a minute or two at the start of each stage).
        half: Whether judges and, where `compiled`, the generator compute in bfloat16: much faster on
            processors with matrix units for it (AMX), slower on others.
    """

    stages: tuple[tuple[int, float], ...] = ((128, 8.0), (256, 8.0))
    channel_base: int = 4096
    batch_size: int = 4
    g_lr: float = 0.003
    w_lr: float = 0.002
    d_lr: float = 0.003
    feature_weight: float = 0.06
    adversarial: float = 1.8
    ramp_kimg: float = 2.0
    heads_share: float = 0.6
    tie_weight: float = 1.0
    tie_px: int = 16
    spread: float = 0.92
    least_psi: float = 0.6
    decay_share: float = 1 / 3
    r1_pixels: float = 0.01
    r1_levels: float = 0.01
    r1_interval: int = 8
    ema_kimg: float = 2.0
    seed: int = 0
    compiled: bool = True
    half: bool = False

    @property
    def total_nimg(self) -> float:
        """Pictures shown in all stages."""
        return 1000 * sum(kimg for _, kimg in self.stages)


@torch.no_grad()
def widen_into(source: nn.Module, target: nn.Module) -> None:
    """Copy a synthesis network into one as wide or wider and as large or larger; its pictures stay.

    New channels start at random but nobody listens to them yet; new blocks add nothing to the picture yet.
    """
    have = source.state_dict()
    for name, value in target.state_dict().items():
        if name not in have:
            if name.endswith("torgb.weight"):
                value.zero_()
            continue
        known = have[name]
        if known.shape == value.shape:
            value.copy_(known)
        elif value.dim() == 4:  # [out, in, k, k]
            value[: known.shape[0]] = 0
            gain = math.sqrt(value.shape[1] / known.shape[1]) if "torgb" in name else 1.0
            value[: known.shape[0], : known.shape[1]] = known * gain
        else:  # what belongs to each channel
            value[: known.shape[0]] = known


class DetailRun:
    """Networks, optimizers and the position in the plan."""

    def __init__(
        self,
        images: Tensor,
        further: Tensor,
        warm_start: Path,
        config: DetailConfig,
        outdir: Path,
        new_portraits: bool = False,
    ) -> None:
        """Prepare the first stage, or the one that the checkpoint in `outdir` stopped in.

        Args:
            images: uint8 [N, 3, S, S], the portraits that own a w; S is the last stage's resolution or more.
            further: uint8 [M, 3, S, S], further real pictures for the discriminators; M may be 0.
            warm_start: Folder of a finished warm start, or of another run's `owned`.
            config: Options.
            outdir: Gets checkpoint, samples and statistics.
            new_portraits: The portraits are not those of the warm start: their ws are guessed.

        Raises:
            InputError: The portraits or the stages do not fit the warm start.
            MissingExtraError: Packages of the extra "train" are not installed.
        """
        self.config, self.outdir, self.further = config, outdir, further
        self.images = torch.cat([images, images.flip(3)])
        self.features = LiteFeatures()
        self.checker = FaceChecker()  # needed at the end; what it lacks is told at the start
        self.warm, ws = load_warm_start(warm_start)
        self.warm.eval().requires_grad_(False)
        self._check(len(ws), new_portraits)
        if new_portraits:
            ws = guess_ws(self.warm, ws, shrink(self.images, self.warm.img_resolution))
        self.network = build_network(self.warm, config.channel_base, len(ws))
        torch.manual_seed(config.seed)
        self.D = PatchDiscriminator()
        self.heads = FeatureHeads(tuple(HEAD_LEVELS.values()))
        if (warm_start / JUDGES).exists() and self.warm.img_resolution == config.stages[0][0]:
            self._load_judges(warm_start / JUDGES)
        self.cur_nimg = self.stage = 0
        self.balance = 0.0
        self.table = nn.Embedding.from_pretrained(ws.clone(), freeze=False, sparse=True)
        self._build_stage(self.warm, self.warm)
        outdir.mkdir(parents=True, exist_ok=True)
        if (outdir / CHECKPOINT).exists():
            self._resume()

    def _check(self, owned: int, new_portraits: bool) -> None:
        if not new_portraits and owned != len(self.images):
            raise InputError(
                f"The warm start is of {owned // 2} portraits, the data of {len(self.images) // 2}. Give the "
                "portraits it was made from, or say that these are new (--new-portraits)."
            )
        batch, most = self.config.batch_size, 2 * len(self.images)
        if batch % 2 or not 2 <= batch <= most:
            raise InputError(
                f"A batch of {batch} pictures cannot be half owned portraits and half drawn people. Give an "
                f"even number, 2 to {most}."
            )
        smallest = min(size for size, _ in self.config.stages)
        if smallest < self.warm.img_resolution:
            raise InputError(
                f"A stage of {smallest} px is below the warm start's {self.warm.img_resolution} px. Give "
                "stages from there on."
            )

    def _build_stage(self, before: StyleGAN2Generator, before_ema: StyleGAN2Generator) -> None:
        size = self.config.stages[self.stage][0]
        torch.manual_seed(self.config.seed + self.stage)
        self.G = StyleGAN2Generator(**{**self.network, "img_resolution": size})
        self.ema = StyleGAN2Generator(**{**self.network, "img_resolution": size}).requires_grad_(False)
        widen_into(before.synthesis, self.G.synthesis)
        self.ema.load_state_dict(self.G.state_dict())
        widen_into(before_ema.synthesis, self.ema.synthesis)
        judges = [*self.D.parameters(), *self.heads.parameters()]
        self.opt_G = torch.optim.Adam(self.G.synthesis.parameters(), self.config.g_lr, betas=(0.0, 0.99))
        self.opt_D = torch.optim.Adam(judges, self.config.d_lr, betas=(0.0, 0.99))
        self.opt_w = torch.optim.SparseAdam(self.table.parameters(), self.config.w_lr)
        self.synthesize: Callable[..., Tensor] = self.G.synthesis
        self.show_warm: Callable[..., Tensor] = self.warm.synthesis
        if self.config.compiled:
            if self.config.half:
                self.G.synthesis.half_dtype = self.warm.synthesis.half_dtype = torch.bfloat16
            self.synthesize = torch.compile(self.G.synthesis)
            self.show_warm = torch.compile(self.warm.synthesis)
        self.remember()

    def remember(self) -> None:
        """Let the mapping networks draw from the ws as they are now."""
        assert isinstance(self.G.mapping, PeopleMapping)
        remember_people(self.G.mapping, self.table.weight.detach(), spread=self.config.spread)
        self.ema.mapping.load_state_dict(self.G.mapping.state_dict())

    def _judges(self) -> nn.ModuleDict:
        return nn.ModuleDict({"D": self.D, "heads": self.heads})

    def _load_judges(self, path: Path) -> None:
        try:
            load_model(self._judges(), path)
        except (RuntimeError, SafetensorError) as error:
            raise ModelError(
                f'"{path.parent.name}/{path.name}" holds no such discriminators ({str(error)[:100]}). '
                "Delete that file to start with new ones."
            ) from error

    def _modules(self) -> dict[str, nn.Module]:
        return {"G": self.G, "G_ema": self.ema, "D": self.D, "heads": self.heads, "table": self.table}

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"G": self.opt_G, "D": self.opt_D, "table": self.opt_w}

    def _resume(self) -> None:
        self.stage = json.loads((self.outdir / "detail.json").read_text())["stage"]
        self._build_stage(self.G, self.ema)
        _, scalars = load_checkpoint(self.outdir / CHECKPOINT, self._modules(), self._optimizers())
        self.cur_nimg, self.balance = scalars["cur_nimg"], scalars["balance"]

    def save(self) -> None:
        """Write the checkpoint and its header; the people to draw are those of this moment from here on."""
        self.remember()
        scalars = {"cur_nimg": self.cur_nimg, "balance": self.balance}
        save_checkpoint(self.outdir / CHECKPOINT, self._modules(), self._optimizers(), {}, scalars)
        header = {"stage": self.stage, "network": self.network, "config": asdict(self.config)}
        (self.outdir / "detail.json").write_text(json.dumps(header, indent=1) + "\n")
        Image.fromarray(sample_sheet(self)).save(self.outdir / "samples.png")

    def write_result(self) -> None:
        """Write the average generator, and what directions and further runs need: ws and discriminators."""
        write_model(self.ema, self.table.weight.detach(), self.checker, self.config.spread, self.outdir)
        judges = {name: value.half() for name, value in self._judges().state_dict().items()}
        save_file(judges, self.outdir / "owned" / JUDGES)

    def grow(self) -> None:
        """Go on to the next stage with the weights of this one."""
        before = self.config.stages[self.stage][0]
        self.stage += 1
        if self.config.stages[self.stage][0] > before:
            self.D.look_closer()
        self._build_stage(self.G, self.ema)

    def stage_start(self) -> float:
        """Return the picture count at which the current stage began."""
        return 1000 * sum(kimg for _, kimg in self.config.stages[: self.stage])

    def stage_end(self) -> float:
        """Return the picture count at which the current stage ends."""
        return self.stage_start() + 1000 * self.config.stages[self.stage][1]

    def rate(self) -> float:
        """Return the factor on all rates: 1, and a cosine down to a tenth over the last part of the plan."""
        late = max(0.0, 1 - (1 - self.cur_nimg / self.config.total_nimg) / self.config.decay_share)
        return 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * min(1.0, late)))

    def step(self, stats: Stats) -> None:
        """Show one batch, the same at the same position of the plan; all networks learn from it."""
        config, half = self.config, self.config.batch_size // 2
        rng = np.random.default_rng([config.seed, self.cur_nimg])
        index = torch.from_numpy(rng.choice(len(self.images), half, replace=False))
        torch.manual_seed(int(rng.integers(2**31)))
        self._set_rates()
        real = self._draw_real(index, rng)
        owned = self.table(index)[:, None].repeat(1, self.G.num_ws, 1)
        drawn = self._draw_people(half, rng)
        img = self.synthesize(torch.cat([owned, drawn]), "random")
        fake = img.detach().requires_grad_()
        with torch.no_grad():
            seen_real = self._see(real)
        seen = self._see(fake)
        on_fake = self._judge(fake, seen)
        held = self._holding_loss(fake, seen, real[:half], seen_real, drawn, stats)
        slope = self._weigh(held, self._asking_loss(on_fake, stats), fake)
        self._train_judges(self._judge(real, seen_real), on_fake, stats)
        if self.cur_nimg // config.batch_size % config.r1_interval == 0:
            self._smooth_judges(real, seen_real, stats)
        self._move_generator(img, slope)
        self.cur_nimg += config.batch_size
        update_ema(self.ema, self.G, config.batch_size, config.ema_kimg * 1000)
        stats.add(balance=self.balance)

    def _set_rates(self) -> None:
        config = self.config
        pairs = ((self.opt_G, config.g_lr), (self.opt_D, config.d_lr), (self.opt_w, config.w_lr))
        for optimizer, lr in pairs:
            optimizer.param_groups[0]["lr"] = lr * self.rate()

    def _draw_people(self, count: int, rng: np.random.Generator) -> Tensor:
        """Return ws [count, num_ws, w_dim]; some take their later layers from somebody else."""
        z = torch.from_numpy(rng.standard_normal((2 * count, self.G.z_dim))).float()
        with torch.no_grad():
            first, second = self.G.mapping(z).chunk(2)
        for row in np.flatnonzero(rng.random(count) < MIXED):
            first[row, rng.integers(1, self.G.num_ws) :] = second[row, 0]
        psi = torch.from_numpy(rng.uniform(self.config.least_psi, 1, [count, 1, 1])).float()
        return self.G.mapping.w_avg.lerp(first, psi)

    def _draw_real(self, index: Tensor, rng: np.random.Generator) -> Tensor:
        """Return the owned portraits of `index` and as many others, float32 in [-1, 1]."""
        pool = self.further if len(self.further) and rng.random() < 0.5 else self.images
        others = pool[torch.from_numpy(rng.integers(len(pool), size=len(index)))]
        if rng.random() < 0.5:
            others = others.flip(3)
        return shrink(torch.cat([self.images[index], others]), self.config.stages[self.stage][0])

    def _see(self, img: Tensor) -> list[Tensor]:
        """Return the feature network's levels, each vector of length sqrt(C)."""
        small = F.avg_pool2d(img, img.shape[2] // FEATURE_PX) if img.shape[2] > FEATURE_PX else img
        return see_levels(self.features, small)

    def _judge(self, img: Tensor, seen: list[Tensor]) -> list[Tensor]:
        """Return all judges' maps of logits, float32: of the pictures, and of the levels."""
        with torch.autocast("cpu", torch.bfloat16, self.config.half):
            maps = [*self.D(img), *self._heads(seen)]
        return [logits.float() for logits in maps]

    def _heads(self, seen: list[Tensor]) -> list[Tensor]:
        maps: list[Tensor] = self.heads([seen[level] for level in HEAD_LEVELS])
        return maps

    def _holding_loss(
        self,
        fake: Tensor,
        seen: list[Tensor],
        real: Tensor,
        seen_real: list[Tensor],
        drawn: Tensor,
        stats: Stats,
    ) -> Tensor:
        """Return the reconstruction loss of the owned portraits and the tie of the drawn people, []."""
        config, half = self.config, len(real)
        pixels = (fake[:half] - real).abs().mean()
        pairs = zip(seen, seen_real, strict=True)
        features = torch.stack([(made[:half] - wanted[:half]).abs().mean() for made, wanted in pairs]).sum()
        with torch.no_grad():
            shown = self.show_warm(drawn[:, : self.warm.num_ws].contiguous(), "none").float()
        drawn_small, shown_small = (F.adaptive_avg_pool2d(img, config.tie_px) for img in (fake[half:], shown))
        tie = (drawn_small - shown_small).abs().mean()
        stats.add(pixels=float(pixels.detach()), features=float(features.detach()), tie=float(tie.detach()))
        return pixels + config.feature_weight * features + config.tie_weight * tie

    def _asking_loss(self, on_fake: list[Tensor], stats: Stats) -> Tensor:
        """Return the adversarial loss [] of the generator."""
        share, count = self.config.heads_share, len(HEAD_LEVELS)
        patches = -torch.stack([logits.mean() for logits in on_fake[:-count]]).mean()
        heads = -torch.stack([logits.mean() for logits in on_fake[-count:]]).mean()
        stats.add(G_patches=float(patches.detach()), G_heads=float(heads.detach()))
        return (1 - share) * patches + share * heads

    def _train_judges(self, on_real: list[Tensor], on_fake: list[Tensor], stats: Stats) -> None:
        """Move the discriminators by their hinge losses; the pictures are judged once for both sides."""
        pairs = zip(on_real, on_fake, strict=True)
        losses = torch.stack([F.relu(1 - real).mean() + F.relu(1 + fake).mean() for real, fake in pairs])
        parameters = self.opt_D.param_groups[0]["params"]
        gradients = torch.autograd.grad(losses.sum(), parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        self.opt_D.step()
        stats.add(**{f"D{scale}": value for scale, value in enumerate(losses.tolist())})

    def _smooth_judges(self, real: Tensor, seen_real: list[Tensor], stats: Stats) -> None:
        """Penalise slopes at real pictures (R1) of each map, weighted as one logit per place."""
        config = self.config
        pixels = real.detach().requires_grad_()
        levels = [seen_real[level].detach().requires_grad_() for level in HEAD_LEVELS]
        maps = [*self.D(pixels), *self.heads(levels)]
        total = torch.stack([logits.sum() / math.sqrt(logits[0].numel()) for logits in maps]).sum()
        slopes = torch.autograd.grad(total, [pixels, *levels], create_graph=True)
        on_pixels, *on_levels = [slope.square().sum(dim=(1, 2, 3)).mean() for slope in slopes]
        penalty = config.r1_pixels * on_pixels + config.r1_levels * torch.stack(on_levels).sum()
        self.opt_D.zero_grad(set_to_none=True)
        (penalty * config.r1_interval / 2).backward()
        self.opt_D.step()
        stats.add(r1=float(on_pixels.detach()), r1_levels=float(torch.stack(on_levels).sum().detach()))

    def _weigh(self, held: Tensor, asked: Tensor, fake: Tensor) -> Tensor:
        """Return the gradient of both losses at the pictures, the second scaled to the length of the first.

        Their lengths change slowly: they are measured apart now and then, which costs a second pass.
        """
        config = self.config
        if self.balance == 0 or self.cur_nimg // config.batch_size % BALANCE_INTERVAL == 0:
            (hold,) = torch.autograd.grad(held, fake, retain_graph=True)
            (ask,) = torch.autograd.grad(asked, fake, retain_graph=True)
            ratio = float(hold.norm() / ask.norm().clamp(min=1e-12))
            self.balance = ratio if self.balance == 0 else 0.9 * self.balance + 0.1 * ratio
            return hold + self._pull() * ask
        (both,) = torch.autograd.grad(held + self._pull() * asked, fake, retain_graph=True)
        return both

    def _pull(self) -> float:
        """Return the factor on the adversarial loss: its length in balance, less at the start of a stage."""
        ramp = min(1.0, (self.cur_nimg - self.stage_start()) / (1000 * self.config.ramp_kimg) + 0.01)
        return self.config.adversarial * ramp * self.balance

    def _move_generator(self, img: Tensor, slope: Tensor) -> None:
        """Move generator and ws against the gradient at the pictures."""
        self.opt_G.zero_grad(set_to_none=True)
        self.opt_w.zero_grad(set_to_none=True)
        img.backward(slope)
        self.opt_G.step()
        self.opt_w.step()


def build_network(warm: StyleGAN2Generator, channel_base: int, people: int) -> dict[str, Any]:
    """Return the constructor keywords of the generator that follows a warm start."""
    known = plain_options(warm)
    widths = {**known["synthesis_kwargs"], "channel_base": channel_base}
    aspects = ["coarse", "middle", "fine"]
    places = min(12, known["z_dim"] // 6)
    memory = {"people": people, "places": places, "aspects": aspects, "balanced": True, "kin_dim": KIN_DIM}
    return {**known, "mapping_kwargs": memory, "synthesis_kwargs": widths}


def write_model(
    average: StyleGAN2Generator, ws: Tensor, checker: FaceChecker, spread: float, outdir: Path
) -> None:
    """Write a finished run: a generator that draws well-formed people, and all ws with the same network.

    Args:
        average: Generator; its memory is set anew.
        ws: Of portraits and mirror images [2 N, w_dim].
        checker: Says whose picture is well formed.
        spread: As for `remember_people`.
        outdir: Gets `generator/` and `owned/`.
    """
    chosen, looks = look_at_people(average, ws, checker)
    draw_only(average, ws, chosen, looks, spread=spread).save_pretrained(outdir / "generator")
    write_warm_start(average, ws, outdir / "owned")


@torch.no_grad()
def sample_sheet(run: DetailRun, count: int = 8) -> np.ndarray:
    """Draw rows of originals, reconstructions and drawn people as uint8 [H, W, 3]."""
    size = run.config.stages[run.stage][0]
    index = torch.linspace(0, len(run.images) // 2 - 1, count).long()
    owned = run.table.weight[index][:, None].repeat(1, run.ema.num_ws, 1)
    drawn = run._draw_people(3 * count, np.random.default_rng(7))
    with torch.inference_mode():
        img = run.ema.synthesis(torch.cat([owned, drawn]), "const")
    img = torch.cat([shrink(run.images[index], size), img]).clamp(-1, 1)
    grid = img.reshape(5, count, 3, size, size).permute(0, 3, 1, 4, 2).reshape(5 * size, count * size, 3)
    return ((grid + 1) * 127.5).round().to(torch.uint8).numpy()


def run_detail(
    images: Tensor,
    further: Tensor,
    warm_start: Path,
    config: DetailConfig,
    outdir: Path,
    new_portraits: bool = False,
    seconds_per_save: float = 180.0,
    report: Callable[[dict[str, float]], None] = lambda line: None,
) -> DetailRun:
    """Train until the plan is done, saving on the way; the same call resumes. See `DetailRun`."""
    run = DetailRun(images, further, warm_start, config, outdir, new_portraits)
    stats, saved, counted = Stats(outdir / "stats.jsonl"), time.monotonic(), run.cur_nimg
    while True:
        done = run.cur_nimg >= run.stage_end()
        if time.monotonic() - saved > seconds_per_save or done:
            speed = (run.cur_nimg - counted) / (time.monotonic() - saved)
            place = {"cur_nimg": run.cur_nimg, "resolution": config.stages[run.stage][0]}
            report(stats.write(**place, img_per_sec=speed))
            run.save()
            saved, counted = time.monotonic(), run.cur_nimg
        if done:
            if run.stage == len(config.stages) - 1:
                run.write_result()
                return run
            run.grow()
        run.step(stats)
