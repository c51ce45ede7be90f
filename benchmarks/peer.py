"""The published algorithms, written plainly: what `stylegan.py` compares our networks with.

Owns one straightforward formulation of both generators on the weights of ours: a weight per sample, grouped
convolutions, NCHW, zeros inserted before a separate filter, one operation after another. Written from the
papers; it is no copy of anybody's code. Knows nothing of time.

Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN" (2020), section 2; Karras et
al., "Alias-Free Generative Adversarial Networks" (2021), section 3.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ehmfaces.models.stylegan2 import SynthesisBlock as Block2
from ehmfaces.models.stylegan2 import SynthesisLayer as Layer2
from ehmfaces.models.stylegan2 import SynthesisNetwork as Synthesis2
from ehmfaces.models.stylegan2 import ToRGBLayer
from ehmfaces.models.stylegan3 import SynthesisLayer as Layer3
from ehmfaces.models.stylegan3 import SynthesisNetwork as Synthesis3


def resample(
    x: Tensor, kernel: Tensor, up: int, down: int, padding: tuple[int, int], gain: float = 1.0
) -> Tensor:
    """Insert zeros, pad, filter ([taps] along both axes, or [taps, taps]) and drop pixels."""
    n, channels, height, width = x.shape
    if up > 1:
        x = F.pad(x.reshape(n, channels, height, 1, width, 1), (0, up - 1, 0, 0, 0, up - 1))
        x = x.reshape(n, channels, height * up, width * up)
    if any(padding):
        x = F.pad(x, padding * 2)
    parts = [kernel.flip(0, 1)] if kernel.ndim == 2 else [kernel.flip(0)[None], kernel.flip(0)[:, None]]
    for part in parts:
        x = F.conv2d(x, part.repeat(channels, 1, 1, 1), groups=channels)
    x = x[:, :, ::down, ::down] if down > 1 else x
    return x * gain


def modulate(weight: Tensor, styles: Tensor, demodulate: bool) -> Tensor:
    """Return a weight per sample: [N, C_out, C_in, k, k]."""
    own = weight[None] * styles[:, None, :, None, None]
    if demodulate:
        own = own * (own.square().sum(dim=[2, 3, 4], keepdim=True) + 1e-8).rsqrt()
    return own


def grouped(x: Tensor, own: Tensor, padding: int) -> Tensor:
    """Convolve every sample with its own weight, as groups of one picture."""
    n, _, height, width = x.shape
    y = F.conv2d(x.reshape(1, -1, height, width), own.flatten(0, 1), padding=padding, groups=n)
    return y.reshape(n, -1, *y.shape[2:])


def grouped_up(x: Tensor, own: Tensor) -> Tensor:
    """The same with a transposed convolution of stride 2."""
    n, _, height, width = x.shape
    flat = own.transpose(1, 2).flatten(0, 1)
    y = F.conv_transpose2d(x.reshape(1, -1, height, width), flat, stride=2, groups=n)
    return y.reshape(n, -1, *y.shape[2:])


def finish(x: Tensor, bias: Tensor, slope: float, gain: float, clamp: float | None) -> Tensor:
    """Add the bias, activate, scale, clamp."""
    x = x + bias[None, :, None, None]
    x = F.leaky_relu(x, slope) if slope != 1 else x
    x = x * gain if gain != 1 else x
    return x if clamp is None else x.clamp(-clamp, clamp)


def layer2(layer: Layer2, x: Tensor, w: Tensor) -> Tensor:
    """One StyleGAN2 layer with its stored noise."""
    own = modulate(layer.weight, layer.affine(w), demodulate=True)
    if layer.up == 2:
        x = resample(grouped_up(x, own), layer.resample_filter, 1, 1, (1, 1), gain=4)
    else:
        x = grouped(x, own, padding=1)
    if layer.use_noise:
        x = x + layer.noise_const * layer.noise_strength
    return finish(x, layer.bias, 0.2, math.sqrt(2), layer.conv_clamp)


def torgb(layer: ToRGBLayer, x: Tensor, w: Tensor) -> Tensor:
    """The colours at one resolution."""
    own = modulate(layer.weight, layer.affine(w) * layer.weight_gain, demodulate=False)
    return finish(grouped(x, own, padding=0), layer.bias, 1, 1, layer.conv_clamp)


def stylegan2(synthesis: Synthesis2, ws: Tensor) -> Tensor:
    """Return img [N, C, H, W] of the skip architecture for ws [N, num_ws, w_dim]."""
    lines = ws.unbind(dim=1)
    x = img = None
    index = 0
    for resolution in synthesis.block_resolutions:
        block: Block2 = getattr(synthesis, f"b{resolution}")
        if x is None:
            x = block.const[None].repeat(len(ws), 1, 1, 1)
        else:
            x = layer2(block.conv0, x, lines[index])
            index += 1
        x = layer2(block.conv1, x.contiguous(), lines[index])
        index += 1
        if img is not None:
            img = resample(img, block.resample_filter, 2, 1, (2, 1), gain=4)
        rgb = torgb(block.torgb, x, lines[index])
        img = rgb if img is None else img + rgb
    assert img is not None
    return img


def layer3(layer: Layer3, x: Tensor, w: Tensor) -> Tensor:
    """One StyleGAN3 layer."""
    styles, weight = layer.affine(w), layer.weight
    if layer.is_torgb:
        own = modulate(weight, styles / math.sqrt(layer.in_channels), demodulate=False)
    else:
        weight = weight * weight.square().mean(dim=[1, 2, 3], keepdim=True).rsqrt()
        own = modulate(weight, styles * styles.square().mean().rsqrt(), demodulate=True)
    x = grouped(x, own * layer.magnitude_ema.rsqrt(), padding=layer.conv_kernel - 1)
    if layer.is_torgb:
        return finish(x, layer.bias, 1, 1, layer.conv_clamp)
    x = x + layer.bias[None, :, None, None]
    up, padding = layer.up_factor, (layer.padding[0], layer.padding[1])
    x = x if layer.up_filter is None else resample(x, layer.up_filter, up, 1, padding, gain=up * up)
    x = finish(x, torch.zeros_like(layer.bias), 0.2, math.sqrt(2), layer.conv_clamp)
    return x if layer.down_filter is None else resample(x, layer.down_filter, 1, layer.down_factor, (0, 0))


def stylegan3(synthesis: Synthesis3, ws: Tensor) -> Tensor:
    """Return img [N, C, H, W] for ws [N, num_ws, w_dim]."""
    first, *lines = ws.unbind(dim=1)
    x = synthesis.input(first).contiguous()
    for name, w in zip(synthesis.layer_names, lines, strict=True):
        x = layer3(getattr(synthesis, name), x, w)
    return x * synthesis.output_scale
