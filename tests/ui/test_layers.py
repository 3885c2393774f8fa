import json
import math

import pyproj
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from geoloc.places import LonLat
from indexing.answer import Answer
from ui import layers
from ui.clicks import clicked_place, clicked_tile, region_of_corners

WGS84 = pyproj.Geod(ellps="WGS84")
TOWN = (24.9, 60.1, 25.0, 60.2)
places = st.builds(LonLat, st.floats(-170, 170), st.floats(-75, 75))


def drawn(*stack: layers.pdk.Layer) -> list[dict]:
    return json.loads(layers.deck(stack, layers.view_state(TOWN, 400)).to_json())["layers"]


def test_the_deck_asks_for_no_base_map() -> None:
    """With any other map style than this mark Streamlit fetches one from the internet."""
    deck = json.loads(layers.deck([], layers.view_state(TOWN, 400)).to_json())
    assert deck["mapStyle"] == "__MAP_STYLE__"
    assert "mapProvider" not in deck


def test_tile_objects_carry_their_ids_best_on_top(answered: Answer) -> None:
    (layer,) = drawn(layers.tile_layer(answered.matches, turn=3))
    assert layer["id"] == "tiles-3" and layer["pickable"]
    ids = [row["tile_id"] for row in layer["data"]]
    assert ids == [match.place.tile_id for match in reversed(answered.matches)]
    assert layer["data"][-1]["color"][:3] == list(layers.SCORE_RAMP[-1])
    fix = answered.matches[0].tile.center
    assert shapely.Polygon(layer["data"][-1]["ring"]).contains(shapely.Point(fix.lon, fix.lat))


def test_images_lie_at_the_tiles_own_corners(answered: Answer) -> None:
    tile = answered.matches[0].tile
    (layer,) = drawn(layers.image_layer("image", "data:,", tile.corners))
    to_metres = pyproj.Transformer.from_crs("EPSG:4326", tile.crs, always_xy=True)
    left, bottom, right, top = tile.bounds
    wanted = [(left, bottom), (left, top), (right, top), (right, bottom)]
    for corner, metres in zip(layer["bounds"], wanted, strict=True):
        assert to_metres.transform(*corner) == pytest.approx(metres, abs=0.01)
    assert layer["image"] == "data:,"


def test_layer_ids_are_unique(answered: Answer) -> None:
    corners = [LonLat(24.91, 60.11), LonLat(24.92, 60.12)]
    stack = [
        *layers.extent_layers([TOWN], TOWN),
        layers.selected_layer(answered.matches[0]),
        layers.tile_layer(answered.matches, 0),
        *layers.fix_layers(answered, 50),
        layers.truth_layer(answered.fix.lonlat),
        *layers.region_layers(region_of_corners(corners), corners),
        layers.catcher_layer(TOWN, 0),
    ]
    ids = [layer["id"] for layer in drawn(*stack)]
    assert len(set(ids)) == len(ids)


@given(places, st.floats(0, 360), st.floats(10, 180), st.floats(5, 500))
def test_wedge_is_centred_on_the_heading(
    apex: LonLat, heading_deg: float, hfov_deg: float, reach_m: float
) -> None:
    ring = layers.wedge(apex, heading_deg, hfov_deg, reach_m)
    assert ring[0] == ring[-1] == [apex.lon, apex.lat]
    (left, middle, right) = (WGS84.inv(apex.lon, apex.lat, *ring[index]) for index in (1, 7, -2))
    assert middle[2] == pytest.approx(reach_m, abs=1e-3)
    assert abs((middle[0] - heading_deg + 180) % 360 - 180) < 1e-3
    assert (right[0] - left[0]) % 360 == pytest.approx(hfov_deg, abs=1e-3)


@given(st.floats(-60, 60), st.floats(0.001, 20), st.floats(0.001, 20))
def test_view_fits_its_bounds(south: float, wide: float, high: float) -> None:
    """Against web mercator as PROJ has it: a pixel at zoom z is the equator / (512 x 2^z)."""
    state = layers.view_state((10, south, 10 + wide, south + high), side_px=400)
    to_mercator = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True)
    left, bottom = to_mercator.transform(10, south)
    right, top = to_mercator.transform(10 + wide, south + high)
    px_m = 40075016.686 / 512 / 2**state.zoom
    assert max(right - left, top - bottom) / px_m == pytest.approx(400, rel=1e-3)
    assert to_mercator.transform(state.longitude, state.latitude) == pytest.approx(
        ((left + right) / 2, (bottom + top) / 2), rel=1e-6, abs=1
    )


