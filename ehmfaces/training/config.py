"""Options of a GAN training run: frozen dataclasses and one table of presets.

Owns names and defaults. Knows no loop. Names are those of the public trainers (`r1_gamma`, `ada_target`,
`ema_kimg` ...); `*_kimg` counts thousands of real pictures shown to the discriminator.
"""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ehmfaces.errors import InputError
from ehmfaces.training.warm_start import WarmStartConfig

GENERATORS = ("stylegan2", "stylegan3-t", "stylegan3-r")


@dataclass(frozen=True)
class GANConfig:
    """One adversarial run at one resolution.

    Network:
        generator: "stylegan2", "stylegan3-t" or "stylegan3-r"; the discriminator is that of StyleGAN2.
        resolution: Pixels.
        z_dim, w_dim, mapping_layers, channel_base, channel_max: The public constructor keywords.
    Optimization:
        total_kimg, batch_size, g_lr, d_lr: As named; learning rates are Adam's.
        r1_gamma, D_reg_interval: Lazy R1; the weight at a real picture is r1_gamma / 2.
        pl_weight, G_reg_interval: Lazy path length; 0 = off.
        style_mixing_prob: Share of samples made from two zs.
        ema_kimg, ema_rampup: Half life of the average weights, and its start-up factor (None = off).
        d_only_kimg: The discriminator trains alone this long.
        adversarial_ramp_kimg: The generator's adversarial weight rises from 0 to its full value.
        adversarial_weight: Full weight of the adversarial loss.
        reconstruction_weight: Weight of the auto-decoder's loss on owned portraits; 0 = off.
    Augmentation:
        ada_target: Sign of real logits that `augment_p` is steered to; None = no augmentation.
        ada_interval: Batches between two changes; ada_kimg: Pictures for p to go from 0 to 1.
        mirror: Whether mirror images count as data.
        blur_init_sigma, blur_fade_kimg: The discriminator sees blurred pictures at first, so that it does
            not judge details before the outlines; pixels at the start, and when it is over. 0 = off.
    """

    generator: str = "stylegan2"
    resolution: int = 128
    z_dim: int = 128
    w_dim: int = 256
    mapping_layers: int = 4
    channel_base: int = 4096
    channel_max: int = 256
    total_kimg: float = 1000.0
    batch_size: int = 16
    g_lr: float = 0.0025
    d_lr: float = 0.0025
    r1_gamma: float = 0.05
    D_reg_interval: int = 16
    pl_weight: float = 0.0
    G_reg_interval: int = 4
    style_mixing_prob: float = 0.9
    ema_kimg: float = 20.0
    ema_rampup: float | None = 0.05
    d_only_kimg: float = 0.0
    adversarial_ramp_kimg: float = 0.0
    adversarial_weight: float = 1.0
    reconstruction_weight: float = 0.0
    ada_target: float | None = 0.6
    ada_interval: int = 4
    ada_kimg: float = 500.0
    mirror: bool = True
    blur_init_sigma: float = 0.0
    blur_fade_kimg: float = 0.0
    kimg_per_tick: float = 1.0
    ticks_per_snapshot: int = 1
    seed: int = 0
    warm_start: WarmStartConfig = field(default_factory=WarmStartConfig)

    @property
    def network(self) -> dict[str, Any]:
        """Constructor keywords of the generator."""
        shared: dict[str, Any] = {
            "z_dim": self.z_dim,
            "c_dim": 0,
            "w_dim": self.w_dim,
            "img_resolution": self.resolution,
            "img_channels": 3,
            "mapping_kwargs": {"num_layers": self.mapping_layers},
        }
        if self.generator == "stylegan2":
            widths = {"channel_base": self.channel_base, "channel_max": self.channel_max}
            return {**shared, "synthesis_kwargs": widths}
        rotation = self.generator == "stylegan3-r"  # 1x1 convolutions are cheap: twice the channels
        return {
            **shared,
            "channel_base": self.channel_base * (2 if rotation else 1),
            "channel_max": self.channel_max * (2 if rotation else 1),
            "conv_kernel": 1 if rotation else 3,
            "use_radial_filters": rotation,
            "magnitude_ema_beta": 0.5 ** (self.batch_size / 20_000),  # half life 20 kimg
        }

    def __post_init__(self) -> None:
        """Check what belongs together.

        Raises:
            InputError: The generator is unknown.
        """
        if self.generator not in GENERATORS:
            raise InputError(f'Unknown generator "{self.generator}". Known: {", ".join(GENERATORS)}.')

    def check_warm_start(self) -> None:
        """Raise unless the generator can be warmed up as an auto-decoder.

        Raises:
            InputError: It cannot.
        """
        if self.generator != "stylegan2":
            raise InputError(
                f"A warm start makes a StyleGAN2 generator, but this preset trains {self.generator}. Leave "
                "the warm start out, or use a portrait preset."
            )

    def to_dict(self) -> dict[str, Any]:
        """Return all options as plain values."""
        return asdict(self)


