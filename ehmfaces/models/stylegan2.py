"""StyleGAN2: generator and discriminator, with the parameter names of the public checkpoints.

Owns the two networks and their configuration (the constructor keywords are the config). Knows tensors
only: no seeds, no files, no pictures.

Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN" (2020), and "Training GANs
with Limited Data" (2020).
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any, Self

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from ehmfaces.models.ops import (
    LRELU_SLOPE,
    SQRT_2,
    bias_act,
    conv2d_resample,
    conv2d_up,
    conv2d_winograd,
    demodulation,
    downsample2d,
    is_eager_inference,
    minibatch_stddev,
    modulated_conv2d,
    normalize_2nd_moment,
    setup_filter,
    truncate,
    upsample2d,
    weight_energy,
    winograd_weight,
)

DEFAULT_TAPS = (1, 3, 3, 1)
# From this resolution on, a CPU makes the samples of a batch one by one: features are then larger than the
# weights, and those of one sample stay in the cache.
SINGLE_FROM = 32
# How much less likely the one who counts wholly in the first aspect is in the later ones, in logits.
_SOMEBODY_ELSE = 200.0
# Of the groups of people that a z names, so many share the first person. Then: how far from the centre their
# w are judged, 1 = where they are; how believable is enough, and what is a close call, in standard deviations
# of the faces that were judged.
_SAME_FIRST, _JUDGED_AT, _ENOUGH, _CLOSE_CALL = 3, 0.9, -1.0, 0.05
# Truncated ws are lifted in so many steps, in full from this truncation down, until they are so believable.
_LIFTS, _FULLY_LIFTED, _BELIEVABLE = 4, 0.7, 0.8
# Layers of this resolution and above run in `half_dtype` where a trainer sets one.
HALF_FROM = 16


def channels_at(resolution: int, channel_base: int, channel_max: int) -> int:
    """Return the width of the layers at a resolution."""
    return min(channel_base // resolution, channel_max)


def block_resolutions(img_resolution: int) -> list[int]:
    """Return [4, 8, ..., img_resolution].

    Raises:
        ValueError: The resolution is no power of two from 4 on.
    """
    if img_resolution < 4 or img_resolution & (img_resolution - 1):
        raise ValueError(f"img_resolution {img_resolution} is not a power of two from 4 on.")
    return [2**exponent for exponent in range(2, int(math.log2(img_resolution)) + 1)]


class FullyConnectedLayer(nn.Module):
    """Linear layer with equalised learning rate."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        activation: str = "linear",
        lr_multiplier: float = 1.0,
        bias_init: float = 0.0,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = nn.Parameter(torch.full([out_features], float(bias_init)))
        self.weight_gain = lr_multiplier / math.sqrt(in_features)
        self.bias_gain = lr_multiplier

    def forward(self, x: Tensor) -> Tensor:
        """[N, in_features] to [N, out_features]."""
        x = F.linear(x * self.weight_gain, self.weight, self.bias * self.bias_gain)
        return bias_act(x, None, self.activation)


class Conv2dLayer(nn.Module):
    """Convolution with equalised learning rate, optional resampling and activation."""

    weight: Tensor
    bias: Tensor | None
    resample_filter: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        bias: bool = True,
        activation: str = "linear",
        up: int = 1,
        down: int = 1,
        resample_filter: Sequence[float] = DEFAULT_TAPS,
        conv_clamp: float | None = None,
        trainable: bool = True,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.up = up
        self.down = down
        self.conv_clamp = conv_clamp
        self.weight_gain = 1 / math.sqrt(in_channels * kernel_size**2)
        weight = torch.randn(out_channels, in_channels, kernel_size, kernel_size)
        self.register_buffer("resample_filter", setup_filter(resample_filter))
        self._set("weight", weight, trainable)
        if bias:
            self._set("bias", torch.zeros(out_channels), trainable)
        else:
            self.bias = None

    def _set(self, name: str, value: Tensor, trainable: bool) -> None:
        if trainable:
            self.register_parameter(name, nn.Parameter(value))
        else:
            self.register_buffer(name, value)

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        """[N, in_channels, H, W] to [N, out_channels, H', W']."""
        y = conv2d_resample(
            x, self.weight * self.weight_gain, self.resample_filter, up=self.up, down=self.down
        )
        clamp = None if self.conv_clamp is None else self.conv_clamp * gain
        return bias_act(y, self.bias, self.activation, gain, clamp)


