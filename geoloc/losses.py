"""Losses over a batch of pairs: row i of both views is one place."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from geoloc.errors import GeolocError


def soft_margin_triplet(
    street: Float[Tensor, "b d"], satellite: Float[Tensor, "b d"], weight: float = 10.0
) -> Float[Tensor, ""]:
    """Mean of log(1 + exp(weight (d_pos - d_neg))) over all b(b-1) triplets in both directions.

    d is the squared distance of unit vectors, 2 - 2 s. Hu et al. 2018 (CVM-Net), eq. 4 with their
    alpha as `weight`; 10 as in SAFA (Shi et al. 2019). Raises GeolocError for fewer than 2 pairs.
    """
    b = len(street)
    if b < 2 or street.shape != satellite.shape:
        raise GeolocError(f"A triplet needs two batches of one shape and 2 pairs or more, got {b}.")
    distance = 2 - 2 * street @ satellite.T
    positive = distance.diagonal()
    others = ~torch.eye(b, dtype=torch.bool, device=street.device)
    from_street = F.softplus(weight * (positive[:, None] - distance))[others]
    from_satellite = F.softplus(weight * (positive[None, :] - distance))[others]
    return (from_street.mean() + from_satellite.mean()) / 2


def over_windows(
    street: Float[Tensor, "b d"],
    satellite: Float[Tensor, "b d"],
    azimuth_bins: int,
    cuts: Sequence[int],
    loss: Callable[[Tensor, Tensor], Tensor],
) -> Float[Tensor, ""]:
    """Mean of `loss` over windows of azimuth: for each n of `cuts`, the ring cut into n equal windows.

    A cut of 1 is the whole panorama; 4 asks every quarter of it to be told apart by itself, as a
    photo of 90 degrees must be. Every window is made unit vectors of its own (the window
    normalisation of DSM, Shi et al. 2020, section 3.3). Every n must divide azimuth_bins.
    """
    street_bins = street.reshape(len(street), azimuth_bins, -1)
    satellite_bins = satellite.reshape(len(satellite), azimuth_bins, -1)
    means = []
    for n in cuts:
        windows = zip(street_bins.chunk(n, dim=1), satellite_bins.chunk(n, dim=1), strict=True)
        terms = [loss(*(F.normalize(view.flatten(1), dim=1) for view in window)) for window in windows]
        means.append(torch.stack(terms).mean())
    return torch.stack(means).mean()
