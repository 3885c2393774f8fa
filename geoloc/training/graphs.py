"""The encoders' passes recorded as CUDA graphs: a launch for each where there were hundreds."""

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from geoloc.encoder import TwinEncoder
from geoloc.errors import DataError
from geoloc.training.run import Run
from geoloc.training.step import Bins, Encode, Stepper, both_views, same_buffers


class _Both(nn.Module):
    def __init__(self, encoder: TwinEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, street: Tensor, satellite: Tensor) -> Bins:
        return both_views(self.encoder, street, satellite)


def with_graphs(run: Run, stepper: Stepper) -> Stepper:
    """The same, its encoders recorded. Raises DataError without a GPU, or for several processes."""
    if stepper.device.type == "cpu" or run.ranks.world > 1:
        raise DataError("graphs=true wants one process and a GPU; set graphs=false.")
    stepper.learner.train()
    b = run.config.chunk or run.config.batch
    return replace(stepper, encode=recorded(stepper.learner.encoder, b, stepper.precision))


def recorded(encoder: TwinEncoder, b: int, precision: torch.dtype) -> Encode:
    """`both_views` of b pairs, as it is now and on its GPU, forward and backward recorded once and replayed.

    A small model's step is more launches than work (tests/benchmarks/bench_gpu.py). Nothing else may run on
    the GPU meanwhile. The statistics of norms are afterwards what they were before.
    """
    device, spec = next(encoder.parameters()).device, encoder.spec
    street = torch.zeros(b, 4, *spec.street_hw, device=device)
    satellite = torch.zeros(b, 3, spec.satellite_px, spec.satellite_px, device=device)
    plain = precision == torch.float32
    with same_buffers(encoder), torch.autocast(device.type, precision, not plain, cache_enabled=False):
        graph = torch.cuda.make_graphed_callables(_Both(encoder), (street, satellite))
    return lambda _, street, satellite: cast(Bins, graph(street, satellite))
