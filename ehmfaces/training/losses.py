"""The losses of StyleGAN2. Math on logits, pictures and ws only; knows no loop and no schedule."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def generator_loss(fake_logits: Tensor) -> Tensor:
    """Non-saturating logistic loss: softplus(-D(G(z))), mean. Source: Goodfellow et al. (2014)."""
    return F.softplus(-fake_logits).mean()


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Logistic loss: softplus(D(G(z))) + softplus(-D(x)), means."""
    return F.softplus(fake_logits).mean() + F.softplus(-real_logits).mean()


def r1_penalty(real_logits: Tensor, real_img: Tensor) -> Tensor:
    """Squared gradient of the logits at real pictures [N]. Source: Mescheder et al. (2018), equation 9."""
    (grad,) = torch.autograd.grad(real_logits.sum(), real_img, create_graph=True)
    return grad.square().sum(dim=[1, 2, 3])


def path_lengths(img: Tensor, ws: Tensor, noise: Tensor) -> Tensor:
    """Length of J^T y for pictures [N, C, H, W] made from ws [N, num_ws, w_dim], per sample [N].

    Args:
        img: Output of the synthesis network.
        ws: Its input, with gradient.
        noise: Standard normal [N, C, H, W].

    Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN" (2020), equation 4.
    """
    scaled = noise / math.sqrt(img.shape[2] * img.shape[3])
    (grad,) = torch.autograd.grad((img * scaled).sum(), ws, create_graph=True)
    return grad.square().sum(dim=2).mean(dim=1).sqrt()
