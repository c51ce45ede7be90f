"""Pictures that a generator makes of the people whose ws it owns, with the alpha they should get.

Owns the drawing of those pictures, the solving of their alpha and which of their pixels cannot be judged.
Does not know how a network is trained on them.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ehmfaces.cutout.base import CutoutBackend, cut_out
from ehmfaces.cutout.matting import box_blur, nearby_foreground
from ehmfaces.errors import InputError
from ehmfaces.images import GAME_BACKGROUND
from ehmfaces.training.warm_start import load_warm_start
from ehmfaces.types import Alpha, Pixels

# A portrait with more half transparent pixels than this has a flawed alpha: remains of a background.
MAX_HALF_TRANSPARENT = 0.08


def draw_owned(
    owned: Path,
    portraits: list[Path],
    held_out: list[bool],
    judge: CutoutBackend,
    mirrored: bool,
    size_px: int | None = None,
) -> Tensor:
    """Draw the chosen people with the generator that owns their ws, and solve the alpha of the pictures.

    Args:
        owned: Folder of a finished warm start, or "owned" of a detail run, on the game's colour.
        portraits: All files with alpha that it was trained on, sorted by name.
        held_out: For each of them, whether it is left out.
        judge: Says where a person is; the colours and the portrait's own alpha decide with it.
        mirrored: Draw the mirror images' ws as well.
        size_px: Scale to this side; None keeps the generator's.

    Returns:
        uint8 [N, 5, S, S]: RGB over the generator's own background, alpha, and
        how far the alpha is to be believed. Portraits with a flawed alpha are left out.

    Raises:
        InputError: The ws are not those of these portraits, or no portrait is left.
        ModelError: The folder holds no warm start.
    """
    generator, ws = load_warm_start(owned)
    if len(ws) != 2 * len(portraits):
        raise InputError(
            f'"{owned.name}" owns {len(ws)} ws, but the folder holds {len(portraits)} portraits, which need '
            f"{2 * len(portraits)} (each and its mirror image). Give the portraits it was trained on."
        )
    made = []
    for index, (path, left_out) in enumerate(zip(portraits, held_out, strict=True)):
        if left_out:
            continue
        with Image.open(path) as image:
            size = (generator.img_resolution, generator.img_resolution)
            band = image.convert("RGBA").getchannel("A").resize(size, Image.Resampling.BOX)
        alpha: Alpha = np.asarray(band).astype(np.float32) / np.float32(255)
        if ((alpha > 0.1) & (alpha < 0.9)).mean() > MAX_HALF_TRANSPARENT:
            continue
        for row, known in [(index, alpha), (index + len(portraits), alpha[:, ::-1])][: 1 + mirrored]:
            with torch.inference_mode():
                w = ws[row][None, None].expand(-1, generator.num_ws, -1)
                img = generator.synthesis(w, noise_mode="const")[0]
            pixels = ((img.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()
            planes = torch.from_numpy(_with_target(pixels, known, judge))
            made.append(planes if size_px is None else fit_size(planes[None], size_px)[0])
    if not made:
        raise InputError(
            f'No portrait of "{owned.name}" is left for this part: too few, or all with a flawed alpha.'
        )
    return torch.stack(made)


def _with_target(pixels: Pixels, known: Alpha, judge: CutoutBackend) -> Pixels:
    cut = cut_out(Image.fromarray(pixels), judge, GAME_BACKGROUND)
    judged: Alpha = np.asarray(cut)[..., 3].astype(np.float32) / np.float32(255)
    alpha, belief = solve_target(pixels, known, judged)
    planes: Pixels = np.rint(np.stack([alpha, belief]) * 255).astype(np.uint8)
    return np.concatenate([pixels.transpose(2, 0, 1), planes])


def solve_target(pixels: Pixels, known: Alpha, judged: Alpha) -> tuple[Alpha, Alpha]:
    """Solve the alpha of a generated picture from its colours where its two witnesses leave it open.

    Where both are sure they are right. Elsewhere alpha is how far the colour is on the way from the game's
    to the person's nearby; small differences (drift of the background, faint ghosts) are background. Where
    the person is hardly different from the background, alpha is the witnesses' mean.

    Args:
        pixels: RGB uint8 [H, W, 3], over the game's colour.
        known: Alpha float32 [H, W] of the portrait that the picture is to show.
        judged: Alpha float32 [H, W] that a cut-out network finds in the picture.

    Returns:
        Alpha float32 [H, W], and belief float32 [H, W]: 0 where colours contradict both witnesses, low where
        they contradict each other and colours do not decide.
    """
    height = pixels.shape[0]
    img = pixels.astype(np.float32) / np.float32(255)
    back = np.array(GAME_BACKGROUND, np.float32) / 255
    soft: Alpha = box_blur(known[..., None], max(1, height // 128))[..., 0]  # as vague as the picture
    low, high = np.minimum(soft, judged), np.maximum(soft, judged)
    way = nearby_foreground(img, low, max(2, height // 42)) - back
    length = (way * way).sum(axis=2)
    off = box_blur(img - back, 1)
    share = ((off * way).sum(axis=2) / (length + 1e-6) - 0.15) / 0.7
    trust = length / (length + 0.01)
    guess = (soft + judged) / 2
    alpha = guess + trust * (share.clip(0, 1) - guess)
    alpha = np.where(high < 0.02, 0, np.where(low > 0.97, 1, alpha))
    alpha = np.where(alpha < 0.04, 0, np.where(alpha > 0.96, 1, alpha)).astype(np.float32)
    belief = (1 - 2 * (1 - trust) * np.abs(soft - judged)).clip(0, 1)
    unseen = (high < 0.02) & (np.sqrt((off * off).sum(axis=2)) > 0.15)
    against = ((low > 0.9) & (alpha < 0.3)) | ((high < 0.1) & (alpha > 0.7))
    return alpha, np.where(unseen | against, 0, belief).astype(np.float32)


def fit_size(made: Tensor, size_px: int) -> Tensor:
    """Scale uint8 [N, C, S, S] to the side of a network's input, as its back-end does."""
    scaled = F.interpolate(made.float(), size=(size_px, size_px), mode="bilinear", antialias=True)
    return scaled.round().clamp(0, 255).to(torch.uint8)
