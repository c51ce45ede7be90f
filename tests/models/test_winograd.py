"""The convolution with fewer products, and that it never uses an old weight."""

import pytest
import torch

from ehmfaces.models.ops import conv2d_winograd, winograd_weight
from ehmfaces.models.stylegan2 import SynthesisLayer


def test_fewer_products_give_the_same_convolution():
    torch.manual_seed(0)
    x, weight = torch.randn(1, 6, 10, 14), torch.randn(5, 6, 3, 3)
    plain = torch.nn.functional.conv2d(x, weight, padding=1)
    assert torch.allclose(conv2d_winograd(x, winograd_weight(weight)), plain, atol=2e-5)


@pytest.mark.parametrize("write", ["copy", "data", "load"])
def test_a_layer_notices_that_its_weight_changed(write):
    torch.manual_seed(0)
    layer = SynthesisLayer(512, 512, 8, 16).eval().requires_grad_(False)
    x, w = torch.randn(1, 512, 16, 16), torch.randn(1, 8)
    with torch.inference_mode():
        before = layer(x, w, "const")
        assert set(layer._derived) == {"energy", "kernel"}  # else this test shows nothing
    other = torch.randn_like(layer.weight)
    if write == "copy":
        with torch.no_grad():
            layer.weight.copy_(other)
    elif write == "data":
        layer.weight.data.copy_(other)
    else:
        layer.load_state_dict({**layer.state_dict(), "weight": other})
    with torch.inference_mode():
        after = layer(x, w, "const")
    with torch.enable_grad():
        plain = layer(x, w, "const")
    assert torch.allclose(after, plain, atol=1e-4)
    assert not torch.allclose(after, before, atol=1e-1)
