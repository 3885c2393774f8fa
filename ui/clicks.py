"""What a click on the map means: a tile to look at, or a corner of a region to search in."""

from collections.abc import Sequence
from typing import Any

import shapely

from geoloc.places import LonLat
from indexing.region import areas_of

TILES = "tiles"
CATCHER = "catcher"


def clicked_tile(selection: Any) -> int | None:
    """The id of the tile that Streamlit says was clicked, if any."""
    clicked = _clicked(selection, TILES)
    return None if clicked is None else int(clicked["tile_id"])


def clicked_place(selection: Any) -> LonLat | None:
    """The place that was clicked while a region is drawn, if any."""
    clicked = _clicked(selection, CATCHER)
    return None if clicked is None else LonLat(clicked["lon"], clicked["lat"])


def _clicked(selection: Any, layer: str) -> dict[str, Any] | None:
    objects = selection.get("objects", {}).items()
    return next((found[0] for layer_id, found in objects if layer_id.startswith(layer) and found), None)


def region_of_corners(corners: Sequence[LonLat]) -> shapely.Geometry | None:
    """Two corners make a north-up rectangle, three or more a polygon; None until it has an area."""
    if len(corners) < 2:
        return None
    points = shapely.MultiPoint([(corner.lon, corner.lat) for corner in corners])
    region = points.envelope if len(corners) == 2 else areas_of(shapely.Polygon(points.geoms))
    return region if region.area > 0 else None
