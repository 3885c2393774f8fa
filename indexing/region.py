"""A region to build or search in: a GeoJSON polygon, drawn by a user or downloaded from anywhere."""

import json
from pathlib import Path
from typing import Any

import shapely
from shapely.geometry import shape

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
    """The same for GeoJSON text: a FeatureCollection, Feature, or Polygon or MultiPolygon."""
    if len(content) > _LARGEST_BYTES:
        raise DataError(f"A region may have at most {_LARGEST_BYTES >> 20} MiB of GeoJSON; simplify it.")
    try:
        raw = json.loads(content, parse_constant=_refuse_constant)
        _refuse_other_crs(raw)
        region = shapely.make_valid(shapely.union_all([shape(part) for part in _polygons(raw)]))
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
            "GeoJSON wants degrees, longitude first; save it in EPSG:4326, and cut it at the antimeridian."
        )
    return region


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