@given(places, st.floats(10, 5000))
def test_around_reaches_as_far_as_it_says(place: LonLat, reach_m: float) -> None:
    west, south, east, north = layers.around(place, reach_m)
    assert WGS84.inv(place.lon, place.lat, place.lon, north)[2] == pytest.approx(reach_m, rel=1e-6)
    assert WGS84.inv(place.lon, south, place.lon, place.lat)[2] == pytest.approx(reach_m, rel=1e-6)
    assert west < place.lon < east


def test_an_image_too_small_to_see_gets_a_dot() -> None:
    _, dots = drawn(*layers.extent_layers([TOWN, (3.0, 50.0, 3.01, 50.01)], (3.0, 50.0, 25.0, 60.2)))
    assert [dot["at"] for dot in dots["data"]] == [
        pytest.approx([24.95, 60.15]),
        pytest.approx([3.005, 50.005]),
    ]


def test_scores_run_along_the_ramp() -> None:
    assert layers.score_rgb(0.2, 0.2, 0.8) == layers.SCORE_RAMP[0]
    assert layers.score_rgb(0.8, 0.2, 0.8) == layers.SCORE_RAMP[-1]
    assert layers.score_rgb(0.5, 0.5, 0.5) == layers.SCORE_RAMP[-1]


def test_a_catcher_cell_tells_where_it_is() -> None:
    (layer,) = drawn(layers.catcher_layer(TOWN, turn=2))
    assert len(layer["data"]) == layers.CATCHER_CELLS[0] * layers.CATCHER_CELLS[1]
    cell = layer["data"][700]
    assert shapely.Polygon(cell["ring"]).contains(shapely.Point(cell["lon"], cell["lat"]))
    assert clicked_place({"objects": {"catcher-2": [cell]}}) == LonLat(cell["lon"], cell["lat"])


def test_the_catcher_covers_what_the_map_shows() -> None:
    (layer,) = drawn(layers.catcher_layer(TOWN, turn=0))
    ground = shapely.union_all([shapely.Polygon(cell["ring"]) for cell in layer["data"]])
    assert ground.buffer(1e-9).contains(shapely.box(*TOWN))
    west, south, east, north = ground.bounds
    narrow = math.cos(math.radians((TOWN[1] + TOWN[3]) / 2))
    assert (east - west) * narrow == pytest.approx(2 * (north - south), rel=1e-6)


def test_holes_of_a_region_are_drawn_and_lines_in_it_are_not() -> None:
    whole = shapely.box(0, 0, 4, 4) - shapely.box(1, 1, 3, 3)
    _, shapes, _ = drawn(*layers.region_layers(whole, []))
    assert [shapely.Polygon(one["ring"]).area for one in shapes["data"]] == [16, 4]
    mixed = shapely.GeometryCollection([whole, shapely.LineString([(0, 0), (9, 9)])])
    _, shapes, _ = drawn(*layers.region_layers(mixed, []))
    assert len(shapes["data"]) == 2


def test_the_outline_is_that_of_the_gallery_not_of_all_its_imagery() -> None:
    rings, _ = drawn(*layers.extent_layers([(24.0, 60.0, 25.0, 61.0)], TOWN))
    (one,) = rings["data"]
    assert shapely.Polygon(one["ring"]).bounds == pytest.approx(TOWN)


def test_clicks_that_hit_nothing_mean_nothing() -> None:
    for selection in ({}, {"objects": {}}, {"objects": {"tiles-0": []}}, {"objects": {"fix": [{}]}}):
        assert clicked_tile(selection) is None
        assert clicked_place(selection) is None
    assert clicked_tile({"objects": {"tiles-4": [{"tile_id": 17}]}}) == 17


@pytest.mark.parametrize(
    ("corners", "area"),
    [
        ([], None),
        ([(1, 1)], None),
        ([(1, 1), (1, 5)], None),
        ([(3, 1), (1, 2)], 2.0),
        ([(0, 0), (4, 0), (0, 4)], 8.0),
        ([(0, 0), (2, 2), (2, 0), (0, 2)], 2.0),
        ([(0, 0), (2, 2), (2, 0), (0, 2), (0, 3), (0, 2)], 2.0),
    ],
)
def test_corners_make_a_region_once_they_have_an_area(
    corners: list[tuple[float, float]], area: float | None
) -> None:
    region = region_of_corners([LonLat(*corner) for corner in corners])
    assert (None if region is None else region.area) == area
    assert region is None or region.geom_type in ("Polygon", "MultiPolygon")
