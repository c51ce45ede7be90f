"""Adaptive augmentation: distorts what the discriminator sees with probability p, so that few pictures last.

Owns the 15 distortions and how they are drawn. Does not know how p is controlled (the training
loop does that), what the networks are, or where pictures come from.

All geometry becomes one matrix per picture and is resampled once, between an orthogonal low-pass
upsampling and downsampling; all colour becomes another matrix. Everything is differentiable, twice
with respect to the pictures (R1 runs through it).

Source: Karras et al., "Training Generative Adversarial Networks with Limited Data" (2020), app. B.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Orthogonal wavelet low-pass filters (Daubechies, "symlets"), sum sqrt(2).
SYM2 = (-0.12940952255092145, 0.22414386804185735, 0.836516303737469, 0.48296291314469025)
SYM6 = (
    0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633,
    0.4910559419267466, 0.787641141030194, 0.3379294217276218, -0.07263752278646252,
    -0.021060292512300564, 0.04472490177066578, 0.0017677118642428036, -0.007800708325034148,
)  # fmt: skip
BAND_POWER = (10 / 13, 1 / 13, 1 / 13, 1 / 13)  # of natural pictures, app. B, "Image-space filtering"
BGC: dict[str, float] = dict.fromkeys(
    (
        "xflip", "rotate90", "xint", "scale", "rotate", "aniso", "xfrac",
        "brightness", "contrast", "lumaflip", "hue", "saturation",
    ),
    1.0,
)  # fmt: skip


class AugmentPipe(nn.Module):
    """Distorts pictures; each kind is switched on by a strength (0 = off, 1 = with probability p).

    Attributes:
        p: Overall probability, float32 scalar buffer in [0, 1]; 0 returns the input unchanged.

    Example:
        >>> pipe = AugmentPipe(**BGC)
        >>> images = torch.zeros(2, 3, 16, 16)
        >>> pipe(images) is images
        True
    """

    p: Tensor
    geometry_taps: Tensor
    filter_bank: Tensor

    def __init__(
        self,
        xflip: float = 0,
        rotate90: float = 0,
        xint: float = 0,
        xint_max: float = 0.125,
        scale: float = 0,
        rotate: float = 0,
        aniso: float = 0,
        xfrac: float = 0,
        scale_std: float = 0.2,
        rotate_max: float = 1,
        aniso_std: float = 0.2,
        xfrac_std: float = 0.125,
        brightness: float = 0,
        contrast: float = 0,
        lumaflip: float = 0,
        hue: float = 0,
        saturation: float = 0,
        brightness_std: float = 0.2,
        contrast_std: float = 0.5,
        hue_max: float = 1,
        saturation_std: float = 1,
        imgfilter: float = 0,
        imgfilter_bands: Sequence[float] = (1, 1, 1, 1),
        imgfilter_std: float = 1,
        noise: float = 0,
        cutout: float = 0,
        noise_std: float = 0.1,
        cutout_size: float = 0.5,
    ) -> None:
        """Set strengths and ranges.

        Args:
            xflip: Strength of mirroring.
            rotate90: Strength of turns by whole right angles.
            xint: Strength of shifts by whole pixels.
            xint_max: Greatest shift, share of the side.
            scale: Strength of zooming.
            rotate: Strength of turns by any angle.
            aniso: Strength of stretching.
            xfrac: Strength of shifts by parts of pixels.
            scale_std: Spread of log2 of the zoom.
            rotate_max: Greatest turn, 1 = half a circle.
            aniso_std: Spread of log2 of the stretch.
            xfrac_std: Spread of the shift, share of the side.
            brightness: Strength of brightness changes.
            contrast: Strength of contrast changes.
            lumaflip: Strength of inverting lightness but not hue.
            hue: Strength of hue turns.
            saturation: Strength of saturation changes.
            brightness_std: Spread of the brightness.
            contrast_std: Spread of log2 of the contrast.
            hue_max: Greatest hue turn, 1 = half a circle.
            saturation_std: Spread of log2 of the saturation.
            imgfilter: Strength of making frequency bands stronger or weaker.
            imgfilter_bands: Strength of each of the four bands, lowest first.
            imgfilter_std: Spread of log2 of a band's gain.
            noise: Strength of added noise.
            cutout: Strength of blanking a square.
            noise_std: Spread of the noise's own spread.
            cutout_size: Side of the square, share of the side.
        """
        super().__init__()
        self.xflip, self.rotate90 = float(xflip), float(rotate90)
        self.xint, self.xint_max = float(xint), float(xint_max)
        self.scale, self.scale_std = float(scale), float(scale_std)
        self.rotate, self.rotate_max = float(rotate), float(rotate_max)
        self.aniso, self.aniso_std = float(aniso), float(aniso_std)
        self.xfrac, self.xfrac_std = float(xfrac), float(xfrac_std)
        self.brightness, self.brightness_std = float(brightness), float(brightness_std)
        self.contrast, self.contrast_std = float(contrast), float(contrast_std)
        self.lumaflip = float(lumaflip)
        self.hue, self.hue_max = float(hue), float(hue_max)
        self.saturation, self.saturation_std = float(saturation), float(saturation_std)
        self.imgfilter, self.imgfilter_std = float(imgfilter), float(imgfilter_std)
        self.imgfilter_bands = tuple(float(strength) for strength in imgfilter_bands)
        self.noise, self.noise_std = float(noise), float(noise_std)
        self.cutout, self.cutout_size = float(cutout), float(cutout_size)
        taps = torch.tensor(SYM6, dtype=torch.float64)
        self.register_buffer("p", torch.zeros(()))
        self.register_buffer("geometry_taps", (taps / taps.sum()).float(), persistent=False)
        self.register_buffer("filter_bank", build_filter_bank().float(), persistent=False)

    def forward(
        self,
        images: Tensor,
        debug_percentile: float | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Distort each picture on its own.

        Args:
            images: float [N, C, H, W], about [-1, 1]; C is 3 (or 1).
            debug_percentile: Instead of drawing, take this percentile in [0, 1] of every distribution.
            generator: Decides the draws, on the pictures' device; None = the global one.

        Returns:
            Pictures of the same shape, dtype and memory format; the very input when p is 0.
        """
        p = float(self.p)
        if p == 0:
            return images
        dtype, images = images.dtype, images.float()  # half precision is too coarse for places
        draw = _Draw(images, p, debug_percentile, generator)
        geometry = self._draw_geometry(draw, images.shape[3], images.shape[2])
        if geometry is not None:
            images = _resample(images, geometry, self.geometry_taps)
        color = self._draw_color(draw)
        if color is not None:
            images = _recolor(images, color)
        if self.imgfilter > 0:
            gains = self._draw_band_gains(draw)
            images = _filter_each(images, gains @ self.filter_bank.to(gains))
        if self.noise > 0:
            images = self._add_noise(images, draw)
        if self.cutout > 0:
            images = self._cut_square(images, draw)
        return images.to(dtype)

    def _draw_geometry(self, draw: "_Draw", width: int, height: int) -> Tensor | None:
        """Return the map from output to input pixels about the centre, float32 [N, 3, 3], or None."""
        size = torch.full([2], float(width), device=draw.device)
        size[1:].fill_(float(height))
        steps: list[Tensor] = []
        if self.xflip > 0:
            flips = draw.gated(torch.floor(draw.uniform() * 2), self.xflip, 0)
            steps.append(_scaling(1 - 2 * flips, torch.ones_like(flips)))
        if self.rotate90 > 0:
            turns = draw.gated(torch.floor(draw.uniform() * 4), self.rotate90, 0)
            steps.append(_rotation(turns * (math.pi / 2)))
        if self.xint > 0:
            shift = (draw.uniform(2) * 2 - 1) * self.xint_max
            steps.append(_translation(-torch.round(draw.gated(shift, self.xint, 0) * size)))
        if self.scale > 0:
            zoom = draw.gated(torch.exp2(draw.normal() * self.scale_std), self.scale, 1)
            steps.append(_scaling(1 / zoom, 1 / zoom))
        steps += self._draw_turns_and_stretch(draw)
        if self.xfrac > 0:
            shift = draw.gated(draw.normal(2) * self.xfrac_std, self.xfrac, 0)
            steps.append(_translation(-shift * size))
        return _chain(steps)

    def _draw_turns_and_stretch(self, draw: "_Draw") -> list[Tensor]:
        """Return a turn, a stretch and another turn; together the turns happen with probability p."""
        # 1 - (1 - p_rot)^2 = p, app. B
        p_rotate = 1 - (1 - draw.share(self.rotate)) ** 0.5
        steps: list[Tensor] = []
        if self.rotate > 0:
            angle = (draw.uniform() * 2 - 1) * (math.pi * self.rotate_max)
            steps.append(_rotation(draw.gated_at(angle, p_rotate, 0)))
        if self.aniso > 0:
            stretch = draw.gated(torch.exp2(draw.normal() * self.aniso_std), self.aniso, 1)
            steps.append(_scaling(1 / stretch, stretch))
        if self.rotate > 0 and draw.percentile is None:
            angle = (draw.uniform() * 2 - 1) * (math.pi * self.rotate_max)
            steps.append(_rotation(draw.gated_at(angle, p_rotate, 0)))
        return steps

    def _draw_color(self, draw: "_Draw") -> Tensor | None:
        """Return an affine map of RGB, transposed for row vectors, float32 [N, 4, 4], or None."""
        eye = torch.eye(4, device=draw.device)
        gray = torch.full([4], 1 / math.sqrt(3), device=draw.device)
        gray[3:].zero_()
        along = torch.outer(gray, gray)  # projects on the gray axis
        steps: list[Tensor] = []
        if self.brightness > 0:
            offset = draw.gated(draw.normal() * self.brightness_std, self.brightness, 0)
            steps.append(eye + offset[:, None, None] * _unit_offset(draw.device))
        if self.contrast > 0:
            gain = draw.gated(torch.exp2(draw.normal() * self.contrast_std), self.contrast, 1)
            scales = torch.stack([gain, gain, gain, torch.ones_like(gain)], dim=1)
            steps.append(torch.diag_embed(scales))
        if self.lumaflip > 0:
            flips = draw.gated(torch.floor(draw.uniform() * 2), self.lumaflip, 0)
            steps.append(eye - 2 * flips[:, None, None] * along)  # Householder reflection
        if self.hue > 0:
            angle = (draw.uniform() * 2 - 1) * (math.pi * self.hue_max)
            steps.append(_gray_axis_rotation(draw.gated(angle, self.hue, 0)))
        if self.saturation > 0:
            gain = draw.gated(torch.exp2(draw.normal() * self.saturation_std), self.saturation, 1)
            steps.append(along + (eye - along) * gain[:, None, None])
        return _chain([step.transpose(1, 2) for step in steps])

    def _draw_band_gains(self, draw: "_Draw") -> Tensor:
        """Return gains of the four frequency bands that keep the power of natural pictures, [N, 4]."""
        power = torch.tensor(BAND_POWER, device=draw.device)
        gains = torch.ones(draw.count, len(BAND_POWER), device=draw.device)
        for band, strength in enumerate(self.imgfilter_bands):
            gain = torch.exp2(draw.normal() * self.imgfilter_std)
            one = torch.ones_like(gains)
            one[:, band] = draw.gated(gain, self.imgfilter * strength, 1)
            gains = gains * one / (power * one.square()).sum(dim=1, keepdim=True).sqrt()
        return gains

    def _add_noise(self, images: Tensor, draw: "_Draw") -> Tensor:
        sigma = draw.gated(draw.half_normal() * self.noise_std, self.noise, 0)
        return images + draw.field(images) * sigma[:, None, None, None].to(images)

    def _cut_square(self, images: Tensor, draw: "_Draw") -> Tensor:
        height, width = images.shape[2:]
        size = torch.full((draw.count,), self.cutout_size, device=draw.device)
        half = draw.gated(size, self.cutout, 0)[:, None] / 2
        center = draw.uniform(2)
        xs = (torch.arange(width, device=draw.device) + 0.5) / width
        ys = (torch.arange(height, device=draw.device) + 0.5) / height
        keeps_x = (xs - center[:, :1]).abs() >= half  # [N, W]
        keeps_y = (ys - center[:, 1:]).abs() >= half  # [N, H]
        return images * (keeps_x[:, None, None, :] | keeps_y[:, None, :, None]).to(images)


