"""The operations that StyleGAN networks are made of, in plain PyTorch.

Everything works on float tensors [N, C, H, W], channels_last where it is fast, and is differentiable
twice. Knows no network, no file and no picture.

Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN" (2020), section 2 and
appendix B; Karras et al., "Training GANs with Limited Data" (2020), appendix B; Karras et al., "Alias-Free
Generative Adversarial Networks" (2021), section 3.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

SQRT_2 = 2.0**0.5
LRELU_SLOPE = 0.2


def is_eager_inference() -> bool:
    """Return whether nobody looks on: no gradient, no compiler, no export; then work may be in place."""
    tracing = torch.jit.is_tracing()  # type: ignore[attr-defined]
    return not (torch.is_grad_enabled() or torch.compiler.is_compiling() or tracing)


def setup_filter(taps: Sequence[float]) -> Tensor:
    """Return the separable low-pass filter of `taps` as float32 [len, len], sum 1."""
    line = torch.as_tensor(taps, dtype=torch.float32)
    kernel = torch.outer(line, line)
    return kernel / kernel.sum()


def upfirdn2d(
    x: Tensor,
    kernel: Tensor,
    up: int = 1,
    down: int = 1,
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    gain: float = 1.0,
) -> Tensor:
    """Insert zeros, pad, filter and take every `down`-th pixel.

    Args:
        x: [N, C, H, W].
        kernel: FIR filter, float32 [kh, kw]; applied as a true convolution.
        up: Upsampling factor.
        down: Downsampling factor.
        padding: Pixels at the left, right, top and bottom, counted after upsampling; may be negative.
        gain: Factor on the result.
    """
    channels = x.shape[1]
    weight = (kernel * gain).flip(0, 1).to(x.dtype)[None, None].expand(channels, 1, -1, -1)
    if up > 1:
        x = insert_zeros(x, up)
    if x.requires_grad and x.device.type == "cpu":
        return filter_channels(x, weight, padding, down)
    if any(padding):
        x = F.pad(x, padding)
    return F.conv2d(x, weight, stride=down, groups=channels)


def filter_channels(x: Tensor, weight: Tensor, padding: tuple[int, int, int, int], down: int) -> Tensor:
    """Filter every channel with a kernel of its own that is not learned, and take every `down`-th pixel.

    Args:
        x: [N, C, H, W].
        weight: [C, 1, kh, kw]; applied as a correlation.
        padding: Pixels at the left, right, top and bottom.
        down: 1 or more.
    """
    if x.is_cuda:
        return F.conv2d(F.pad(x, padding) if any(padding) else x, weight, stride=down, groups=x.shape[1])
    filtered: Tensor = _FixedFilter.apply(x, weight, padding, down)
    return filtered


class _FixedFilter(torch.autograd.Function):
    """Depthwise convolution with a filter that is not learned; its gradient is such a convolution again.

    The general gradient of a depthwise convolution is many times slower on CPUs.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, padding: tuple[int, int, int, int], down: int) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.padding, ctx.down, ctx.size = padding, down, x.shape[2:]
        if len(set(padding)) == 1:
            return F.conv2d(x, weight, stride=down, padding=padding[0], groups=x.shape[1])
        return F.conv2d(F.pad(x, padding), weight, stride=down, groups=x.shape[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        (weight,) = ctx.saved_tensors
        wide = insert_zeros(gradient, ctx.down) if ctx.down > 1 else gradient
        left, _, top, _ = ctx.padding
        back = []
        for axis, before in ((3, left), (2, top)):
            reach = weight.shape[axis] - 1
            back += [reach - before, ctx.size[axis - 2] - wide.shape[axis] + before]
        return _FixedFilter.apply(wide, weight.flip(2, 3), tuple(back), 1), None, None, None


def insert_zeros(x: Tensor, up: int) -> Tensor:
    """Put `up - 1` zeros after every pixel: [N, C, H, W] to [N, C, H * up, W * up]."""
    n, channels, height, width = x.shape
    wide = x.new_zeros((n, channels, height, up, width, up))
    wide[:, :, :, 0, :, 0] = x
    return wide.reshape(n, channels, height * up, width * up)


def upsample2d(x: Tensor, kernel: Tensor, gain: float = 1.0) -> Tensor:
    """Double height and width with the low-pass filter `kernel` [k, k]."""
    size = kernel.shape[0]
    before, after = (size + 1) // 2, (size - 2) // 2
    channels = x.shape[1]
    if folds_filters(x) and size == 4:
        dense = torch.eye(channels, device=x.device, dtype=x.dtype)[:, :, None, None] * (kernel * 4.0 * gain)
        return F.conv_transpose2d(x, dense.to(x.dtype), stride=2, padding=1)
    # Zero insertion followed by a FIR filter is one transposed convolution.
    weight = (kernel * (4.0 * gain)).to(x.dtype)[None, None].expand(channels, 1, -1, -1)
    full = F.conv_transpose2d(x, weight, stride=2, groups=channels)  # [N, C, 2H + k - 2, 2W + k - 2]
    start = size - 1 - before
    stop = full.shape[2] - (size - 2 - after)
    return full[:, :, start:stop, start : full.shape[3] - (size - 2 - after)]


def downsample2d(x: Tensor, kernel: Tensor) -> Tensor:
    """Halve height and width with the low-pass filter `kernel` [k, k]."""
    size = kernel.shape[0]
    before, after = (size - 1) // 2, (size - 2) // 2
    return upfirdn2d(x, kernel, down=2, padding=(before, after, before, after))


def conv2d_resample(x: Tensor, weight: Tensor, kernel: Tensor, up: int = 1, down: int = 1) -> Tensor:
    """Convolve with "same" padding, and double or halve the size with the low-pass filter.

    Args:
        x: [N, C_in, H, W].
        weight: [C_out, C_in, k, k] with k 1 or 3.
        kernel: FIR filter [f, f].
        up: 1 or 2.
        down: 1 or 2.
    """
    pad = weight.shape[2] // 2
    if down == 2 and folds_filters(x) and kernel.shape[0] == 4:
        folded = fold_filter(weight, kernel).to(x.dtype)
        return F.conv2d(x, folded, stride=2, padding=pad + 1)
    weight = weight.to(x.dtype)
    if up == 2 and pad == 0:
        return upsample2d(F.conv2d(x, weight), kernel)
    if up == 2:
        return conv2d_up(x, weight, kernel)
    if down == 2 and pad == 0:
        return F.conv2d(downsample2d(x, kernel), weight)
    if down == 2:
        size = kernel.shape[0]
        before, after = pad + (size - 1) // 2, pad + (size - 2) // 2
        blurred = upfirdn2d(x, kernel, padding=(before, after, before, after))
        return F.conv2d(blurred, weight, stride=2)
    return F.conv2d(x, weight, padding=pad)


def folds_filters(x: Tensor) -> bool:
    """Return whether low-pass filters are folded into the convolutions beside them, as suits GPUs."""
    return x.is_cuda


def fold_filter(weight: Tensor, kernel: Tensor) -> Tensor:
    """Convolve every kernel [C', C, k, k] with a symmetric filter [f, f]: [C', C, k + f - 1, k + f - 1].

    One dense convolution then does the work of a convolution and a depthwise filter over the whole picture.
    """
    size, reach = weight.shape[2], kernel.shape[0]
    flat = weight.reshape(-1, 1, size, size)
    folded = F.conv2d(flat, kernel.to(flat.dtype)[None, None], padding=reach - 1)
    return folded.reshape(*weight.shape[:2], *folded.shape[2:])


def conv2d_up(
    x: Tensor, weight: Tensor, kernel: Tensor, scale: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """Double the size with a 3x3 transposed convolution, then low-pass: [N, C, H, W] to [N, C', 2H, 2W].

    Args:
        x: [N, C, H, W].
        weight: [C', C, 3, 3].
        kernel: FIR filter [f, f].
        scale: [C'], factor on each channel of the result, or None.
        bias: [C'], added after that, or None.
    """
    size, channels = kernel.shape[0], weight.shape[0]
    if folds_filters(x) and size == 4 and scale is None:
        folded = fold_filter(weight, kernel * 4.0).to(x.dtype)
        return F.conv_transpose2d(x, folded.transpose(0, 1), stride=2, padding=2)
    weight = weight.to(x.dtype)
    before, after = (size + 1) // 2 - 1, (size - 2) // 2
    wide = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)  # [N, C', 2H + 1, 2W + 1]
    low_pass = (kernel * 4.0).flip(0, 1).to(x.dtype).expand(channels, 1, -1, -1)
    low_pass = low_pass if scale is None else low_pass * scale[:, None, None, None]
    if wide.requires_grad and wide.device.type == "cpu" and scale is None and bias is None:
        return filter_channels(wide, low_pass, (before, after, before, after), 1)
    if before == after:
        return F.conv2d(wide, low_pass, bias, padding=before, groups=channels)
    return F.conv2d(F.pad(wide, (before, after, before, after)), low_pass, bias, groups=channels)


def bias_act(
    x: Tensor,
    bias: Tensor | None = None,
    activation: str = "linear",
    gain: float = 1.0,
    clamp: float | None = None,
) -> Tensor:
    """Add a bias per channel, apply leaky ReLU (slope 0.2, gain sqrt 2) or nothing, scale and clamp.

    Args:
        x: [N, C] or [N, C, H, W].
        bias: [C], or None.
        activation: "linear" or "lrelu".
        gain: Further factor on the result.
        clamp: Largest absolute value of the result, or None.
    """
    if bias is not None:
        x = x + bias.reshape([1, -1] + [1] * (x.ndim - 2)).to(x.dtype)
    if activation == "lrelu":
        x = F.leaky_relu(x, LRELU_SLOPE)
        gain = gain * SQRT_2
    if gain != 1.0:
        x = x * gain
    return x if clamp is None else x.clamp(-clamp, clamp)


def modulated_conv2d(
    x: Tensor,
    weight: Tensor,
    styles: Tensor,
    kernel: Tensor | None = None,
    up: int = 1,
    demodulate: bool = True,
) -> Tensor:
    """Convolve with a weight that is scaled per sample and input channel.

    The activations are scaled instead of the weights, which is the same sum: no weight per sample, no
    grouped convolution.

    Args:
        x: [N, C_in, H, W].
        weight: [C_out, C_in, k, k].
        styles: [N, C_in].
        kernel: FIR filter [f, f]; needed for up 2.
        up: 1 or 2.
        demodulate: Whether each output channel is scaled back to unit variance (equations 1 to 3).
    """
    y = x * styles[:, :, None, None].to(x.dtype)
    if up == 2:
        assert kernel is not None
        y = conv2d_up(y, weight, kernel)
    else:
        y = F.conv2d(y, weight.to(x.dtype), padding=weight.shape[2] // 2)
    if not demodulate:
        return y
    return y * demodulation(weight, styles)[:, :, None, None].to(x.dtype)


def weight_energy(weight: Tensor) -> Tensor:
    """Return the sum of squares [C_out, C_in] of a kernel [C_out, C_in, k, k]."""
    if weight.stride(0) < weight.stride(1):  # laid out for a transposed convolution: sum it as it lies
        return weight.transpose(0, 1).square().sum(dim=[2, 3]).t()
    return weight.square().sum(dim=[2, 3])


def demodulation(weight: Tensor, styles: Tensor, energy: Tensor | None = None) -> Tensor:
    """Return the factors [N, C_out] that undo the modulation's change of variance (equation 3).

    Args:
        weight: [C_out, C_in, k, k].
        styles: [N, C_in].
        energy: Of `weight_energy`, where it is known already.
    """
    energy = weight_energy(weight) if energy is None else energy
    return (styles.square() @ energy.t() + 1e-8).rsqrt()


def winograd_weight(weight: Tensor) -> Tensor:
    """Transform a 3x3 kernel [C_out, C_in, 3, 3] for `conv2d_winograd`: [16, C_in, C_out].

    Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2016), section 4.1.
    """
    g = weight.new_tensor([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
    transformed = torch.einsum("ak,oikl,bl->abio", g, weight, g)
    return transformed.flatten(0, 1).contiguous()


def conv2d_winograd(x: Tensor, kernel: Tensor) -> Tensor:
    """Convolve with a 3x3 kernel and padding 1, with 4 products where the plain sum takes 9.

    Args:
        x: [1, C_in, H, W], H and W even.
        kernel: [16, C_in, C_out] of `winograd_weight`.

    Returns:
        [1, C_out, H, W], channels last; differs from the plain sum by rounding only.

    Source: as `winograd_weight`.
    """
    height, width = x.shape[2:]
    padded = F.pad(x[0].permute(1, 2, 0), (0, 0, 1, 1, 1, 1))  # [H + 2, W + 2, C_in]
    half = x.new_empty(4, height // 2, width + 2, x.shape[1])
    tiles = x.new_empty(4, 4, height // 2, width // 2, x.shape[1])
    _winograd_differences(padded, 0, half)
    for rows, target in zip(half, tiles, strict=True):
        _winograd_differences(rows, 1, target)
    product = torch.bmm(tiles.flatten(2, 3).flatten(0, 1), kernel).view(*tiles.shape[:4], -1)
    y = x.new_empty(height, width, kernel.shape[2])
    for row, rows in enumerate(_winograd_sums(product)):
        for column, columns in enumerate(_winograd_sums(rows)):
            y[row::2, column::2] = columns
    return y.permute(2, 0, 1)[None]


def _winograd_differences(x: Tensor, axis: int, out: Tensor) -> None:
    """Write the four transforms (B^T d) of overlapping windows of four along an axis into out[0..3]."""
    count = x.shape[axis] // 2 - 1
    before = (slice(None),) * axis
    d0, d1, d2, d3 = (x[(*before, slice(start, start + 2 * count, 2))] for start in range(4))
    torch.sub(d0, d2, out=out[0])
    torch.add(d1, d2, out=out[1])
    torch.sub(d2, d1, out=out[2])
    torch.sub(d1, d3, out=out[3])


def _winograd_sums(m: Tensor) -> tuple[Tensor, Tensor]:
    """Return the two sums (A^T m) over the first axis of four."""
    return (m[0] + m[1]).add_(m[2]), (m[1] - m[2]).sub_(m[3])


def filtered_lrelu(
    x: Tensor,
    up_filter: Tensor | None,
    down_filter: Tensor | None,
    up: int = 1,
    down: int = 1,
    padding: tuple[int, int] = (0, 0),
    slope: float = LRELU_SLOPE,
    gain: float = SQRT_2,
    clamp: float | None = None,
) -> Tensor:
    """Leaky ReLU between a low-pass upsampling and a low-pass downsampling, so that it cannot alias.

    Filters always run in float32: their stop band is worth nothing in half precision.

    Args:
        x: [N, C, H, W], the bias already added.
        up_filter: FIR filter [taps] (separable) or [taps, taps] of sum 1, or None for up 1.
        down_filter: The same for down.
        up: Upsampling factor of the filter before the activation.
        down: Downsampling factor of the filter after it.
        padding: Pixels before and after each axis, counted after upsampling; may be negative.
        slope: Of the leaky ReLU.
        gain: Factor on its result.
        clamp: Largest absolute value of that, or None.

    Source: "Alias-Free Generative Adversarial Networks", section 3.1 and appendix F.
    """
    # Leaky ReLU is positively homogeneous: its gain rides on the filter before it.
    wide = fir_up(x.float(), up_filter, up, padding, gain * up * up)
    if not is_eager_inference():
        y = F.leaky_relu(wide, slope) if slope != 1 else wide
        y = y if clamp is None else y.clamp(-clamp, clamp)
    else:
        y = F.leaky_relu_(wide, slope) if slope != 1 else wide
        y = y if clamp is None else y.clamp_(-clamp, clamp)
    return fir_down(y, down_filter, down).to(x.dtype)


def fir_up(x: Tensor, kernel: Tensor | None, up: int, padding: tuple[int, int], gain: float) -> Tensor:
    """Insert zeros, pad both axes alike and filter, as one transposed convolution per axis.

    Args:
        x: [N, C, H, W].
        kernel: FIR filter [taps] or [taps, taps], or None.
        up: Upsampling factor.
        padding: Pixels before and after each axis, counted after upsampling; may be negative.
        gain: Factor on the result.
    """
    if kernel is None:
        x = insert_zeros(x, up) if up > 1 else x
        return (F.pad(x, padding * 2) if any(padding) else x) * gain
    taps, channels = kernel.shape[0], x.shape[1]
    # The full convolution is longer by `before` and `after` than what is wanted.
    before, after = taps - 1 - padding[0], taps - up - padding[1]
    cut = max(0, min(before, after))
    if kernel.ndim == 2:
        weight = (kernel * gain)[None, None].expand(channels, 1, -1, -1)
        x = F.conv_transpose2d(x, weight, stride=up, padding=cut, groups=channels)
    else:
        line = (kernel * gain**0.5).expand(channels, 1, 1, -1)
        if x.device.type == "cpu" and is_eager_inference():
            x = _fir_up_rows(x, kernel * gain**0.5, up, cut)
        else:
            column = line.transpose(2, 3)
            x = F.conv_transpose2d(x, column, stride=(up, 1), padding=(cut, 0), groups=channels)
        x = F.conv_transpose2d(x, line, stride=(1, up), padding=(0, cut), groups=channels)
    rest = (cut - before, cut - after) * 2
    return F.pad(x, rest) if any(rest) else x


def _fir_up_rows(x: Tensor, kernel: Tensor, up: int, cut: int) -> Tensor:
    """Do what the transposed convolution along the rows does, one output phase after another.

    On CPUs the transposed convolution is many times slower along this axis than along the other.

    Args:
        x: [N, C, H, W].
        kernel: FIR filter [taps].
        up: Upsampling factor.
        cut: Rows that are left out at both ends.
    """
    n, channels, height, width = x.shape
    rows = (height - 1) * up + kernel.shape[0] - 2 * cut
    shape = (n, channels, rows, width)
    out = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
    for phase in range(min(up, rows)):
        # Row `phase + up * j` is made of every `up`-th tap and of the rows up to `last + j`.
        last, first_tap = divmod(phase + cut, up)
        taps = kernel[first_tap::up]
        count = len(range(phase, rows, up))
        before, after = len(taps) - 1 - last, last + count - height
        pad = max(0, before, after)
        weight = taps.flip(0)[:, None].expand(channels, 1, -1, 1)
        part = F.conv2d(x, weight, padding=(pad, 0), groups=channels)
        out[:, :, phase::up] = part[:, :, pad - before : pad - before + count]
    return out


def fir_down(x: Tensor, kernel: Tensor | None, down: int) -> Tensor:
    """Filter without padding and take every `down`-th pixel, one convolution per axis.

    Args:
        x: [N, C, H, W].
        kernel: FIR filter [taps] or [taps, taps], or None.
        down: Downsampling factor.
    """
    if kernel is None:
        return x[:, :, ::down, ::down] if down > 1 else x
    channels = x.shape[1]
    if kernel.ndim == 2:
        weight = kernel.flip(0, 1)[None, None].expand(channels, 1, -1, -1)
        return F.conv2d(x, weight, stride=down, groups=channels)
    line = kernel.flip(0).expand(channels, 1, 1, -1)
    x = F.conv2d(x, line, stride=(1, down), groups=channels)
    return F.conv2d(x, line.transpose(2, 3), stride=(down, 1), groups=channels)


def normalize_2nd_moment(x: Tensor, eps: float = 1e-8) -> Tensor:
    """Scale every row of [N, C] to mean square 1."""
    return x * (x.square().mean(dim=1, keepdim=True) + eps).rsqrt()


def truncate(ws: Tensor, w_avg: Tensor, truncation_psi: float, truncation_cutoff: int | None) -> Tensor:
    """Pull the leading layers of ws [N, num_ws, w_dim] towards w_avg [w_dim]."""
    near = w_avg.lerp(ws, truncation_psi)
    if truncation_cutoff is None:
        return near
    return torch.cat([near[:, :truncation_cutoff], ws[:, truncation_cutoff:]], dim=1)


def minibatch_stddev(x: Tensor, group_size: int | None, num_channels: int = 1) -> Tensor:
    """Append `num_channels` maps with the standard deviation over groups of the batch.

    Args:
        x: [N, C, H, W]; N must be a multiple of the group size.
        group_size: Samples in a group (at most N), or None for the whole batch.
        num_channels: Number of statistics.

    Source: Karras et al., "Progressive Growing of GANs" (2018), section 3.
    """
    n, channels, height, width = x.shape
    group = n if group_size is None else min(group_size, n)
    y = x.reshape(group, -1, num_channels, channels // num_channels, height, width)
    y = (y - y.mean(dim=0)).square().mean(dim=0)
    y = (y + 1e-8).sqrt().mean(dim=[2, 3, 4])  # [N / group, num_channels]
    y = y.reshape(-1, num_channels, 1, 1).repeat(group, 1, height, width)
    return torch.cat([x, y], dim=1)
