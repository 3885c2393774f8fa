"""Backbones compiled block by block."""

from collections.abc import Iterator

import torch
from torch import nn

from geoloc.encoder import TwinEncoder
from geoloc.errors import DataError
from geoloc.training.learner import backbones

MOST_SIZES = 64
"""Of blocks, each by what it is and what it is given; torch gives up at 8."""


def compile_blocks(encoder: TwinEncoder) -> None:
    """Have torch.compile each block of the backbones, in place: once for all that are alike.

    A stack of 36 blocks of 4 widths is then 4 to compile, which takes a fraction of the time, and between the
    blocks there is little to gain. Raises DataError for a backbone without blocks.
    """
    torch._dynamo.config.recompile_limit = MOST_SIZES
    for backbone in backbones(encoder):
        found = list(_blocks(backbone))
        if not found:
            raise DataError(f"{encoder.spec.backbone} is not made of blocks; set compiled=false.")
        for block in found:
            block.compile(dynamic=False)


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """timm's own modules in sequences of them, the innermost: of a stage its blocks."""
    in_sequence = isinstance(module, nn.Sequential | nn.ModuleList)
    for child in module.children():
        inner = list(_blocks(child))
        if inner:
            yield from inner
        elif in_sequence and type(child).__module__.startswith("timm.models"):
            yield child