class SteadyAugmentPipe(AugmentPipe):
    """The same draws as `AugmentPipe`, without waiting for the device: a CUDA graph can hold it.

    `p` is read on the device, and pictures are looked up bilinearly in their mirrored surroundings, without
    the low-pass filters. Real and made pictures go through the same, so nothing leaks.
    """

    def forward(
        self,
        images: Tensor,
        debug_percentile: float | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Distort each picture of float [N, 3, S, S] on its own; see `AugmentPipe.forward`."""
        size = images.shape[2]
        draw = _Draw(images, self.p, debug_percentile, generator)
        geometry = self._draw_geometry(draw, size, size)
        if geometry is not None:
            shift = geometry[:, :2, 2:] / (size / 2)
            grid = F.affine_grid(
                torch.cat([geometry[:, :2, :2], shift], dim=2), list(images.shape), align_corners=False
            )
            images = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
        color = self._draw_color(draw)
        return images if color is None else _recolor(images, color)


class _Draw:
    """Random numbers for a batch, or one percentile of their distributions."""

    def __init__(
        self, images: Tensor, p: float | Tensor, percentile: float | None, generator: torch.Generator | None
    ) -> None:
        self.count, self.device, self.p = images.shape[0], images.device, p
        self.percentile, self.generator = percentile, generator

    def _shape(self, columns: int | None) -> tuple[int, ...]:
        return (self.count,) if columns is None else (self.count, columns)

    def uniform(self, columns: int | None = None) -> Tensor:
        """Draw from [0, 1): float32 [N] or [N, columns]."""
        if self.percentile is not None:
            return torch.full(self._shape(columns), float(self.percentile), device=self.device)
        return torch.rand(self._shape(columns), device=self.device, generator=self.generator)

    def normal(self, columns: int | None = None) -> Tensor:
        """Draw standard normal numbers: float32 [N] or [N, columns]."""
        if self.percentile is not None:
            # The convention of the public vectors: erfinv without the factor sqrt(2).
            return torch.erfinv(self.uniform(columns) * 2 - 1)
        return torch.randn(self._shape(columns), device=self.device, generator=self.generator)

    def half_normal(self) -> Tensor:
        """Draw |standard normal|: float32 [N]."""
        return self.normal().abs() if self.percentile is None else torch.erfinv(self.uniform()).abs()

    def field(self, like: Tensor) -> Tensor:
        """Draw a standard normal number for each value of a batch of pictures."""
        return torch.randn(like.shape, device=self.device, dtype=like.dtype, generator=self.generator)

    def gated(self, values: Tensor, strength: float, neutral: float) -> Tensor:
        """Keep each picture's value with probability strength x p, else take the neutral one."""
        return self.gated_at(values, self.share(strength), neutral)

    def share(self, strength: float) -> float | Tensor:
        """Return strength x p, at most 1."""
        share = strength * self.p
        return share.clamp(0, 1) if isinstance(share, Tensor) else min(max(share, 0.0), 1.0)

    def gated_at(self, values: Tensor, probability: float | Tensor, neutral: float) -> Tensor:
        """Keep each picture's value with this probability, else take the neutral one."""
        if self.percentile is not None:
            return values if probability > 0 else torch.full_like(values, neutral)
        gate = torch.rand((self.count,), device=self.device, generator=self.generator) < probability
        gate = gate.reshape(-1, *([1] * (values.ndim - 1)))
        return torch.where(gate, values, torch.full_like(values, neutral))


# --- matrices ------------------------------------------------------------------------------


def _chain(steps: Sequence[Tensor]) -> Tensor | None:
    """Multiply from the left to the right: a row vector meets the first step first, a column the last."""
    if not steps:
        return None
    product = steps[0]
    for step in steps[1:]:
        product = product @ step
    return product


def _matrix(rows: Sequence[Sequence[Tensor]]) -> Tensor:
    return torch.stack([torch.stack(list(row), dim=-1) for row in rows], dim=-2)  # [N, 3, 3]


def _translation(shift: Tensor) -> Tensor:
    one, zero = torch.ones_like(shift[:, 0]), torch.zeros_like(shift[:, 0])
    return _matrix([[one, zero, shift[:, 0]], [zero, one, shift[:, 1]], [zero, zero, one]])


def _scaling(x: Tensor, y: Tensor) -> Tensor:
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    return _matrix([[x, zero, zero], [zero, y, zero], [zero, zero, one]])


def _rotation(angle: Tensor) -> Tensor:
    one, zero = torch.ones_like(angle), torch.zeros_like(angle)
    cos, sin = angle.cos(), angle.sin()
    return _matrix([[cos, -sin, zero], [sin, cos, zero], [zero, zero, one]])


def _unit_offset(device: torch.device) -> Tensor:
    """Return the 4x4 matrix that moves every channel by 1 of the homogeneous coordinate."""
    offset = torch.zeros(4, 4, device=device)
    offset[:3, 3].fill_(1)
    return offset


def _gray_axis_rotation(angle: Tensor) -> Tensor:
    """Turn RGB about the gray axis (Rodrigues), [N, 4, 4]."""
    k = 1 / math.sqrt(3)
    cross = torch.zeros(4, 4, device=angle.device)
    for row, column, value in ((0, 1, -k), (0, 2, k), (1, 0, k), (1, 2, -k), (2, 0, -k), (2, 1, k)):
        cross[row, column].fill_(value)
    sin, cos = angle.sin()[:, None, None], angle.cos()[:, None, None]
    eye = torch.eye(4, device=angle.device)
    return eye + sin * cross + (1 - cos) * (cross @ cross)


# --- geometry ------------------------------------------------------------------------------


def _resample(images: Tensor, inverse: Tensor, taps: Tensor) -> Tensor:
    """Resample the batch at once, or on a CPU one by one, where small margins pay more than batches.

    Arguments as for `_resample_batch`.
    """
    if images.device.type != "cpu":
        return _resample_batch(images, inverse, taps).contiguous(memory_format=_memory_format(images))
    eye = torch.eye(3)
    parts = [
        image if torch.equal(matrix[0], eye) else _resample_batch(image, matrix, taps)
        for image, matrix in zip(images.split(1), inverse.expand(len(images), 3, 3).split(1), strict=True)
    ]
    return torch.cat(parts).contiguous(memory_format=_memory_format(images))


def _resample_batch(images: Tensor, inverse: Tensor, taps: Tensor) -> Tensor:
    """Look up each output pixel at `inverse` times its place, without aliasing.

    Args:
        images: float [N, C, H, W].
        inverse: Output to input in pixels, origin at the picture's centre, float32 [N, 3, 3].
        taps: Low-pass filter, [T], sum 1.
    """
    height, width = images.shape[2:]
    reach = taps.numel() // 4
    left, top, right, bottom = _find_margins(inverse, width, height, 2 * reach)
    padded = F.pad(images, (left, right, top, bottom), mode="reflect")
    padded = padded.contiguous(memory_format=torch.channels_last)  # depthwise convolutions: 7x on a CPU
    fine = _upsample(padded, taps)
    # Places of the fine output grid, in coarse pixels about the centre; pixel i sits at (i + 0.5) / 2.
    out_width, out_height = 2 * (width + 2 * reach), 2 * (height + 2 * reach)
    xs = (torch.arange(out_width, device=images.device) + 0.5 - out_width / 2) / 2
    ys = (torch.arange(out_height, device=images.device) + 0.5 - out_height / 2) / 2
    quarter = 0.25  # a fine pixel's centre lies a quarter of a coarse pixel off the coarse one's
    grid_y, grid_x = torch.meshgrid(ys + quarter, xs + quarter, indexing="ij")
    places = torch.stack([grid_x, grid_y, torch.ones_like(grid_x)]).flatten(1)  # [3, h*w]
    found = inverse[:, :2] @ places - quarter  # [N, 2, h*w]
    middle = torch.tensor([left - right, top - bottom], device=images.device).float() / 2
    extent = torch.tensor([padded.shape[3], padded.shape[2]], device=images.device).float() / 2
    found = (found + middle[:, None]) / extent[:, None]
    grid = found.transpose(1, 2).reshape(-1, out_height, out_width, 2).to(images.dtype)
    sampled: Tensor = _GridSample.apply(fine, grid)
    return _downsample(sampled, taps, crop=_crop_of(taps))


def _crop_of(taps: Tensor) -> int:
    """Return what the filter leaves over of the extra margin, in fine pixels at each side."""
    return 2 * (taps.numel() // 4) - (taps.numel() - 2) // 2


def _find_margins(inverse: Tensor, width: int, height: int, extra: int) -> tuple[int, int, int, int]:
    """Return how much to mirror at left, top, right and bottom so that look-ups stay inside."""
    cx, cy = (width - 1) / 2, (height - 1) / 2
    corners = torch.tensor([[-cx, cx, cx, -cx], [-cy, -cy, cy, cy], [1, 1, 1, 1]], device=inverse.device)
    found = (inverse @ corners)[:, :2]  # [N, 2, 4]
    low, high = -found.amin(dim=(0, 2)), found.amax(dim=(0, 2))
    need = torch.stack([low[0] - cx, low[1] - cy, high[0] - cx, high[1] - cy]) + extra
    most = (width - 1, height - 1, width - 1, height - 1)
    left, top, right, bottom = (
        min(max(math.ceil(value), 0), limit) for value, limit in zip(need.tolist(), most, strict=True)
    )
    return left, top, right, bottom


def _upsample(images: Tensor, taps: Tensor) -> Tensor:
    """Double the size: zeros between the pixels, then the filter, gain 2 per axis."""
    channels, pad = images.shape[1], (taps.numel() - 2) // 2
    kernel = (2 * taps).to(images.dtype)
    across = kernel[None, None, None, :].repeat(channels, 1, 1, 1)
    images = F.conv_transpose2d(images, across, stride=(1, 2), padding=(0, pad), groups=channels)
    down = across.transpose(2, 3)
    return F.conv_transpose2d(images, down, stride=(2, 1), padding=(pad, 0), groups=channels)


def _downsample(images: Tensor, taps: Tensor, crop: int) -> Tensor:
    """Crop, filter (mirrored, so that it undoes `_upsample`) and keep every other pixel."""
    channels = images.shape[1]
    images = images[:, :, crop:-crop, crop:-crop]
    across = taps.to(images.dtype)[None, None, None, :].repeat(channels, 1, 1, 1)
    images = F.conv2d(images, across, stride=(1, 2), groups=channels)
    return F.conv2d(images, across.transpose(2, 3), stride=(2, 1), groups=channels)


class _GridSample(torch.autograd.Function):
    """Bilinear look-up, differentiable any number of times in the pictures but not in the grid."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.shape = images.shape
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (grid,) = ctx.saved_tensors
        return _GridScatter.apply(grads[0], grid, ctx.shape), None


class _GridScatter(torch.autograd.Function):
    """The transpose of `_GridSample`; its own transpose is the look-up again."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, grid: Tensor, shape: torch.Size) -> Tensor:
        ctx.save_for_backward(grid)
        blank = grad.new_empty(1).expand(shape)  # only its shape is read
        op = torch.ops.aten.grid_sampler_2d_backward
        result: Tensor = op(grad, blank, grid, 0, 0, False, [True, False])[0]
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (grid,) = ctx.saved_tensors
        return _GridSample.apply(grads[0], grid), None, None


# --- colour and frequency ------------------------------------------------------------------


def _recolor(images: Tensor, transposed: Tensor) -> Tensor:
    """Apply one affine map of RGB per picture.

    Args:
        images: float [N, C, H, W]; one channel takes the mean of the map's rows.
        transposed: The maps, transposed, [N, 4, 4].
    """
    color = transposed.transpose(1, 2).to(images)[:, :3]  # [N, 3, 4]
    matrix, offset = color[:, :, :3], color[:, :, 3]
    if images.shape[1] == 1:
        gain = matrix.sum(dim=2).mean(dim=1)
        return images * gain[:, None, None, None] + offset.mean(dim=1)[:, None, None, None]
    mixed = torch.einsum("nij,njhw->nihw", matrix, images) + offset[:, :, None, None]
    return mixed.contiguous(memory_format=_memory_format(images))


def _memory_format(images: Tensor) -> torch.memory_format:
    is_last = images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()
    return torch.channels_last if is_last else torch.contiguous_format


def build_filter_bank() -> Tensor:
    """Return four zero-phase band-pass filters that add up to the identity, float64 [4, T].

    Band 0 is the lowest. Each octave is split by the SYM2 pair applied forwards and backwards.
    """
    low = torch.tensor(SYM2, dtype=torch.float64)
    high = low * torch.tensor([1.0, -1, 1, -1], dtype=torch.float64)
    low2, high2 = (_convolve(taps, taps.flip(0)) / 2 for taps in (low, high))  # [7]
    bank = [torch.ones(1, dtype=torch.float64)]
    for _ in range(1, len(BAND_POWER)):
        bank = [_convolve(_spread(taps), low2) for taps in bank]
        side = (bank[0].numel() - high2.numel()) // 2
        bank.append(F.pad(high2, (side, side)))
    return torch.stack(bank)


def _spread(taps: Tensor) -> Tensor:
    """Put a zero between neighbours."""
    out = taps.new_zeros(2 * taps.numel() - 1)
    out[::2] = taps
    return out


def _convolve(a: Tensor, b: Tensor) -> Tensor:
    full = F.conv1d(a[None, None], b.flip(0)[None, None], padding=b.numel() - 1)
    return full[0, 0]


def _filter_each(images: Tensor, taps: Tensor) -> Tensor:
    """Filter every picture with its own taps [N, T] along both axes, edges mirrored."""
    count, channels, height, width = images.shape
    pad = taps.shape[1] // 2
    kernel = taps.to(images.dtype).repeat_interleave(channels, dim=0)[:, None, None, :]  # [N*C,1,1,T]
    flat = F.pad(images, (pad, pad, pad, pad), mode="reflect")
    flat = flat.reshape(1, count * channels, *flat.shape[2:])
    flat = F.conv2d(flat, kernel, groups=count * channels)
    flat = F.conv2d(flat, kernel.transpose(2, 3), groups=count * channels)
    mixed = flat.reshape(count, channels, height, width)
    return mixed.contiguous(memory_format=_memory_format(images))