_SMALL = GANConfig(channel_base=2048, ema_kimg=5.0, ada_kimg=100.0)
_GPU = GANConfig(batch_size=64, total_kimg=2500.0, ada_kimg=300.0, kimg_per_tick=20.0, ticks_per_snapshot=4)
_AFTER_WARM_START: dict[str, Any] = {
    "d_only_kimg": 1.0,
    "adversarial_ramp_kimg": 5.0,
    "adversarial_weight": 0.05,
    "reconstruction_weight": 1.0,
}

# StyleGAN3 is trained without style mixing and path lengths, with a slower discriminator (its appendix F).
_STYLEGAN3: dict[str, Any] = {
    "mapping_layers": 2, "channel_base": 16384, "channel_max": 512, "z_dim": 512, "w_dim": 512,
    "batch_size": 32, "d_lr": 0.002, "style_mixing_prob": 0.0, "ema_kimg": 10.0, "total_kimg": 5000.0,
}  # fmt: skip
_T = GANConfig(generator="stylegan3-t", **_STYLEGAN3)
_R = GANConfig(generator="stylegan3-r", blur_init_sigma=10.0, blur_fade_kimg=200.0, **_STYLEGAN3)

PRESETS: dict[str, GANConfig] = {
    # name            resolution     channels             length          start
    "tiny16":      GANConfig(resolution=16, z_dim=8, w_dim=16, mapping_layers=2, channel_base=64,
                             channel_max=8, batch_size=4, total_kimg=0.04, kimg_per_tick=0.016,
                             warm_start=WarmStartConfig(stages=((8, 0.02), (16, 0.02)), batch_size=4)),
    "portrait32":  replace(_SMALL, resolution=32, total_kimg=200.0,
                           warm_start=WarmStartConfig(stages=((32, 30.0),))),
    "portrait64":  replace(_SMALL, resolution=64, total_kimg=200.0,
                           warm_start=WarmStartConfig(stages=((32, 30.0), (64, 30.0)))),
    "portrait128": replace(_SMALL, resolution=128, total_kimg=60.0, batch_size=8, **_AFTER_WARM_START),
    # With r1_gamma 0.3 at 256 px the discriminator learned nothing for 100,000 pictures (docs/training.md).
    "portrait128-gpu": replace(_GPU, resolution=128, r1_gamma=0.08),
    "portrait256-gpu": replace(_GPU, resolution=256, r1_gamma=0.08),
    # StyleGAN3; R1 weakens with the square of the resolution
    "stylegan3-tiny": replace(_T, resolution=16, z_dim=8, w_dim=16, mapping_layers=1, channel_base=128,
                              channel_max=8, batch_size=4, total_kimg=0.04, kimg_per_tick=0.016,
                              r1_gamma=0.025),
    "stylegan3-t64":  replace(_T, resolution=64, r1_gamma=0.025),
    "stylegan3-r64":  replace(_R, resolution=64, r1_gamma=0.025),
    "stylegan3-t128": replace(_T, resolution=128, r1_gamma=0.1),
    "stylegan3-r128": replace(_R, resolution=128, r1_gamma=0.1),
    "stylegan3-t256": replace(_T, resolution=256, channel_base=32768, r1_gamma=0.5),
    "stylegan3-r256": replace(_R, resolution=256, channel_base=32768, r1_gamma=0.5),
}  # fmt: skip


def get_preset(name: str, **changes: Any) -> GANConfig:
    """Return a preset with some options changed; None leaves an option alone.

    Raises:
        InputError: The preset is unknown.
    """
    if name not in PRESETS:
        raise InputError(f'Unknown preset "{name}". Known: {", ".join(PRESETS)}.')
    return replace(PRESETS[name], **{key: value for key, value in changes.items() if value is not None})