class MappingNetwork(nn.Module):
    """z and c to w; also embeds the label for the discriminator (z_dim 0)."""

    w_avg: Tensor

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        num_ws: int | None,
        num_layers: int = 8,
        embed_features: int | None = None,
        layer_features: int | None = None,
        activation: str = "lrelu",
        lr_multiplier: float = 0.01,
        w_avg_beta: float | None = 0.995,
    ) -> None:
        super().__init__()
        self.z_dim, self.c_dim, self.w_dim, self.num_ws = z_dim, c_dim, w_dim, num_ws
        self.num_layers, self.w_avg_beta = num_layers, w_avg_beta
        embed_features = (w_dim if embed_features is None else embed_features) if c_dim > 0 else 0
        layer_features = w_dim if layer_features is None else layer_features
        sizes = [z_dim + embed_features] + [layer_features] * (num_layers - 1) + [w_dim]
        if c_dim > 0:
            self.embed = FullyConnectedLayer(c_dim, embed_features)
        for index in range(num_layers):
            layer = FullyConnectedLayer(sizes[index], sizes[index + 1], activation, lr_multiplier)
            setattr(self, f"fc{index}", layer)
        if num_ws is not None and w_avg_beta is not None:
            self.register_buffer("w_avg", torch.zeros(w_dim))

    def forward(
        self,
        z: Tensor | None,
        c: Tensor | None = None,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        update_emas: bool = False,
    ) -> Tensor:
        """Return ws [N, num_ws, w_dim], or w [N, w_dim] when `num_ws` is None.

        Args:
            z: [N, z_dim], or None for a network without z.
            c: [N, c_dim], or None for a network without labels.
            truncation_psi: 1 = off, 0 = the average face.
            truncation_cutoff: Number of leading layers that are truncated; None = all.
            update_emas: Whether this batch moves `w_avg`.
        """
        parts = []
        if self.z_dim > 0:
            assert z is not None
            parts.append(normalize_2nd_moment(z.float()))
        if self.c_dim > 0:
            assert c is not None, "a conditional network needs labels"
            parts.append(normalize_2nd_moment(self.embed(c.float())))
        w = torch.cat(parts, dim=1)
        for index in range(self.num_layers):
            w = getattr(self, f"fc{index}")(w)
        if update_emas and self.w_avg_beta is not None:
            self.w_avg.copy_(torch.lerp(w.detach().mean(dim=0), self.w_avg, self.w_avg_beta))
        if self.num_ws is None:
            return w
        ws = w[:, None].repeat(1, self.num_ws, 1)  # [N, num_ws, w_dim]
        return truncate(ws, self.w_avg, truncation_psi, truncation_cutoff) if truncation_psi != 1 else ws


