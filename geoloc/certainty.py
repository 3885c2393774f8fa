"""How well a calibrated model knows what it knows, on a table of pairs."""

import numpy as np
from jaxtyping import Bool, Float32, Int64

from geoloc.calibrate import auroc, calibration_error
from geoloc.posterior import Calibration, Evidence
from geoloc.recall import best_scores

LISTED = 1000
SAMPLE = 4096


def certainty_figures(
    calibration: Calibration,
    queries: Float32[np.ndarray, "q d"],
    gallery: Float32[np.ndarray, "g d"],
    truth: Int64[np.ndarray, " q"],
    overlaps: Bool[np.ndarray, "q g"] | None,
    *,
    azimuth_bins: int,
    unknown_heading: bool,
) -> dict[str, float]:
    """Calibration error of the first hit, coverage of the 90 % region, and AUROC of in_gallery.

    Every second query is asked of the gallery without its tile, and without those that `overlaps` says
    show its place too: its place is then not in the gallery, and every first hit wrong.
    """
    seen = (queries.reshape(len(queries), azimuth_bins, -1) != 0).any(axis=2).sum(axis=1)
    gain = np.sqrt(azimuth_bins / np.maximum(seen, 1))
    confidence, correct, covered, present, inside = [], [], [], [], []
    for rows, scores in best_scores(queries, gallery, azimuth_bins if unknown_heading else 1):
        for query, row in zip(range(*rows.indices(len(queries))), scores * gain[rows, None], strict=True):
            here = query % 2 == 0
            left = np.ones(len(row), bool)
            if not here:
                left[truth[query]] = False
                left &= True if overlaps is None else ~overlaps[query]
            ids = np.flatnonzero(left)
            if not len(ids):
                continue
            order = ids[np.argsort(-row[ids], kind="stable")][:LISTED]
            step = max(1, len(ids) // SAMPLE)
            evidence = Evidence(
                scores=row[order].astype(np.float64),
                rival=float(row[order[min(1, len(order) - 1)]]),
                background=row[ids[::step]].astype(np.float64),
                tiles=len(ids),
                seen_deg=360 * float(seen[query]) / azimuth_bins,
                span_deg=360.0 if unknown_heading else 0.0,
            )
            posterior = calibration.posterior(evidence)
            confidence.append(float(posterior.tiles[0]))
            correct.append(here and order[0] == truth[query])
            present.append(posterior.in_gallery)
            inside.append(here)
            if here:
                covered.append(truth[query] in order[posterior.region()])
    return {
        "calibration_error": calibration_error(np.array(confidence), np.array(correct)),
        "coverage90": float(np.mean(covered)),
        "auroc_in_gallery": auroc(np.array(present), np.array(inside)),
    }
