import math

import numpy as np
import pyproj
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import LineString, Point

from geoloc.errors import DataError
from preprocessing.towns.plan import Plan, draw_plan
from preprocessing.towns.scene import Surface
from preprocessing.towns.shapes import bearing_deg, blob, long_axis, rectangle, smooth, unit, walk

SIDE_M = 240.0


@pytest.fixture(scope="module", params=[3, 14])
def plan(request: pytest.FixtureRequest) -> Plan:
    return draw_plan(request.param, SIDE_M)


def carriageway(plan: Plan) -> shapely.Geometry:
    return shapely.union_all([shape for surface, shape in plan.ground if surface is Surface.KERB][:1])


def test_a_seed_decides_everything(plan: Plan) -> None:
    again = draw_plan(plan.seed, SIDE_M)
    for name in ("crs", "west_m", "north_m", "buildings", "trees", "slots", "lamps"):
        assert getattr(plan, name) == getattr(again, name)
    assert all(a[1].wkb == b[1].wkb for a, b in zip(plan.ground, again.ground, strict=True))
    assert np.array_equal(plan.tracks, again.tracks)


def test_a_town_without_a_street_has_no_tracks() -> None:
    assert draw_plan(19, 160.0).tracks.shape == (0, 3)


def test_towns_lie_in_different_places_and_differ() -> None:
    plans = [draw_plan(seed, 160.0) for seed in range(4)]
    assert len({(p.crs, p.west_m, p.north_m) for p in plans}) == 4
    assert len({len(p.buildings) for p in plans}) > 2


def test_nothing_is_built_and_no_tree_stands_on_the_carriageway(plan: Plan) -> None:
    road = carriageway(plan)
    assert sum(b.outline.intersection(road).area for b in plan.buildings) < 1.0
    assert not any(road.contains(Point(t.x, t.y)) for t in plan.trees if not _on_an_island(plan, t.x, t.y))


def _on_an_island(plan: Plan, x: float, y: float) -> bool:
    islands = [shape for surface, shape in plan.ground if surface is Surface.KERB][1:]
    return any(shape.contains(Point(x, y)) for shape in islands)


def test_no_tree_stands_in_a_house_or_in_another_tree(plan: Plan) -> None:
    xy = np.array([(t.x, t.y) for t in plan.trees])
    houses = shapely.union_all([b.outline for b in plan.buildings])
    assert not shapely.contains_xy(houses, xy).any()
    apart = np.hypot(*(xy[:, None] - xy[None]).transpose(2, 0, 1)) + 99 * np.eye(len(xy))
    assert apart.min() > 1.6


def test_grid_north_is_true_north(plan: Plan) -> None:
    lonlat = pyproj.Transformer.from_crs(plan.crs, 4326, always_xy=True).transform(plan.west_m, plan.north_m)
    factors = pyproj.Proj(plan.crs).get_factors(*lonlat)
    assert abs(factors.meridian_convergence) < 0.02
    assert 38 < lonlat[1] < 58


def test_the_side_is_a_whole_number_of_pixels() -> None:
    plan = draw_plan(1, 200.05)
    assert math.isclose(plan.size_px * plan.gsd_m, plan.side_m)


@pytest.mark.parametrize(
    ("seed", "side_m", "gsd_m"), [(-1, 640, 0.3), (1, 10, 0.3), (1, 9999, 0.3), (1, 640, 5)]
)
def test_a_town_that_cannot_be_is_refused(seed: int, side_m: float, gsd_m: float) -> None:
    with pytest.raises(DataError, match="cannot be drawn"):
        draw_plan(seed, side_m, gsd_m)


@given(st.floats(0, 360), st.floats(1, 50), st.floats(0.1, 1))
def test_the_long_axis_of_a_rectangle_is_its_length(bearing: float, length: float, ratio: float) -> None:
    ratio = min(ratio, 0.99)
    center, along, long, wide = long_axis(rectangle((3, -7), unit(bearing), length, length * ratio))
    assert np.allclose((*center, long, wide), (3, -7, length, length * ratio))
    assert abs(math.sin(math.radians(bearing_deg(along) - bearing))) < 1e-3


@given(st.floats(0, 359.9))
def test_a_bearing_survives_its_vector(bearing: float) -> None:
    assert math.isclose(bearing_deg(unit(bearing)) % 360, bearing, abs_tol=1e-9)


def test_walking_a_line_keeps_step_and_direction() -> None:
    steps = walk(LineString([(0, 0), (0, 10)]), 1.0, 2.0)
    assert np.allclose(steps, [(0, y, 0, 1) for y in (1, 3, 5, 7, 9)])
    assert walk(LineString([(0, 0), (0, 1)]), 2.0, 1.0).shape == (0, 4)


def test_smoothing_keeps_the_ends_and_a_blob_is_one_valid_ring() -> None:
    corner = np.array([(0.0, 0.0), (10.0, 0.0), (10.0, 10.0)])
    curve = smooth(corner)
    assert np.array_equal(curve[[0, -1]], corner[[0, -1]])
    assert LineString(curve).length < 20
    assert all(blob(np.random.default_rng(i), (0, 0), 10, 0.4).is_valid for i in range(20))
