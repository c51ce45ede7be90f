"""The adversarial loop for one GPU: whole steps held as CUDA graphs, pictures and draws on the device.

The same networks, losses and options as `gan_loop`, arranged so that nothing waits for the processor: data,
latents, augmentation and its control, both optimizers and the figures are tensors on the device, convolutions
run in bfloat16, and a step is recorded once and replayed. The made pictures of a step serve both networks.
What that costs: a run is not repeated to the last bit, and goes on from its weights, not from Adam's moments.

Without a GPU the steps run as they are, for tests and rehearsals.
"""

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from ehmfaces.errors import InputError, ModelError
from ehmfaces.models.stylegan2 import StyleGAN2Discriminator, StyleGAN2Generator
from ehmfaces.training.augment import BGC, SteadyAugmentPipe
from ehmfaces.training.config import GANConfig
from ehmfaces.training.ema import half_life_images
from ehmfaces.training.gan_loop import sample_grid
from ehmfaces.training.losses import discriminator_loss, generator_loss, r1_penalty
from ehmfaces.training.stats import Stats

WEIGHTS = "weights.safetensors"
FIGURES = ("D_loss", "D_real", "D_fake", "D_real_sign", "G_loss", "r1")


@dataclass(frozen=True)
class Pace:
    """What the GPU loop adds to the options of a run.

    Attributes:
        d_channel_base: Width of the discriminator, which nobody has to ship; None = the generator's.
        own_share: Share of real pictures drawn from the originals; the rest is drawn from further ones.
        capacity: Room for pictures on the device.
        g_ramp_kimg: The generator's rate rises to its full value over this long.
        half: Whether convolutions run in bfloat16.
        compiled: Whether steps without R1 are compiled.
    """

    d_channel_base: int | None = None
    own_share: float = 0.5
    capacity: int = 40_000
    g_ramp_kimg: float = 30.0
    half: bool = True
    compiled: bool = False


