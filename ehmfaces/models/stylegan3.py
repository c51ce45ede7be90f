"""StyleGAN3 (T and R): the alias-free generator, with the parameter names of the public checkpoints.

Owns the network, the design of its filters and its configuration (the constructor keywords are the
config). R is T with `conv_kernel=1`, `use_radial_filters=True` and twice the channels. It is trained
against the discriminator of StyleGAN2. Knows tensors only: no seeds, no files, no pictures.

Source: Karras et al., "Alias-Free Generative Adversarial Networks" (2021).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from ehmfaces.models.ops import (
    LRELU_SLOPE,
    SQRT_2,
    bias_act,
    filtered_lrelu,
    is_eager_inference,
    normalize_2nd_moment,
    truncate,
)

FIRST_STOPBAND = 2**2.1
LAST_STOPBAND_REL = 2**0.3
PIECE_CHANNELS = 32  # on the CPU: what a layer makes at a time; measured best of 16 to 512


def make_transform(rotation_deg: float = 0.0, translation: Sequence[float] = (0.0, 0.0)) -> Tensor:
    """Return the input transform float32 [3, 3] that turns and then shifts the picture.

    Args:
        rotation_deg: Degrees; positive turns the picture's x axis towards minus y, as in the public tools.
        translation: (x, y) in picture widths; positive is right and down.
    """
    angle = math.radians(rotation_deg)
    cos, sin = math.cos(angle), math.sin(angle)
    picture = np.array([[cos, sin, translation[0]], [-sin, cos, translation[1]], [0, 0, 1]])
    # The features are looked up where the picture's points come from: the inverse.
    return torch.from_numpy(np.linalg.inv(picture)).float()


def design_lowpass_filter(
    taps: int, cutoff: float, width: float, sampling_rate: float, radial: bool = False
) -> Tensor | None:
    """Return a Kaiser-windowed low-pass filter of sum 1: float32 [taps], or [taps, taps] when radial.

    Args:
        taps: Length; 1 = no filter (None).
        cutoff: Edge of the pass band in cycles per picture.
        width: Transition band, cycles per picture.
        sampling_rate: Pixels per picture.
        radial: Whether the filter is rotationally symmetric instead of separable.

    Source: "Alias-Free Generative Adversarial Networks", appendix C; Kaiser, "Nonrecursive Digital Filter
    Design Using the I0-sinh Window Function" (1974).
    """
    if taps == 1:
        return None
    window = np.kaiser(taps, _kaiser_beta(taps, width / (sampling_rate / 2)))
    position = (np.arange(taps) - (taps - 1) / 2) / sampling_rate
    if not radial:
        line = np.sinc(2 * cutoff * position) * window
        return torch.from_numpy(line / line.sum()).float()
    radius = torch.from_numpy(math.pi * np.hypot(position[:, None], position[None, :]))
    # The limit of J1(2 c r) / r at the centre, which only an odd number of taps hits, is c.
    disc = torch.where(radius > 0, torch.special.bessel_j1(2 * cutoff * radius) / radius, cutoff)
    kernel = disc * torch.from_numpy(np.outer(window, window))
    return (kernel / kernel.sum()).float()


def _kaiser_beta(taps: int, width: float) -> float:
    """Return the window's shape for a transition band as a share of the Nyquist frequency."""
    attenuation = 2.285 * (taps - 1) * math.pi * width + 7.95  # dB
    if attenuation > 50:
        return 0.1102 * (attenuation - 8.7)
    if attenuation > 21:
        return 0.5842 * (attenuation - 21) ** 0.4 + 0.07886 * (attenuation - 21)
    return 0.0


@dataclass(frozen=True)
class Signal:
    """The features between two layers.

    Attributes:
        channels: Number of maps.
        size: Pixels along each side, margin included.
        sampling_rate: Pixels per picture side.
        cutoff: Edge of the pass band, cycles per picture.
        half_width: Half of the transition band, cycles per picture.
    """

    channels: int
    size: int
    sampling_rate: int
    cutoff: float
    half_width: float


