"""How well a calibrated model knows what it knows, on a table of pairs."""

import numpy as np
from jaxtyping import Bool, Float, Float32

from geoloc.calibrate import auroc, calibration_error
from geoloc.lineup import Lineup, View
from geoloc.places import flat_m, lonlat_rows
from geoloc.posterior import Calibration, Evidence
from geoloc.recall import best_scores
from geoloc.spec import EncoderSpec

QUERIES = 2000
LISTED = 1000
SAMPLE = 4096


def certainty_figures(
    calibration: Calibration,
    spec: EncoderSpec,
    lineup: Lineup,
    queries: Float32[np.ndarray, "q d"],
    gallery: Float32[np.ndarray, "g d"],
    unknown_heading: bool,
) -> dict[str, float]:
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
    confidence, correct, covered, holds, present, inside = [], [], [], [], [], []
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
            evidence = Evidence(
                scores=row[order].astype(np.float64),
                rival=float(row[order[min(1, len(order) - 1)]]),
                background=row[ids[:: max(1, len(ids) // SAMPLE)]].astype(np.float64),
                tiles=len(ids),
                seen_deg=360 * float(seen[query]) / spec.azimuth_bins,
                span_deg=360.0 if unknown_heading else 0.0,
            )
            posterior = calibration.posterior(evidence)
            confidence.append(float(posterior.tiles[0]))
            correct.append(here and order[0] in right[query])
            present.append(posterior.in_gallery)
            inside.append(here)
            if here:
                covered.append(bool(np.isin(right[query], order[posterior.region()]).any()))
                holds.append(posterior.region_holds)
    return {
        "calibration_error": calibration_error(np.array(confidence), np.array(correct)),
        "coverage90": float(np.mean(covered)),
        "region90_holds": float(np.mean(holds)),
        "auroc_in_gallery": auroc(np.array(present), np.array(inside)),
    }


def _overlaps(query: View, tiles: Float[np.ndarray, "g 2"], footprint_m: float) -> Bool[np.ndarray, " g"]:
    """Which tiles have their centre within a footprint of the query; none where places are unknown."""
    if query.lonlat is None:
        return np.zeros(len(tiles), bool)
    return flat_m(tiles, query.lonlat) < footprint_m
