"""InfoNCE over a batch of pairs; losses_pairs.py and losses_places.py hold the other losses."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor


def heading_infonce(
    scores: Float[Tensor, "q b a"],
    owner: Int64[Tensor, " q"],
    turn: Float[Tensor, " q"],
    temperature: Float[Tensor, ""] | float,
    near: Bool[Tensor, "b b"] | None = None,
    smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """InfoNCE over places and headings at once: mean of -log softmax(scores / temperature), both ways.

    scores: of query q with tile b at every turn (see `correlate`). Query q belongs to tile owner[q] at
    `turn[q]` bins; between two bins, both are right, by how near they are, so the scores peak at the true
    heading. Every other turn of every tile is a negative: a batch of b pairs has b x a of them. With one
    bin this is the symmetric InfoNCE of CLIP (Radford et al. 2021) and Sample4Geo (Deuser et al. 2023). It is
    also the soft-margin triplet with its negatives joined by a log-sum-exp: log(1 + sum exp(s_neg - s_pos)).
    near[i, j]: pairs i and j are too near each other to be told apart, and not negatives. smoothing: the
    share of the target that is spread evenly over all candidates (Szegedy et al. 2016; 0.1 in Sample4Geo).
    """
    q, b, a = scores.shape
    below, part = turn.floor().long(), turn - turn.floor()
    target = torch.zeros_like(scores)
    rows = torch.arange(q, device=scores.device)
    target[rows, owner, below % a] += 1 - part
    target[rows, owner, (below + 1) % a] += part
    logits, out = scores / temperature, None
    if near is not None:
        out = (near & ~torch.eye(b, dtype=torch.bool, device=near.device))[owner][:, :, None]
        logits = logits.masked_fill(out, -1e4)
    from_street = _cross_entropy(logits, target, smoothing, out)
    by_tile, share = logits.transpose(0, 1), target.transpose(0, 1)
    asked = share.sum(dim=(1, 2))
    out = None if out is None else out.transpose(0, 1)
    from_tile = _cross_entropy(by_tile, share, smoothing, out, asked.clamp(min=1e-6))[asked > 0]
    return (from_street.mean() + from_tile.mean()) / 2


def _cross_entropy(
    logits: Float[Tensor, "m n a"],
    target: Float[Tensor, "m n a"],
    smoothing: float,
    out: Bool[Tensor, "m n 1"] | None,
    asked: Float[Tensor, " m"] | None = None,
) -> Float[Tensor, " m"]:
    """Of each row, with the smoothing's share of the target on the candidates that are not out."""
    log_p = F.log_softmax(logits.flatten(1), dim=1).view_as(logits)
    cost = -(target * log_p).sum(dim=(1, 2))
    cost = cost if asked is None else cost / asked
    if not smoothing:
        return cost
    kept = torch.ones_like(log_p) if out is None else (~out).to(log_p.dtype).expand_as(log_p)
    return (1 - smoothing) * cost - smoothing * (log_p * kept).sum(dim=(1, 2)) / kept.sum(dim=(1, 2))
