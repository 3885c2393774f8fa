"""Exact ranks in bounded memory, and the figures made of them."""

from collections.abc import Iterator
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32, Int64

CHUNK = 256
TIE = 1e-6


def ranks(
    queries: Float32[np.ndarray, "q d"],
    gallery: Float32[np.ndarray, "g d"],
    truth: Int64[np.ndarray, " q"],
    *,
    ties: Literal["against", "optimistic"] = "against",
    rolls: int = 1,
) -> tuple[Int64[np.ndarray, " q"], Int64[np.ndarray, " q"]]:
    """The rank of every query's match (0 is best), and its best tile.

    The rank is the number of other gallery items that score at least as high, to within a float's
    rounding (1e-6): ties count against us. `optimistic` counts strictly better ones, as the peers'
    published code does. rolls > 1 scores each query by its best circular shift over that many
    azimuth bins. Never holds more than 2 x 256 x g scores.
    """
    rank = np.empty(len(queries), np.int64)
    best = np.empty(len(queries), np.int64)
    for rows, scores in best_scores(queries, gallery, rolls):
        match = truth[rows]
        own = scores[np.arange(len(scores)), match][:, None]
        beats = ~(scores < own - TIE) if ties == "against" else scores > own  # NaN is against us too
        beats[np.arange(len(scores)), match] = False
        rank[rows], best[rows] = beats.sum(axis=1), scores.argmax(axis=1)
    return rank, best


def best_scores(
    queries: Float32[np.ndarray, "q d"], gallery: Float32[np.ndarray, "g d"], rolls: int
) -> Iterator[tuple[slice, Float32[np.ndarray, "n g"]]]:
    """The scores of 256 queries at a time with the whole gallery, each at its best roll."""
    for start in range(0, len(queries), CHUNK):
        rows = slice(start, start + CHUNK)
        bins = queries[rows].reshape(len(queries[rows]), rolls, -1)
        scores = queries[rows] @ gallery.T
        for roll in range(1, rolls):
            rolled = np.roll(bins, roll, axis=1).reshape(len(bins), -1)
            np.maximum(scores, rolled @ gallery.T, out=scores)
        yield rows, scores


def one_percent(gallery: int) -> int:
    """The k of recall@1%: gallery // 100, as in Sample4Geo, TransGeo and SAFA, but at least 1."""
    return max(1, gallery // 100)


def recall(rank: Int64[np.ndarray, " q"], k: int) -> float:
    """The fraction of queries whose match is among the k best."""
    return float((rank < k).mean())


def figures(rank: Int64[np.ndarray, " q"], gallery: int) -> dict[str, float | int]:
    """The figures every evaluation reports; recalls are fractions, median_rank counts from 1."""
    return {
        "n": len(rank),
        "gallery": gallery,
        "recall@1": recall(rank, 1),
        "recall@5": recall(rank, 5),
        "recall@10": recall(rank, 10),
        "recall@1%": recall(rank, one_percent(gallery)),
        "recall@1%_k": one_percent(gallery),
        "median_rank": float(np.median(rank)) + 1,
    }


def position_figures(error_m: Float[np.ndarray, " q"]) -> dict[str, float]:
    """How far the best tile's centre lies from the camera."""
    return {
        "recall@1<25m": float((error_m < 25).mean()),
        "recall@1<50m": float((error_m < 50).mean()),
        "median_error_m": float(np.median(error_m)),
    }
