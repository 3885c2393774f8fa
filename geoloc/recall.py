"""Exact ranks in bounded memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from geoloc.azimuth import correlate, correlate_each, peak
from geoloc.lineup import Lineup, Links
from geoloc.report import Report

Ties = Literal["against", "optimistic"]
CHUNK = 256
QUERIES, ROWS = 1024, 8192
"""The block of scores that is held at a time: 32 MB, small enough to be counted while it is in the cache."""
TIE = 1e-6
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Standing:
    """Where the right answers stand. Ranks count from 0; each is that of the best right answer.

    rank: among all that is not right itself. lenient: the same where `also` counts as right. unbeaten:
    how many items neither right nor semi-positive are above, VIGOR's hit is 0. precision: average
    precision. best: the gallery's best row.
    """

    rank: Int64[np.ndarray, " q"]
    lenient: Int64[np.ndarray, " q"]
    unbeaten: Int64[np.ndarray, " q"]
    precision: Float[np.ndarray, " q"]
    best: Int64[np.ndarray, " q"]


def stand(
    queries: Float32[np.ndarray, "q d"],
    gallery: Float32[np.ndarray, "g d"],
    lineup: Lineup,
    *,
    ties: Ties = "against",
    rolls: int = 1,
    device: torch.device = CPU,
    report: Report = lambda *_: None,
) -> Standing:
    """Rank the right answers of a line-up by unit vectors; see `count_better` for ties, rolls and memory."""
    right, lenient, mild = lineup.right, lineup.right | lineup.also, lineup.right | lineup.semi
    scores = link_scores(queries, gallery, right, rolls)
    each = _table(right, scores, len(queries))
    best_right = each[:, :1]
    best_lenient = _table(lenient, link_scores(queries, gallery, lenient, rolls), len(queries))[:, :1]
    (among, lenient_rank, unbeaten), best = count_better(
        queries, gallery, [(each, right), (best_lenient, lenient), (best_right, mild)],
        ties=ties, rolls=rolls, device=device, report=report,
    )  # fmt: skip
    return Standing(among[:, 0], lenient_rank[:, 0], unbeaten[:, 0], average_precision(among, each), best)


def ranks(
    queries: Float32[np.ndarray, "q d"],
    gallery: Float32[np.ndarray, "g d"],
    truth: Int64[np.ndarray, " q"],
    *,
    ties: Ties = "against",
    rolls: int = 1,
    device: torch.device = CPU,
) -> tuple[Int64[np.ndarray, " q"], Int64[np.ndarray, " q"]]:
    """The rank of every query's one match (0 is best), and its best row; see `count_better`."""
    right = Links(np.arange(len(queries)), truth)
    own = link_scores(queries, gallery, right, rolls)[:, None]
    (rank,), best = count_better(queries, gallery, [(own, right)], ties=ties, rolls=rolls, device=device)
    return rank[:, 0], best


def count_better(
    queries: Float32[np.ndarray, "q d"],
    gallery: Float32[np.ndarray, "g d"],
    rules: Sequence[tuple[Float32[np.ndarray, "q _"], Links]],
    *,
    ties: Ties = "against",
    rolls: int = 1,
    device: torch.device = CPU,
    report: Report = lambda *_: None,
) -> tuple[list[Int64[np.ndarray, "q _"]], Int64[np.ndarray, " q"]]:
    """For every rule, how many of the gallery score at least as high as each of a query's thresholds,
    the rule's links left out; and every query's best row.

    At least as high is to within a float's rounding (1e-6): ties count against us. `optimistic` counts
    those that are higher by more than that, as the peers' published code does but for the rounding. A
    score that is no number is higher. rolls > 1 scores each query at its best heading, between that many
    azimuth bins by a parabola (`peak`). Holds a block of 1024 x 8192 scores at a time on the device, as
    many again over the headings, and the counts.
    """
    margin = -TIE if ties == "against" else TIE
    floors = [torch.from_numpy(thresholds).to(device) + margin for thresholds, _ in rules]
    counts = [torch.zeros(floor.shape, dtype=torch.int64, device=device) for floor in floors]
    best = torch.zeros(len(queries), dtype=torch.int64, device=device)
    top = torch.full((len(queries),), -torch.inf, device=device)
    spare = torch.empty(QUERIES * ROWS, device=device)
    for start in range(0, len(queries), QUERIES):
        here = slice(start, min(start + QUERIES, len(queries)))
        asked = torch.from_numpy(queries[here]).to(device)
        for first in range(0, len(gallery), ROWS):
            rows = slice(first, min(first + ROWS, len(gallery)))
            scores = _scores(asked, torch.from_numpy(gallery[rows]).to(device), rolls)
            beaten = spare[: scores.numel()].view_as(scores)
            for floor, count, (_, left_out) in zip(floors, counts, rules, strict=True):
                for column in range(floor.shape[1]):
                    # not lower, rather than higher: what is no number counts against us
                    torch.lt(scores, floor[here, column, None], out=beaten)
                    count[here, column] += scores.shape[1] - beaten.sum(dim=1).long()
                query, row = (torch.from_numpy(c).to(device) for c in _within(left_out, here, rows))
                own = ~(scores[query - here.start, row - rows.start, None] < floor[query])
                count.index_add_(0, query, -own.long())
            high = scores.amax(dim=1)
            risen = torch.nonzero(high > top[here])[:, 0]
            top[here][risen] = high[risen]
            best[here][risen] = scores[risen].argmax(dim=1) + first
        report(here.stop, len(queries))
    return [count.cpu().numpy() for count in counts], best.cpu().numpy()


