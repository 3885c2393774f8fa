import csv
import dataclasses
import io
import json
from pathlib import Path

import geopandas
import pyproj
import pytest
import shapely
from small_world import CRS, NORTH_M, SIDE_M, WEST_M

from geoloc.places import WGS84, Tile
from indexing.answer import TOLERANCE_DEG, Answer
from indexing.likely import Likely
from ui.formats import caption, percent, to_csv, to_geojson, to_json, to_table

HIT_KEYS = {"rank", "lon", "lat", "score", "probability", "heading_deg", "tile_id", "source"}


def test_json_has_the_contract_keys(answered: Answer) -> None:
    parsed = json.loads(to_json("town", [answered, answered]))
    assert parsed["gallery"] == "town"
    assert [query["photo"] for query in parsed["queries"]] == [answered.view.source] * 2
    hits = parsed["queries"][0]["hits"]
    assert [hit["rank"] for hit in hits] == [1, 2, 3, 4, 5]
    assert all(set(hit) == HIT_KEYS for hit in hits)
    assert hits[0]["score"] == pytest.approx(answered.fix.score, abs=1e-6)
    assert hits[0]["tile_id"] == parsed["queries"][0]["fix"]["tile_id"] == answered.fix.tile_id
    assert parsed["queries"][0]["fix"]["heading_deg"] == 120


def test_no_answers_are_still_a_document() -> None:
    assert json.loads(to_json("town", [])) == {"gallery": "town", "queries": [], "failed": []}
    assert json.loads(to_geojson([])) == {"type": "FeatureCollection", "features": []}
    assert to_csv([]) == (
        "photo,rank,lon,lat,score,probability,heading_deg,tile_id,source,radius_m,in_gallery\n"
    )


def test_geojson_opens_at_the_right_place(answered: Answer, tmp_path: Path) -> None:
    path = tmp_path / "answer.geojson"
    path.write_text(to_geojson([answered]))
    frame = geopandas.read_file(path)
    assert frame.crs == "EPSG:4326"
    assert list(frame["role"]) == ["fix", *["tile"] * 5]
    metric = frame.to_crs(CRS)
    side_m = answered.matches[0].tile.gsd_m * answered.matches[0].tile.size_px
    town = shapely.box(WEST_M, NORTH_M - SIDE_M, WEST_M + SIDE_M, NORTH_M)
    assert metric.centroid.within(town).all()
    assert metric.area[1:].to_numpy() == pytest.approx(side_m**2, rel=1e-4)
    assert metric.geometry[0].distance(metric.geometry[1].centroid) <= 40 * 2**0.5  # a stride, refined


def test_geojson_rings_are_closed_and_counter_clockwise(answered: Answer) -> None:
    for feature in json.loads(to_geojson([answered]))["features"][1:]:
        (ring,) = feature["geometry"]["coordinates"]
        assert ring[0] == ring[-1]
        assert shapely.LinearRing(ring).is_ccw


def test_geojson_is_cut_at_the_antimeridian(answered: Answer) -> None:
    """The same answer a few metres west of 180 degrees, in the zone that ends there."""
    utm = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:32660", always_xy=True)
    x, y = utm.transform(179.9999, -16.0)
    there = Tile(1, "EPSG:32660", (x - 32, y - 32, x + 32, y + 32), 128)
    match = dataclasses.replace(answered.matches[0], tile=there)
    _, tile = json.loads(to_geojson([dataclasses.replace(answered, matches=(match,))]))["features"]
    shape = shapely.geometry.shape(tile["geometry"])
    assert shape.geom_type == "MultiPolygon" and len(shape.geoms) == 2
    assert sorted(round(edge) for part in shape.geoms for edge in part.bounds[::2]) == [-180, -180, 180, 180]
    area = sum(abs(WGS84.geometry_area_perimeter(part)[0]) for part in shape.geoms)
    assert area == pytest.approx(64**2, rel=0.01)


@pytest.mark.parametrize(("heading_deg", "said"), [(359.999, 0), (359.7, 359.7), (0.001, 0)])
def test_no_heading_is_a_full_circle(answered: Answer, heading_deg: float, said: float) -> None:
    fix = dataclasses.replace(answered.fix, heading_deg=heading_deg)
    north = dataclasses.replace(answered, fix=fix)
    assert json.loads(to_json("town", [north]))["queries"][0]["fix"]["heading_deg"] == said
    assert ", looking 0°" in str(to_table(north).caption)


def test_geojson_corner_agrees_with_proj(answered: Answer) -> None:
    tile = answered.matches[0].tile
    ring = json.loads(to_geojson([answered]))["features"][1]["geometry"]["coordinates"][0]
    to_metres = pyproj.Transformer.from_crs("EPSG:4326", tile.crs, always_xy=True)
    assert to_metres.transform(*ring[0]) == pytest.approx(tile.bounds[:2], abs=0.01)
    assert to_metres.transform(*ring[2]) == pytest.approx(tile.bounds[2:], abs=0.01)


