"""Regions: whatever GeoJSON nests, and one sentence for what it does not."""

import json

import pytest
import shapely

from geoloc.errors import DataError
from indexing.region import parse_region, read_region

RING = [[10, 50], [11, 50], [11, 51], [10, 51], [10, 50]]
POLYGON = {"type": "Polygon", "coordinates": [RING]}
FEATURE = {"type": "Feature", "properties": None, "geometry": POLYGON}


@pytest.mark.parametrize(
    "raw",
    [
        POLYGON,
        FEATURE,
        {"type": "MultiPolygon", "coordinates": [[RING]]},
        {"type": "FeatureCollection", "features": [FEATURE, FEATURE]},
        {"type": "FeatureCollection", "features": [FEATURE, {**FEATURE, "geometry": None}]},
        {"type": "GeometryCollection", "geometries": [POLYGON]},
        {**POLYGON, "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}},
    ],
)
def test_polygons_are_found(raw):
    assert parse_region(json.dumps(raw)).equals(shapely.box(10, 50, 11, 51))


def test_a_bow_tie_is_mended():
    bow = {"type": "Polygon", "coordinates": [[[0, 0], [2, 2], [2, 0], [0, 2], [0, 0]]]}
    region = parse_region(json.dumps(bow))
    assert region.is_valid and region.area == pytest.approx(2)


HOLE = [[179.5, 1], [-179.5, 1], [-179.5, 2], [179.5, 2], [179.5, 1]]
ACROSS = [[179, 0], [-179, 0], [-179, 3], [179, 3], [179, 0]]
CUT = shapely.union(shapely.box(179, 0, 180, 3), shapely.box(-180, 0, -179, 3))
CUT_HOLE = shapely.union(shapely.box(179.5, 1, 180, 2), shapely.box(-180, 1, -179.5, 2))


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        ({"type": "Polygon", "coordinates": [ACROSS]}, CUT),
        ({"type": "Polygon", "coordinates": [ACROSS[::-1]]}, CUT),
        ({"type": "MultiPolygon", "coordinates": [[ACROSS], [RING]]}, CUT | shapely.box(10, 50, 11, 51)),
        ({"type": "Polygon", "coordinates": [ACROSS, HOLE]}, CUT - CUT_HOLE),
        ({"type": "Polygon", "coordinates": [[[x % 360, y] for x, y in ACROSS]]}, CUT),
        ({"type": "MultiPolygon", "coordinates": [[[[179, 0], [180, 0], [180, 3], [179, 3], [179, 0]]]]},
         shapely.box(179, 0, 180, 3)),
        ({"type": "Polygon", "coordinates": [[[-180, -90], [180, -90], [180, 90], [-180, 90], [-180, -90]]]},
         shapely.box(-180, -90, 180, 90)),
        ({"type": "Polygon", "coordinates": [RING, [[x / 2 + 5.25, y / 2 + 25.25] for x, y in RING]]},
         shapely.box(10, 50, 11, 51) - shapely.box(10.25, 50.25, 10.75, 50.75)),
    ],
)  # fmt: skip
def test_rings_across_the_antimeridian_are_cut_there_and_holes_kept(raw, wanted):
    region = parse_region(json.dumps(raw))
    assert region.symmetric_difference(wanted).area == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ("not json", "no GeoJSON"),
        ("[1]", "no GeoJSON"),
        ("null", "no GeoJSON"),
        (b"\xff\xfe", "no GeoJSON"),
        ("[" * 100_000, "no GeoJSON"),
        (json.dumps({"type": "Polygon"}), "no GeoJSON"),
        (json.dumps({"type": "Polygon", "coordinates": [[["a", 1]]]}), "no GeoJSON"),
        (json.dumps({"type": "Point", "coordinates": [1, 2]}), "holds a Point"),
        (json.dumps({"type": "FeatureCollection", "features": []}), "no area"),
        (
            json.dumps(
                {"type": "Polygon", "coordinates": [[[5e5, 5e6], [6e5, 5e6], [6e5, 6e6], [5e5, 5e6]]]}
            ),
            "degrees",
        ),
        (
            json.dumps({**POLYGON, "crs": {"type": "name", "properties": {"name": "EPSG:32632"}}}),
            "EPSG:32632",
        ),
        ('{"type": "Polygon", "coordinates": [[[NaN, 0], [1, 1], [1, 0], [NaN, 0]]]}', "no GeoJSON"),
        ('{"type": "Polygon", "coordinates": [[[1e999, 0], [1, 1], [1, 0], [1e999, 0]]]}', "no|degrees"),
    ],
)
def test_what_is_no_region_is_refused(raw, said):
    with pytest.raises(DataError, match=said):
        parse_region(raw)


def test_files_are_named(tmp_path):
    with pytest.raises(DataError, match="is no file"):
        read_region(tmp_path / "r.geojson")
    (tmp_path / "r.geojson").write_text("x")
    with pytest.raises(DataError, match=r"r\.geojson: This is no GeoJSON"):
        read_region(tmp_path / "r.geojson")
