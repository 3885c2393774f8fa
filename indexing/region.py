"""A region to build or search in: a GeoJSON polygon, drawn by a user or downloaded from anywhere."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely.geometry import mapping, shape

from geoloc.errors import DataError

_LARGEST_BYTES = 1 << 24
_LONLAT = ("CRS84", "EPSG:4326", "EPSG::4326", "OGC:1.3:CRS84")


def read_region(path: Path) -> shapely.Geometry:
    """The union of all polygons in a GeoJSON file, in degrees, longitude first. Raises DataError."""
    if not path.is_file():
        raise DataError(f"{path} is no file; give a GeoJSON file with a polygon.")
    with path.open("rb") as file:
        content = file.read(_LARGEST_BYTES + 1)
    try:
        return parse_region(content)
    except DataError as cause:
        raise DataError(f"{path}: {cause}") from cause


def parse_region(content: str | bytes) -> shapely.Geometry:
    """The same for GeoJSON text: FeatureCollection, Feature, Polygon or MultiPolygon. Raises DataError."""
    if len(content) > _LARGEST_BYTES:
        raise DataError(f"A region may have at most {_LARGEST_BYTES >> 20} MiB of GeoJSON; simplify it.")
    try:
        raw = json.loads(content, parse_constant=_refuse_constant)
        _refuse_other_crs(raw)
        parts = [_cut(shapely.make_valid(shape(_unrolled(part)))) for part in _polygons(raw)]
        region = areas_of(shapely.union_all(parts))
    except DataError:
        raise
    except Exception as cause:  # json, unicode and a dozen kinds of wrong nesting inside shapely
        raise DataError(
            "This is no GeoJSON of polygons; draw the region in a GIS and save it as GeoJSON."
        ) from cause
    if region.is_empty or region.area == 0:
        raise DataError("The region holds no area; give a GeoJSON Polygon or MultiPolygon.")
    west, south, east, north = region.bounds
    if not (west >= -180 and east <= 180 and south >= -90 and north <= 90):
        raise DataError(
            f"The region's coordinates reach {west:.0f}, {south:.0f} to {east:.0f}, {north:.0f}: "
            "GeoJSON wants degrees, longitude first; save it in EPSG:4326."
        )
    return region


def areas_of(geometry: shapely.Geometry) -> shapely.Geometry:
    """What of a geometry has an area, valid: without the lines and points that mending and cutting leave."""
    parts = shapely.get_parts(shapely.get_parts(shapely.make_valid(geometry)))
    return shapely.union_all(parts[shapely.get_dimensions(parts) == 2])


def cut_at_180(polygons: shapely.Geometry) -> shapely.Geometry:
    """Polygons in degrees, less than half the world wide, cut in two where they cross the antimeridian."""
    west, _, east, _ = polygons.bounds
    if east - west < 180:
        return polygons
    return _cut(shapely.make_valid(shape(_unrolled(mapping(polygons)))))


def _unrolled(polygon: Any) -> Any:
    """A polygon with every longitude within 180 degrees of the one before: 179, -179 becomes 179, 181.

    A ring that jumps further crosses the antimeridian (RFC 7946, 3.1.9 wants it cut there; not all do).
    The rings of one polygon stay near its first point. A box as wide as the world has no such jump: its
    edges are on -180 and 180.
    """
    if polygon["type"] == "MultiPolygon":
        parts = [_unrolled({"type": "Polygon", "coordinates": rings}) for rings in polygon["coordinates"]]
        return {"type": "MultiPolygon", "coordinates": [part["coordinates"] for part in parts]}
    rings, start = [], None
    for ring in polygon["coordinates"]:
        lon = np.array([float(point[0]) for point in ring])
        if not np.isfinite(lon).all():
            raise ValueError("a longitude that is no number")
        turns = np.round(np.diff(lon, prepend=lon[:1] if start is None else start) / 360)
        turns[np.abs(np.diff(lon, prepend=lon[:1])) >= 360] = 0
        lon = lon - 360 * np.cumsum(turns)
        start = lon[0] if start is None else start
        rings.append([(float(x), *map(float, point[1:2])) for x, point in zip(lon, ring, strict=True)])
    return {"type": "Polygon", "coordinates": rings}


def _cut(polygon: shapely.Geometry) -> shapely.Geometry:
    """What lies beyond 180 degrees either way, at most one turn, brought back to the other side."""
    west, south, east, north = polygon.bounds if not polygon.is_empty else (0, 0, 0, 0)
    if (west >= -180 and east <= 180) or west < -540 or east > 540:
        return polygon
    parts = [polygon.intersection(shapely.box(a, south - 1, a + 360, north + 1)) for a in (-540, -180, 180)]
    moved = [
        shapely.transform(part, lambda xy, by=by: np.add(xy, (by, 0)))
        for part, by in zip(parts, (360, 0, -360), strict=True)
    ]
    return shapely.union_all(moved)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _refuse_other_crs(raw: Any) -> None:
    crs = raw.get("crs")
    name = str(crs["properties"]["name"]) if crs else "CRS84"
    if not name.endswith(_LONLAT):
        raise DataError(f"The region is in {name}; GeoJSON wants degrees: save it in EPSG:4326.")


def _polygons(raw: Any) -> list[Any]:
    """Every polygon geometry, wherever GeoJSON nests it."""
    kind = raw.get("type")
    if kind == "FeatureCollection":
        return [part for feature in raw["features"] for part in _polygons(feature)]
    if kind == "Feature":
        return _polygons(raw["geometry"]) if raw["geometry"] else []
    if kind == "GeometryCollection":
        return [part for geometry in raw["geometries"] for part in _polygons(geometry)]
    if kind in ("Polygon", "MultiPolygon"):
        return [raw]
    raise DataError(f"The region holds a {kind or 'thing without a type'}; give only Polygons.")