def plan_signals(
    img_resolution: int,
    img_channels: int,
    channel_base: float,
    channel_max: float,
    num_layers: int,
    num_critical: int,
    first_cutoff: float,
    first_stopband: float,
    last_stopband_rel: float,
    margin_size: int,
) -> list[Signal]:
    """Return what leaves each of the `num_layers + 1` layers (the first entry also enters layer 0).

    Raises:
        ValueError: No layer would be left to grow.

    Source: "Alias-Free Generative Adversarial Networks", section 3.2 and figure 4.
    """
    if not 0 <= num_critical < num_layers:
        raise ValueError(f"num_critical {num_critical} is not a number from 0 to below {num_layers} layers.")
    last_cutoff = img_resolution / 2
    last_stopband = last_cutoff * last_stopband_rel
    progress = np.minimum(np.arange(num_layers + 1) / (num_layers - num_critical), 1)
    cutoffs = first_cutoff * (last_cutoff / first_cutoff) ** progress
    stopbands = first_stopband * (last_stopband / first_stopband) ** progress
    rates = np.exp2(np.ceil(np.log2(np.minimum(stopbands * 2, img_resolution))))
    half_widths = np.maximum(stopbands, rates / 2) - cutoffs
    sizes = rates + margin_size * 2
    sizes[-2:] = img_resolution
    channels = np.rint(np.minimum((channel_base / 2) / cutoffs, channel_max))
    channels[-1] = img_channels
    rows = zip(channels, sizes, rates, cutoffs, half_widths, strict=True)
    return [Signal(int(c), int(s), int(r), float(f), float(h)) for c, s, r, f, h in rows]


class Float32Buffers(nn.Module):
    """A module whose own buffers stay float32 when it is cast: filters and frequencies need the digits."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        kept = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, old in kept.items():
            new = self._buffers[name]
            if old is not None and new is not None and new.dtype != torch.float32:
                self._buffers[name] = new.float() if old.is_meta else old.to(new.device)
        return self


class FullyConnectedLayer(nn.Module):
    """Linear layer with equalised learning rate."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        activation: str = "linear",
        lr_multiplier: float = 1.0,
        weight_init: float = 1.0,
        bias_init: float | Sequence[float] = 0.0,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.weight = nn.Parameter(torch.randn(out_features, in_features) * (weight_init / lr_multiplier))
        bias = torch.as_tensor(bias_init, dtype=torch.float32).expand(out_features)
        self.bias = nn.Parameter(bias / lr_multiplier)
        self.weight_gain = lr_multiplier / math.sqrt(in_features)
        self.bias_gain = lr_multiplier

    def forward(self, x: Tensor) -> Tensor:
        """[N, in_features] to [N, out_features]."""
        x = F.linear(x.to(self.weight.dtype) * self.weight_gain, self.weight, self.bias * self.bias_gain)
        return bias_act(x, None, self.activation)


