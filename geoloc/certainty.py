"""How well a calibrated model knows what it knows, on a table of pairs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

from geoloc.calibrate import auroc, calibration_error, reliability
from geoloc.lineup import Lineup, View
from geoloc.places import flat_m, lonlat_rows
from geoloc.posterior import Calibration, Evidence
from geoloc.recall import best_scores
from geoloc.spec import EncoderSpec

QUERIES = 2000
LISTED = 1000
SAMPLE = 4096


@dataclass(frozen=True)
class Certainty:
    """Figures by name, and the reliability diagram of the first hit; see `reliability`."""

    figures: dict[str, float]
    reliability: list[tuple[int, float, float]]


@dataclass(frozen=True)
class _Judged:
    """A query's answer. here: whether its place was left in the gallery; right: whether the first hit is it,
    said to be so with confidence. covered: whether the 90 % region has it; holds: what that region holds.
    """

    here: bool
    confidence: float
    right: bool
    in_gallery: float
    covered: bool
    holds: float


def certainty(
    calibration: Calibration,
    spec: EncoderSpec,
    lineup: Lineup,
    queries: Float32[np.ndarray, "q d"],
    gallery: Float32[np.ndarray, "g d"],
    unknown_heading: bool,
) -> Certainty:
    """Calibration error of the first hit, coverage of the 90 % region, what that holds, AUROC of in_gallery.

    Every second query is asked of the gallery without its right answers, and without the tiles whose
    centre lies within a footprint of it: its place is then not in the gallery, and every first hit
    wrong. At most 2,000 queries are asked, spread evenly.
    """
    step = max(1, -(-len(queries) // QUERIES))
    queries, asking = queries[::step], lineup.queries[::step]
    splits = np.searchsorted(lineup.right.query, np.arange(1, len(lineup.queries)))
    right = np.split(lineup.right.row, splits)[::step]
    tiles = lonlat_rows(view.lonlat for view in lineup.gallery)
    seen = (queries.reshape(len(queries), spec.azimuth_bins, -1) != 0).any(axis=2).sum(axis=1)
    gain = np.sqrt(spec.azimuth_bins / np.maximum(seen, 1))
    judged = list[_Judged]()
    for rows, scores in best_scores(queries, gallery, spec.azimuth_bins if unknown_heading else 1):
        for query, row in zip(range(*rows.indices(len(queries))), scores * gain[rows, None], strict=True):
            here = query % 2 == 0
            left = np.ones(len(row), bool)
            if not here:
                left &= ~_overlaps(asking[query], tiles, spec.footprint_m)
                left[right[query]] = False
            ids = np.flatnonzero(left)
            if not len(ids):
                continue
            order = ids[np.argsort(-row[ids], kind="stable")][:LISTED]
            seen_deg = 360 * float(seen[query]) / spec.azimuth_bins
            posterior = calibration.posterior(_evidence(row, ids, order, seen_deg, unknown_heading))
            judged.append(
                _Judged(
                    here=here,
                    confidence=float(posterior.tiles[0]),
                    right=here and bool(order[0] in right[query]),
                    in_gallery=posterior.in_gallery,
                    covered=bool(np.isin(right[query], order[posterior.region()]).any()),
                    holds=posterior.region_holds,
                )
            )
    return _summed(judged)


def _summed(judged: Sequence[_Judged]) -> Certainty:
    confidence, right = np.array([one.confidence for one in judged]), np.array([one.right for one in judged])
    in_gallery, here = np.array([one.in_gallery for one in judged]), np.array([one.here for one in judged])
    figures = {
        "calibration_error": calibration_error(confidence, right),
        "coverage90": float(np.mean([one.covered for one in judged if one.here])),
        "region90_holds": float(np.mean([one.holds for one in judged if one.here])),
        "auroc_in_gallery": auroc(in_gallery, here),
    }
    return Certainty(figures, reliability(confidence, right))


def _evidence(
    scores: Float[np.ndarray, " g"],
    ids: Int64[np.ndarray, " n"],
    best: Int64[np.ndarray, " k"],
    seen_deg: float,
    unknown_heading: bool,
) -> Evidence:
    """What the scores of the gallery's tiles say, of which only `ids` are there, `best` the best first."""
    return Evidence(
        scores=scores[best].astype(np.float64),
        rival=float(scores[best[min(1, len(best) - 1)]]),
        background=scores[ids[:: max(1, len(ids) // SAMPLE)]].astype(np.float64),
        tiles=len(ids),
        seen_deg=seen_deg,
        span_deg=360.0 if unknown_heading else 0.0,
    )


def _overlaps(query: View, tiles: Float[np.ndarray, "g 2"], footprint_m: float) -> Bool[np.ndarray, " g"]:
    """Which tiles have their centre within a footprint of the query; none where places are unknown."""
    if query.lonlat is None:
        return np.zeros(len(tiles), bool)
    return flat_m(tiles, query.lonlat) < footprint_m
