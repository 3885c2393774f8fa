"""What pre-training minimises: two views of an image agree, and no others do (SimCLR, Chen et al. 2020)."""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from geoloc.embed import Side
from geoloc.encoder import TwinEncoder, seen_bins
from geoloc.training.augment import Queries
from geoloc.training.losses_pairs import Contrast, nt_xent


class Agreement(nn.Module):
    """NT-Xent over two views of every image, after a projection that is thrown away (SimCLR, section 2.1).

    The projection is theirs: linear, ReLU, linear, each with a batch norm; its norms see the whole batch.
    """

    def __init__(self, channels: int, projection: int, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature
        self.projection = nn.Sequential(
            nn.Linear(channels, projection, bias=False),
            nn.BatchNorm1d(projection),
            nn.ReLU(),
            nn.Linear(projection, projection, bias=False),
            nn.BatchNorm1d(projection, affine=False),
        )

    def forward(
        self,
        first: Float[Tensor, "b 1 c"],
        second: Float[Tensor, "b 1 c"],
        _batch: Queries,
        _rows: Int64[np.ndarray, " b"],
    ) -> Float[Tensor, ""]:
        """The loss of both views of a batch, as an objective is called by `Stepper`."""
        one, other = self.projection(torch.cat([first, second])[:, 0]).chunk(2)
        return agreement(one, other, self.temperature)


def agreement(
    first: Float[Tensor, "b d"], second: Float[Tensor, "b d"], temperature: float
) -> Float[Tensor, ""]:
    """NT-Xent (SimCLR, eq. 1): each of 2 b vectors, the other of its image against the 2 b - 2 of others.

    Vectors of any length: their cosines are compared.
    """
    one, other = F.normalize(first, dim=1), F.normalize(second, dim=1)
    across, others = one @ other.T, ~torch.eye(len(one), dtype=torch.bool, device=one.device)
    anchor, match = (
        Contrast(across.diagonal(), scores, others).beside(own @ own.T, others)
        for scores, own in ((across, one), (across.T, other))
    )
    return nt_xent(anchor, match, temperature)


def representation(
    encoder: TwinEncoder, view: Side, images: Float[Tensor, "b i h w"]
) -> Float[Tensor, "b c"]:
    """What learns, and is kept: the mean over an image's azimuth bins, of a street view those it shows.

    0 for a street view that shows nothing on the canvas, such as a strip of sky above it.
    """
    if view == "satellite":
        return encoder.satellite_bins(images).mean(dim=1)
    shown = seen_bins(images[:, 3], encoder.spec.azimuth_bins)[:, :, None]
    return (encoder.street_bins(images) * shown).sum(dim=1) / shown.sum(dim=1).clamp(min=1)
