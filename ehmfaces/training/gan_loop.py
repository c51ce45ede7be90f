"""The adversarial loop: StyleGAN2 or 3 with ADA, lazy R1, style mixing and an average generator.

Owns the one long loop, the state that a checkpoint holds and what is written on the way (`stats.jsonl`,
sample grids, `G_ema` as a model folder). A run that is started again with the same output folder goes on
exactly where it stopped. Does not know where the pictures came from.

Source: Karras et al., "Training Generative Adversarial Networks with Limited Data" (2020).
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ehmfaces.metrics.features import LiteFeatures
from ehmfaces.models.stylegan2 import StyleGAN2Discriminator, StyleGAN2Generator
from ehmfaces.models.stylegan3 import StyleGAN3Generator
from ehmfaces.seeds import latents_from_seeds
from ehmfaces.tensors import pixels_from_img
from ehmfaces.training.augment import BGC, AugmentPipe
from ehmfaces.training.checkpoint import load_checkpoint, save_checkpoint
from ehmfaces.training.config import GANConfig
from ehmfaces.training.ema import half_life_images, update_ema
from ehmfaces.training.losses import discriminator_loss, generator_loss, path_lengths, r1_penalty
from ehmfaces.training.stats import Stats
from ehmfaces.training.warm_start import (
    copy_matching,
    load_warm_start,
    reconstruction_loss,
    set_mapping,
)

CHECKPOINT = "checkpoint.safetensors"
SAMPLE_SEEDS = range(32)


def build_augment_pipe() -> AugmentPipe:
    """Return the blitting, geometric and colour set of ADA, switched off (p 0) to begin with."""
    strengths: dict[str, Any] = dict(BGC)
    pipe = AugmentPipe(**strengths)
    pipe.p.fill_(0.0)
    return pipe


class GANState:
    """Everything that training goes on from."""

    def __init__(self, config: GANConfig) -> None:
        """Build networks and optimizers from the configuration, with random weights."""
        torch.manual_seed(config.seed)
        self.config = config
        generator = StyleGAN2Generator if config.generator == "stylegan2" else StyleGAN3Generator
        self.G = generator(**config.network)
        self.G_ema = generator(**config.network).requires_grad_(False)
        self.G_ema.load_state_dict(self.G.state_dict())
        self.D = StyleGAN2Discriminator(
            img_resolution=config.resolution,
            channel_base=config.channel_base,
            channel_max=config.channel_max,
        )
        self.augment = build_augment_pipe()
        self.opt_G = _adam(self.G, config.g_lr, config.G_reg_interval if config.pl_weight else None)
        self.opt_D = _adam(self.D, config.d_lr, config.D_reg_interval)
        self.rng = np.random.default_rng(config.seed)
        self.cur_nimg = 0
        self.batch_idx = 0
        self.pl_mean = 0.0
        self.ada_sign = 0.0
        self.owned_ws: Tensor | None = None

    def save(self, path: Path) -> None:
        """Write the checkpoint."""
        scalars = {
            "cur_nimg": self.cur_nimg,
            "batch_idx": self.batch_idx,
            "pl_mean": self.pl_mean,
            "ada_sign": self.ada_sign,
            "rng": self.rng.bit_generator.state,
        }
        tensors = {"augment_p": self.augment.p}
        if self.owned_ws is not None:
            tensors["owned_ws"] = self.owned_ws
        save_checkpoint(path, self._modules(), self._optimizers(), tensors, scalars)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint of the same configuration."""
        tensors, scalars = load_checkpoint(path, self._modules(), self._optimizers())
        self.cur_nimg, self.batch_idx = scalars["cur_nimg"], scalars["batch_idx"]
        self.pl_mean, self.ada_sign = scalars["pl_mean"], scalars["ada_sign"]
        self.rng.bit_generator.state = scalars["rng"]
        self.augment.p.copy_(tensors["augment_p"])
        self.owned_ws = tensors.get("owned_ws")

    def adopt(self, path: Path) -> None:
        """Start from another run's weights where they fit: growth to another resolution, transfer."""
        config = json.loads((path.parent / "options.json").read_text())
        other = GANState(GANConfig(**{**config, "warm_start": self.config.warm_start}))
        load_checkpoint(path, other._modules(), {})
        for name, module in self._modules().items():
            copy_matching(other._modules()[name], module)

    def adopt_warm_start(self, folder: Path) -> None:
        """Start from an auto-decoder: its weights, and a mapping network fitted to its ws."""
        generator, ws = load_warm_start(folder)
        copy_matching(generator.synthesis, self.G.synthesis)
        self.owned_ws = set_mapping(self.G, ws, self.config.warm_start.sample_spread)
        self.G_ema.load_state_dict(self.G.state_dict())

    def _modules(self) -> dict[str, torch.nn.Module]:
        return {"G": self.G, "D": self.D, "G_ema": self.G_ema}

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"G": self.opt_G, "D": self.opt_D}


