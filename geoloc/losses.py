"""Losses over a batch of pairs: row i of both views is one place."""

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
