"""A region to search in: read from GeoJSON, or drawn by its corners on the map."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import shapely
from shapely.geometry import box, shape
from shapely.geometry.base import BaseGeometry

from geoloc.errors import GeolocError
from geoloc.places import LonLat

MAX_BYTES = 16 * 2**20


def read_region(source: Path | IO[bytes], name: str) -> BaseGeometry:
    """The union of the polygons in a GeoJSON file, in lon, lat degrees (RFC 7946).

    Raises GeolocError for a file that is no GeoJSON, has no polygon, or is in another CRS.
    """
    try:
        blob = source.read_bytes() if isinstance(source, Path) else source.read(MAX_BYTES)
        polygons = [shape(geometry) for geometry in _geometries(json.loads(blob))]
    except OSError as cause:
        raise GeolocError(f"The region {name} cannot be read: {cause.strerror or cause}.") from cause
    except Exception as cause:  # json and shapely raise a dozen types on malformed input
        raise GeolocError(f"The region {name} is not GeoJSON; give a file with a polygon in it.") from cause
    region = shapely.make_valid(shapely.union_all([p for p in polygons if p.geom_type.endswith("Polygon")]))
    if region.is_empty or region.area == 0:
        raise GeolocError(f"The region {name} has no polygon; give a Polygon or MultiPolygon.")
    if not box(-180, -90, 180, 90).covers(region):
        raise GeolocError(f"The region {name} is not in longitude, latitude; reproject it to EPSG:4326.")
    return region


def _geometries(node: dict[str, Any]) -> list[dict[str, Any]]:
    match node["type"]:
        case "FeatureCollection":
            return [part for feature in node["features"] for part in _geometries(feature)]
        case "Feature":
            return [] if node["geometry"] is None else _geometries(node["geometry"])
        case "GeometryCollection":
            return [part for geometry in node["geometries"] for part in _geometries(geometry)]
        case _:
            return [node]


def region_of_corners(corners: Sequence[LonLat]) -> BaseGeometry | None:
    """Two corners make a north-up rectangle, three or more a polygon; None until it has an area."""
    points = [(corner.lon, corner.lat) for corner in corners]
    if len(points) < 2:
        return None
    if len(points) == 2:
        (west, south), (east, north) = points
        region: BaseGeometry = box(min(west, east), min(south, north), max(west, east), max(south, north))
    else:
        region = shapely.make_valid(shapely.Polygon(points))
    return region if region.area > 0 else None