def _scores(queries: Float[Tensor, "q d"], gallery: Float[Tensor, "g d"], rolls: int) -> Float[Tensor, "q g"]:
    if rolls == 1:
        return queries @ gallery.T
    streets, tiles = (rows.view(len(rows), rolls, -1) for rows in (queries, gallery))
    at_once = max(1, QUERIES * ROWS // (rolls * max(1, len(gallery))))
    return torch.cat([peak(correlate(some, tiles))[0] for some in torch.split(streets, at_once)])


def _within(
    links: Links, queries: slice, rows: slice
) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    start, stop = np.searchsorted(links.query, [queries.start, queries.stop])
    query, row = links.query[start:stop], links.row[start:stop]
    inside = (row >= rows.start) & (row < rows.stop)
    return query[inside], row[inside]


def link_scores(
    queries: Float32[np.ndarray, "q d"], gallery: Float32[np.ndarray, "g d"], links: Links, rolls: int = 1
) -> Float32[np.ndarray, " n"]:
    """The scores of linked queries and rows alone, each at its best heading."""
    scores = np.empty(len(links.row), np.float32)
    for start in range(0, len(scores), ROWS):
        part = slice(start, start + ROWS)
        asked, answers = (
            torch.from_numpy(rows).view(len(rows), rolls, -1)
            for rows in (queries[links.query[part]], gallery[links.row[part]])
        )
        scores[part] = peak(correlate_each(asked, answers))[0]
    return scores


def _table(links: Links, scores: Float32[np.ndarray, " n"], queries: int) -> Float32[np.ndarray, "q t"]:
    """A row of scores for each query, falling, infinite where it has fewer than the most."""
    order = np.lexsort((-scores, links.query))
    counts = np.bincount(links.query, minlength=queries)
    table = np.full((queries, int(counts.max(initial=1))), np.inf, np.float32)
    column = np.arange(len(scores)) - np.repeat(np.cumsum(counts) - counts, counts)
    table[links.query, column] = scores[order]
    return table


def average_precision(
    above: Int64[np.ndarray, "q t"], scores: Float32[np.ndarray, "q t"]
) -> Float[np.ndarray, " q"]:
    """Average precision by the trapezoid, as person re-identification and University-1652 count it.

    above: for each right answer, in falling order, how many wrong ones stand above it; scores: infinite
    where there is no such answer.
    """
    there = np.isfinite(scores)
    place = above + np.arange(above.shape[1])
    precision = (np.arange(above.shape[1]) + 1) / (place + 1)
    before = np.where(place == 0, 1.0, np.arange(above.shape[1]) / np.maximum(place, 1))
    return np.asarray(((precision + before) / 2 * there).sum(axis=1) / np.maximum(there.sum(axis=1), 1))


def best_scores(
    queries: Float32[np.ndarray, "q d"], gallery: Float32[np.ndarray, "g d"], rolls: int
) -> Iterator[tuple[slice, Float32[np.ndarray, "n g"]]]:
    """The scores of 256 queries at a time with the whole gallery, each at its best heading."""
    tiles = torch.from_numpy(gallery)
    for start in range(0, len(queries), CHUNK):
        rows = slice(start, start + CHUNK)
        yield rows, _scores(torch.from_numpy(queries[rows]), tiles, rolls).numpy()
