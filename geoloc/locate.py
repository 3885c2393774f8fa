"""Step 5: from hits to a place on the map."""

import math
from collections.abc import Callable, Sequence
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
    *,
    refined: Sequence[Refined] = (),
    map: ProbabilityMap | None = None,
) -> Fix:
    """A query's fix: the best of its hits, each at its tile's centre or where it was refined to.

    Headings become true ones. radius_m, of no calibration, is half the grid's diagonal, or the distance
    to the farthest hit whose score is within 0.02 of the best, where that is more. Raises GeolocError where
    the query has no hit.
    """
    found = hits.ids[0] >= 0
    placed = {one.tile_id: one for one in refined}
    for id, score, heading in zip(
        *(column[0][found].tolist() for column in (hits.ids, hits.scores, hits.headings_deg)), strict=True
    ):
        placed.setdefault(id, Refined(id, tile_of(id).center, score, heading))
    if not placed:
        raise GeolocError("No tile was found; widen the region to search in.")
    best_first = sorted(placed.values(), key=lambda one: -one.score)[: int(found.sum())]
    alternatives = tuple(
        Alternative(rank, one.tile_id, one.lonlat, one.score, _true(one.heading_deg, tile_of(one.tile_id)))
        for rank, one in enumerate(best_first, 1)
    )
    best = alternatives[0]
    rivals = [other.lonlat for other in alternatives if best.score - other.score <= NEAR_EQUAL]
    return Fix(
        lonlat=best.lonlat,
        radius_m=max(stride_m / math.sqrt(2), *(best.lonlat.distance_m(other) for other in rivals)),
        heading_deg=best.heading_deg,
        score=best.score,
        tile_id=best.tile_id,
        alternatives=alternatives,
        in_gallery=None if map is None else map.posterior.in_gallery,
        map=map,
    )


def _true(heading_deg: float, tile: Tile) -> float | None:
    return None if math.isnan(heading_deg) else (heading_deg + tile.north_deg) % 360
