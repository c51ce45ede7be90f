"""StyleGAN2 and StyleGAN3 in half precision on a GPU, with the meaning it has in the public networks.

Owns which layers run in float16: those of the highest `num_fp16_res` resolutions, clamped, with weights and
styles brought to a size that cannot overflow; styles, demodulation and the picture stay in float32.

Source: Karras et al., "Training GANs with Limited Data" (2020), appendix "mixed precision".
"""

import copy
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ehmfaces.errors import UnsupportedModelError
from ehmfaces.models.ops import bias_act, conv2d_up, demodulation, upsample2d
from ehmfaces.models.stylegan2 import SynthesisLayer, SynthesisNetwork

NUM_FP16_RES = 4
CLAMP = 256.0


class HalfSynthesis(nn.Module):
    """A StyleGAN2 synthesis network whose highest resolutions run in float16.

    Args:
        synthesis: In float32; it is left as it is.
        num_fp16_res: Number of resolutions, counted from the highest.
        dtype: Of those layers.
    """

    def __init__(
        self, synthesis: Any, num_fp16_res: int = NUM_FP16_RES, dtype: torch.dtype = torch.float16
    ) -> None:
        super().__init__()
        if not isinstance(synthesis, SynthesisNetwork):
            raise UnsupportedModelError("float16 is there for StyleGAN2 only. Use bfloat16 or float32.")
        if any(getattr(synthesis, f"b{res}").architecture == "resnet" for res in synthesis.block_resolutions):
            raise UnsupportedModelError('float16 is there for the architectures "skip" and "orig" only.')
        self.synthesis = copy.deepcopy(synthesis)
        self.dtype = dtype
        self.half_resolutions = synthesis.block_resolutions[-num_fp16_res:]

    def forward(self, ws: Tensor, noise_mode: str = "const") -> Tensor:
        """Ws [N, num_ws, w_dim] to img float32 [N, img_channels, H, W]."""
        x, img, index = None, None, 0
        for resolution in self.synthesis.block_resolutions:
            block = getattr(self.synthesis, f"b{resolution}")
            block_ws = ws[:, index : index + block.num_conv + block.num_torgb]
            if resolution in self.half_resolutions:
                x, img = self._half_block(block, x, img, block_ws, noise_mode)
            else:
                x, img = block(x, img, block_ws, noise_mode)
            index += block.num_conv
        assert img is not None
        return img.float()

    def _half_block(
        self, block: Any, x: Tensor | None, img: Tensor | None, ws: Tensor, noise_mode: str
    ) -> tuple[Tensor, Tensor | None]:
        layer_ws = iter(ws.unbind(dim=1))
        if x is None:
            x = block.const[None].expand(ws.shape[0], -1, -1, -1)
        x = x.to(self.dtype, memory_format=torch.channels_last)
        layers = [block.conv1] if block.in_channels == 0 else [block.conv0, block.conv1]
        for layer in layers:
            x = self._half_layer(layer, x, next(layer_ws), noise_mode)
        if img is not None:
            img = upsample2d(img, block.resample_filter)
        if block.num_torgb:
            rgb = self._half_picture(block.torgb, x, next(layer_ws))
            img = rgb if img is None else img + rgb
        return x, img

    def _half_layer(self, layer: SynthesisLayer, x: Tensor, w: Tensor, noise_mode: str) -> Tensor:
        """One modulated convolution; sizes cancel in the demodulation."""
        fan_in = layer.weight[0].numel()
        weight = layer.weight / (layer.weight.abs().amax(dim=[1, 2, 3], keepdim=True) * math.sqrt(fan_in))
        styles = layer.affine(w)
        styles = styles / styles.abs().amax(dim=1, keepdim=True)
        scale = demodulation(weight, styles)  # float32
        y = x * styles.to(self.dtype)[:, :, None, None]
        weight = weight.to(self.dtype)
        y = conv2d_up(y, weight, layer.resample_filter) if layer.up == 2 else F.conv2d(y, weight, padding=1)
        y = y * scale.to(self.dtype)[:, :, None, None]
        noise = layer._noise(y, noise_mode)
        y = y if noise is None else y + noise.to(self.dtype)
        return bias_act(y, layer.bias, "lrelu", clamp=layer.conv_clamp or CLAMP)

    def _half_picture(self, layer: Any, x: Tensor, w: Tensor) -> Tensor:
        styles = layer.affine(w) * layer.weight_gain
        y = F.conv2d(x * styles.to(self.dtype)[:, :, None, None], layer.weight.to(self.dtype))
        return bias_act(y, layer.bias, clamp=layer.conv_clamp or CLAMP).float()
