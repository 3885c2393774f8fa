"""Ranks to the figures that papers print, each with its interval."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64

from geoloc.lineup import Lineup
from geoloc.recall import Standing

RESAMPLES = 2000
KS = (1, 5, 10)
NEAR_M = (25, 50)


@dataclass(frozen=True)
class Figures:
    """values: by name; recalls and other shares are fractions. intervals: of every recall and mean, from
    2.5 to 97.5 % of the bootstrap's resamples of the queries.
    """

    values: dict[str, float | int]
    intervals: dict[str, tuple[float, float]]

    def __or__(self, other: "Figures") -> "Figures":
        return Figures(self.values | other.values, self.intervals | other.intervals)


def one_percent(gallery: int) -> int:
    """The k of recall@1%: gallery // 100, as in Sample4Geo, TransGeo and SAFA, but at least 1."""
    return max(1, gallery // 100)


def recall(rank: Int64[np.ndarray, " q"], k: int) -> float:
    """The fraction of queries whose match is among the k best."""
    return float((rank < k).mean())


def rank_figures(standing: Standing, lineup: Lineup, also_means: str = "") -> Figures:
    """Recall@k, both cuts of recall@1%, median rank (from 1) and mAP; with lenient answers recall@k by them
    too, named by also_means; with semi-positives VIGOR's hit rate.

    recall@1% cuts at gallery // 100 (Sample4Geo, TransGeo, SAFA), recall@1%+ at gallery // 100 + 1
    (CVM-Net, GeoDTR+ on VIGOR; Toker's where 100 does not divide the gallery).
    """
    gallery = len(lineup.gallery)
    cut = one_percent(gallery)
    cuts = {**{str(k): k for k in KS}, "1%": cut}
    found = {f"recall@{name}": standing.rank < k for name, k in cuts.items()}
    found["recall@1%+"] = standing.rank < gallery // 100 + 1
    if also_means:
        found |= {f"recall@{name}{also_means}": standing.lenient < k for name, k in cuts.items()}
    if len(lineup.semi.row):
        found["hit_rate"] = standing.unbeaten == 0
    counts: dict[str, float | int] = {"n": len(standing.rank), "gallery": gallery}
    shares = _means({**found, "mAP": standing.precision})
    rest: dict[str, float | int] = {
        "recall@1%_k": cut,
        "recall@1%+_k": gallery // 100 + 1,
        "median_rank": float(np.median(standing.rank)) + 1,
    }
    return Figures(counts, {}) | shares | Figures(rest, {})


def position_figures(error_m: Float[np.ndarray, " q"]) -> Figures:
    """How far the best tile's centre lies from the camera."""
    shares = _means({f"recall@1<{near_m}m": error_m < near_m for near_m in NEAR_M})
    return shares | Figures({"median_error_m": float(np.median(error_m))}, {})


def near_figures(rank: Float[np.ndarray, " q"], gallery: int, listed: int) -> Figures:
    """How often a tile within 25 m of the camera is among the k best.

    rank: of the best such tile, from 0, infinite where none is listed. recall@1%: where so many are listed.
    """
    cuts = {f"recall@{k}<{NEAR_M[0]}m": k for k in KS if k > 1}
    counts: dict[str, float | int] = {}
    percent, cut = f"recall@1%<{NEAR_M[0]}m", one_percent(gallery)
    if cut <= listed:
        cuts[percent] = counts[f"{percent}_k"] = cut
    return _means({name: rank < k for name, k in cuts.items()}) | Figures(counts, {})


def _means(columns: dict[str, Bool[np.ndarray, " q"] | Float[np.ndarray, " q"]]) -> Figures:
    """The mean of every column, with the bootstrap's interval (Efron 1979) over the same resamples."""
    matrix = np.stack(list(columns.values()), axis=1).astype(np.float64)
    rng = np.random.default_rng(0)
    means = np.empty((RESAMPLES, matrix.shape[1]))
    for resample in range(RESAMPLES):
        weights = np.bincount(rng.integers(0, len(matrix), len(matrix)), minlength=len(matrix))
        means[resample] = weights @ matrix / len(matrix)
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    return Figures(
        values={name: float(column.mean()) for name, column in columns.items()},
        intervals={name: (float(a), float(b)) for name, a, b in zip(columns, low, high, strict=True)},
    )
