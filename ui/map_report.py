"""The report of the map setting: plots, and the street views that were placed worst."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from geoloc.encoder import TwinEncoder
from geoloc.result import named_below
from geoloc.score import Asked
from indexing.answer import answer
from indexing.gallery import Gallery
from indexing.trials import NEAR_M, Case, Result, as_asked, reliability_of
from ui.curves import Way, curves, label
from ui.report import write_report
from ui.sheets import Shot, metres, sheet

WORST, RETURNED = 12, 3


@dataclass(frozen=True)
class Answered:
    """Street views, and what came of each of them for every way of asking."""

    cases: Sequence[Case]
    asked: Sequence[Asked]
    results: Sequence[Sequence[Result]]

    @property
    def inside(self) -> list[int]:
        """The rows of the cases whose place the gallery covers."""
        return [row for row, one in enumerate(self.results[0]) if one.trial.truth is not None]

    def errors_m(self, number: int) -> Float[np.ndarray, " n"]:
        """Of the cases inside, asked in one of the ways."""
        return np.array([self.results[number][row].error_m for row in self.inside])

    def way(self, number: int) -> Way:
        """One way of asking, as it is plotted."""
        asked, results = self.asked[number], self.results[number]
        turns = [results[row].heading_error_deg for row in self.inside]
        return Way(
            label=label(asked),
            error_m=self.errors_m(number),
            heading_error_deg=np.array(turns, np.float64) if asked.unknown_heading else None,
            reliability=reliability_of(results),
        )


def write_map_report(
    folder: Path,
    found: dict[str, Any],
    answered: Answered,
    gallery: Gallery,
    encoder: TwinEncoder,
    root: Path,
) -> None:
    """Write result.json, the plots and index.html, each atomically; the worst are asked once more.

    root: of the data; street views below it are named by their place there.
    """
    ways = range(len(answered.asked))
    hardest = min(ways, key=lambda number: float((answered.errors_m(number) < NEAR_M).mean()))
    lonlats = [answered.cases[row].lonlat for row in answered.inside]
    plots = curves([answered.way(number) for number in ways], lonlats, len(gallery), hardest)
    single = {
        "queries": [named_below(root, answered.cases[row].path) for row in answered.inside],
        "errors_m": [answered.errors_m(number).tolist() for number in ways],
    }
    write_report(folder, found | single, plots, _failures(answered, hardest, gallery, encoder))


def _failures(answered: Answered, number: int, gallery: Gallery, encoder: TwinEncoder) -> str:
    """Of one way of asking the street views that were placed the farthest off."""
    errors_m = answered.errors_m(number)
    worst = [row for row in np.argsort(-errors_m)[:WORST].tolist() if errors_m[row] >= NEAR_M]
    if not worst:
        return f"<p>None: every place was found within {NEAR_M:g} m.</p>"
    sheets = [
        sheet(_shots(answered, answered.inside[row], number, float(errors_m[row]), gallery, encoder))
        for row in worst
    ]
    asked = label(answered.asked[number])
    lead = f"Asked with {asked}; the tile nearest to the camera stands second."
    return f"<p class='lead'>{lead}</p>{''.join(sheets)}"


def _shots(
    answered: Answered, row: int, number: int, error_m: float, gallery: Gallery, encoder: TwinEncoder
) -> list[Shot]:
    """The street view as it was asked, the tile where it was taken, and the tiles that came instead."""
    case, asked = answered.cases[row], answered.asked[number]
    view = as_asked(answered.cases, row, asked)
    hidden = replace(view, heading_deg=None) if asked.unknown_heading else view
    found = answer(hidden, gallery, encoder, k=RETURNED, tolerance_deg=0.0)
    nearest = gallery.nearest(case.lonlat)
    shots = [
        Shot(view.rgb, "street", f"placed {metres(error_m)} off", case.path.name),
        Shot(gallery.read_tile(nearest), "satellite", "its own", f"tile {nearest}", "right"),
    ]
    for place, match in enumerate(found.matches, 1):
        away = metres(match.tile.center.distance_m(case.lonlat))
        caption = f"score {match.place.score:.3f}, {away} away"
        shots.append(Shot(gallery.read_tile(match.tile.id), "satellite", f"{place}", caption, "wrong"))
    return shots