class MappingNetwork(nn.Module):
    """z and c to w."""

    w_avg: Tensor

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        num_ws: int,
        num_layers: int = 2,
        lr_multiplier: float = 0.01,
        w_avg_beta: float | None = 0.998,
    ) -> None:
        super().__init__()
        self.z_dim, self.c_dim, self.w_dim, self.num_ws = z_dim, c_dim, w_dim, num_ws
        self.num_layers, self.w_avg_beta = num_layers, w_avg_beta
        if c_dim > 0:
            self.embed = FullyConnectedLayer(c_dim, w_dim)
        sizes = [z_dim + (w_dim if c_dim > 0 else 0)] + [w_dim] * num_layers
        for index in range(num_layers):
            layer = FullyConnectedLayer(sizes[index], sizes[index + 1], "lrelu", lr_multiplier)
            setattr(self, f"fc{index}", layer)
        self.register_buffer("w_avg", torch.zeros(w_dim))

    def forward(
        self,
        z: Tensor,
        c: Tensor | None = None,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        update_emas: bool = False,
    ) -> Tensor:
        """Return ws [N, num_ws, w_dim].

        Args:
            z: [N, z_dim].
            c: [N, c_dim], or None for a network without labels.
            truncation_psi: 1 = off, 0 = the average face.
            truncation_cutoff: Number of leading layers that are truncated; None = all.
            update_emas: Whether this batch moves `w_avg`.
        """
        w = normalize_2nd_moment(z.float())
        if self.c_dim > 0:
            assert c is not None, "a conditional network needs labels"
            w = torch.cat([w, normalize_2nd_moment(self.embed(c.float()))], dim=1)
        for index in range(self.num_layers):
            w = getattr(self, f"fc{index}")(w)
        if update_emas and self.w_avg_beta is not None:
            self.w_avg.copy_(torch.lerp(w.detach().mean(dim=0), self.w_avg, self.w_avg_beta))
        ws = w[:, None].repeat(1, self.num_ws, 1)  # [N, num_ws, w_dim]
        return truncate(ws, self.w_avg, truncation_psi, truncation_cutoff) if truncation_psi != 1 else ws


class SynthesisInput(Float32Buffers):
    """Fourier features of the plane, which w and `transform` turn and shift."""

    transform: Tensor
    freqs: Tensor
    phases: Tensor

    def __init__(self, w_dim: int, channels: int, size: int, sampling_rate: int, bandwidth: float) -> None:
        super().__init__()
        self.w_dim, self.channels, self.size = w_dim, channels, [size, size]
        self.sampling_rate, self.bandwidth = sampling_rate, bandwidth
        freqs = torch.randn(channels, 2)
        radii = freqs.square().sum(dim=1, keepdim=True).sqrt()
        # A Gaussian becomes nearly uniform on the disc of the bandwidth.
        freqs = freqs / (radii * radii.square().exp().pow(0.25)) * bandwidth
        self.weight = nn.Parameter(torch.randn(channels, channels))
        self.affine = FullyConnectedLayer(w_dim, 4, weight_init=0, bias_init=(1, 0, 0, 0))
        self.register_buffer("transform", torch.eye(3))
        self.register_buffer("freqs", freqs)
        self.register_buffer("phases", torch.rand(channels) - 0.5)

    def forward(self, w: Tensor, transform: Tensor | None = None) -> Tensor:
        """Return features float32 [N, channels, size, size].

        Args:
            w: [N, w_dim].
            transform: [3, 3] or [N, 3, 3] from `make_transform`; None = the stored one.
        """
        placed = self._placement(w) @ (self.transform if transform is None else transform.to(w.device))
        freqs = self.freqs @ placed[:, :2, :2]  # [N, channels, 2]
        phases = self.phases + (self.freqs @ placed[:, :2, 2:]).squeeze(2)  # [N, channels]
        # Frequencies that the transform pushes beyond the band fade out.
        beyond = (freqs.norm(dim=2) - self.bandwidth) / (self.sampling_rate / 2 - self.bandwidth)
        amplitudes = (1 - beyond).clamp(0, 1)[:, None]
        waves = self._grid(w.device) @ freqs.transpose(1, 2) + phases[:, None]  # [N, size * size, channels]
        waves = (waves * (2 * math.pi)).sin() * amplitudes
        mixed = waves @ (self.weight.float() / math.sqrt(self.channels)).t()
        return mixed.unflatten(1, (self.size[1], self.size[0])).permute(0, 3, 1, 2)  # channels_last

    def _placement(self, w: Tensor) -> Tensor:
        """Return the rotation and shift [N, 3, 3] that w asks for."""
        t = self.affine(w).float()
        cos, sin, x, y = (t / t[:, :2].norm(dim=1, keepdim=True)).unbind(dim=1)
        zero, one = torch.zeros_like(x), torch.ones_like(x)
        turn = torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], dim=1).reshape(-1, 3, 3)
        shift = torch.stack([one, zero, -x, zero, one, -y, zero, zero, one], dim=1).reshape(-1, 3, 3)
        return turn @ shift

    def _grid(self, device: torch.device) -> Tensor:
        """Return the pixels' centres [size * size, 2] in picture widths, (x, y), the centre at 0."""
        line = torch.arange(self.size[0], device=device, dtype=torch.float32)
        line = (line + (0.5 - self.size[0] / 2)) / self.sampling_rate
        y, x = torch.meshgrid(line, line, indexing="ij")
        return torch.stack([x.flatten(), y.flatten()], dim=1)