def _adam(network: torch.nn.Module, lr: float, reg_interval: int | None) -> torch.optim.Adam:
    """Return Adam (0, 0.99), slowed for lazy regularization (StyleGAN2, appendix B)."""
    ratio = 1.0 if reg_interval is None else reg_interval / (reg_interval + 1)
    parameters = [p for p in network.parameters() if p.requires_grad]
    return torch.optim.Adam(parameters, lr=lr * ratio, betas=(0.0, 0.99**ratio), eps=1e-8)


def train_gan(
    images: Tensor,
    config: GANConfig,
    outdir: Path,
    resume: Path | None = None,
    warm_start: Path | None = None,
    report: Callable[[dict[str, float]], None] = lambda line: None,
) -> GANState:
    """Train until `total_kimg`; the same call goes on from the last checkpoint in `outdir`.

    Args:
        images: uint8 [N, 3, H, W] at the run's resolution. With a warm start the first pictures are the
            ones it was made from.
        config: Options; written beside the results.
        outdir: Output folder.
        resume: Checkpoint of another run to start from (growth, transfer), used on the first start only.
        warm_start: Folder of a finished warm start, used on the first start only.
        report: Called with each line of statistics.

    Raises:
        ModelError: A checkpoint does not fit.
        FloatingPointError: A loss is no longer a number; the last checkpoint is intact.
    """
    outdir.mkdir(parents=True, exist_ok=True)
    state = GANState(config)
    if (outdir / CHECKPOINT).exists():
        state.load(outdir / CHECKPOINT)
    elif resume is not None:
        state.adopt(resume)
    elif warm_start is not None:
        config.check_warm_start()
        state.adopt_warm_start(warm_start)
    (outdir / "options.json").write_text(json.dumps(config.to_dict(), indent=1))
    stats = Stats(outdir / "stats.jsonl")
    features = LiteFeatures() if config.reconstruction_weight and state.owned_ws is not None else None
    tick_end = state.cur_nimg + 1000 * config.kimg_per_tick
    ticks = 0
    while state.cur_nimg < 1000 * config.total_kimg:
        train_discriminator(state, _draw_real(state, images), stats)
        if state.cur_nimg >= 1000 * config.d_only_kimg:
            train_generator(state, images, features, stats)
        state.cur_nimg += config.batch_size
        state.batch_idx += 1
        half_life = half_life_images(config.ema_kimg, config.ema_rampup, state.cur_nimg)
        update_ema(state.G_ema, state.G, config.batch_size, half_life)
        if config.ada_target is not None and state.batch_idx % config.ada_interval == 0:
            _steer_augmentation(state)
        if state.cur_nimg >= tick_end or state.cur_nimg >= 1000 * config.total_kimg:
            fixed = {"kimg": state.cur_nimg / 1000, "augment_p": float(state.augment.p)}
            report(stats.write(**fixed))
            tick_end = state.cur_nimg + 1000 * config.kimg_per_tick
            ticks += 1
            if ticks % config.ticks_per_snapshot == 0:
                write_snapshot(state, outdir)
    write_snapshot(state, outdir)
    return state


