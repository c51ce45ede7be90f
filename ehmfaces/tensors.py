"""The border between tensors and pictures, and the choice of device.

Owns img float [N, 3, H, W] in [-1, 1] <-> pixels uint8 [N, H, W, 3], and what the device is good at. Knows no
model.
"""

import torch
from torch import Tensor

from ehmfaces.errors import InputError
from ehmfaces.types import Pixels


def choose_device(name: str | None = None) -> torch.device:
    """Return the device asked for, or the best one of this machine.

    Raises:
        InputError: torch does not know the device or the machine lacks it.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f'Device "{name}" cannot be used here. Use cpu, or cuda on a machine with a GPU.'
        ) from error
    return device


def has_matrix_units() -> bool:
    """Return whether this processor multiplies bfloat16 matrices in hardware (AMX), many times as fast."""
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # not in older torch
    return bool(capabilities.get("amx_bf16", False))


def pixels_from_img(img: Tensor) -> Pixels:
    """Return uint8 [N, H, W, C] for img [N, C, H, W] in [-1, 1], rounded as the public tools do."""
    scaled = (img.detach().float() * 127.5 + 128).clamp(0, 255).to(torch.uint8)
    pixels: Pixels = scaled.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return pixels


def img_from_pixels(pixels: Pixels) -> Tensor:
    """Return img float32 [N, C, H, W] in [-1, 1] for pixels uint8 [N, H, W, C]."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
