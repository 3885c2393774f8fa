"""Wide depthwise convolutions on a CPU, computed in float32 where all else is bfloat16."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

WIDE = 5
"""Narrower ones gain nothing: of 3 x 3, bfloat16 is the faster or the same."""


def wide_depthwise_in_float32(encoder: nn.Module) -> None:
    """Have the depthwise convolutions that learn, from 5 x 5 on, compute in float32, in place.

    oneDNN's gradient of them in bfloat16 takes up to three times as long as in float32: 200 ms of 64 ms, a
    chunk of 64 images of 144 x 19 x 83 with stride 2. They are few, and their weights float32 anyway.
    """
    for conv in encoder.modules():
        if (
            isinstance(conv, nn.Conv2d)
            and conv.groups == conv.in_channels > 1
            and max(conv.kernel_size) >= WIDE
            and conv.weight.requires_grad
        ):
            conv.forward = partial(_in_float32, conv.forward)  # type: ignore[method-assign]


def _in_float32(forward: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        return forward(images.float()).to(images.dtype)