class GraphRun:
    """Networks, data and recorded steps of one run at one resolution."""

    def __init__(self, images: Tensor, config: GANConfig, pace: Pace, device: str = "cuda") -> None:
        """Put everything on the device.

        Args:
            images: uint8 [N, 3, S, S], the originals.
            config: Options of the run.
            pace: Options of this loop.
            device: "cuda", or "cpu" for a rehearsal.
        """
        self.config, self.pace, self.device = config, pace, torch.device(device)
        torch.manual_seed(config.seed)
        self.G = StyleGAN2Generator(**config.network).to(self.device)
        self.G_ema = StyleGAN2Generator(**config.network).to(self.device).requires_grad_(False)
        self.D = StyleGAN2Discriminator(
            img_resolution=config.resolution,
            channel_base=pace.d_channel_base or config.channel_base,
            channel_max=config.channel_max,
        ).to(self.device)
        if pace.half:
            self.G.synthesis.half_dtype = self.D.half_dtype = torch.bfloat16
        strengths: dict[str, Any] = dict(BGC)
        for network in (self.G, self.D):
            for parameter in network.parameters():  # as their gradients will lie
                parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
        self.augment = SteadyAugmentPipe(**strengths).to(self.device)
        self.g_lr = torch.zeros([], device=self.device)
        self.d_lr = torch.tensor(config.d_lr, device=self.device)
        self.opt_G = self._adam(self.G, self.g_lr, None)
        self.opt_D = self._adam(self.D, self.d_lr, config.D_reg_interval)
        self.images = torch.zeros([pace.capacity, *images.shape[1:]], dtype=torch.uint8, device=self.device)
        self.images[: len(images)] = images.to(self.device)
        self.own_count, self.count = len(images), len(images)
        self.further = torch.zeros([], device=self.device)
        self.own_share = torch.ones([], device=self.device)
        self.sign = torch.zeros([], device=self.device)
        self.sums = torch.zeros(len(FIGURES), device=self.device)
        self.cur_nimg = self.batch_idx = self.counted = self.g_since = 0
        self.steps: dict[tuple[bool, bool], Callable[[], None]] = {}
        self.synthesize: Callable[..., Tensor] = self.G.synthesis
        self.judge: Callable[..., Tensor] = self.D
        if pace.compiled:
            self.synthesize = torch.compile(self.G.synthesis)
            self.judge = torch.compile(self.D)

    def _adam(self, network: torch.nn.Module, lr: Tensor, reg_interval: int | None) -> torch.optim.Adam:
        ratio = 1.0 if reg_interval is None else reg_interval / (reg_interval + 1)
        lr.mul_(ratio)
        on_gpu = self.device.type == "cuda"
        return torch.optim.Adam(
            list(network.parameters()), lr=lr, betas=(0.0, 0.99**ratio), eps=1e-8,
            fused=on_gpu, capturable=on_gpu, foreach=None if on_gpu else False,
        )  # fmt: skip

    def add_images(self, images: Tensor) -> None:
        """Put further pictures uint8 [N, 3, S, S] beside the originals, as many as there is room for."""
        images = images[: self.pace.capacity - self.count]
        self.images[self.count : self.count + len(images)] = images.to(self.device)
        self.count += len(images)
        self.further.fill_(self.count - self.own_count)
        self.own_share.fill_(self.pace.own_share if self.count > self.own_count else 1.0)

    def adopt(self, weights: dict[str, Tensor]) -> None:
        """Start from weights of another resolution where they fit; new RGB layers begin at nothing."""
        for name in ("G", "G_ema", "D"):
            module = getattr(self, name)
            own = module.state_dict()
            given = {
                key.removeprefix(f"{name}."): value
                for key, value in weights.items()
                if key.startswith(f"{name}.")
            }
            fit = {k: v.to(own[k].dtype) for k, v in given.items() if k in own and own[k].shape == v.shape}
            module.load_state_dict(fit, strict=False)
            if name == "D":
                continue
            for resolution in module.synthesis.block_resolutions:
                if given and f"synthesis.b{resolution}.torgb.weight" not in fit:
                    torgb = getattr(module.synthesis, f"b{resolution}").torgb
                    torch.nn.init.zeros_(torgb.weight)
                    torch.nn.init.zeros_(torgb.bias)

    # --- one step --------------------------------------------------------------------------

    def _draw_real(self) -> Tensor:
        """Return float [batch_size, 3, S, S] in [-1, 1], half of them mirrored."""
        n = self.config.batch_size
        own = (torch.rand(n, device=self.device) * self.own_count).long()
        other = self.own_count + (torch.rand(n, device=self.device) * self.further).long()
        index = torch.where(torch.rand(n, device=self.device) < self.own_share, own, other)
        img = self.images[index.clamp(max=self.pace.capacity - 1)].float() / 127.5 - 1
        flip = torch.rand([n, 1, 1, 1], device=self.device) < 0.5
        img = torch.where(flip, img.flip(3), img) if self.config.mirror else img
        return img.contiguous(memory_format=torch.channels_last)

    def _draw_ws(self) -> Tensor:
        """Return ws of random faces; most are style-mixed from two."""
        n = self.config.batch_size
        ws = self.G.mapping(torch.randn(n, self.config.z_dim, device=self.device), update_emas=True)
        other = self.G.mapping(torch.randn(n, self.config.z_dim, device=self.device))
        num_ws = ws.shape[1]
        cutoff = 1 + (torch.rand([n, 1], device=self.device) * (num_ws - 1)).long()
        mixed = torch.rand([n, 1], device=self.device) < self.config.style_mixing_prob
        keep = (torch.arange(num_ws, device=self.device)[None] < cutoff) | ~mixed
        return torch.where(keep[:, :, None], ws, other)

    def _iterate(self, moves_generator: bool, regularize: bool) -> None:
        """Train D, then G on the same made pictures; R1 with respect to what D sees of the real ones."""
        config = self.config
        fake = self.synthesize(self._draw_ws(), "random")
        real = self.augment(self._draw_real()).detach().requires_grad_(regularize)
        judge = self.D if regularize else self.judge
        real_logits = judge(real)
        fake_logits = self.judge(self.augment(fake.detach()))
        d_loss = loss = discriminator_loss(real_logits, fake_logits)
        penalty = torch.zeros([], device=self.device)
        if regularize:
            penalty = r1_penalty(real_logits, real).mean()
            loss = loss + penalty * (config.r1_gamma / 2 * config.D_reg_interval)
        _step(self.opt_D, self.D, loss)
        g_loss = torch.zeros([], device=self.device)
        if moves_generator:
            g_loss = generator_loss(self.judge(self.augment(fake)))
            _step(self.opt_G, self.G, g_loss)
        sign = real_logits.detach().sign().mean()
        self._steer(sign)
        figures = (d_loss, real_logits.mean(), fake_logits.mean(), sign, g_loss, penalty)
        self.sums.add_(torch.stack([figure.detach().float() for figure in figures]))

    def _steer(self, sign: Tensor) -> None:
        """Raise or lower p so that the sign of real logits approaches its target."""
        if self.config.ada_target is None:
            return
        self.sign.lerp_(sign, 0.05)
        step = self.config.batch_size / (self.config.ada_kimg * 1000)
        self.augment.p.add_((self.sign - self.config.ada_target).sign() * step).clamp_(0, 0.8)

    def _record(self, moves_generator: bool, regularize: bool) -> Callable[[], None]:
        """Return the step as something that can be replayed."""
        if self.device.type != "cuda":
            return lambda: self._iterate(moves_generator, regularize)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):  # libraries choose their ways, optimizers make their state
                self._iterate(moves_generator, regularize)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._iterate(moves_generator, regularize)
        return graph.replay

    def step(self) -> None:
        """Show one batch: the recorded step, then the average generator."""
        config = self.config
        moves = self.cur_nimg >= 1000 * config.d_only_kimg
        if moves:
            self.g_since += config.batch_size
            self.g_lr.fill_(config.g_lr * min(1.0, self.g_since / max(1.0, 1000 * self.pace.g_ramp_kimg)))
        key = (moves, self.batch_idx % config.D_reg_interval == 0)
        if key not in self.steps:
            self.steps[key] = self._record(*key)
        self.steps[key]()
        self.cur_nimg += config.batch_size
        self.batch_idx += 1
        self.counted += 1
        if moves:
            half_life = half_life_images(config.ema_kimg, config.ema_rampup, self.g_since)
            weight = 1 - 0.5 ** (config.batch_size / max(half_life, 1e-8))
            with torch.no_grad():
                torch._foreach_lerp_(list(self.G_ema.parameters()), list(self.G.parameters()), weight)
                self.G_ema.mapping.w_avg.copy_(self.G.mapping.w_avg)

    def figures(self) -> dict[str, float]:
        """Return the means since the last call; waits for the device."""
        means = (self.sums / max(1, self.counted)).tolist()
        self.sums.zero_()
        self.counted = 0
        line = dict(zip(FIGURES, means, strict=True))
        line["r1"] *= self.config.D_reg_interval
        return {"kimg": self.cur_nimg / 1000, "augment_p": float(self.augment.p), **line}

    # --- files -----------------------------------------------------------------------------

    def write_snapshot(self, outdir: Path) -> None:
        """Write the weights, the average generator as a model folder and a sample grid."""
        part = outdir / f"{WEIGHTS}.part"
        save_file(self.weights(), part)
        os.replace(part, outdir / WEIGHTS)
        average = StyleGAN2Generator(**self.config.network)
        average.load_state_dict({key: value.cpu() for key, value in self.G_ema.state_dict().items()})
        average.save_pretrained(outdir / "generator")
        Image.fromarray(sample_grid(average)).save(outdir / "samples.png")

    def weights(self) -> dict[str, Tensor]:
        """Return everything a run goes on from, the networks in float16."""
        flat = {"augment_p": self.augment.p.cpu().float(), "cur_nimg": torch.tensor(self.cur_nimg)}
        for name in ("G", "G_ema", "D"):
            for key, value in getattr(self, name).state_dict().items():
                flat[f"{name}.{key}"] = value.detach().half().cpu().contiguous()
        return flat

    def load(self, path: Path) -> None:
        """Go on from the weights of the same run."""
        flat = load_file(path)
        self.adopt(flat)
        self.augment.p.copy_(flat["augment_p"])
        self.cur_nimg = int(flat["cur_nimg"])
        self.g_since = max(0, self.cur_nimg - int(1000 * self.config.d_only_kimg))

    def grow_from(self, path: Path) -> None:
        """Start from the weights of a run at another resolution.

        Raises:
            ModelError: They are of networks of other widths.
        """
        flat = load_file(path)
        fits = [
            k for k, v in self.G.state_dict().items() if f"G.{k}" in flat and flat[f"G.{k}"].shape == v.shape
        ]
        if not {"synthesis.b8.conv1.weight", "synthesis.b8.conv1.affine.weight", "mapping.fc0.weight"} <= {
            *fits
        }:
            raise ModelError(
                f'"{path}" holds weights of other networks. Start from a run with the same z_dim, w_dim, '
                "channel_base and channel_max."
            )
        self.adopt(flat)
        self.augment.p.copy_(flat["augment_p"])