def _draw_real(state: GANState, images: Tensor) -> Tensor:
    """Return a batch float32 [batch_size, 3, H, W] in [-1, 1], half of it mirrored."""
    index = state.rng.integers(len(images), size=state.config.batch_size)
    img = images[torch.from_numpy(index)].float() / 127.5 - 1
    if state.config.mirror:
        flip = torch.from_numpy(state.rng.random(len(index)) < 0.5)
        img = torch.where(flip[:, None, None, None], img.flip(3), img)
    return img.contiguous(memory_format=torch.channels_last)


def _draw_ws(state: GANState, count: int, update_emas: bool = False) -> Tensor:
    """Return ws [count, num_ws, w_dim] of random faces; most are style-mixed from two."""
    z = torch.randn(count, state.config.z_dim)
    ws = state.G.mapping(z, update_emas=update_emas)
    if state.config.style_mixing_prob > 0:
        other = state.G.mapping(torch.randn_like(z))
        cutoff = torch.randint(1, ws.shape[1], [count])
        cutoff[torch.rand(count) >= state.config.style_mixing_prob] = ws.shape[1]
        keep = torch.arange(ws.shape[1]) < cutoff[:, None]
        ws = torch.where(keep[:, :, None], ws, other)
    return ws


def _moving_averages(state: GANState) -> dict[str, bool]:
    """Return the keyword with which a made batch moves StyleGAN3's magnitudes."""
    return {} if isinstance(state.G, StyleGAN2Generator) else {"update_emas": True}


def _blur(state: GANState, img: Tensor) -> Tensor:
    """Blur what the discriminator sees, less and less, until `blur_fade_kimg`.

    Source: Karras et al., "Alias-Free Generative Adversarial Networks" (2021), appendix F.2.
    """
    config = state.config
    if state.cur_nimg >= 1000 * config.blur_fade_kimg:
        return img
    sigma = config.blur_init_sigma * (1 - state.cur_nimg / (1000 * config.blur_fade_kimg))
    reach = int(3 * sigma)
    if reach == 0:
        return img
    taps = torch.arange(-reach, reach + 1, device=img.device).div(sigma).square().neg().exp2()
    line = (taps / taps.sum()).expand(img.shape[1], 1, 1, -1)
    img = F.conv2d(img, line, padding=(0, reach), groups=img.shape[1])
    return F.conv2d(img, line.transpose(2, 3), padding=(reach, 0), groups=img.shape[1])


def train_discriminator(state: GANState, real: Tensor, stats: Stats) -> None:
    """One step on real and made pictures, with R1 every `D_reg_interval` batches."""
    config = state.config
    with torch.no_grad():
        fake = state.G.synthesis(_draw_ws(state, len(real)), "random", **_moving_averages(state))
    real = real.requires_grad_(regularize := state.batch_idx % config.D_reg_interval == 0)
    real_logits = state.D(state.augment(_blur(state, real)))
    fake_logits = state.D(state.augment(_blur(state, fake)))
    loss = discriminator_loss(real_logits, fake_logits)
    state.ada_sign = 0.99 * state.ada_sign + 0.01 * float(real_logits.detach().sign().mean())
    stats.add(D_loss=loss.item(), D_real=real_logits.mean().item(), D_fake=fake_logits.mean().item())
    stats.add(D_real_sign=real_logits.detach().sign().mean().item())
    if regularize:
        penalty = r1_penalty(real_logits, real)
        loss = loss + (penalty * (config.r1_gamma / 2)).mean() * config.D_reg_interval
        stats.add(r1=penalty.mean().item())
    _step(state.opt_D, loss)


