"""StyleGAN2 written out slowly in float64: one sample at a time, weights modulated one by one.

An independent second opinion for layouts of other code bases. Takes plain functions that look weights up, so
that each test states where its layout keeps what, and knows nothing of the package.
"""

import numpy as np
import torch
import torch.nn.functional as F

BLUR = torch.outer(*[torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64)] * 2) / 64


def dense(x, weight, bias, lr_multiplier=1.0, active=True):
    """[features] to [outputs]; weight [outputs, features]."""
    y = (weight @ x) * (lr_multiplier / np.sqrt(weight.shape[1])) + bias * lr_multiplier
    return torch.where(y > 0, y, 0.2 * y) * np.sqrt(2) if active else y


def normalised(x):
    return x / torch.sqrt((x * x).mean() + 1e-8)


def blurred(x, gain, before, after):
    """Filter [C, H, W] with the blur, padded."""
    padded = F.pad(x, (before, after, before, after))
    return torch.stack([F.conv2d(plane[None, None], BLUR[None, None] * gain)[0, 0] for plane in padded])


def zeros_between(x):
    wide = x.new_zeros(x.shape[0], x.shape[1] * 2, x.shape[2] * 2)
    wide[:, ::2, ::2] = x
    return wide


def doubled(img):
    return blurred(zeros_between(img), 4, 2, 1)


def style_conv(x, weight, style, demodulate=True, up=False):
    """Convolve [C, H, W] with weight [out, in, k, k] (correlation), scaled by style [in]."""
    weight = weight * style[None, :, None, None]
    if demodulate:
        weight = weight / torch.sqrt((weight**2).sum(dim=(1, 2, 3), keepdim=True) + 1e-8)
    pad = weight.shape[-1] // 2
    if not up:
        return F.conv2d(x[None], weight, padding=pad)[0]
    wide = F.conv2d(F.pad(zeros_between(x), (2, 1, 2, 1))[None], weight)[0]  # 2H + 1 wide
    return blurred(wide, 4, 1, 1)


def activated(x, bias):
    y = x + bias[:, None, None]
    return torch.where(y > 0, y, 0.2 * y) * np.sqrt(2)


def synthesise(w, resolution, const, layer, to_rgb, skip=None, architecture="skip"):
    """Return the picture [C, H, W] of w.

    Args:
        w: [w_dim].
        resolution: Of the picture.
        const: [C, 4, 4].
        layer: (resolution, 0 or 1) -> dict(weight, bias, affine_weight, affine_bias, noise, strength).
        to_rgb: resolution -> the same without noise, or None.
        skip: resolution -> weight [out, in, 1, 1] of the residual path.
        architecture: "skip", "resnet" or "orig".
    """
    x, img, here = const, None, 4
    while here <= resolution:
        before = x
        for index in (0, 1) if here > 4 else (1,):
            p = layer(here, index)
            style = dense(w, p["affine_weight"], p["affine_bias"], active=False)
            y = style_conv(x, p["weight"], style, up=index == 0)
            x = activated(y + p["noise"] * p["strength"], p["bias"])
        if architecture == "resnet" and here > 4:
            weight = skip(here) / np.sqrt(skip(here).shape[1])
            past = torch.einsum("oi,ihw->ohw", weight[:, :, 0, 0], before)
            x = (x + doubled(past)) * np.sqrt(0.5)
        img = doubled(img) if img is not None else None
        p = to_rgb(here)
        if p is not None:
            style = dense(w, p["affine_weight"], p["affine_bias"], active=False)
            rgb = style_conv(x, p["weight"], style / np.sqrt(len(style)), demodulate=False)
            rgb = rgb + p["bias"][:, None, None]
            img = rgb if img is None else img + rgb
        here *= 2
    return img


def halved(x):
    return blurred(x, 1, 1, 1)[:, ::2, ::2]


def discriminate(img, resolution, weights, group_size=4):
    """Return logits [N] of img [N, C, H, W]: the residual discriminator without labels.

    `weights(layer)` returns (weight, bias) of "<res>.fromrgb", "<res>.conv0", "<res>.conv1", "<res>.skip",
    "conv", "fc" and "out"; dense weights are [outputs, features].
    """
    features = []
    for x in img:
        x = plain_conv(x, *weights(f"{resolution}.fromrgb"))
        here = resolution
        while here > 4:
            y = plain_conv(x, *weights(f"{here}.conv0"))
            weight, bias = weights(f"{here}.conv1")
            y = blurred(y, 1, 2, 2)
            y = F.conv2d(y[None], weight / np.sqrt(weight[0].numel()), stride=2)[0]
            y = activated(y, bias) * np.sqrt(0.5)
            skip = weights(f"{here}.skip")[0]
            past = F.conv2d(halved(x)[None], skip / np.sqrt(skip[0].numel()))[0]
            x = y + past * np.sqrt(0.5)
            here //= 2
        features.append(x)
    x = with_deviation(torch.stack(features), group_size)
    out = []
    for sample in x:
        y = plain_conv(sample, *weights("conv")).flatten()
        y = dense(y, *weights("fc"))
        out.append(dense(y, *weights("out"), active=False)[0])
    return torch.stack(out)


def plain_conv(x, weight, bias):
    y = F.conv2d(x[None], weight / np.sqrt(weight[0].numel()), padding=weight.shape[-1] // 2)[0]
    return activated(y, bias)


def with_deviation(x, group_size):
    """Append the mean deviation over each group; members of a group are N / group_size apart."""
    count = len(x)
    size = min(group_size, count)
    extra = []
    for index in range(count):
        group = x[index % (count // size) :: count // size]
        deviation = torch.sqrt(group.var(dim=0, unbiased=False) + 1e-8).mean()
        extra.append(torch.full_like(x[index][:1], float(deviation)))
    return torch.cat([x, torch.stack(extra)], dim=1)
