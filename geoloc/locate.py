"""Step 5: from hits to a place on the map."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from geoloc.errors import GeolocError
from geoloc.hits import Alternative, Fix, Hits, ProbabilityMap
from geoloc.places import LonLat, Tile

NEAR_EQUAL = 0.02


@dataclass(frozen=True)
class Refined:
    """A hit's place within its tile. heading_deg: clockwise from the grid's north; NaN where unknown."""

    tile_id: int
    lonlat: LonLat
    score: float
    heading_deg: float


def locate(
    hits: Hits,
    tile_of: Callable[[int], Tile],
    stride_m: float,
    row: int = 0,
    *,
    refined: Refined | None = None,
    map: ProbabilityMap | None = None,
) -> Fix:
    """Query `row`'s fix: where the refined hit lies, or else the centre of the best tile.

    Headings become true ones. Without a map, radius_m is half the grid's diagonal, or the distance to
    the farthest hit whose score is within 0.02 of the best, where that is more. Raises GeolocError
    where the query has no hit.
    """
    alternatives = tuple(
        Alternative(
            rank=rank + 1,
            tile_id=int(tile_id),
            lonlat=tile_of(int(tile_id)).center,
            score=float(hits.scores[row, rank]),
            heading_deg=_true(float(hits.headings_deg[row, rank]), tile_of(int(tile_id))),
        )
        for rank, tile_id in enumerate(hits.ids[row])
        if tile_id >= 0
    )
    if not alternatives:
        raise GeolocError("No tile was found; widen the region to search in.")
    best = alternatives[0]
    if refined is None:
        refined = Refined(best.tile_id, best.lonlat, best.score, float(hits.headings_deg[row, 0]))
    least_m = stride_m / math.sqrt(2)
    rivals = [other.lonlat for other in alternatives if best.score - other.score <= NEAR_EQUAL]
    spread_m = _spread_m(refined.lonlat, rivals) if map is None else map.radius_m(refined.lonlat)
    return Fix(
        lonlat=refined.lonlat,
        radius_m=max(least_m, spread_m),
        heading_deg=_true(refined.heading_deg, tile_of(refined.tile_id)),
        score=refined.score,
        tile_id=refined.tile_id,
        alternatives=alternatives,
        in_gallery=None if map is None else map.posterior.in_gallery,
        map=map,
    )


def _true(heading_deg: float, tile: Tile) -> float | None:
    return None if math.isnan(heading_deg) else (heading_deg + tile.north_deg) % 360


def _spread_m(center: LonLat, others: list[LonLat]) -> float:
    return max(center.distance_m(other) for other in others)