def check_gpu_run(config: GANConfig, warm_start: bool) -> None:
    """Raise unless this loop can do what is asked for, here.

    Raises:
        InputError: It cannot.
    """
    if config.generator != "stylegan2" or warm_start or config.pl_weight:
        raise InputError(
            "The GPU loop trains StyleGAN2 from scratch or from --resume, without path lengths. Leave the "
            "warm start out, choose a portrait preset, or use --device cpu."
        )
    if not torch.cuda.is_available():
        raise InputError(
            "torch finds no CUDA device here. Install a CUDA build of torch, or use --device cpu."
        )


def train_gan_on_gpu(
    images: Tensor,
    further: Tensor | None,
    config: GANConfig,
    outdir: Path,
    pace: Pace | None = None,
    resume: Path | None = None,
    report: Callable[[dict[str, float]], None] = lambda line: None,
    device: str = "cuda",
) -> GraphRun:
    """Train until `total_kimg`; the same call goes on from the last weights in `outdir`.

    Args:
        images: uint8 [N, 3, S, S] at the run's resolution, the originals.
        further: uint8 [M, 3, S, S], such as recombinations, or None.
        config: Options; written beside the results.
        outdir: Output folder: `weights.safetensors`, `generator/`, `samples.png`, `stats.jsonl`.
        pace: Options of this loop.
        resume: Weights of another run to start from (growth), used on the first start only.
        report: Called with each line of statistics.
        device: "cuda", or "cpu" for a rehearsal.

    Raises:
        FloatingPointError: A loss is no longer a number; the last weights are intact.
        ModelError: The weights to start from are of networks of other widths.
    """
    outdir.mkdir(parents=True, exist_ok=True)
    torch.backends.cudnn.benchmark = True  # sizes never change
    torch.set_float32_matmul_precision("high")
    pace = pace or Pace()
    more = 0 if further is None else len(further)
    run = GraphRun(images, config, replace(pace, capacity=len(images) + more), device)
    if further is not None:
        run.add_images(further)
    if (outdir / WEIGHTS).exists():
        run.load(outdir / WEIGHTS)
    elif resume is not None:
        run.grow_from(resume)
    (outdir / "options.json").write_text(json.dumps(config.to_dict(), indent=1))
    stats = Stats(outdir / "stats.jsonl")
    end, tick, ticks = 1000 * config.total_kimg, run.cur_nimg, 0
    while run.cur_nimg < end:
        run.step()
        if run.cur_nimg - tick < 1000 * config.kimg_per_tick and run.cur_nimg < end:
            continue
        line = run.figures()
        if not math.isfinite(line["D_loss"] + line["G_loss"]):
            raise FloatingPointError(
                "The loss is no longer a number. Go on from the last weights, more slowly."
            )
        report(stats.write(**line))
        tick, ticks = run.cur_nimg, ticks + 1
        if ticks % config.ticks_per_snapshot == 0:
            run.write_snapshot(outdir)
    run.write_snapshot(outdir)
    return run


def _step(optimizer: torch.optim.Adam, network: torch.nn.Module, loss: Tensor) -> None:
    """Move the weights of one network along the loss."""
    parameters = list(network.parameters())
    grads = torch.autograd.grad(loss, parameters, allow_unused=True)
    for parameter, grad in zip(parameters, grads, strict=True):
        parameter.grad = None if grad is None else grad.clone(memory_format=torch.contiguous_format)
    optimizer.step()
