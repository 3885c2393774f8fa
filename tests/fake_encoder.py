"""An encoder that is a fixed random projection, and a gallery built with it, quickly and killably."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geoloc.spec import EncoderSpec
from indexing.build import build_gallery

SPEC = EncoderSpec(
    backbone="resnet18",
    stage=2,
    shared=True,
    azimuth_bins=4,
    channels=6,
    street_hw=(16, 64),
    street_elevation_deg=(-45.0, 30.0),
    satellite_px=16,
    polar=True,
    footprint_m=32.0,
)


class FakeEncoder(nn.Module):
    """Embeds a tile by a fixed random projection of its pixels."""

    def __init__(self, spec: EncoderSpec = SPEC) -> None:
        super().__init__()
        self.spec = spec
        size = 3 * spec.satellite_px**2
        weights = torch.randn(spec.dim, size, generator=torch.Generator().manual_seed(0))
        self.register_buffer("weights", weights)

    @torch.autocast("cpu", enabled=False)
    def embed_satellite(self, batch: Tensor) -> Tensor:
        flat = batch.flatten(1)
        return F.normalize((flat - flat.mean(1, keepdim=True)) @ self.weights.T, dim=1)


def build(imagery: Path, model: Path, out: Path) -> None:
    """Build a gallery of about a dozen blocks; a test runs this in a process of its own and kills it."""
    build_gallery([imagery], model, out, stride_m=4, encoder=FakeEncoder())
