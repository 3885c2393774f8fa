import copy

import torch
from torch import nn

from geoloc.training.depthwise import wide_depthwise_in_float32


def convs() -> nn.ModuleDict:
    torch.manual_seed(0)
    return nn.ModuleDict(
        {
            "wide": nn.Conv2d(6, 6, 5, stride=2, groups=6, bias=False),
            "narrow": nn.Conv2d(6, 6, 3, groups=6, bias=False),
            "full": nn.Conv2d(6, 6, 5, bias=False),
            "frozen": nn.Conv2d(6, 6, 5, groups=6, bias=False).requires_grad_(False),
        }
    )


def test_wide_depthwise_convolutions_that_learn_compute_in_float32_and_no_others():
    plain, mended = convs(), convs()
    wide_depthwise_in_float32(mended)
    images = torch.randn(2, 6, 16, 16, generator=torch.Generator().manual_seed(1)).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        before = {name: conv(images) for name, conv in plain.items()}
        after = {name: conv(images) for name, conv in mended.items()}
    exact = nn.functional.conv2d(images.double(), plain["wide"].weight.double(), stride=2, groups=6)
    assert after["wide"].dtype == torch.bfloat16
    assert (after["wide"].double() - exact).abs().max() < (before["wide"].double() - exact).abs().max()
    assert torch.equal(after["wide"], exact.float().bfloat16())
    for name in ("narrow", "full", "frozen"):
        assert torch.equal(after[name], before[name])

    after["wide"].float().square().sum().backward()
    assert mended["wide"].weight.grad is not None and mended["wide"].weight.grad.dtype == torch.float32


def test_a_copy_computes_with_weights_of_its_own():
    mended = convs()
    wide_depthwise_in_float32(mended)
    other = copy.deepcopy(mended)
    with torch.no_grad():
        other["wide"].weight.zero_()
    images = torch.ones(1, 6, 8, 8)
    assert not other["wide"](images).any()
    assert mended["wide"](images).any()
    assert list(mended.state_dict()) == list(convs().state_dict())
