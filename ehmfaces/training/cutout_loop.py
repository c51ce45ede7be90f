"""Training of the cut-out network on portraits whose alpha is known.

Owns the pictures it is shown (portraits over the game's colour, plain colours, gradients and photo-like
textures, a generator's own pictures, held-out people never), the loop, its checkpoint and the evaluation.
Does not know matting.
"""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ehmfaces.cutout.base import CutoutBackend, cut_out
from ehmfaces.cutout.deeplab_backend import (
    CutoutConfig,
    CutoutNetwork,
    DeepLabBackend,
    read_cutout_network,
    save_cutout_network,
)
from ehmfaces.errors import InputError
from ehmfaces.images import GAME_BACKGROUND
from ehmfaces.metrics.matting import iou, mean_difference, rim_error
from ehmfaces.training.checkpoint import load_checkpoint, save_checkpoint
from ehmfaces.training.ema import update_ema
from ehmfaces.training.generated_portraits import draw_owned
from ehmfaces.types import Alpha

CHECKPOINT = "cutout.safetensors"
HELD_OUT_SHARE = 0.1


@dataclass(frozen=True)
class CutoutTrainingConfig:
    """Options of a run.

    Attributes:
        steps: Optimizer steps.
        batch_size: Pictures per step.
        lr: AdamW's highest rate; warmed up, then a cosine down to zero.
        game_share: Share of the portraits that stand on the game's colour.
        generated_share: Share of every batch that is a generator's pictures, when there is a generator.
        ema_images: Half life of the average weights in pictures.
        steps_per_save: Steps between two checkpoints.
        seed: Of weights and pictures.
    """

    steps: int = 1600
    batch_size: int = 12
    lr: float = 0.004
    game_share: float = 0.45
    generated_share: float = 0.3
    ema_images: float = 1200.0
    steps_per_save: int = 50
    seed: int = 0


def is_held_out(name: str) -> bool:
    """Whether a portrait's person is kept from training; decided by the hash of its name."""
    return hashlib.sha256(name.encode()).digest()[0] < 256 * HELD_OUT_SHARE


def list_portraits(folder: Path) -> list[Path]:
    """Return the portraits in a folder, sorted by name: the order of the ws that a generator owns."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in {".webp", ".png"})


def read_portraits(folder: Path, size_px: int, held_out: bool) -> Tensor:
    """Return the portraits with alpha in a folder as uint8 [N, 4, size_px, size_px], straight alpha.

    Raises:
        InputError: There are none.
    """
    chosen = [path for path in list_portraits(folder) if is_held_out(path.stem) == held_out]
    if not chosen:
        raise InputError(f'"{folder.name}" holds no portraits (.png or .webp with alpha) for this part.')
    planes = []
    for path in chosen:
        with Image.open(path) as image:
            bands = [
                band.resize((size_px, size_px), Image.Resampling.BOX)
                for band in image.convert("RGBA").split()
            ]
        planes.append(np.stack([np.asarray(band) for band in bands]))
    return torch.from_numpy(np.stack(planes))


def draw_generated(faces_dir: Path, owned: Path, size_px: int | None, held_out: bool) -> Tensor:
    """Return a generator's pictures of the people of one part, uint8 [N, 5, S, S]: RGB, alpha, belief.

    Args:
        faces_dir: The portraits that the generator was trained on.
        owned: The generator and the ws of these portraits.
        size_px: Side of the pictures; None for the generator's own.
        held_out: The held-out people, or the others with their mirror images.

    Raises:
        InputError: Portraits and ws do not belong together.
        ModelError: `owned` holds no warm start.
    """
    paths = list_portraits(faces_dir)
    left_out = [is_held_out(path.stem) != held_out for path in paths]
    return draw_owned(owned, paths, left_out, DeepLabBackend(), not held_out, size_px)


def draw_mixed_batch(
    portraits: Tensor, generated: Tensor | None, config: CutoutTrainingConfig, rng: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Return pictures [N, 3, S, S] in [-1, 1], alpha and belief [N, 1, S, S]; generated ones come last."""
    count = 0 if generated is None else round(config.generated_share * config.batch_size)
    parts = []
    if count < config.batch_size:
        img, alpha = draw_batch(portraits, replace(config, batch_size=config.batch_size - count), rng)
        parts.append((img, alpha, torch.ones_like(alpha)))
    if generated is not None and count:
        parts.append(draw_generated_batch(generated, count, rng))
    img, alpha, belief = (torch.cat(planes) for planes in zip(*parts, strict=True))
    return img, alpha, belief


