"""InfoNCE over a batch of pairs; losses_pairs.py and losses_places.py hold the other losses."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.utils.checkpoint import checkpoint


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
    return _both_ways([_part(scores, owner, turn, temperature, near, smoothing)], smoothing)


def heading_infonce_in_parts(
    scores: Callable[[slice], Float[Tensor, "m b a"]],
    owner: Int64[Tensor, " q"],
    turn: Float[Tensor, " q"],
    temperature: Float[Tensor, ""],
    near: Bool[Tensor, "b b"],
    smoothing: float,
    size: int,
) -> Float[Tensor, ""]:
    """`heading_infonce` with the scores of `size` queries at a time in memory, computed again backwards.

    All of them are most of what a large batch takes: 1,024 pairs of 32 bins have 300 MB of them.
    """

    def part(rows: slice) -> Part:
        return _part(scores(rows), owner[rows], turn[rows], temperature, near, smoothing)

    rows = (slice(start, start + size) for start in range(0, len(owner), size))
    again = partial(checkpoint, part, use_reentrant=False, preserve_rng_state=False)
    return _both_ways([again(some) for some in rows], smoothing)


Sums = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""Of anchors over their candidates: the logits' log sum exp, what of them is the target's and how much target
there is, and the sum and the number of those that are not out; these last two 0 without smoothing."""

Part = tuple[Sums, Sums]
"""Of some queries: theirs over all tiles, and the tiles' over these queries."""


def _part(
    scores: Float[Tensor, "m b a"],
    owner: Int64[Tensor, " m"],
    turn: Float[Tensor, " m"],
    temperature: Float[Tensor, ""] | float,
    near: Bool[Tensor, "b b"] | None,
    smoothing: float,
) -> Part:
    m, b, a = scores.shape
    below, part = turn.floor().long(), turn - turn.floor()
    target = torch.zeros_like(scores)
    rows = torch.arange(m, device=scores.device)
    target[rows, owner, below % a] += 1 - part
    target[rows, owner, (below + 1) % a] += part
    logits, kept = scores / temperature, torch.ones(m, b, 1, dtype=torch.bool, device=scores.device)
    if near is not None:
        kept = ~(near & ~torch.eye(b, dtype=torch.bool, device=near.device))[owner][:, :, None]
        logits = logits.masked_fill(~kept, -1e4)

    def sums(candidates: tuple[int, int]) -> Sums:
        total, told, asked = (
            logits.logsumexp(dim=candidates),
            (target * logits).sum(dim=candidates),
            target.sum(dim=candidates),
        )
        if not smoothing:
            return total, told, asked, torch.zeros_like(asked), torch.zeros_like(asked)
        count = a * kept.to(asked.dtype).sum(dim=candidates)
        return total, told, asked, (logits * kept).sum(dim=candidates), count

    return sums((1, 2)), sums((0, 2))


def _both_ways(parts: Sequence[Part], smoothing: float) -> Float[Tensor, ""]:
    """The mean of both directions; a tile's candidates are the queries of all parts."""
    queries, tiles = zip(*parts, strict=True)
    totals, *others = (torch.stack(column) for column in zip(*tiles, strict=True))
    asking = [torch.cat(column) for column in zip(*queries, strict=True)]
    asked = [totals.logsumexp(dim=0), *(column.sum(dim=0) for column in others)]
    return (_cost(smoothing, *asking) + _cost(smoothing, *asked)) / 2


def _cost(
    smoothing: float,
    total: Float[Tensor, " m"],
    told: Float[Tensor, " m"],
    asked: Float[Tensor, " m"],
    even: Float[Tensor, " m"],
    count: Float[Tensor, " m"],
) -> Float[Tensor, ""]:
    """The mean cross entropy of the anchors that anything is asked of."""
    cost = total - told / asked.clamp(min=1e-6)
    if smoothing:
        cost = (1 - smoothing) * cost + smoothing * (total - even / count)
    return cost[asked > 0].mean()
