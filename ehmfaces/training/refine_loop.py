"""The refining stage: hundreds of thousands of pictures on one GPU, whole steps held as CUDA graphs.

Goes on from what `detail_loop` made, with the same idea (reproduce the owned portraits, draw people, let
judges of places ask for detail) and what only pays when pictures are many: larger batches, deeper judges
that see detail brought out, each judge's gradient scaled to a share of its own, and pictures shifted and
recoloured before they are judged, so that few portraits last long. Everything random is drawn on the device:
a run is not repeated to the last bit, and goes on from its weights, not from Adam's moments.

On a processor the steps run as they are. Owns that loop and its result, a generator. Does not know where
portraits come from, nor who is fit to be drawn.

Source: as `detail_loop`; Zhao et al., "Differentiable Augmentation for Data-Efficient GAN Training" (2020).
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
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
from ehmfaces.training.augment import SteadyAugmentPipe
from ehmfaces.training.detail_loop import HEAD_LEVELS, build_network, widen_into, write_model
from ehmfaces.training.people_map import guess_ws, remember_people
from ehmfaces.training.stats import Stats
from ehmfaces.training.warm_start import load_warm_start, shrink, write_warm_start

JUDGES = "refining-judges.safetensors"
STATE = "refine.json"
DETAIL = 5.0  # how strongly towers are shown detail
TOWER_SHARES, HEAD_SHARES = (1.0, 0.85, 0.7), (0.8, 0.9, 1.0, 1.1)  # within the towers, within the heads
TOWERS = 3
JUDGE_COUNT = TOWERS + len(HEAD_LEVELS)
FIGURES = (
    "pixels", "features", "tie", "r1", "r1_levels",
    *(f"D{number}" for number in range(JUDGE_COUNT)),
    *(f"gap{number}" for number in range(JUDGE_COUNT)),
)  # fmt: skip


@dataclass(frozen=True)
class RefineConfig:
    """Options of the refining stage; the defaults are for a GPU.

    Attributes:
        resolution: Of the pictures; a smaller warm start grows.
        kimg: Thousands of pictures made in all.
        channel_base: Width of the generator; the warm start's is widened without changing its pictures.
        batch_size: Pictures per step.
        owned_share: Share of them that reproduces owned portraits; the others are drawn people.
        own_share: Share of portraits among the real pictures beside the reproduced ones; the rest are further
            ones.
        adversarial: Length of the judges' gradient relative to that of what holds the pictures, while every
            judge tells both apart by a logit or more; less where one cannot.
        towers_share: Share of the towers in it, the rest is the feature heads'.
        d_only_kimg: The judges train alone over this long.
        ramp_kimg: Then their gradient rises over this long.
        mixed: Share of drawn people with two sources of style.
        augment_p: Share of pictures shifted or recoloured before they are judged, for each kind of change.
        decay_share, decay_to: Share of the run, at its end, over which all rates fall, and to what share.
        measure_interval: Steps between two measurements of the gradients' lengths.
        remember_kimg: How often the mapping network is set anew from the learned ws.

    The others are as in `DetailConfig`.
    """

    resolution: int = 256
    kimg: float = 800.0
    channel_base: int = 4096
    batch_size: int = 64
    owned_share: float = 0.25
    own_share: float = 0.5
    g_lr: float = 0.002
    w_lr: float = 0.0005
    d_lr: float = 0.002
    feature_weight: float = 0.06
    adversarial: float = 3.0
    towers_share: float = 0.4
    d_only_kimg: float = 6.0
    ramp_kimg: float = 12.0
    tie_weight: float = 0.5
    tie_px: int = 16
    spread: float = 0.93
    least_psi: float = 0.5
    mixed: float = 0.4
    augment_p: float = 0.4
    decay_share: float = 0.45
    decay_to: float = 0.05
    r1_pixels: float = 0.0001
    r1_levels: float = 0.01
    r1_interval: int = 8
    measure_interval: int = 16
    remember_kimg: float = 20.0
    ema_kimg: float = 10.0
    tower_width: int = 32
    head_width: int = 64
    seed: int = 0
    half: bool = True
    compiled: bool = False
    owned_count: int = field(init=False, default=0)
    drawn_count: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        """Divide a batch.

        Raises:
            InputError: It is too small.
        """
        owned = max(1, round(self.batch_size * self.owned_share))
        if self.batch_size < 2:
            raise InputError(
                f"A batch of {self.batch_size} pictures cannot hold owned portraits and drawn people. "
                "Give 2 or more."
            )
        object.__setattr__(self, "owned_count", owned)
        object.__setattr__(self, "drawn_count", self.batch_size - owned)


FOR_PROCESSORS: dict[str, Any] = {  # what few small batches need
    "kimg": 16.0, "batch_size": 8, "g_lr": 0.0006, "w_lr": 0.0002, "d_lr": 0.0008, "d_only_kimg": 0.16,
    "ramp_kimg": 0.4, "least_psi": 0.55, "mixed": 0.15, "remember_kimg": 1.0, "ema_kimg": 1.5,
    "decay_share": 0.5, "measure_interval": 24, "r1_interval": 16,
}  # fmt: skip


class RefineRun:
    """Networks, pictures and recorded steps of one run."""

    def __init__(
        self,
        images: Tensor,
        further: Tensor,
        warm_start: Path,
        config: RefineConfig,
        device: str = "cuda",
        new_portraits: bool = False,
    ) -> None:
        """Put everything on the device.

        Args:
            images: uint8 [N, 3, S, S], the portraits that own a w, in the warm start's order; S is the
                resolution.
            further: uint8 [M, 3, S, S], further real pictures for the judges; M may be 0.
            warm_start: Folder of a finished warm start, or of another run's `owned`.
            config: Options.
            device: "cuda" or "cpu".
            new_portraits: The portraits are not those of the warm start: their ws are guessed.

        Raises:
            InputError: The portraits do not fit the warm start.
            ModelError: The warm start, or the judges beside it, are damaged or of another kind.
        """
        self.config, self.device = config, torch.device(device)
        torch.manual_seed(config.seed)
        self.images = torch.cat([images, images.flip(3), further]).to(self.device)
        self.own_count, self.further_count = 2 * len(images), len(further)
        self.features = LiteFeatures().to(self.device)
        self._build_networks(warm_start, new_portraits)
        self.augment = SteadyAugmentPipe(
            xint=1,
            xint_max=0.04,
            brightness=1,
            contrast=1,
            contrast_std=0.25,
            saturation=1,
            saturation_std=0.5,
        ).to(self.device)
        self.augment.p.fill_(config.augment_p)
        self.g_lr, self.w_lr, self.d_lr = (self._number(0) for _ in range(3))
        self.opt_G = self._adam(list(self.G.synthesis.parameters()), self.g_lr)
        self.opt_w = self._adam([self.table], self.w_lr)
        self.opt_D = self._adam([*self.judges.parameters()], self.d_lr)
        self.nothing, self.pull, self.ema_weight = (self._number(0) for _ in range(3))
        self.lengths, self.gaps = (torch.zeros(JUDGE_COUNT, device=self.device) for _ in range(2))
        self.shares = _shares(config.towers_share).to(self.device)
        self.measured, self.measure_weight = False, self._number(1)
        self.sums = torch.zeros(len(FIGURES), device=self.device)
        self.cur_nimg = self.batch_idx = self.counted = 0
        self.steps: dict[tuple[bool, bool, bool], Callable[[], None]] = {}
        self.pool = torch.cuda.graph_pool_handle() if self.device.type == "cuda" else None

    def _number(self, value: float) -> Tensor:
        return torch.tensor(float(value), device=self.device)

    def _build_networks(self, warm_start: Path, new_portraits: bool) -> None:
        config = self.config
        warm, ws = load_warm_start(warm_start)
        own = self.images[: self.own_count].cpu()
        if new_portraits:
            ws = guess_ws(warm.eval(), ws, shrink(own, warm.img_resolution))
        elif len(ws) != self.own_count:
            raise InputError(
                f"The warm start is of {len(ws) // 2} portraits, the data of {self.own_count // 2}. Give the "
                "portraits it was made from, or say that these are new (--new-portraits)."
            )
        network = build_network(warm, config.channel_base, len(ws))
        self.network = {**network, "img_resolution": config.resolution}
        self.G = StyleGAN2Generator(**self.network)
        widen_into(warm.synthesis, self.G.synthesis)
        self.ema = StyleGAN2Generator(**self.network).requires_grad_(False)
        self.ema.load_state_dict(self.G.state_dict())
        self.warm = warm.requires_grad_(False)
        self.table = nn.Parameter(ws.clone().to(self.device))
        self.judges = build_judges(config.tower_width, config.head_width, config.resolution)
        if (warm_start / JUDGES).exists():  # of an earlier run
            _read_into(self.judges, warm_start / JUDGES)
        for module in (self.G, self.ema, self.warm, self.judges):
            module.to(self.device)
        if config.half:
            self.G.synthesis.half_dtype = torch.bfloat16
            nn.Module.to(self.warm.synthesis, torch.bfloat16)
        for module in (self.G, self.judges):
            for parameter in module.parameters():  # as their gradients will lie
                parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
        self.synthesize: Callable[..., Tensor] = self.G.synthesis
        self.watch: Callable[..., list[Tensor]] = self.features
        if config.compiled:
            self.synthesize = torch.compile(self.G.synthesis)
            if self.device.type == "cuda":
                self.watch = torch.compile(self.features)
        self.remember()

    def _adam(self, parameters: list[nn.Parameter], lr: Tensor) -> torch.optim.Adam:
        on_gpu = self.device.type == "cuda"
        return torch.optim.Adam(
            parameters, lr=lr, betas=(0.0, 0.99), eps=1e-8,
            fused=on_gpu, capturable=on_gpu, foreach=None if on_gpu else False,
        )  # fmt: skip

    @torch.no_grad()
    def remember(self) -> None:
        """Let the mapping networks draw from the ws as they are now."""
        assert isinstance(self.G.mapping, PeopleMapping)
        remember_people(self.G.mapping, self.table.detach(), spread=self.config.spread)
        self.ema.mapping.load_state_dict(self.G.mapping.state_dict())

    # --- one step --------------------------------------------------------------------------

    def _show(self, index: Tensor) -> Tensor:
        """Return real pictures float32 [N, 3, S, S] in [-1, 1]."""
        img = self.images[index].float() / 127.5 - 1
        return img.contiguous(memory_format=torch.channels_last)

    def _draw_others(self) -> Tensor:
        """Return indices of real pictures [drawn_count], portraits or further ones."""
        n = self.config.drawn_count
        own = (torch.rand(n, device=self.device) * self.own_count).long()
        if not self.further_count:
            return own
        other = self.own_count + (torch.rand(n, device=self.device) * self.further_count).long()
        return torch.where(torch.rand(n, device=self.device) < self.config.own_share, own, other)

    @torch.no_grad()
    def _draw_people(self) -> Tensor:
        """Return ws [drawn_count, num_ws, w_dim]; some take their later layers from somebody else."""
        n, config = self.config.drawn_count, self.config
        first, second = self.G.mapping(torch.randn(2 * n, self.G.z_dim, device=self.device)).chunk(2)
        cutoff = 1 + (torch.rand([n, 1], device=self.device) * (self.G.num_ws - 1)).long()
        mixed = torch.rand([n, 1], device=self.device) < config.mixed
        keep = (torch.arange(self.G.num_ws, device=self.device)[None] < cutoff) | ~mixed
        ws = torch.where(keep[:, :, None], first, second)
        psi = config.least_psi + (1 - config.least_psi) * torch.rand([n, 1, 1], device=self.device)
        return self.G.mapping.w_avg.lerp(ws, psi)

    def _judge(self, img: Tensor, levels: list[Tensor], half: bool = False) -> list[Tensor]:
        """Return all judges' maps of logits: of the pictures, and of the levels for the heads."""
        with torch.autocast(self.device.type, torch.bfloat16, half):
            maps = [*self.judges["D"](img), *self.judges["heads"](levels)]
        return [logits.float() for logits in maps]

    def _iterate(self, moves: bool, regularize: bool, measures: bool) -> None:
        """Show one batch; judges and, where it moves, the generator learn from the same pictures.

        Args:
            moves: Whether the generator learns.
            regularize: Whether the judges' slopes at real pictures are penalised.
            measures: Whether the gradients' lengths are measured anew.
        """
        config, count = self.config, self.config.owned_count
        index = (torch.rand(count, device=self.device) * self.own_count).long()
        drawn = self._draw_people()
        owned = self.table[index][:, None].repeat(1, self.G.num_ws, 1)
        img = self.synthesize(torch.cat([owned, drawn]), "random").float()
        seen = torch.cat([img[:count], self.augment(img[count:])])
        real = torch.cat([self._show(index), self.augment(self._show(self._draw_others()))])
        with torch.no_grad():
            levels_real = see_levels(self.watch, real)
        levels = see_levels(self.watch, seen)
        half = config.half and self.device.type == "cpu"
        on_fake = self._judge(seen, [levels[level] for level in HEAD_LEVELS], half)
        pixels = real.detach().requires_grad_(regularize)
        heads_real = [levels_real[level].detach().requires_grad_(regularize) for level in HEAD_LEVELS]
        on_real = self._judge(pixels, heads_real, half and not regularize)
        pairs = list(zip(on_real, on_fake, strict=True))
        hinge = torch.stack([F.relu(1 - r).mean() + F.relu(1 + f).mean() for r, f in pairs])
        gaps = torch.stack([r.mean() - f.mean() for r, f in pairs]).detach()
        self.gaps.lerp_(gaps, 0.05)
        slopes = self._slopes(on_real, [pixels, *heads_real]) if regularize else [self.nothing] * 2
        penalty = config.r1_pixels * slopes[0] + config.r1_levels * slopes[1]
        loss = hinge.sum() + penalty * (config.r1_interval / 2)
        judges = list(self.judges.parameters())
        on_judges = torch.autograd.grad(loss, judges, retain_graph=moves)
        held = [self.nothing] * 3
        if moves:
            held = self._held(img, levels, real, levels_real, drawn)
            hold = held[0] + config.feature_weight * held[1] + config.tie_weight * held[2]
            asked = -torch.stack([logits.mean() for logits in on_fake])
            if measures:
                self._measure(hold, asked, img)
            factors = self.pull * self.lengths * self.gaps.clamp(0, 1)
            learning = [*self.G.synthesis.parameters(), self.table]
            found = torch.autograd.grad(hold + (factors * asked).sum(), learning, allow_unused=True)
            _give(learning, found)
            self.opt_G.step()
            self.opt_w.step()
            with torch.no_grad():
                pairs_ema = zip(self.ema.synthesis.parameters(), self.G.synthesis.parameters(), strict=True)
                for average, value in pairs_ema:
                    average.lerp_(value, self.ema_weight)
        _give(judges, on_judges)
        self.opt_D.step()
        self.sums.add_(torch.stack([*(v.detach().float() for v in (*held, *slopes)), *hinge.detach(), *gaps]))

    def _slopes(self, on_real: list[Tensor], inputs: list[Tensor]) -> list[Tensor]:
        """Return mean squared slopes at real pictures and at their levels, a map as one logit per place."""
        total = torch.stack([logits.sum() / math.sqrt(logits[0].numel()) for logits in on_real]).sum()
        on_pixels, *on_levels = torch.autograd.grad(total, inputs, create_graph=True)
        squares = [slope.square().sum(dim=(1, 2, 3)).mean() for slope in (on_pixels, *on_levels)]
        return [squares[0], torch.stack(squares[1:]).sum()]

    def _held(
        self, img: Tensor, levels: list[Tensor], real: Tensor, levels_real: list[Tensor], drawn: Tensor
    ) -> list[Tensor]:
        """Return what holds the pictures: differences of pixels, of features, and from the warm start's."""
        count, px = self.config.owned_count, self.config.tie_px
        pixels = (img[:count] - real[:count]).abs().mean()
        pairs = zip(levels, levels_real, strict=True)
        features = torch.stack([(made[:count] - wanted[:count]).abs().mean() for made, wanted in pairs]).sum()
        with torch.no_grad():
            ws = drawn[:, : self.warm.num_ws].to(self.warm.synthesis.b4.const.dtype)
            shown = self.warm.synthesis(ws, "none").float()
        made, wanted = (F.avg_pool2d(some, some.shape[2] // px) for some in (img[count:], shown))
        return [pixels, features, (made - wanted).abs().mean()]

    def _measure(self, hold: Tensor, asked: Tensor, img: Tensor) -> None:
        """Set the factors that scale each judge's gradient at the pictures to its share."""
        (holding,) = torch.autograd.grad(hold, img, retain_graph=True)
        found = [torch.autograd.grad(one, img, retain_graph=True)[0].norm() for one in asked]
        ratio = holding.norm() / torch.stack(found).clamp(min=1e-12)
        self.lengths.lerp_(ratio * self.shares, self.measure_weight)

    def _record(self, key: tuple[bool, bool, bool]) -> Callable[[], None]:
        """Return the step as something that can be replayed."""
        if self.device.type != "cuda":
            return lambda: self._iterate(*key)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):  # libraries choose their ways, optimizers make their state
                self._iterate(*key)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool):
            self._iterate(*key)
        return graph.replay

    def rate(self) -> float:
        """Return the factor on all rates: 1, and a cosine down to `decay_to` at the end of the run."""
        config = self.config
        late = max(0.0, 1 - (1 - self.cur_nimg / (1000 * config.kimg)) / config.decay_share)
        return config.decay_to + (1 - config.decay_to) * 0.5 * (1 + math.cos(math.pi * min(1.0, late)))

    def step(self) -> None:
        """Show one batch: the recorded step that is due."""
        config, since = self.config, self.cur_nimg - 1000 * self.config.d_only_kimg
        moves = since >= 0
        rate = self.rate()
        self.g_lr.fill_(config.g_lr * rate)
        self.w_lr.fill_(config.w_lr * rate)
        self.d_lr.fill_(config.d_lr * rate)
        self.pull.fill_(config.adversarial * min(1.0, since / (1000 * config.ramp_kimg) + 0.01))
        self.ema_weight.fill_(1 - 0.5 ** (config.batch_size / (1000 * config.ema_kimg)))
        regularize = self.batch_idx % config.r1_interval == 0
        first = moves and not self.measured
        measures = moves and (first or self.batch_idx % config.measure_interval == 4)
        key = (moves, regularize and not first, measures)
        if key not in self.steps:
            self.steps[key] = self._record(key)
        self.steps[key]()
        if first:
            self.measured = True
            self.measure_weight.fill_(0.1)
        before = self.cur_nimg
        self.cur_nimg += config.batch_size
        self.batch_idx += 1
        self.counted += 1
        due = 1000 * config.remember_kimg
        if moves and before // due != self.cur_nimg // due:
            self.remember()

    def figures(self) -> dict[str, float]:
        """Return the means since the last call; waits for the device."""
        means = (self.sums / max(1, self.counted)).tolist()
        self.sums.zero_()
        self.counted = 0
        line = dict(zip(FIGURES, means, strict=True))
        line["r1"] *= self.config.r1_interval
        line["r1_levels"] *= self.config.r1_interval
        return {"kimg": self.cur_nimg / 1000, **line}

    # --- files -----------------------------------------------------------------------------

    def average(self) -> StyleGAN2Generator:
        """Return a copy of the average generator on the processor, drawing from the ws as they are now."""
        self.remember()
        copy = StyleGAN2Generator(**self.network).requires_grad_(False)
        copy.load_state_dict({key: value.cpu() for key, value in self.ema.state_dict().items()})
        return copy.eval()

    def write_snapshot(self, outdir: Path) -> None:
        """Write samples, and what this or a further run goes on from: average generator, ws and judges."""
        average, ws = self.average(), self.table.detach().cpu()
        write_warm_start(average, ws, outdir / "owned")
        judges = {k: v.detach().half().cpu().contiguous() for k, v in self.judges.state_dict().items()}
        save_file(judges, outdir / "owned" / JUDGES)
        (outdir / STATE).write_text(
            json.dumps({"cur_nimg": self.cur_nimg, **asdict(self.config)}, indent=1) + "\n"
        )
        Image.fromarray(self.sample_sheet(average)).save(outdir / "samples.png")

    @torch.inference_mode()
    def sample_sheet(self, average: StyleGAN2Generator, count: int = 8) -> np.ndarray:
        """Draw rows of originals, reconstructions and people at truncations 0.7 and 1 as uint8 [H, W, 3]."""
        size = self.config.resolution
        index = torch.linspace(0, self.own_count // 2 - 1, count).long()
        z = torch.from_numpy(np.random.default_rng(7).standard_normal((count, average.z_dim))).float()
        owned = self.table.detach().cpu()[index][:, None].repeat(1, average.num_ws, 1)
        ws = torch.cat([owned, *(average.mapping(z, truncation_psi=psi) for psi in (0.7, 1.0))])
        img = torch.cat([self._show(index.to(self.device)).cpu(), average.synthesis(ws, "const")]).clamp(
            -1, 1
        )
        grid = img.reshape(4, count, 3, size, size).permute(0, 3, 1, 4, 2).reshape(4 * size, count * size, 3)
        return ((grid + 1) * 127.5).round().to(torch.uint8).numpy()


def run_refining(
    images: Tensor,
    further: Tensor,
    warm_start: Path,
    config: RefineConfig,
    outdir: Path,
    device: str = "cuda",
    new_portraits: bool = False,
    seconds_per_save: float = 120.0,
    report: Callable[[dict[str, float]], None] = lambda line: None,
) -> RefineRun:
    """Train until `kimg`, saving on the way; the same call goes on from the last weights. See `RefineRun`.

    Drawn people are then tied to what those weights show of them.

    Raises:
        FloatingPointError: A loss is no longer a number; the last weights are intact.
        InputError: There is no such device, or the portraits do not fit the warm start.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "torch finds no CUDA device here. Install a CUDA build of torch, or use --device cpu."
        )
    torch.backends.cudnn.benchmark = True  # sizes never change
    if device == "cuda":
        torch.set_float32_matmul_precision("high")
    checker = FaceChecker()  # needed at the end; what it lacks is told at the start
    done = json.loads((outdir / STATE).read_text())["cur_nimg"] if (outdir / STATE).exists() else 0
    start = outdir / "owned" if done else warm_start
    run = RefineRun(images, further, start, config, device, new_portraits and not done)
    outdir.mkdir(parents=True, exist_ok=True)
    run.cur_nimg = done
    stats, saved, counted = Stats(outdir / "stats.jsonl"), time.monotonic(), done
    while run.cur_nimg < 1000 * config.kimg:
        run.step()
        over = run.cur_nimg >= 1000 * config.kimg
        if over or time.monotonic() - saved > seconds_per_save:
            line = run.figures()
            if not math.isfinite(sum(line.values())):
                raise FloatingPointError(
                    "A loss is no longer a number. Go on from the last weights, more slowly."
                )
            speed = (run.cur_nimg - counted) / (time.monotonic() - saved)
            report(stats.write(**line, img_per_sec=speed))
            run.write_snapshot(outdir)
            saved, counted = time.monotonic(), run.cur_nimg
    write_model(run.average(), run.table.detach().cpu(), checker, config.spread, outdir)
    return run


def build_judges(tower_width: int, head_width: int, view_px: int) -> nn.ModuleDict:
    """Return new judges of pictures of `view_px`: towers "D", and "heads" on levels of features."""
    towers = PatchDiscriminator(width=tower_width, scales=TOWERS, view_px=view_px, detail=DETAIL)
    return nn.ModuleDict(
        {"D": towers, "heads": FeatureHeads(tuple(HEAD_LEVELS.values()), head_width, deep=True)}
    )


def _read_into(judges: nn.ModuleDict, path: Path) -> None:
    try:
        load_model(judges, path)
    except (RuntimeError, SafetensorError) as error:
        raise _not_judges(path, error) from error


def _not_judges(path: Path, error: Exception) -> ModelError:
    return ModelError(
        f'"{path.parent.name}/{path.name}" holds no such discriminators ({str(error)[:100]}). '
        "Delete that file to let train refine start with new ones."
    )


def _shares(of_towers: float) -> Tensor:
    """Return each judge's share [judges]; the root of the sum of their squares is 1."""
    towers, heads = torch.tensor(TOWER_SHARES), torch.tensor(HEAD_SHARES)
    shares = torch.cat([of_towers * towers / towers.sum(), (1 - of_towers) * heads / heads.sum()])
    return shares / shares.norm()


def _give(parameters: list[nn.Parameter], gradients: tuple[Tensor | None, ...]) -> None:
    """Set the gradients, laid out as the parameters are."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = None if gradient is None else gradient.clone(memory_format=torch.contiguous_format)
