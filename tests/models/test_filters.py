"""Filters that are not learned: the same sums and gradients as the general convolution, twice."""

import pytest
import torch
import torch.nn.functional as F

from ehmfaces.models.ops import setup_filter, upfirdn2d


@pytest.mark.parametrize("taps", [(1, 3, 3, 1), (1, 2, 4), (1, 2, 3, 4, 5)])
@pytest.mark.parametrize("down", [1, 2])
@pytest.mark.parametrize("padding", [(1, 1, 1, 1), (2, 1, 2, 1), (0, 3, 1, 2), (0, 0, 0, 0)])
@pytest.mark.parametrize("size", [(9, 8), (8, 11)])
def test_gradient_is_that_of_the_convolution(
    taps: tuple[int, ...], down: int, padding: tuple[int, int, int, int], size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    kernel = setup_filter(taps).double()
    x = torch.randn(2, 3, *size, dtype=torch.double, requires_grad=True)
    filtered = upfirdn2d(x, kernel, down=down, padding=padding)
    weight = kernel.flip(0, 1)[None, None].expand(3, 1, -1, -1)
    plain = F.conv2d(F.pad(x, padding), weight, stride=down, groups=3)
    assert torch.allclose(filtered, plain)
    towards = torch.randn_like(plain)
    (mine,), (general,) = (torch.autograd.grad(y, x, towards) for y in (filtered, plain))
    assert torch.allclose(mine, general)


def test_gradient_has_a_gradient() -> None:
    kernel = setup_filter((1, 3, 3, 1)).double()
    x = torch.randn(1, 2, 6, 7, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradgradcheck(
        lambda img: upfirdn2d(img, kernel, down=2, padding=(1, 2, 2, 1)).square(), x
    )
