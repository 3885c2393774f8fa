"""The worst failures of an evaluation on pairs, as contact sheets."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from geoloc.lineup import Lineup, View
from geoloc.recall import best_scores
from geoloc.result import named_below
from geoloc.score import Evaluation, Scored, directions_deg
from geoloc.spec import EncoderSpec
from geoloc.street_view import looking, read_rgb, read_street_view
from ui.curves import label
from ui.sheets import Shot, metres, sheet

WORST, RETURNED = 12, 3
NONE = "<p>None: every query was found first.</p>"


def failures(evaluation: Evaluation, number: int, spec: EncoderSpec, root: Path) -> str:
    """Of one way of asking the queries with the worst ranks: each with its own tile and what came instead."""
    scored = evaluation.scored[number]
    rows = np.argsort(-scored.standing.rank, kind="stable")[:WORST]
    rows = rows[scored.standing.rank[rows] > 0]
    if not len(rows):
        return NONE
    rolls = spec.azimuth_bins if scored.asked.unknown_heading else 1
    queries = evaluation.embedded.queries[number][rows]
    (scores,) = (part for _, part in best_scores(queries, evaluation.embedded.gallery, rolls))
    sheets = [
        sheet(_shots(row, own, scored, evaluation.lineup, root))
        for row, own in zip(rows.tolist(), scores, strict=True)
    ]
    return (
        f"<p class='lead'>Asked with {label(scored.asked)}; the true tile stands second.</p>{''.join(sheets)}"
    )


def _shots(row: int, scores: np.ndarray, scored: Scored, lineup: Lineup, root: Path) -> list[Shot]:
    """The query, its best right answer, and what scores best, by the query's scores of the gallery."""
    query = lineup.queries[row]
    answers = lineup.right.row[lineup.right.query == row]
    truth = int(answers[scores[answers].argmax()])
    streets = lineup.direction == "street->satellite"
    picture = _as_asked(query, scored, lineup, row) if streets else read_rgb(query.path)
    place = f"ranked {int(scored.standing.rank[row]) + 1:,} of {len(lineup.gallery):,}"
    own = Shot(
        read_rgb(lineup.gallery[truth].path), "satellite", "its own", f"score {scores[truth]:.3f}", "right"
    )
    return [
        Shot(picture, "street", place, named_below(root, query.path)),
        own,
        *(
            Shot(
                read_rgb(lineup.gallery[one].path), "satellite", f"{number}",
                f"score {scores[one]:.3f}{_away(query, lineup.gallery[one])}",
                "right" if one in answers else "wrong",
            )
            for number, one in enumerate(np.argsort(-scores, kind="stable")[:RETURNED], 1)
        ),
    ]  # fmt: skip


def _as_asked(query: View, scored: Scored, lineup: Lineup, row: int) -> UInt8[np.ndarray, "h w 3"]:
    """What the encoder was shown of a panorama: the whole, or the window that was cut."""
    view = read_street_view(query.path, hfov_deg=query.hfov_deg, heading_deg=query.heading_deg)
    if scored.asked.hfov_deg >= 360 or view.hfov_deg < 360:
        return view.rgb
    from_centre_deg = float(directions_deg(lineup)[row]) - (view.heading_deg or 0.0)
    return looking(view, from_centre_deg, scored.asked.hfov_deg).rgb


def _away(query: View, tile: View) -> str:
    if query.lonlat is None or tile.lonlat is None:
        return ""
    return f", {metres(query.lonlat.distance_m(tile.lonlat))} away"
