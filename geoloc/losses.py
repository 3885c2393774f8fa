"""Losses over a batch of pairs: row i of both views is one place."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
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


def heading_infonce(
    scores: Float[Tensor, "q b a"],
    owner: Int64[Tensor, " q"],
    turn: Float[Tensor, " q"],
    temperature: Float[Tensor, ""] | float,
    near: Bool[Tensor, "b b"] | None = None,
) -> Float[Tensor, ""]:
    """InfoNCE over places and headings at once: mean of -log softmax(scores / temperature), both ways.

    scores: of query q with tile b at every turn (see `correlate`). Query q belongs to tile owner[q] at
    `turn[q]` bins; between two bins, both are right, by how near they are, so the scores peak at the true
    heading. Every other turn of every tile is a negative: a batch of b pairs has b x a of them. With one
    bin this is the symmetric InfoNCE of CLIP (Radford et al. 2021) and Sample4Geo (Deuser et al. 2023). It is
    also the soft-margin triplet with its negatives joined by a log-sum-exp: log(1 + sum exp(s_neg - s_pos)).
    near[i, j]: pairs i and j are too near each other to be told apart, and not negatives.
    """
    q, b, a = scores.shape
    below, part = turn.floor().long(), turn - turn.floor()
    target = torch.zeros_like(scores)
    rows = torch.arange(q, device=scores.device)
    target[rows, owner, below % a] += 1 - part
    target[rows, owner, (below + 1) % a] += part
    logits = scores / temperature
    if near is not None:
        others = near & ~torch.eye(b, dtype=torch.bool, device=near.device)
        logits = logits.masked_fill(others[owner][:, :, None], -1e4)
    from_street = -(target * F.log_softmax(logits.flatten(1), dim=1).view_as(logits)).sum(dim=(1, 2))
    by_tile, share = logits.transpose(0, 1), target.transpose(0, 1)
    from_tile = -(share * F.log_softmax(by_tile.flatten(1), dim=1).view_as(by_tile)).sum(dim=(1, 2))
    asked = share.sum(dim=(1, 2))
    from_tile = (from_tile / asked.clamp(min=1e-6))[asked > 0]
    return (from_street.mean() + from_tile.mean()) / 2


def heading_triplet(
    scores: Float[Tensor, "q b a"],
    owner: Int64[Tensor, " q"],
    turn: Float[Tensor, " q"],
    weight: float = 10.0,
    near: Bool[Tensor, "b b"] | None = None,
) -> Float[Tensor, ""]:
    """Soft-margin triplet (see `soft_margin_triplet`) whose negatives are other places at their best turn
    and the true place at its best wrong turn; the positive is the true place at the true turn. Pairs that
    are near each other make no terms.
    """
    q, b, a = scores.shape
    below, part = turn.floor().long() % a, turn - turn.floor()
    rows = torch.arange(q, device=scores.device)
    positive = (1 - part) * scores[rows, owner, below] + part * scores[rows, owner, (below + 1) % a]
    wrong = torch.ones_like(scores, dtype=torch.bool)
    wrong[rows, owner, below] = wrong[rows, owner, (below + 1) % a] = False
    negative = scores.masked_fill(~wrong, -1.0).amax(dim=2)
    terms = F.softplus(2 * weight * (negative - positive[:, None]))
    if near is None:
        return terms.mean()
    others = near & ~torch.eye(b, dtype=torch.bool, device=near.device)
    return terms[~others[owner]].mean()
