"""InfoNCE over a batch of pairs; losses_pairs.py and losses_places.py hold the other losses."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
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
    return _both_ways(*_part(scores, owner, turn, temperature, near, smoothing), smoothing)


def heading_infonce_in_parts(
    scores: Callable[[slice, Float[Tensor, "q a c"], Float[Tensor, "b a c"]], Float[Tensor, "m b a"]],
    street: Float[Tensor, "q a c"],
    satellite: Float[Tensor, "b a c"],
    owner: Int64[Tensor, " q"],
    turn: Float[Tensor, " q"],
    temperature: Float[Tensor, ""],
    near: Bool[Tensor, "b b"],
    smoothing: float,
    size: int,
) -> Float[Tensor, ""]:
    """`heading_infonce` with the scores of `size` queries at a time in memory, computed again backwards.

    All of them are most of what a large batch takes: 1,024 pairs of 32 bins have 300 MB of them, and as many
    again for every step of the loss.
    """

    def part(rows: slice, street: Tensor, satellite: Tensor, temperature: Tensor) -> Part:
        some = scores(rows, street, satellite)
        return _part(some, owner[rows], turn[rows], temperature, near, smoothing)

    rows = [slice(start, start + size) for start in range(0, len(owner), size)]
    loss: Tensor = _InParts.apply(part, rows, smoothing, street, satellite, temperature)  # type: ignore[no-untyped-call]
    return loss


class _InParts(torch.autograd.Function):
    """A loss of sums over all parts: how it pulls at those is known from them alone, so no part is kept.

    What is kept of a part has its room beforehand: small tensors between the large ones that come and go
    leave glibc none of the same size to use again.
    """

    @staticmethod
    def forward(
        ctx: Any, part: Callable[..., "Part"], rows: Sequence[slice], smoothing: float, *given: Tensor
    ) -> Tensor:
        street, satellite = given[:2]
        queries, tiles = street.new_zeros(5, len(street)), street.new_zeros(5, len(satellite))
        tiles[0] = -torch.inf
        for some in rows:
            here, there = part(some, *given)
            queries[:, some] = torch.stack(here)
            tiles[0] = torch.logaddexp(tiles[0], there[0])
            tiles[1:] += torch.stack(there[1:])
        with torch.enable_grad():
            loss = _both_ways(queries.requires_grad_(), tiles.requires_grad_(), smoothing)
            ctx.pulls = torch.autograd.grad(loss, (queries, tiles))
        ctx.save_for_backward(tiles[0].detach(), *given)
        ctx.part, ctx.rows = part, rows
        return loss.detach()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        total, *given = ctx.saved_tensors
        own = [one.detach().requires_grad_() for one in given]
        at_queries, at_tiles = (pull * gradient for pull in ctx.pulls)
        for some in ctx.rows:
            with torch.enable_grad():
                here, there = ctx.part(some, *own)
            pulls = at_tiles.clone()
            pulls[0] *= (there[0].detach() - total).exp()
            told = [*zip(here, at_queries[:, some], strict=True), *zip(there, pulls, strict=True)]
            sums, pull = zip(*((one, by) for one, by in told if one.requires_grad), strict=True)
            torch.autograd.backward(sums, pull)
        return None, None, None, *(one.grad for one in own)


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


def _both_ways(
    queries: Float[Tensor, "5 q"] | Sums, tiles: Float[Tensor, "5 b"] | Sums, smoothing: float
) -> Float[Tensor, ""]:
    """The mean cross entropy of the anchors of both directions that anything is asked of."""
    costs = []
    for total, told, asked, even, count in (queries, tiles):
        cost = total - told / asked.clamp(min=1e-6)
        if smoothing:
            cost = (1 - smoothing) * cost + smoothing * (total - even / count)
        costs.append(cost[asked > 0].mean())
    return (costs[0] + costs[1]) / 2