def test_certainty_and_region_are_said(answered: Answer) -> None:
    fix = answered.fix
    square = shapely.box(fix.lonlat.lon, fix.lonlat.lat, fix.lonlat.lon + 0.001, fix.lonlat.lat + 0.001)
    unsure = dataclasses.replace(
        answered, likely=Likely(square, 0.9, 8.0), fix=dataclasses.replace(fix, in_gallery=0.25), refined=()
    )
    said = json.loads(to_json("town", [unsure]))["queries"][0]["fix"]
    assert (said["in_gallery"], said["refined"], said["hfov_deg"]) == (0.25, False, 360)
    assert (said["narrowed"], said["region90_holds"]) == (False, 0.9)
    assert shapely.from_geojson(json.dumps(said["region90"])).equals_exact(square, 1e-7, normalize=True)
    last = json.loads(to_geojson([unsure]))["features"][-1]
    assert last["properties"] == {"role": "region90", "photo": answered.view.source}
    assert "probably not in this gallery (75%)" in str(to_table(unsure).caption)
    sure = dataclasses.replace(unsure, fix=dataclasses.replace(fix, in_gallery=0.874))
    assert "in this gallery with 87%" in str(to_table(sure).caption)
    plain = json.loads(to_json("town", [answered]))["queries"][0]["fix"]
    for name in ("in_gallery", "elsewhere", "region90", "region90_holds"):
        assert plain[name] is None


@pytest.mark.parametrize(("in_gallery", "said"), [(0.25, "probably not {} (75%)"), (0.874, "; {} with 87%")])
def test_a_narrowed_search_speaks_of_the_tiles_searched(
    answered: Answer, in_gallery: float, said: str
) -> None:
    unsure = dataclasses.replace(answered, fix=dataclasses.replace(answered.fix, in_gallery=in_gallery))
    there = dataclasses.replace(unsure, narrowed=True)
    assert said.format("in this gallery") in caption(unsure)
    assert said.format("among the tiles searched") in caption(there) and "gallery" not in caption(there)
    assert json.loads(to_json("town", [there]))["queries"][0]["fix"]["narrowed"]


def test_probabilities_sum_to_one(answered: Answer) -> None:
    matches = tuple(
        dataclasses.replace(match, probability=share)
        for match, share in zip(answered.matches, (0.3000004, 0.2, 0.1, 0.0123456, 0.0), strict=True)
    )
    fix = dataclasses.replace(answered.fix, in_gallery=0.7654321)
    (query,) = json.loads(to_json("town", [dataclasses.replace(answered, matches=matches, fix=fix)]))[
        "queries"
    ]
    hits = sum(hit["probability"] for hit in query["hits"])
    assert hits + query["fix"]["elsewhere"] + 1 - query["fix"]["in_gallery"] == pytest.approx(1, abs=5e-6)
    assert query["fix"]["elsewhere"] == pytest.approx(0.153086, abs=2e-6)


def test_a_circle_that_holds_less_than_90_percent_says_so(answered: Answer) -> None:
    holds = {
        share: dataclasses.replace(answered, likely=Likely(shapely.Point(), share, 8.0))
        for share in (0.9, 0.62)
    }
    assert " m with 90 %, looking" in caption(holds[0.9])
    assert " m, looking" in caption(answered)
    assert " m with at least 62%, looking" in caption(holds[0.62])


def test_what_was_taken_as_known_is_said(answered: Answer) -> None:
    fix = json.loads(to_json("town", [answered]))["queries"][0]["fix"]
    assert (fix["stated_heading_deg"], fix["heading_tolerance_deg"]) == (120, TOLERANCE_DEG)
    assert fix["hfov_known"] is True
    assert caption(answered).endswith(f"\nheading 120° ± {TOLERANCE_DEG:g}° as stated; field of view 360°")
    view = dataclasses.replace(answered.view, heading_deg=None, hfov_deg=65.0, hfov_known=False)
    guessed = dataclasses.replace(answered, view=view)
    fix = json.loads(to_geojson([guessed]))["features"][0]["properties"]
    assert fix["stated_heading_deg"] is None and fix["heading_tolerance_deg"] is None
    assert fix["hfov_known"] is False
    assert caption(guessed).endswith("\nevery heading searched; field of view 65°, guessed")


def test_csv_reads_back(answered: Answer) -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv([answered]))))
    assert [int(row["tile_id"]) for row in rows] == [match.place.tile_id for match in answered.matches]
    assert float(rows[0]["lon"]) == pytest.approx(answered.fix.lonlat.lon, abs=1e-7)
    assert {row["radius_m"] for row in rows} == {str(round(answered.fix.radius_m, 2))}
    assert {(row["in_gallery"], row["probability"]) for row in rows} == {("", "")}
    likely = dataclasses.replace(answered.matches[0], probability=0.25)
    sure = dataclasses.replace(
        answered, matches=(likely,), fix=dataclasses.replace(answered.fix, in_gallery=0.5)
    )
    (row,) = csv.DictReader(io.StringIO(to_csv([sure])))
    assert (row["in_gallery"], row["probability"]) == ("0.5", "0.25")


def test_percent_is_neither_none_nor_all() -> None:
    assert [percent(p) for p in (0.0, 0.004, 0.006, 0.5, 0.994, 0.996, 1.0)] == [
        "<1%", "<1%", "1%", "50%", "99%", ">99%", ">99%"
    ]  # fmt: skip


def test_table_names_photo_and_hits(answered: Answer) -> None:
    table = to_table(answered)
    assert str(table.title) == answered.view.source
    assert table.row_count == 5
