"""Step 5: from hits to a place on the map."""

import math
from collections.abc import Callable

from geoloc.errors import GeolocError
from geoloc.hits import Alternative, Fix, Hits
from geoloc.places import LonLat, Tile

NEAR_EQUAL = 0.02


def locate(hits: Hits, tile_of: Callable[[int], Tile], stride_m: float, row: int = 0) -> Fix:
    """Query `row`'s fix: the centre of its best tile.

    radius_m is half the grid's diagonal, or the distance to the farthest hit whose score is within
    0.02 of the best, where that is more. Raises GeolocError where the query has no hit.
    """
    alternatives = tuple(
        Alternative(
            rank=rank + 1,
            tile_id=int(tile_id),
            lonlat=tile_of(int(tile_id)).center,
            score=float(hits.scores[row, rank]),
            heading_deg=_known(float(hits.headings_deg[row, rank])),
        )
        for rank, tile_id in enumerate(hits.ids[row])
        if tile_id >= 0
    )
    if not alternatives:
        raise GeolocError("No tile was found; widen the region to search in.")
    best = alternatives[0]
    rivals = [other.lonlat for other in alternatives if best.score - other.score <= NEAR_EQUAL]
    return Fix(
        lonlat=best.lonlat,
        radius_m=max(stride_m / math.sqrt(2), _spread_m(best.lonlat, rivals)),
        heading_deg=best.heading_deg,
        score=best.score,
        tile_id=best.tile_id,
        alternatives=alternatives,
    )


def _known(heading_deg: float) -> float | None:
    return None if math.isnan(heading_deg) else heading_deg


def _spread_m(center: LonLat, others: list[LonLat]) -> float:
    return max(center.distance_m(other) for other in others)