def train_generator(state: GANState, images: Tensor, features: LiteFeatures | None, stats: Stats) -> None:
    """One step against the discriminator, and on owned portraits when there are any."""
    config = state.config
    ramp = 1000 * config.adversarial_ramp_kimg
    since = state.cur_nimg - 1000 * config.d_only_kimg
    weight = config.adversarial_weight * (min(1.0, since / ramp) if ramp else 1.0)
    loss = torch.zeros([])
    if weight > 0:
        fake = state.G.synthesis(_draw_ws(state, config.batch_size, update_emas=True), "random")
        adversarial = generator_loss(state.D(state.augment(_blur(state, fake))))
        stats.add(G_loss=adversarial.item())
        loss = loss + weight * adversarial
    if features is not None:
        reconstruction = _owned_loss(state, images, features)
        stats.add(reconstruction=reconstruction.item())
        loss = loss + config.reconstruction_weight * reconstruction
    if config.pl_weight and state.batch_idx % config.G_reg_interval == 0:
        loss = loss + _path_length_loss(state) * config.G_reg_interval
    if loss.requires_grad:
        _step(state.opt_G, loss)


def _owned_loss(state: GANState, images: Tensor, features: LiteFeatures) -> Tensor:
    """Auto-decoder loss on a batch of the portraits that own a w; mirrored ones are the second half."""
    assert state.owned_ws is not None
    half = len(state.owned_ws) // 2
    index = torch.from_numpy(state.rng.integers(2 * half, size=state.config.batch_size))
    target = images[index % half].float() / 127.5 - 1
    target = torch.where((index >= half)[:, None, None, None], target.flip(3), target)
    ws = state.owned_ws[index][:, None].expand(-1, state.G.num_ws, -1)
    prediction = state.G.synthesis(ws, "const")
    weight = state.config.warm_start.feature_weight
    return reconstruction_loss(features, prediction, target, weight)


def _path_length_loss(state: GANState) -> Tensor:
    ws = _draw_ws(state, max(1, state.config.batch_size // 2))
    img = state.G.synthesis(ws, "random")
    lengths = path_lengths(img, ws, torch.randn_like(img))
    state.pl_mean += 0.01 * (float(lengths.detach().mean()) - state.pl_mean)
    return (lengths - state.pl_mean).square().mean() * state.config.pl_weight


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Move the weights of one optimizer; a broken gradient entry counts as none."""
    if not math.isfinite(loss.item()):
        raise FloatingPointError("The loss is no longer a number. Go on from the checkpoint, more slowly.")
    optimizer.zero_grad(set_to_none=True)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for parameter, grad in zip(
        parameters, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True
    ):
        if grad is not None:
            parameter.grad = grad.nan_to_num(0.0, 1e5, -1e5)
    optimizer.step()


def _steer_augmentation(state: GANState) -> None:
    """Raise or lower p so that the sign of real logits approaches its target (ADA, section 3.1)."""
    config = state.config
    assert config.ada_target is not None
    step = config.batch_size * config.ada_interval / (config.ada_kimg * 1000)
    moved = float(state.augment.p) + math.copysign(step, state.ada_sign - config.ada_target)
    state.augment.p.fill_(min(max(moved, 0.0), 0.8))


def write_snapshot(state: GANState, outdir: Path) -> None:
    """Write the checkpoint, the average generator as a model folder and a sample grid."""
    state.save(outdir / CHECKPOINT)
    state.G_ema.save_pretrained(outdir / "generator")
    Image.fromarray(sample_grid(state.G_ema)).save(outdir / "samples.png")


@torch.no_grad()
def sample_grid(generator: StyleGAN2Generator | StyleGAN3Generator, columns: int = 8) -> np.ndarray:
    """Return pictures of the seeds `SAMPLE_SEEDS` at truncation 1 as uint8 [H, W, 3]."""
    z = torch.from_numpy(latents_from_seeds(SAMPLE_SEEDS, generator.z_dim))
    pixels = np.concatenate([pixels_from_img(generator(row[None])) for row in z])
    n, height, width, channels = pixels.shape
    rows = pixels.reshape(n // columns, columns, height, width, channels).swapaxes(1, 2)
    return np.ascontiguousarray(rows.reshape(n // columns * height, columns * width, channels))