class SynthesisLayer(Float32Buffers):
    """Modulated convolution, bias and leaky ReLU between filters; the last one makes the colours."""

    magnitude_ema: Tensor
    up_filter: Tensor | None
    down_filter: Tensor | None

    def __init__(
        self,
        w_dim: int,
        before: Signal,
        after: Signal,
        is_torgb: bool,
        is_critically_sampled: bool,
        conv_kernel: int = 3,
        filter_size: int = 6,
        lrelu_upsampling: int = 2,
        use_radial_filters: bool = False,
        conv_clamp: float | None = 256,
        magnitude_ema_beta: float = 0.999,
    ) -> None:
        super().__init__()
        self.is_torgb, self.is_critically_sampled = is_torgb, is_critically_sampled
        self.in_channels, self.out_channels = before.channels, after.channels
        self.in_size, self.out_size = [before.size] * 2, [after.size] * 2
        self.in_sampling_rate, self.out_sampling_rate = before.sampling_rate, after.sampling_rate
        self.in_cutoff, self.out_cutoff = before.cutoff, after.cutoff
        self.in_half_width, self.out_half_width = before.half_width, after.half_width
        self.conv_kernel = 1 if is_torgb else conv_kernel
        self.conv_clamp, self.magnitude_ema_beta = conv_clamp, magnitude_ema_beta

        self.affine = FullyConnectedLayer(w_dim, before.channels, bias_init=1)
        shape = (after.channels, before.channels, self.conv_kernel, self.conv_kernel)
        self.weight = nn.Parameter(torch.randn(shape))
        self.bias = nn.Parameter(torch.zeros(after.channels))
        self.register_buffer("magnitude_ema", torch.ones([]))
        self._design_filters(filter_size, 1 if is_torgb else lrelu_upsampling, use_radial_filters)

    def _design_filters(self, filter_size: int, lrelu_upsampling: int, use_radial_filters: bool) -> None:
        """Choose factors, filters and padding (section 3.2)."""
        rate = max(self.in_sampling_rate, self.out_sampling_rate) * lrelu_upsampling
        self.tmp_sampling_rate = rate
        self.up_factor = round(rate / self.in_sampling_rate)
        self.down_factor = round(rate / self.out_sampling_rate)
        filtered_up, filtered_down = (
            factor > 1 and not self.is_torgb for factor in (self.up_factor, self.down_factor)
        )
        self.up_taps = filter_size * self.up_factor if filtered_up else 1
        self.down_taps = filter_size * self.down_factor if filtered_down else 1
        self.down_radial = use_radial_filters and not self.is_critically_sampled
        up = design_lowpass_filter(self.up_taps, self.in_cutoff, self.in_half_width * 2, rate)
        down = design_lowpass_filter(
            self.down_taps, self.out_cutoff, self.out_half_width * 2, rate, self.down_radial
        )
        self.register_buffer("up_filter", up)
        self.register_buffer("down_filter", down)
        total = (self.out_size[0] - 1) * self.down_factor + 1  # pixels needed before downsampling
        total -= (self.in_size[0] + self.conv_kernel - 1) * self.up_factor
        total += self.up_taps + self.down_taps - 2
        low = (total + self.up_factor) // 2
        self.padding = [low, total - low] * 2

    def forward(self, x: Tensor, w: Tensor, update_emas: bool = False) -> Tensor:
        """[N, in_channels, in_size, in_size] and w [N, w_dim] to [N, out_channels, out_size, out_size]."""
        if update_emas:
            magnitude = x.detach().float().square().mean()
            self.magnitude_ema.copy_(magnitude.lerp(self.magnitude_ema, self.magnitude_ema_beta))
        x = x.to(self.weight.dtype)
        in_scale, out_scale = self._scales(w)
        if x.device.type != "cpu" or not is_eager_inference():
            return self._activate(self._convolve(x, in_scale, out_scale))
        scales = zip(in_scale, [None] * len(x) if out_scale is None else out_scale, strict=True)
        samples = [self._in_pieces(one, *each) for one, each in zip(x.split(1), scales, strict=True)]
        return torch.cat(samples) if len(samples) > 1 else samples[0]

    def _activate(self, x: Tensor) -> Tensor:
        """The filters and what is between them, for all or some of the output channels."""
        return filtered_lrelu(
            x,
            self.up_filter,
            self.down_filter,
            self.up_factor,
            self.down_factor,
            (self.padding[0], self.padding[1]),
            slope=1.0 if self.is_torgb else LRELU_SLOPE,
            gain=1.0 if self.is_torgb else SQRT_2,
            clamp=self.conv_clamp,
        )

    def _scales(self, w: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return factors of the input channels [N, in_channels] and output channels [N, out_channels]."""
        styles = self.affine(w)
        input_gain = self.magnitude_ema.rsqrt().to(styles.dtype)
        if self.is_torgb:
            return styles * (input_gain / math.sqrt(self.in_channels * self.conv_kernel**2)), None
        # Weights and styles are brought to unit size first, so that the epsilon means the same everywhere.
        unit = self.weight.square().mean(dim=[1, 2, 3]).rsqrt()
        styles = styles * styles.square().mean(dim=1, keepdim=True).rsqrt()
        energy = (self.weight.square().sum(dim=[2, 3]) * unit.square()[:, None]).t()
        return styles * input_gain, (styles.square() @ energy + 1e-8).rsqrt() * unit

    def _convolve(self, x: Tensor, in_scale: Tensor, out_scale: Tensor | None) -> Tensor:
        """Return the modulated convolution and its bias."""
        y = F.conv2d(x * in_scale[:, :, None, None], self.weight, padding=self.conv_kernel - 1)
        y = y if out_scale is None else y * out_scale[:, :, None, None]
        return y + self.bias[None, :, None, None]

    def _in_pieces(self, x: Tensor, in_scale: Tensor, out_scale: Tensor | None) -> Tensor:
        """Make one sample, some output channels at a time.

        The features between the filters are four times as many as the others: all of them at once would
        leave the cache, and the memory would come from the system anew in every layer.

        Args:
            x: [1, in_channels, H, W].
            in_scale: [in_channels].
            out_scale: [out_channels], or None.
        """
        weight = self.weight * in_scale[:, None, None]  # fewer than the features
        weight = weight if out_scale is None else weight.mul_(out_scale[:, None, None, None])
        pieces = [
            self._activate(F.conv2d(x, rows, bias, padding=self.conv_kernel - 1))
            for rows, bias in zip(weight.split(PIECE_CHANNELS), self.bias.split(PIECE_CHANNELS), strict=True)
        ]
        return torch.cat(pieces, dim=1) if len(pieces) > 1 else pieces[0]


class SynthesisNetwork(nn.Module):
    """ws to a picture."""

    def __init__(
        self,
        w_dim: int,
        signals: Sequence[Signal],
        num_critical: int,
        output_scale: float,
        **layer_kwargs: Any,
    ) -> None:
        super().__init__()
        first, num_layers = signals[0], len(signals) - 1
        self.num_ws = num_layers + 2
        self.output_scale = output_scale
        self.input = SynthesisInput(w_dim, first.channels, first.size, first.sampling_rate, first.cutoff)
        self.layer_names = []
        for index, after in enumerate(signals):
            layer = SynthesisLayer(
                w_dim,
                signals[max(index - 1, 0)],
                after,
                is_torgb=index == num_layers,
                is_critically_sampled=index >= num_layers - num_critical,
                **layer_kwargs,
            )
            self.layer_names.append(f"L{index}_{after.size}_{after.channels}")
            setattr(self, self.layer_names[-1], layer)

    def forward(
        self,
        ws: Tensor,
        noise_mode: str = "const",
        transform: Tensor | None = None,
        update_emas: bool = False,
    ) -> Tensor:
        """Ws [N, num_ws, w_dim] to img [N, img_channels, H, W], about [-1, 1].

        Args:
            ws: [N, num_ws, w_dim].
            noise_mode: Of the common interface; this network has no noise, so it changes nothing.
            transform: [3, 3] or [N, 3, 3] from `make_transform`; None = the stored one.
            update_emas: Whether this batch moves the layers' `magnitude_ema`.
        """
        first, *rest = ws.unbind(dim=1)
        x = self.input(first, transform)
        for name, w in zip(self.layer_names, rest, strict=True):
            x = getattr(self, name)(x, w, update_emas)
        return x if self.output_scale == 1 else x * self.output_scale


class StyleGAN3Generator(ModelMixin, ConfigMixin):
    """Generator: z and c to a picture [N, img_channels, img_resolution, img_resolution], about [-1, 1].

    `mapping_kwargs` takes num_layers, lr_multiplier and w_avg_beta; the other keywords are those of the
    public checkpoints. `num_fp16_res` is accepted and unused: precision is chosen by casting.
    """

    @register_to_config
    def __init__(
        self,
        z_dim: int = 512,
        c_dim: int = 0,
        w_dim: int = 512,
        img_resolution: int = 256,
        img_channels: int = 3,
        mapping_kwargs: Mapping[str, Any] | None = None,
        channel_base: int = 32768,
        channel_max: int = 512,
        num_layers: int = 14,
        num_critical: int = 2,
        first_cutoff: float = 2.0,
        first_stopband: float = FIRST_STOPBAND,
        last_stopband_rel: float = LAST_STOPBAND_REL,
        margin_size: int = 10,
        output_scale: float = 0.25,
        num_fp16_res: int = 4,
        conv_kernel: int = 3,
        filter_size: int = 6,
        lrelu_upsampling: int = 2,
        use_radial_filters: bool = False,
        conv_clamp: float | None = 256,
        magnitude_ema_beta: float = 0.999,
    ) -> None:
        """Build the network with random weights."""
        super().__init__()
        self.z_dim, self.c_dim, self.w_dim = z_dim, c_dim, w_dim
        self.img_resolution, self.img_channels = img_resolution, img_channels
        signals = plan_signals(
            img_resolution,
            img_channels,
            channel_base,
            channel_max,
            num_layers,
            num_critical,
            first_cutoff,
            first_stopband,
            last_stopband_rel,
            margin_size,
        )
        self.synthesis = SynthesisNetwork(
            w_dim,
            signals,
            num_critical,
            output_scale,
            conv_kernel=conv_kernel,
            filter_size=filter_size,
            lrelu_upsampling=lrelu_upsampling,
            use_radial_filters=use_radial_filters,
            conv_clamp=conv_clamp,
            magnitude_ema_beta=magnitude_ema_beta,
        )
        self.num_ws = self.synthesis.num_ws
        self.mapping = MappingNetwork(z_dim, c_dim, w_dim, self.num_ws, **dict(mapping_kwargs or {}))
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Set the mode, and lay the weights out for speed: loading a model ends with `eval()`."""
        super().train(mode)
        self.to(memory_format=torch.channels_last)
        return self

    def forward(
        self,
        z: Tensor,
        c: Tensor | None = None,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        noise_mode: str = "const",
        transform: Tensor | None = None,
        update_emas: bool = False,
    ) -> Tensor:
        """Return img [N, img_channels, H, W] for z [N, z_dim] and c [N, c_dim]."""
        ws = self.mapping(z, c, truncation_psi, truncation_cutoff, update_emas)
        return self.synthesis(ws, noise_mode, transform, update_emas)