class PeopleMapping(nn.Module):
    """z to w by a memory of people: the mean of those around a place that z chooses, once for each aspect.

    An aspect is a part of how people differ: the first the strongest (head, hair, light), the last the
    finest. `places` components of z choose whom somebody resembles in the first aspect, the next as many in
    the second, and so on; the remaining ones vary what is left. Takes the place of `MappingNetwork` where
    training gave every portrait a w; a Gaussian of such ws also covers mixtures of everybody with everybody,
    which look like nobody.

    Source: Nadaraya, "On Estimating Regression" (1964).
    """

    w_avg: Tensor

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        num_ws: int,
        people: int,
        places: int = 16,
        reach: float = 0.4,
        aspects: Sequence[str] = ("coarse", "fine"),
        balanced: bool = False,
        kin_dim: int = 0,
        tries: int = 1,
        lift: float = 0.0,
    ) -> None:
        """Build an empty memory.

        Args:
            z_dim: Size of z.
            c_dim: Size of c, which is unused.
            w_dim: Size of w.
            num_ws: How many copies of w come out.
            people: How many it remembers.
            places: Components of z for each aspect.
            reach: How near somebody must be to count.
            aspects: Names of the aspects, the strongest differences first; they name the parameters.
            balanced: Whether everybody has an offset for each aspect, so that all can be chosen equally
                often.
            kin_dim: Size of the vectors that say who goes with whom: the later aspects come from people near
                the one of the first aspect, but not from that one. 0 = from anybody.
            tries: How many groups of people a z names, one after the other, at most twice `places`: the first
                group counts whose w `realism`, a small network, finds believable enough.
            lift: How far truncated ws are moved towards more believable ones at most, in standard deviations
                of what people differ by. 0 = not at all; else there must be several tries.
        """
        super().__init__()
        self.z_dim, self.c_dim, self.w_dim, self.num_ws = z_dim, c_dim, w_dim, num_ws
        need = len(aspects) * places
        if need > z_dim:
            raise ValueError(
                f"{len(aspects)} times {places} places need z_dim of at least {need}, not {z_dim}."
            )
        if not 1 <= tries <= 2 * places:
            raise ValueError(f"{places} places give 1 to {2 * places} tries, not {tries}.")
        self.aspects, self.places, self.reach, self.balanced = tuple(aspects), places, reach, balanced
        self.kin_dim, self.tries = kin_dim, tries
        if lift and tries < 2:
            raise ValueError(f"A lift of {lift:g} needs 2 tries or more, not {tries}.")
        self.lift = lift
        if tries > 1:
            self.realism = build_realism(w_dim)
        if lift:
            self.likely = nn.Parameter(torch.zeros(w_dim, w_dim))
        if kin_dim:
            self.kin = nn.Parameter(torch.zeros(people, kin_dim))
        for aspect in aspects:
            self.register_parameter(f"{aspect}_codes", nn.Parameter(torch.randn(people, places)))
            self.register_parameter(aspect, nn.Parameter(torch.randn(people, w_dim)))
            if balanced:
                self.register_parameter(f"{aspect}_offsets", nn.Parameter(torch.zeros(people)))
        self.variation = nn.Parameter(torch.zeros(z_dim - need, w_dim))
        self.centre = nn.Parameter(torch.zeros(w_dim))
        self.register_buffer("w_avg", torch.zeros(w_dim))

    def forward(
        self,
        z: Tensor,
        c: Tensor | None = None,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        update_emas: bool = False,
    ) -> Tensor:
        """Return ws [N, num_ws, w_dim] for z [N, z_dim], as `MappingNetwork` does; c is unused."""
        z = normalize_2nd_moment(z.float())
        places = [
            self._turn(place) for place in z[:, : len(self.aspects) * self.places].split(self.places, dim=1)
        ]
        first = self.nearness(self.aspects[0], places[0][:, : -(-self.tries // _SAME_FIRST)])
        first = first.repeat_interleave(_SAME_FIRST, dim=1)[:, : self.tries]
        w = self.centre + z[:, len(self.aspects) * self.places :] @ self.variation
        w = w[:, None] + first @ getattr(self, self.aspects[0])  # [N, tries, w_dim]
        for aspect, place in zip(self.aspects[1:], places[1:], strict=True):
            w = w + self.nearness(aspect, place, first) @ getattr(self, aspect)
        ws = self._choose(w)[:, None].repeat(1, self.num_ws, 1)  # [N, num_ws, w_dim]
        if truncation_psi == 1:
            return ws
        ws = truncate(ws, self.w_avg, truncation_psi, truncation_cutoff)
        leading = self.lift_ws(ws[:, :truncation_cutoff], truncation_psi)
        return torch.cat([leading, ws[:, leading.shape[1] :]], dim=1)

    def lift_ws(self, ws: Tensor, truncation_psi: float | Tensor) -> Tensor:
        """Return truncated ws [..., w_dim] moved towards more believable ones, each by itself.

        The way is the likeliest change (`likely` is the covariance of people's ws, without what must stay)
        that makes them more believable. It ends where they are believable, and is the shorter the nearer the
        truncation is to 1, where nothing is moved.
        """
        if not self.lift:
            return ws
        share = ((1 - torch.as_tensor(truncation_psi)) / (1 - _FULLY_LIFTED)).clamp(0, 1)
        longest = (self.lift / _LIFTS) * share.to(ws)
        for _ in range(_LIFTS):
            slope, realism = self._slope(ws)
            way = slope @ self.likely
            variance = (way * slope).sum(dim=-1, keepdim=True).clamp(min=1e-9)
            lacking = (_BELIEVABLE - realism).clamp(min=0)
            ws = ws + way * torch.minimum(lacking / variance, longest / variance.sqrt())
        return ws

    def _slope(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradient of `realism` at w [..., w_dim], and its value [..., 1].

        Written out, so that it needs no autograd and can be exported.
        """
        first, second, last = (layer for layer in self.realism if isinstance(layer, nn.Linear))
        entry = first(w)
        middle = second(F.silu(entry))
        slope = last.weight[0] * _silu_slope(middle)
        slope = (slope @ second.weight) * _silu_slope(entry)
        return slope @ first.weight, last(F.silu(middle))

    def _turn(self, place: Tensor) -> Tensor:
        """Return other places as likely as a place [N, places], itself first: [N, tries, places]."""
        signs = [1] * self.places + [-1] * self.places
        turned = [signs[turn] * place.roll(turn, dims=1) for turn in range(self.tries)]
        return torch.stack(turned, dim=1)

    def _choose(self, w: Tensor) -> Tensor:
        """Return the first of w [N, tries, w_dim] that is believable enough, or else the most believable.

        Those close to a limit count in part, so that w is a smooth function of z.
        """
        if self.tries == 1:
            return w[:, 0]
        realism = self.realism(self.centre.lerp(w, _JUDGED_AT))  # [N, tries, 1]
        refused = torch.sigmoid((_ENOUGH - realism) / _CLOSE_CALL)
        left = refused.cumprod(dim=1)  # what is not yet given after each try
        weight = (1 - refused) * torch.cat([torch.ones_like(left[:, :1]), left[:, :-1]], dim=1)
        weight = weight + left[:, -1:] * torch.softmax(realism / _CLOSE_CALL, dim=1)
        return (weight * w).sum(dim=1)

    def nearness(self, aspect: str, place: Tensor, first: Tensor | None = None) -> Tensor:
        """Return how much each person counts for an aspect at places [..., places]: [..., people], in all 1.

        `first` is what it returned for the first aspect; None there.
        """
        codes: Tensor = getattr(self, f"{aspect}_codes")
        # The squared distance without |place|^2, which the softmax does not see.
        offsets = getattr(self, f"{aspect}_offsets") if self.balanced else -codes.square().sum(dim=1) / 2
        logits = (place @ codes.t() + offsets) / self.reach**2
        if self.kin_dim and first is not None:
            logits = logits + (first @ self.kin) @ self.kin.t() - self.kin.square().sum(dim=1) / 2
            logits = logits - _SOMEBODY_ELSE * first
        return torch.softmax(logits, dim=-1)


def _silu_slope(x: Tensor) -> Tensor:
    sigmoid = torch.sigmoid(x)
    return sigmoid * (1 + x * (1 - sigmoid))


def build_realism(w_dim: int) -> nn.Sequential:
    """Return an untrained network that says of w [..., w_dim] how believable its picture is: [..., 1]."""
    layers = [nn.Linear(w_dim, w_dim), nn.SiLU(), nn.Linear(w_dim, w_dim), nn.SiLU()]
    return nn.Sequential(*layers, nn.Linear(w_dim, 1))


# Fewer products pay where channels are many; wider units make the plain sum faster, not the transforms.
_WINOGRAD_CHANNELS = 512 if "AVX512" in torch.backends.cpu.get_cpu_capability() else 256


class SynthesisLayer(nn.Module):
    """Modulated 3x3 convolution, noise, bias and leaky ReLU."""

    resample_filter: Tensor
    noise_const: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        resolution: int,
        up: int = 1,
        use_noise: bool = True,
        resample_filter: Sequence[float] = DEFAULT_TAPS,
        conv_clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.resolution, self.up, self.use_noise, self.conv_clamp = resolution, up, use_noise, conv_clamp
        self.register_buffer("resample_filter", setup_filter(resample_filter))
        self.affine = FullyConnectedLayer(w_dim, in_channels, bias_init=1)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 3, 3))
        if use_noise:
            self.register_buffer("noise_const", torch.randn(resolution, resolution))
            self.noise_strength = nn.Parameter(torch.zeros([]))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self._derived: dict[str, tuple[tuple[int, int, float], Tensor]] = {}

    def forward(self, x: Tensor, w: Tensor, noise_mode: str = "random", gain: float = 1.0) -> Tensor:
        """[N, in_channels, H, W] and w [N, w_dim] to [N, out_channels, H * up, W * up]."""
        styles = self.affine(w)
        noise = self._noise(x, noise_mode)
        clamp = None if self.conv_clamp is None else self.conv_clamp * gain
        if not is_eager_inference():
            y = modulated_conv2d(x, self.weight, styles, self.resample_filter, self.up)
            y = y if noise is None else y + noise
            return bias_act(y, self.bias, "lrelu", gain, clamp)
        return self._forward_in_place(x, styles, noise, gain * SQRT_2, clamp)

    def _noise(self, x: Tensor, noise_mode: str) -> Tensor | None:
        if not self.use_noise or noise_mode == "none":
            return None
        if noise_mode == "const":
            return (self.noise_const * self.noise_strength).to(x.dtype)
        size = [x.shape[0], 1, self.resolution, self.resolution]
        return torch.randn(size, device=x.device, dtype=x.dtype) * self.noise_strength

    def _forward_in_place(
        self, x: Tensor, styles: Tensor, noise: Tensor | None, gain: float, clamp: float | None
    ) -> Tensor:
        """The same sum with the gain pulled inside (leaky ReLU is positively homogeneous), in place."""
        scale = demodulation(self.weight, styles, self._derive("energy", weight_energy)) * gain
        bias = self.bias * gain
        single = x.shape[0] == 1
        if single and (kernel := self._winograd(x)) is not None:
            y = conv2d_winograd(x * styles[:, :, None, None], kernel)
            y.mul_(scale[:, :, None, None]).add_(bias[:, None, None])
            return self._finish(y, noise, gain, clamp)
        # The weights of one sample are scaled instead of its features where they are fewer.
        fold = single and x.shape[2] * x.shape[3] > 9 * self.weight.shape[0]
        weight = self.weight * styles[0, :, None, None] if fold else self.weight
        x = x if fold else x * styles[:, :, None, None]
        if single and self.up == 2:
            y = conv2d_up(x, weight, self.resample_filter, scale[0], bias)
        elif fold:
            y = F.conv2d(x, weight.mul_(scale[0, :, None, None, None]), bias, padding=1)
        else:
            up = self.up == 2
            y = conv2d_up(x, weight, self.resample_filter) if up else F.conv2d(x, weight, padding=1)
            y.mul_(scale[:, :, None, None]).add_(bias[:, None, None])
        return self._finish(y, noise, gain, clamp)

    @staticmethod
    def _finish(y: Tensor, noise: Tensor | None, gain: float, clamp: float | None) -> Tensor:
        if noise is not None:
            y.add_(noise * gain)
        F.leaky_relu_(y, LRELU_SLOPE)
        return y if clamp is None else y.clamp_(-clamp, clamp)

    def _winograd(self, x: Tensor) -> Tensor | None:
        """Return the transformed weight where that way is faster."""
        few = min(self.weight.shape[:2]) < _WINOGRAD_CHANNELS or not 16 <= min(x.shape[2:]) <= 64
        if few or self.up == 2 or x.device.type != "cpu" or x.dtype != torch.float32:
            return None
        return self._derive("kernel", winograd_weight)

    def _derive(self, name: str, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """Return what follows from the weight alone, computed anew when the weight has changed."""
        weight = self.weight
        if weight.is_inference() or weight.device.type != "cpu":
            return compute(weight)
        # Writing through `.data` is not counted as a version: a few values betray it.
        mark = (weight._version, weight.data_ptr(), weight[::61, ::29].sum().item())
        known = self._derived.get(name)
        if known is None or known[0] != mark:
            known = self._derived[name] = (mark, compute(weight))
        return known[1]

    def arrange(self) -> None:
        """Lay the weight out in memory as the convolution reads it; its values stay."""
        weight = self.weight.data
        if self.up == 2:  # A transposed convolution reads it with the two sides exchanged.
            weight = weight.transpose(0, 1).contiguous(memory_format=torch.channels_last).transpose(0, 1)
        self.weight.data = weight


class ToRGBLayer(nn.Module):
    """Modulated 1x1 convolution to the picture's channels, without demodulation."""

    def __init__(
        self, in_channels: int, out_channels: int, w_dim: int, conv_clamp: float | None = None
    ) -> None:
        super().__init__()
        self.conv_clamp = conv_clamp
        self.affine = FullyConnectedLayer(w_dim, in_channels, bias_init=1)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.weight_gain = 1 / math.sqrt(in_channels)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """[N, in_channels, H, W] and w [N, w_dim] to [N, out_channels, H, W]."""
        styles = self.affine(w) * self.weight_gain
        if x.shape[0] == 1 and is_eager_inference():
            y = F.conv2d(x, self.weight * styles[0, :, None, None], self.bias)
            return y if self.conv_clamp is None else y.clamp_(-self.conv_clamp, self.conv_clamp)
        y = modulated_conv2d(x, self.weight, styles, demodulate=False)
        return bias_act(y, self.bias, clamp=self.conv_clamp)


class SynthesisBlock(nn.Module):
    """All layers at one resolution."""

    resample_filter: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        resolution: int,
        img_channels: int,
        is_last: bool,
        architecture: str = "skip",
        resample_filter: Sequence[float] = DEFAULT_TAPS,
        conv_clamp: float | None = None,
        use_noise: bool = True,
    ) -> None:
        super().__init__()
        self.architecture, self.in_channels = architecture, in_channels
        self.num_conv = 1 if in_channels == 0 else 2
        self.num_torgb = 1 if is_last or architecture == "skip" else 0
        self.register_buffer("resample_filter", setup_filter(resample_filter))
        shared: dict[str, Any] = {
            "resample_filter": resample_filter,
            "conv_clamp": conv_clamp,
            "use_noise": use_noise,
        }
        if in_channels == 0:
            self.const = nn.Parameter(torch.randn(out_channels, resolution, resolution))
        else:
            self.conv0 = SynthesisLayer(in_channels, out_channels, w_dim, resolution, up=2, **shared)
        self.conv1 = SynthesisLayer(out_channels, out_channels, w_dim, resolution, **shared)
        if self.num_torgb:
            self.torgb = ToRGBLayer(out_channels, img_channels, w_dim, conv_clamp)
        if in_channels != 0 and architecture == "resnet":
            self.skip = Conv2dLayer(
                in_channels, out_channels, 1, bias=False, up=2, resample_filter=resample_filter
            )

    def forward(
        self, x: Tensor | None, img: Tensor | None, ws: Tensor, noise_mode: str = "random"
    ) -> tuple[Tensor, Tensor | None]:
        """Return features and picture at this resolution.

        Args:
            x: Features of the block below, or None in the first block.
            img: Picture so far [N, img_channels, H / 2, W / 2], or None.
            ws: [N, num_conv + num_torgb, w_dim].
            noise_mode: "const", "random" or "none".
        """
        layer_ws = iter(ws.unbind(dim=1))
        x = self._features(x, layer_ws, ws.shape[0], noise_mode)
        if img is not None:
            img = upsample2d(img, self.resample_filter)
        if self.num_torgb:
            rgb = self.torgb(x, next(layer_ws))
            img = rgb if img is None else img + rgb.to(img.dtype)  # the sum stays exact where layers are not
        return x, img

    def _features(self, x: Tensor | None, layer_ws: Any, count: int, noise_mode: str) -> Tensor:
        if x is None:
            start = self.const[None].expand(count, -1, -1, -1).contiguous(memory_format=torch.channels_last)
            return self.conv1(start, next(layer_ws), noise_mode)
        if self.architecture != "resnet":
            return self.conv1(self.conv0(x, next(layer_ws), noise_mode), next(layer_ws), noise_mode)
        y = self.skip(x, gain=math.sqrt(0.5))
        x = self.conv0(x, next(layer_ws), noise_mode)
        return y + self.conv1(x, next(layer_ws), noise_mode, gain=math.sqrt(0.5))


def _rows(batch: Tensor | None) -> Iterable[Tensor | None]:
    """Return the samples one by one, each still a batch."""
    return repeat(None) if batch is None else batch.split(1)


class SynthesisNetwork(nn.Module):
    """ws to a picture."""

    def __init__(
        self,
        w_dim: int,
        img_resolution: int,
        img_channels: int,
        channel_base: int = 32768,
        channel_max: int = 512,
        **block_kwargs: Any,
    ) -> None:
        super().__init__()
        self.block_resolutions = block_resolutions(img_resolution)
        self.half_dtype: torch.dtype | None = None
        self.num_ws = 0
        for resolution in self.block_resolutions:
            below = channels_at(resolution // 2, channel_base, channel_max) if resolution > 4 else 0
            here = channels_at(resolution, channel_base, channel_max)
            is_last = resolution == img_resolution
            block = SynthesisBlock(below, here, w_dim, resolution, img_channels, is_last, **block_kwargs)
            self.num_ws += block.num_conv + (block.num_torgb if is_last else 0)
            setattr(self, f"b{resolution}", block)

    def forward(self, ws: Tensor, noise_mode: str = "random") -> Tensor:
        """Ws [N, num_ws, w_dim] to img [N, img_channels, H, W], about [-1, 1]."""
        return self._run(0, None, None, ws, noise_mode)

    def _run(self, start: int, x: Tensor | None, img: Tensor | None, ws: Tensor, noise_mode: str) -> Tensor:
        """Run the blocks from number `start` on."""
        index = sum(getattr(self, f"b{res}").num_conv for res in self.block_resolutions[:start])
        for number, resolution in enumerate(self.block_resolutions[start:], start):
            if resolution >= SINGLE_FROM and len(ws) > 1 and ws.device.type == "cpu" and is_eager_inference():
                parts = zip(_rows(x), _rows(img), ws.split(1), strict=False)
                return torch.cat([self._run(number, *part, noise_mode) for part in parts])
            block = getattr(self, f"b{resolution}")
            block_ws = ws[:, index : index + block.num_conv + block.num_torgb]
            if self.half_dtype is not None and resolution >= HALF_FROM:
                assert x is not None
                x = x.to(self.half_dtype)
            x, img = block(x, img, block_ws, noise_mode)
            index += block.num_conv
        assert img is not None
        return img


# Options of the public constructors that have no meaning on this path: precision is chosen by casting.
_PRECISION_OPTIONS = ("num_fp16_res", "use_fp16", "fp16_channels_last", "fused_modconv_default")


def _known_options(options: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in (options or {}).items() if key not in _PRECISION_OPTIONS}


class StyleGAN2Generator(ModelMixin, ConfigMixin):
    """Generator: z and c to a picture [N, img_channels, img_resolution, img_resolution], about [-1, 1].

    `mapping_kwargs` and `synthesis_kwargs` take the keywords of the public checkpoints (num_layers,
    embed_features, layer_features, activation, lr_multiplier, w_avg_beta; channel_base, channel_max,
    architecture, resample_filter, conv_clamp, use_noise); with `people` the mapping network is a
    `PeopleMapping` and takes its keywords. Precision keywords are accepted and unused.
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
        synthesis_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        """Build the network with random weights."""
        super().__init__()
        self.z_dim, self.c_dim, self.w_dim = z_dim, c_dim, w_dim
        self.img_resolution, self.img_channels = img_resolution, img_channels
        self.synthesis = SynthesisNetwork(
            w_dim, img_resolution, img_channels, **_known_options(synthesis_kwargs)
        )
        self.num_ws = self.synthesis.num_ws
        options = _known_options(mapping_kwargs)
        mapping = PeopleMapping if "people" in options else MappingNetwork
        self.mapping = mapping(z_dim, c_dim, w_dim, self.num_ws, **options)
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Set the mode, and lay the weights out for speed: loading a model ends with `eval()`."""
        super().train(mode)
        self.to(memory_format=torch.channels_last)
        for module in self.modules():
            if isinstance(module, SynthesisLayer):
                module.arrange()
        return self

    def forward(
        self,
        z: Tensor,
        c: Tensor | None = None,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        noise_mode: str = "const",
    ) -> Tensor:
        """Return img [N, img_channels, H, W] for z [N, z_dim] and c [N, c_dim]."""
        ws = self.mapping(z, c, truncation_psi, truncation_cutoff)
        return self.synthesis(ws, noise_mode)


class DiscriminatorBlock(nn.Module):
    """All layers at one resolution, then half the size."""

    resample_filter: Tensor

    def __init__(
        self,
        in_channels: int,
        tmp_channels: int,
        out_channels: int,
        img_channels: int,
        architecture: str = "resnet",
        activation: str = "lrelu",
        resample_filter: Sequence[float] = DEFAULT_TAPS,
        conv_clamp: float | None = None,
        trainable: Sequence[bool] = (True, True, True, True),
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.register_buffer("resample_filter", setup_filter(resample_filter))
        shared: dict[str, Any] = {"resample_filter": resample_filter}
        active: dict[str, Any] = {"activation": activation, "conv_clamp": conv_clamp}
        flags = iter(trainable)
        if in_channels == 0 or architecture == "skip":
            self.fromrgb: Conv2dLayer | None = Conv2dLayer(
                img_channels, tmp_channels, 1, trainable=next(flags), **active, **shared
            )
        else:
            self.fromrgb = None
        self.conv0 = Conv2dLayer(tmp_channels, tmp_channels, 3, trainable=next(flags), **active, **shared)
        self.conv1 = Conv2dLayer(
            tmp_channels, out_channels, 3, down=2, trainable=next(flags), **active, **shared
        )
        if architecture == "resnet":
            self.skip = Conv2dLayer(
                tmp_channels, out_channels, 1, bias=False, down=2, trainable=next(flags), **shared
            )

    @staticmethod
    def layer_count(in_channels: int, architecture: str) -> int:
        """Return how many layers a block has, for freezing them one by one."""
        return 2 + (in_channels == 0 or architecture == "skip") + (architecture == "resnet")

    def forward(self, x: Tensor | None, img: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Features and picture at this resolution to both at half of it."""
        if self.fromrgb is not None:
            assert img is not None
            rgb = self.fromrgb(img)
            x = rgb if x is None else x + rgb
            img = downsample2d(img, self.resample_filter) if self.architecture == "skip" else None
        assert x is not None
        if self.architecture != "resnet":
            return self.conv1(self.conv0(x)), img
        y = self.skip(x, gain=math.sqrt(0.5))
        return y + self.conv1(self.conv0(x), gain=math.sqrt(0.5)), img


class DiscriminatorEpilogue(nn.Module):
    """Minibatch statistics and the final logits at 4x4."""

    def __init__(
        self,
        in_channels: int,
        cmap_dim: int,
        resolution: int,
        img_channels: int,
        architecture: str = "resnet",
        mbstd_group_size: int | None = 4,
        mbstd_num_channels: int = 1,
        activation: str = "lrelu",
        conv_clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.cmap_dim = cmap_dim
        self.mbstd_group_size, self.mbstd_num_channels = mbstd_group_size, mbstd_num_channels
        self.fromrgb = (
            Conv2dLayer(img_channels, in_channels, 1, activation=activation)
            if architecture == "skip"
            else None
        )
        self.conv = Conv2dLayer(
            in_channels + mbstd_num_channels, in_channels, 3, activation=activation, conv_clamp=conv_clamp
        )
        self.fc = FullyConnectedLayer(in_channels * resolution**2, in_channels, activation)
        self.out = FullyConnectedLayer(in_channels, cmap_dim or 1)

    def forward(self, x: Tensor, img: Tensor | None, cmap: Tensor | None) -> Tensor:
        """Features [N, C, 4, 4] to logits [N, 1]."""
        if self.fromrgb is not None:
            x = x + self.fromrgb(img)
        if self.mbstd_num_channels > 0:
            x = minibatch_stddev(x, self.mbstd_group_size, self.mbstd_num_channels)
        x = self.out(self.fc(self.conv(x).flatten(1)))
        if cmap is None:
            return x
        # Projection of the label: Miyato & Koyama, "cGANs with Projection Discriminator" (2018).
        return (x * cmap).sum(dim=1, keepdim=True) / math.sqrt(self.cmap_dim)


class StyleGAN2Discriminator(ModelMixin, ConfigMixin):
    """Discriminator: picture and label to a logit [N, 1]; higher = more real."""

    @register_to_config
    def __init__(
        self,
        c_dim: int = 0,
        img_resolution: int = 256,
        img_channels: int = 3,
        architecture: str = "resnet",
        channel_base: int = 32768,
        channel_max: int = 512,
        num_fp16_res: int = 0,
        conv_clamp: float | None = None,
        cmap_dim: int | None = None,
        block_kwargs: Mapping[str, Any] | None = None,
        mapping_kwargs: Mapping[str, Any] | None = None,
        epilogue_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        """Build the network with random weights."""
        super().__init__()
        self.c_dim, self.img_resolution, self.img_channels = c_dim, img_resolution, img_channels
        self.block_resolutions = block_resolutions(img_resolution)[:0:-1]  # img_resolution ... 8
        self.half_dtype: torch.dtype | None = None
        widths = {res: channels_at(res, channel_base, channel_max) for res in (*self.block_resolutions, 4)}
        cmap_dim = 0 if c_dim == 0 else (widths[4] if cmap_dim is None else cmap_dim)
        common: dict[str, Any] = {"architecture": architecture, "conv_clamp": conv_clamp}
        self._build_blocks(widths, dict(_known_options(block_kwargs)), common)
        if c_dim > 0:
            self.mapping = MappingNetwork(
                0, c_dim, cmap_dim, num_ws=None, w_avg_beta=None, **_known_options(mapping_kwargs)
            )
        self.b4 = DiscriminatorEpilogue(
            widths[4], cmap_dim, 4, img_channels, **common, **dict(epilogue_kwargs or {})
        )
        self.to(memory_format=torch.channels_last)

    def _build_blocks(self, widths: dict[int, int], options: dict[str, Any], common: dict[str, Any]) -> None:
        freeze_layers = options.pop("freeze_layers", 0)
        built = 0
        for res in self.block_resolutions:
            in_channels = widths[res] if res < self.img_resolution else 0
            count = DiscriminatorBlock.layer_count(in_channels, common["architecture"])
            trainable = [built + offset >= freeze_layers for offset in range(count)]
            block = DiscriminatorBlock(
                in_channels,
                widths[res],
                widths[res // 2],
                self.img_channels,
                trainable=trainable,
                **common,
                **options,
            )
            setattr(self, f"b{res}", block)
            built += count

    def forward(self, img: Tensor, c: Tensor | None = None) -> Tensor:
        """Return logits [N, 1] for img [N, img_channels, H, W] in [-1, 1] and c [N, c_dim]."""
        x = None
        rest: Tensor | None = img
        for resolution in self.block_resolutions:
            if self.half_dtype is not None:
                dtype = self.half_dtype if resolution >= HALF_FROM else torch.float32
                x, rest = x if x is None else x.to(dtype), rest if rest is None else rest.to(dtype)
            x, rest = getattr(self, f"b{resolution}")(x, rest)
        cmap = self.mapping(None, c) if self.c_dim > 0 else None
        assert x is not None
        return self.b4(x.to(img.dtype), rest, cmap)