def draw_generated_batch(
    generated: Tensor, count: int, rng: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Return some of a generator's pictures, moved and slightly tinted, as `draw_mixed_batch` does."""
    index = torch.randint(len(generated), [count], generator=rng)
    moved = move_portraits(generated[index].float() / 255, rng)  # what comes in repeats the edge: no belief
    tint = 0.02 * torch.randn([count, 3, 1, 1], generator=rng)
    return (moved[:, :3] + tint).clamp(0, 1) * 2 - 1, moved[:, 3:4], moved[:, 4:]


def draw_batch(
    portraits: Tensor, config: CutoutTrainingConfig, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return pictures float32 [N, 3, S, S] in [-1, 1] and their alpha [N, 1, S, S]."""
    index = torch.randint(len(portraits), [config.batch_size], generator=rng)
    moved = move_portraits(portraits[index].float() / 255, rng)
    color, alpha = moved[:, :3], moved[:, 3:]
    color = jitter_colors(color, rng)
    backgrounds = [
        draw_background(portraits, config.game_share, portraits.shape[2], rng)
        for _ in range(config.batch_size)
    ]
    img = color * alpha + torch.stack(backgrounds) * (1 - alpha)
    return degrade(img, rng).clamp(0, 1) * 2 - 1, alpha


def move_portraits(rgba: Tensor, rng: torch.Generator) -> Tensor:
    """Mirror, scale, turn and shift [N, C, S, S] a little; 0 comes into the last plane, alpha or belief."""
    count = len(rgba)
    spread = torch.rand([count, 5], generator=rng) * 2 - 1
    angle = spread[:, 0] * 0.15
    scale = 1.0 + 0.2 * spread[:, 1]
    flip = torch.where(spread[:, 2] < 0, -1.0, 1.0)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    top = torch.stack([cos * flip, -sin, spread[:, 3] * 0.15], 1)
    bottom = torch.stack([sin * flip, cos, spread[:, 4] * 0.1], 1)
    grid = F.affine_grid(torch.stack([top, bottom], 1), list(rgba.shape), align_corners=False)
    moved = F.grid_sample(rgba, grid, padding_mode="border", align_corners=False)
    inside = (grid[..., 0].abs() <= 1) & (grid[..., 1] >= -1)  # the body goes on below the frame
    return torch.cat([moved[:, :-1], moved[:, -1:] * inside[:, None]], 1)


def jitter_colors(color: Tensor, rng: torch.Generator) -> Tensor:
    """Change brightness, contrast and tint of [N, 3, S, S] in [0, 1]."""
    spread = torch.rand([len(color), 5, 1, 1], generator=rng) * 2 - 1
    gain = 1 + 0.25 * spread[:, :1] + 0.08 * spread[:, 1:4]
    return ((color - 0.5) * gain + 0.5 + 0.1 * spread[:, 4:]).clamp(0, 1)


def draw_background(portraits: Tensor, game_share: float, size_px: int, rng: torch.Generator) -> Tensor:
    """Return one background [3, S, S] in [0, 1]: the game's, a colour, a gradient or a texture."""
    kind = float(torch.rand([], generator=rng))
    if kind < game_share:
        game = torch.tensor(GAME_BACKGROUND).float()[:, None, None] / 255
        return (game + 0.01 * torch.randn([3, 1, 1], generator=rng)).expand(3, size_px, size_px)
    rest = (kind - game_share) / (1 - game_share)
    if rest < 0.2:
        return torch.rand([3, 1, 1], generator=rng).expand(3, size_px, size_px)
    if rest < 0.35:
        corners = torch.rand([1, 3, 2, 2], generator=rng)
        return F.interpolate(corners, size=(size_px, size_px), mode="bilinear", align_corners=True)[0]
    if rest < 0.65:
        return draw_clouds(size_px, rng)
    return draw_blurred_crop(portraits, size_px, rng)


def draw_clouds(size_px: int, rng: torch.Generator) -> Tensor:
    """Return 1/f noise with a random tint and contrast [3, S, S] in [0, 1], the spectrum of photographs."""
    total = torch.rand([1, 3, 1, 1], generator=rng)
    cells, contrast = 2, float(torch.rand([], generator=rng)) * 0.5 + 0.1
    while cells <= size_px:
        octave = torch.randn([1, 3, cells, cells], generator=rng) * 0.4
        octave = octave + torch.randn([1, 1, cells, cells], generator=rng)
        smooth = F.interpolate(octave, size=(size_px, size_px), mode="bilinear", align_corners=False)
        total = total + contrast * smooth * (2 / cells) ** 0.8
        cells *= 2
    return total[0].clamp(0, 1)


def draw_blurred_crop(portraits: Tensor, size_px: int, rng: torch.Generator) -> Tensor:
    """Return an enlarged, blurred piece of another portrait's picture [3, S, S] in [0, 1]."""
    which = int(torch.randint(len(portraits), [], generator=rng))
    side = int(torch.randint(size_px // 6, size_px // 2, [], generator=rng))
    x, y = torch.randint(size_px - side, [2], generator=rng).tolist()
    crop = portraits[which : which + 1, :3, y : y + side, x : x + side].float() / 255
    cells = int(torch.randint(6, 48, [], generator=rng))
    small = F.interpolate(crop, size=(cells, cells), mode="bilinear", align_corners=False, antialias=True)
    return F.interpolate(small, size=(size_px, size_px), mode="bicubic", align_corners=False)[0].clamp(0, 1)


def degrade(img: Tensor, rng: torch.Generator) -> Tensor:
    """Soften a third of the pictures [N, 3, S, S] as a small generator would, and add noise to some."""
    size_px = img.shape[2]
    out = img.clone()
    for index in range(len(img)):
        kind = float(torch.rand([], generator=rng))
        if kind < 0.45:
            low = int(torch.randint(size_px // 4, size_px, [], generator=rng))
            small = F.interpolate(img[index : index + 1], size=(low, low), mode="bilinear", antialias=True)
            out[index] = F.interpolate(small, size=(size_px, size_px), mode="bilinear")[0]
        elif kind < 0.7:
            out[index] += torch.randn(img.shape[1:], generator=rng) * 0.03 * kind
    return out


def cutout_loss(fine: Tensor, coarse: Tensor, alpha: Tensor, belief: Tensor) -> Tensor:
    """Cross entropy, L1 and L1 of gradients on the fine logits, cross entropy on the coarse ones.

    Each pixel counts as far as its alpha is believed, [N, 1, H, W] in [0, 1].
    """
    prediction = torch.sigmoid(fine)
    loss = F.binary_cross_entropy_with_logits(fine, alpha, weight=belief)
    loss = loss + ((prediction - alpha).abs() * belief).mean()
    for dim in (2, 3):
        pair = belief.narrow(dim, 1, belief.shape[dim] - 1).minimum(
            belief.narrow(dim, 0, belief.shape[dim] - 1)
        )
        loss = loss + ((prediction.diff(dim=dim) - alpha.diff(dim=dim)).abs() * pair).mean()
    small, trusted = (F.adaptive_avg_pool2d(x, (coarse.shape[2], coarse.shape[3])) for x in (alpha, belief))
    return loss + 0.3 * F.binary_cross_entropy_with_logits(coarse, small, weight=trusted)


def train_cutout(
    faces_dir: Path,
    outdir: Path,
    config: CutoutTrainingConfig,
    network_config: CutoutConfig | None = None,
    report: Callable[[dict[str, float]], None] = lambda line: None,
    generated: Path | None = None,
    start_from: Path | None = None,
) -> CutoutNetwork:
    """Train; the same call goes on from the checkpoint in `outdir`. Returns the average network.

    Args:
        faces_dir: Portraits with alpha.
        outdir: Gets the checkpoint and, at each save, the network for use in `network/`.
        config: Options.
        network_config: Shape of the network.
        report: Called with the figures at each save.
        generated: A generator and the ws of all these portraits: its pictures are learned as well.
        start_from: Folder of a network to start from, of its own shape, instead of random weights.

    Raises:
        InputError: No portraits, or not those whose ws are in `generated`.
        ModelError: `generated` or `start_from` hold nothing that can be read.
    """
    torch.manual_seed(config.seed)
    network = CutoutNetwork(network_config or CutoutConfig())
    if start_from is not None:
        network = read_cutout_network(start_from)
    shape = network.config
    outdir.mkdir(parents=True, exist_ok=True)
    (outdir / "options.json").write_text(json.dumps({**asdict(config), "network": asdict(shape)}))
    average = CutoutNetwork(shape).requires_grad_(False)
    average.load_state_dict(network.state_dict())
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.lr, weight_decay=1e-4)
    rng = torch.Generator().manual_seed(config.seed)
    modules, optimizers = {"network": network, "average": average}, {"network": optimizer}
    step = 0
    if (outdir / CHECKPOINT).exists():
        tensors, scalars = load_checkpoint(outdir / CHECKPOINT, modules, optimizers)
        step = scalars["step"]
        rng.set_state(tensors["rng"])
    portraits = read_portraits(faces_dir, shape.input_size_px, held_out=False)
    made = None
    if generated is not None:
        made = draw_generated(faces_dir, generated, shape.input_size_px, held_out=False)
    losses, started = [], time.monotonic()
    while step < config.steps:
        network.train()
        img, alpha, belief = draw_mixed_batch(portraits, made, config, rng)
        fine, coarse = network(img.contiguous(memory_format=torch.channels_last))
        loss = cutout_loss(fine, coarse, alpha, belief)
        optimizer.param_groups[0]["lr"] = learning_rate(config, step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        step += 1
        update_ema(
            average, network, config.batch_size, min(config.ema_images, step * config.batch_size * 0.1)
        )
        losses.append(float(loss.detach()))
        if step % config.steps_per_save == 0 or step == config.steps:
            save_checkpoint(
                outdir / CHECKPOINT, modules, optimizers, {"rng": rng.get_state()}, {"step": step}
            )
            save_cutout_network(average, outdir / "network")
            report({"step": step, "loss": sum(losses) / len(losses), "sec": time.monotonic() - started})
            losses = []
    return average.eval()


def learning_rate(config: CutoutTrainingConfig, step: int) -> float:
    """Return the rate of a step: linear warm-up over 3 %, then a cosine to zero."""
    warm = max(1, int(0.03 * config.steps))
    if step < warm:
        return config.lr * (step + 1) / warm
    return float(config.lr * 0.5 * (1 + np.cos(np.pi * (step - warm) / max(1, config.steps - warm))))


def evaluate_cutout(backend: CutoutBackend, faces_dir: Path, size_px: int = 256) -> dict[str, float]:
    """Measure a back-end on the held-out people, on the game's colour and on textures.

    Returns:
        Mean IoU (alpha > 0.5) as `iou_game`, `iou_texture`; mean alpha difference as `difference_*`; and the
        rim error on white, black and game blue as `rim_COLOR_before` (the picture's own colours) and
        `rim_COLOR_after` decontamination, for people cut from the game's colour.
    """
    people = read_portraits(faces_dir, size_px, held_out=True)
    rng = torch.Generator().manual_seed(0)
    stats: dict[str, list[float]] = {}
    for person in people:
        for kind in ("game", "texture"):
            back = draw_background(people, 1.0 if kind == "game" else 0.0, size_px, rng)
            _measure_person(backend, person, back, kind, stats)
    return {name: sum(values) / len(values) for name, values in stats.items()}


def evaluate_generated(backend: CutoutBackend, faces_dir: Path, owned: Path) -> dict[str, float]:
    """Measure a back-end on a generator's pictures of the held-out people, cut out as the product does.

    Returns:
        Mean IoU as `iou_generated`, mean alpha difference as `difference_generated` and the share of the
        pixels outside the person that are not exactly empty as `left_over`; pixels whose alpha is not
        believed are not looked at.
    """
    stats: dict[str, list[float]] = {}
    for planes in draw_generated(faces_dir, owned, None, held_out=True):
        pixels = planes[:3].permute(1, 2, 0).contiguous().numpy()
        truth: Alpha = planes[3].numpy().astype(np.float32) / np.float32(255)
        believed = planes[4].numpy() > 127
        rgba = np.asarray(cut_out(Image.fromarray(pixels), backend, GAME_BACKGROUND))
        alpha: Alpha = rgba[..., 3].astype(np.float32) / np.float32(255)
        empty = believed & (truth == 0)
        figures = {
            "iou_generated": iou(alpha[believed], truth[believed]),
            "difference_generated": mean_difference(alpha[believed], truth[believed]),
            "left_over": float((alpha[empty] > 0).mean()) if empty.any() else 0.0,
        }
        for name, value in figures.items():
            stats.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in stats.items()}


def _measure_person(
    backend: CutoutBackend, person: Tensor, back: Tensor, kind: str, stats: dict[str, list[float]]
) -> None:
    color = person[:3].float() / 255
    truth: Alpha = (person[3].float() / 255).numpy()
    img = color * person[3:].float() / 255 + back * (1 - person[3:].float() / 255)
    pixels = (img.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    known = GAME_BACKGROUND if kind == "game" else None
    rgba = np.asarray(cut_out(Image.fromarray(pixels), backend, known))
    alpha: Alpha = rgba[..., 3].astype(np.float32) / np.float32(255)
    figures = {f"iou_{kind}": iou(alpha, truth), f"difference_{kind}": mean_difference(alpha, truth)}
    if kind == "game":
        true_color = person[:3].permute(1, 2, 0).numpy()
        for name, behind in (("white", (255, 255, 255)), ("black", (0, 0, 0)), ("blue", GAME_BACKGROUND)):
            figures[f"rim_{name}_before"] = rim_error(pixels, alpha, true_color, truth, behind)
            figures[f"rim_{name}_after"] = rim_error(rgba[..., :3], alpha, true_color, truth, behind)
    for name, value in figures.items():
        stats.setdefault(name, []).append(value)
