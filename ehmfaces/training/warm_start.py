"""Warm start: the synthesis network as an auto-decoder, before any adversarial step.

Every training portrait (and its mirror image) owns a w. Network and ws together learn to reproduce the
portraits; a Gaussian fitted to the ws then gives new people, and the mapping network is fitted to it.
Owns that loop. Does not know the adversarial one.

Source: Bojanowski et al., "Optimizing the Latent Space of Generative Networks" (2018); the feature loss is
that of Johnson et al., "Perceptual Losses" (2016), on EfficientNet-lite0.
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
from torch import Tensor, nn

from ehmfaces.errors import ModelError
from ehmfaces.metrics.features import LiteFeatures, normalize_channels
from ehmfaces.models.ops import LRELU_SLOPE, SQRT_2
from ehmfaces.models.stylegan2 import MappingNetwork, StyleGAN2Generator, SynthesisLayer, ToRGBLayer
from ehmfaces.training.checkpoint import load_checkpoint, save_checkpoint

CHECKPOINT = "warm-start.safetensors"
CODE_SIZE_PX = 32


@dataclass(frozen=True)
class WarmStartConfig:
    """Options of the warm start.

    `stages` lists (resolution in pixels, thousands of pictures shown there); each stage starts from the
    weights of the one before.
    """

    stages: tuple[tuple[int, float], ...] = ((32, 8.0), (64, 10.0), (128, 16.0))
    batch_size: int = 8
    network_lr: float = 0.015
    w_lr: float = 0.01
    feature_weight: float = 0.06
    w_weight: float = 1e-4
    ema_kimg: float = 0.5
    sample_spread: float = 1.0
    seed: int = 0


def whitened_codes(images: Tensor, dim: int, power: float = 0.4) -> Tensor:
    """Return starting ws [N, dim]: principal components of the small pictures, partly whitened.

    Args:
        images: uint8 [N, 3, H, W].
        dim: Number of components; missing ones are zero.
        power: 0 keeps the components' variances, 1 makes them equal.
    """
    small = shrink(images, CODE_SIZE_PX).flatten(1)
    small = small - small.mean(dim=0)
    u, s, _ = torch.linalg.svd(small, full_matrices=False)
    keep = min(dim, len(s) - 1)
    codes = u[:, :keep] * s[:keep] ** (1 - power)
    codes = codes / codes.std()
    return F.pad(codes, (0, dim - keep))


def shrink(images: Tensor, size_px: int) -> Tensor:
    """Average uint8 [N, 3, H, W] down to float [N, 3, size_px, size_px] in [-1, 1]."""
    img = images.float() / 127.5 - 1
    factor = images.shape[2] // size_px
    return F.avg_pool2d(img, factor) if factor > 1 else img


def ridge_ws(known: Tensor, ws: Tensor, img: Tensor, penalty: float = 30.0) -> Tensor:
    """Guess ws [M, w_dim] for further pictures by ridge regression on known pairs, from 16 px.

    Args:
        known: Pictures [N, 3, S, S] in [-1, 1].
        ws: Their ws [N, w_dim].
        img: Pictures [M, 3, S', S'].
        penalty: Of the regression.
    """
    x, y = (F.adaptive_avg_pool2d(pictures, 16).flatten(1) for pictures in (known, img))
    mean, w_mean = x.mean(dim=0), ws.mean(dim=0)
    x = x - mean
    gram = x @ x.t() + penalty * torch.eye(len(x), device=x.device)
    solved = torch.linalg.solve(gram, ws - w_mean)
    return (y - mean) @ (x.t() @ solved) + w_mean


def reconstruction_loss(features: LiteFeatures, prediction: Tensor, target: Tensor, weight: float) -> Tensor:
    """L1 on pixels plus `weight` times L1 on channel-normalised features; both [N, 3, H, W]."""
    loss = (prediction - target).abs().mean()
    with torch.no_grad():
        wanted = [normalize_channels(level) for level in features(target)]
    for level, goal in zip(features(prediction), wanted, strict=True):
        # The mean over C unit-vector entries is about 1 / sqrt(C): scale it back.
        loss = loss + weight * (normalize_channels(level) - goal).abs().mean() * math.sqrt(goal.shape[1])
    return loss


def copy_matching(source: nn.Module, target: nn.Module) -> int:
    """Copy every parameter and buffer of equal name and shape; return how many (growth, transfer)."""
    have = source.state_dict()
    fit = {k: v for k, v in target.state_dict().items() if k in have and have[k].shape == v.shape}
    target.load_state_dict({key: have[key] for key in fit}, strict=False)
    return len(fit)


class WarmStart:
    """State of the loop: network, average network, ws and the position in the plan."""

    def __init__(
        self,
        images: Tensor,
        network: dict[str, Any],
        config: WarmStartConfig,
        outdir: Path,
        device: str = "cpu",
    ) -> None:
        """Prepare the first stage, or the one that the checkpoint in `outdir` stopped in.

        Args:
            images: uint8 [N, 3, H, W]; mirror images are added here.
            network: Constructor keywords of the generator at full size.
            config: Options.
            outdir: Where the checkpoint, samples and statistics go.
            device: Where the networks and the pictures are.
        """
        self.images = torch.cat([images, images.flip(3)]).to(device)
        self.network, self.config, self.outdir, self.device = network, config, outdir, device
        self.features = LiteFeatures().to(device)
        self.cur_nimg = 0
        self.stage = 0
        torch.manual_seed(config.seed)
        self.ws = whitened_codes(self.images, network["w_dim"])
        self._build_stage(None)
        outdir.mkdir(parents=True, exist_ok=True)
        if (outdir / CHECKPOINT).exists():
            self._resume()

    def _build_stage(self, before: StyleGAN2Generator | None) -> None:
        size = self.config.stages[self.stage][0]
        self.generator = StyleGAN2Generator(**{**self.network, "img_resolution": size}).to(self.device)
        if before is not None:
            copy_matching(before, self.generator)
        self.ema = StyleGAN2Generator(**{**self.network, "img_resolution": size}).to(self.device)
        self.ema.requires_grad_(False)
        self.ema.load_state_dict(self.generator.state_dict())
        self.targets = shrink(self.images, size).contiguous(memory_format=torch.channels_last)
        self.table = nn.Embedding.from_pretrained(self.ws.clone(), freeze=False, sparse=True)
        self.table.to(self.device)
        params = [p for n, p in self.generator.synthesis.named_parameters() if "noise_strength" not in n]
        self.optimizer = torch.optim.Adam(params, lr=self.config.network_lr, betas=(0.9, 0.99))
        self.w_optimizer = torch.optim.SparseAdam(self.table.parameters(), lr=self.config.w_lr)

    def _resume(self) -> None:
        header = json.loads((self.outdir / "warm-start.json").read_text())
        self.stage = header["stage"]
        self.ws = torch.zeros(header["w_count"], self.network["w_dim"], device=self.device)
        self._build_stage(None)
        modules = {"G": self.generator, "G_ema": self.ema, "table": self.table}
        optimizers = {"G": self.optimizer, "table": self.w_optimizer}
        _, scalars = load_checkpoint(self.outdir / CHECKPOINT, modules, optimizers)
        self.cur_nimg = scalars["cur_nimg"]
        if header["w_count"] != len(self.images):
            self._adopt_new_images(header["w_count"])

    def _adopt_new_images(self, known: int) -> None:
        """Give pictures that joined since the checkpoint a w; known ones stand first in both halves."""
        half, count = known // 2, len(self.images) // 2
        have = torch.cat([self.images[:half], self.images[count : count + half]])
        ws = self.table.weight.detach()
        guessed = ridge_ws(shrink(have, 16), ws, shrink(self.images, 16))
        guessed[:half], guessed[count : count + half] = ws[:half], ws[half:]
        self.ws = guessed
        before, ema = self.generator, self.ema
        self._build_stage(before)
        self.ema.load_state_dict(ema.state_dict())

    def save(self) -> None:
        """Write the checkpoint and its header."""
        header = {
            "stage": self.stage,
            "w_count": self.table.num_embeddings,
            "network": self.network,
            "config": asdict(self.config),
        }
        modules = {"G": self.generator, "G_ema": self.ema, "table": self.table}
        optimizers = {"G": self.optimizer, "table": self.w_optimizer}
        save_checkpoint(self.outdir / CHECKPOINT, modules, optimizers, {}, {"cur_nimg": self.cur_nimg})
        (self.outdir / "warm-start.json").write_text(json.dumps(header, indent=1))

    def stage_end(self) -> float:
        """Return the picture count at which the current stage ends."""
        return 1000 * sum(kimg for _, kimg in self.config.stages[: self.stage + 1])

    def learning_rate_factor(self) -> float:
        """Return the factor on both rates: a cosine over the plan, down to a fiftieth."""
        total = 1000 * sum(kimg for _, kimg in self.config.stages)
        return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, self.cur_nimg / total)))

    def step(self) -> Tensor:
        """Show one batch, the same at the same position of the plan; return the reconstruction loss []."""
        rng = np.random.default_rng([self.config.seed, self.cur_nimg])
        index = torch.from_numpy(rng.choice(len(self.images), self.config.batch_size, replace=False))
        index = index.to(self.device)
        factor = self.learning_rate_factor()
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.network_lr * factor
        for group in self.w_optimizer.param_groups:
            group["lr"] = self.config.w_lr * factor
        w = self.table(index)
        prediction = self.generator.synthesis(w[:, None].expand(-1, self.generator.num_ws, -1), "none")
        loss = reconstruction_loss(self.features, prediction, self.targets[index], self.config.feature_weight)
        self.optimizer.zero_grad(set_to_none=True)
        self.w_optimizer.zero_grad(set_to_none=True)
        (loss + self.config.w_weight * w.square().sum(dim=1).mean()).backward()
        self.optimizer.step()
        self.w_optimizer.step()
        self.cur_nimg += self.config.batch_size
        decay = 0.5 ** (self.config.batch_size / (self.config.ema_kimg * 1000))
        with torch.no_grad():
            for average, current in zip(self.ema.parameters(), self.generator.parameters(), strict=True):
                average.lerp_(current, 1 - decay)
        return loss.detach()

    def grow(self) -> None:
        """Go on to the next stage with the ws and weights of this one."""
        self.ws = self.table.weight.detach().clone()
        self.stage += 1
        self._build_stage(self.generator)


@torch.no_grad()
def sample_sheet(state: WarmStart, count: int = 10) -> np.ndarray:
    """Draw rows of originals, reconstructions and random samples as uint8 [H, W, 3]."""
    index = torch.linspace(0, len(state.images) // 2 - 1, count).long()
    ws = state.table.weight
    generator = torch.Generator().manual_seed(7)
    mean, factor = fit_gaussian(ws, ws.shape[1])
    z = torch.randn(3 * count, ws.shape[1], generator=generator).to(ws.device)
    drawn = mean + state.config.sample_spread * z @ factor
    rows = torch.cat([ws[index], drawn])
    img = state.ema.synthesis(rows[:, None].expand(-1, state.ema.num_ws, -1), "none")
    img = torch.cat([state.targets[index], img]).clamp(-1, 1)
    size = img.shape[2]
    grid = img.reshape(5, count, 3, size, size).permute(0, 3, 1, 4, 2).reshape(5 * size, count * size, 3)
    return ((grid + 1) * 127.5).round().to(torch.uint8).cpu().numpy()


def fit_gaussian(ws: Tensor, z_dim: int) -> tuple[Tensor, Tensor]:
    """Return mean [w_dim] and factor [z_dim, w_dim] with factor^T factor the covariance of ws [N, w_dim]."""
    mean = ws.mean(dim=0)
    _, s, vh = torch.linalg.svd(ws - mean, full_matrices=False)
    factor = vh * (s / math.sqrt(len(ws) - 1))[:, None]
    keep = min(z_dim, len(factor))
    return mean, F.pad(factor[:keep], (0, 0, 0, z_dim - keep))


def run_warm_start(
    images: Tensor,
    network: dict[str, Any],
    config: WarmStartConfig,
    outdir: Path,
    seconds_per_save: float = 120.0,
    report: Callable[[dict[str, float]], None] = lambda line: None,
    device: str = "cpu",
) -> WarmStart:
    """Train until the plan is done, saving on the way; the same call resumes."""
    state = WarmStart(images, network, config, outdir, device)
    saved = started = time.time()
    recent: list[Tensor] = []
    while True:
        while state.cur_nimg >= state.stage_end():
            if state.stage == len(config.stages) - 1:
                state.save()
                return state
            state.grow()
        recent.append(state.step())
        if time.time() - saved > seconds_per_save:
            line = {
                "cur_nimg": state.cur_nimg,
                "resolution": config.stages[state.stage][0],
                "loss": float(torch.stack(recent).mean()),
                "img_per_sec": len(recent) * config.batch_size / (time.time() - saved),
                "sec": time.time() - started,
            }
            with (outdir / "stats.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
            report(line)
            state.save()
            Image.fromarray(sample_sheet(state)).save(outdir / "samples.png")
            saved, recent = time.time(), []


def export_warm_start(folder: Path, out: Path) -> None:
    """Write what a later run needs of a warm start, in float16: the average network and the ws."""
    write_warm_start(*load_warm_start(folder), out)


def plain_options(generator: StyleGAN2Generator) -> dict[str, Any]:
    """Return the constructor keywords of a generator, to build another like it."""
    return {key: value for key, value in generator.config.items() if not key.startswith("_")}


def write_warm_start(generator: StyleGAN2Generator, ws: Tensor, out: Path) -> None:
    """Write a generator and the ws [2 N, w_dim] of portraits and mirror images as a finished warm start."""
    network = plain_options(generator)
    header = {"stage": 0, "w_count": len(ws), "network": network}
    header["config"] = {"stages": [[generator.img_resolution, 0]]}
    half = StyleGAN2Generator(**network)
    half.load_state_dict(generator.state_dict())
    torch.nn.Module.to(half, torch.float16)
    table = nn.Embedding.from_pretrained(ws.half())
    out.mkdir(parents=True, exist_ok=True)
    save_checkpoint(out / CHECKPOINT, {"G_ema": half, "table": table}, {}, {}, {})
    (out / "warm-start.json").write_text(json.dumps(header, indent=1) + "\n")


def load_warm_start(folder: Path) -> tuple[StyleGAN2Generator, Tensor]:
    """Return the generator of the last stage and the ws [2 N, w_dim] of portraits and mirror images.

    Raises:
        ModelError: The folder holds no warm start, or a damaged one.
    """
    try:
        header = json.loads((folder / "warm-start.json").read_text())
    except (OSError, ValueError) as error:
        raise ModelError(
            f'"{folder}" holds no finished warm start ({error}). Give the folder "warm-start" of a run of '
            'train gan, or "owned" of one of train detail.'
        ) from error
    size = header["config"]["stages"][header["stage"]][0]
    generator = StyleGAN2Generator(**{**header["network"], "img_resolution": size})
    table = nn.Embedding(header["w_count"], header["network"]["w_dim"])
    load_checkpoint(folder / CHECKPOINT, {"G_ema": generator, "table": table}, {})
    return generator, table.weight.detach()


@torch.no_grad()
def set_mapping(generator: StyleGAN2Generator, ws: Tensor, spread: float, room: float = 2.0) -> Tensor:
    """Set a generator's mapping network, in closed form, to z -> mean + spread * factor^T z of the ws.

    Leaky ReLU of z and of -z, subtracted, is linear in z, so each hidden layer can pass z on exactly. The
    last layer's leaky ReLU would squash negative entries: the whole w space is shifted up by `room`
    standard deviations, and the shift is taken out again in the biases of the style layers.

    Args:
        generator: Changed in place: mapping network, `w_avg` and style biases.
        ws: [N, w_dim].
        spread: Share of the ws' standard deviation.
        room: Entries below `room` standard deviations are squashed.

    Returns:
        The ws in the shifted space, [N, w_dim].

    Raises:
        ModelError: The mapping network is too narrow to pass z on.
    """
    mapping, z_dim = generator.mapping, generator.z_dim
    if not isinstance(mapping, MappingNetwork):
        raise ModelError(
            "Only a mapping network of layers can hold a Gaussian; this generator remembers people."
        )
    mean, factor = fit_gaussian(ws, z_dim)
    shift = room * spread * ws.std(dim=0) - mean
    lift = torch.cat([torch.eye(z_dim), -torch.eye(z_dim)])  # z -> [z, -z]
    join = lift.t() / (SQRT_2 * (1 + LRELU_SLOPE))  # activations of [z, -z] -> z
    for index in range(mapping.num_layers):
        layer = getattr(mapping, f"fc{index}")
        last = index == mapping.num_layers - 1
        step = spread * factor.t() / SQRT_2 if last else lift
        step = step if index == 0 else step @ join
        if layer.weight.shape[0] < step.shape[0] or layer.weight.shape[1] < step.shape[1]:
            raise ModelError(f"A warm start needs w_dim of at least {2 * z_dim} for z_dim {z_dim}.")
        layer.weight.zero_()
        layer.weight[: step.shape[0], : step.shape[1]] = step / layer.weight_gain
        layer.bias.zero_()
        if last:
            layer.bias.copy_((mean + shift) / SQRT_2 / layer.bias_gain)
    mapping.w_avg.copy_(mean + shift)
    for layer in generator.synthesis.modules():
        if isinstance(layer, SynthesisLayer | ToRGBLayer):
            layer.affine.bias.sub_(layer.affine.weight @ shift * layer.affine.weight_gain)
    return ws + shift
