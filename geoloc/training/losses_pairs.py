"""Losses over pairs: each compares how like its own place a query is with how like the others it is.

All of them search the headings: what is compared of another place is its best turn, and of its own place the
best wrong one. With one azimuth bin there are no turns, and each is what its paper has.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor


@dataclass(frozen=True)
class Contrast:
    """Anchors of one view. positive: each one's cosine with its match. negative: with what is none, where
    `counts`.
    """

    positive: Float[Tensor, " q"]
    negative: Float[Tensor, "q n"]
    counts: Bool[Tensor, "q n"]

    def beside(self, negative: Float[Tensor, "q m"], counts: Bool[Tensor, "q m"]) -> "Contrast":
        """With further negatives."""
        return Contrast(
            self.positive,
            torch.cat([self.negative, negative], dim=1),
            torch.cat([self.counts, counts], dim=1),
        )


def contrasts(
    scores: Float[Tensor, "q b a"],
    owner: Int64[Tensor, " q"],
    turn: Float[Tensor, " q"],
    near: Bool[Tensor, "b b"] | None = None,
) -> tuple[Contrast, Contrast]:
    """The queries against tiles, and their tiles against queries; the arguments are `heading_infonce`'s.

    Between two bins the positive is interpolated, and neither of them is a wrong turn. A tile with several
    queries is an anchor once for each, and the others are no negatives of it.
    """
    q, b, a = scores.shape
    below, part = turn.floor().long() % a, turn - turn.floor()
    rows = torch.arange(q, device=scores.device)
    positive = (1 - part) * scores[rows, owner, below] + part * scores[rows, owner, (below + 1) % a]
    wrong = torch.ones_like(scores, dtype=torch.bool)
    wrong[rows, owner, below] = wrong[rows, owner, (below + 1) % a] = False
    negative = scores.masked_fill(~wrong, -1.0).amax(dim=2)
    counts = wrong.any(dim=2)
    if near is not None:
        counts &= ~(near & ~torch.eye(b, dtype=torch.bool, device=near.device))[owner]
    stranger = (owner[:, None] != owner) | (rows[:, None] == rows)
    tile = Contrast(positive, negative.T.index_select(0, owner), counts.T[owner] & stranger)
    return Contrast(positive, negative, counts), tile


def soft_margin_triplet(
    street: Contrast, tile: Contrast, weight: float = 10.0, hardest: float = 1.0
) -> Float[Tensor, ""]:
    """Mean of log(1 + exp(weight (d_pos - d_neg))) over all triplets in both directions.

    d is the squared distance of unit vectors, 2 - 2 s. Hu et al. 2018 (CVM-Net), eq. 4 with their
    alpha as `weight`; 10 as in SAFA (Shi et al. 2019). hardest: the share of each direction's triplets that
    are kept, those that cost most; Toker et al. 2021 go from 1 to 0.1, 0.05 and 0.01.
    """

    def one_way(anchors: Contrast) -> Float[Tensor, ""]:
        apart = anchors.negative - anchors.positive[:, None]
        terms = F.softplus(2 * weight * apart)[anchors.counts]
        if hardest < 1:
            terms = terms.topk(max(min(1, len(terms)), int(hardest * len(terms)))).values
        return terms.sum() / max(1, len(terms))

    return (one_way(street) + one_way(tile)) / 2


def multi_similarity(
    street: Contrast,
    tile: Contrast,
    alpha: float = 2.0,
    beta: float = 50.0,
    base: float = 0.5,
    margin: float = 0.1,
) -> Float[Tensor, ""]:
    """Multi-similarity (Wang et al. 2019): mining by eq. 11 and 12, weighting by eq. 15.

    log(1 + sum exp(-alpha (s_pos - base))) / alpha + log(1 + sum exp(beta (s_neg - base))) / beta, over the
    negatives that are above s_pos - margin and the positive if it is below the highest of them + margin. The
    base is that of the authors' code.
    """

    def one_way(anchors: Contrast) -> Float[Tensor, ""]:
        positive, negative = anchors.positive, anchors.negative
        hard = anchors.counts & (negative > positive.detach()[:, None] - margin)
        easy = (positive.detach()[:, None] >= negative + margin) | ~anchors.counts
        pull = F.softplus(-alpha * (positive - base)).masked_fill(easy.all(dim=1), 0) / alpha
        push = _log1p_sum_exp(beta * (negative - base), hard) / beta
        return (pull + push).mean()

    return (one_way(street) + one_way(tile)) / 2


def lifted_structure(street: Contrast, tile: Contrast, margin: float = 1.0) -> Float[Tensor, ""]:
    """Lifted structure (Oh Song et al. 2016), eq. 4: mean of max(0, J)^2 / 2 over the pairs, where
    J = log(sum exp(margin - D) over the negatives of its view and of its tile) + D_pos.

    D is the distance of unit vectors. One term for both directions: that is the lifting.
    """
    negative = torch.cat([street.negative, tile.negative], dim=1)
    counts = torch.cat([street.counts, tile.counts], dim=1)
    logits = (margin - _distance(negative)).masked_fill(~counts, -1e4)
    lifted = torch.logsumexp(logits, dim=1) + _distance(street.positive)
    return (F.relu(lifted) ** 2).mean() / 2


def nt_xent(street: Contrast, tile: Contrast, temperature: Float[Tensor, ""] | float) -> Float[Tensor, ""]:
    """NT-Xent (Chen et al. 2020, SimCLR), eq. 1: -log of exp(s_pos / temperature) over the sum of it and all
    exp(s_neg / temperature), averaged over the anchors of both views.

    SimCLR's negatives are of the other view and of the anchor's own: see `beside`.
    """

    def one_way(anchors: Contrast) -> Float[Tensor, ""]:
        apart = (anchors.negative - anchors.positive[:, None]) / temperature
        return _log1p_sum_exp(apart, anchors.counts).mean()

    return (one_way(street) + one_way(tile)) / 2


def batch_hard_triplet(street: Contrast, tile: Contrast, margin: float = 0.3) -> Float[Tensor, ""]:
    """Mean of max(0, D_pos - D_neg + margin), D_neg of the nearest negative: the second half of Luo et al.
    2019, eq. 2, after Hermans et al. 2017. D is the distance of unit vectors.
    """

    def one_way(anchors: Contrast) -> Float[Tensor, ""]:
        hardest = anchors.negative.masked_fill(~anchors.counts, -1.0).amax(dim=1)
        terms = F.relu(_distance(anchors.positive) - _distance(hardest) + margin)
        return terms.masked_fill(~anchors.counts.any(dim=1), 0).mean()

    return (one_way(street) + one_way(tile)) / 2


def _log1p_sum_exp(logits: Float[Tensor, "m n"], counts: Bool[Tensor, "m n"]) -> Float[Tensor, " m"]:
    """log(1 + sum exp) over what counts of each row."""
    return torch.logsumexp(F.pad(logits.masked_fill(~counts, -1e4), (1, 0)), dim=1)


def _distance(cosine: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Of unit vectors; its gradient is finite where they are the same."""
    return (2 - 2 * cosine).clamp(min=1e-8).sqrt()
