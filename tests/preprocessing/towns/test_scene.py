from dataclasses import replace

import numpy as np
import pytest

from geoloc.errors import DataError
from preprocessing.towns.cameras import place_cameras
from preprocessing.towns.plan import Plan, draw_plan
from preprocessing.towns.raster import RASTERS, build_scene, dress, lay_ground
from preprocessing.towns.scene import Scene, Surface
from preprocessing.towns.shapes import rectangle, unit
from preprocessing.towns.sketch import Building, Tree, Wing

ROOFS = (Surface.ROOF_TILE, Surface.ROOF_FLAT, Surface.ROOF_METAL)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return draw_plan(5, 240.0)


@pytest.fixture(scope="module")
def ground(plan: Plan) -> Scene:
    return lay_ground(plan)


@pytest.fixture(scope="module")
def bare(plan: Plan) -> Plan:
    """The place, with nothing on it."""
    return replace(plan, ground=(), markings=(), walls=(), buildings=(), trees=(), lamps=(), slots=())


def test_rasters_agree_with_each_other(plan: Plan) -> None:
    scene = build_scene(plan, 1)
    assert {getattr(scene, name).shape for name in RASTERS} == {(800, 800)}
    owned = scene.owner > 0
    assert np.array_equal(owned, np.isin(scene.surface, (*ROOFS, Surface.CAR)))
    assert scene.height_m[owned].min() > 0.5
    assert (scene.axis_deg >= 0).all() and (scene.axis_deg < 180).all()
    leafy = scene.crown_id > 0
    assert np.array_equal(leafy, scene.crown_top_m > 0)
    assert (scene.crown_top_m >= scene.crown_bottom_m).all()
    assert {Surface.GRASS, Surface.ASPHALT, Surface.PAVEMENT, Surface.KERB, Surface.LAMP_POST} <= set(
        np.unique(scene.surface)
    )


@pytest.mark.parametrize("bearing", [0.0, 37.0, 90.0])
def test_roofs_are_as_high_as_their_geometry_says(bare: Plan, bearing: float) -> None:
    center, along = (100.0, 60.0), unit(bearing)
    for roof, at_end_m in (("gable", 8.0), ("hip", 5.4), ("flat", 5.0)):
        wing = Wing(center, along, 20, 10, 5.0, 3.0, roof)
        house = Building(rectangle(center, along, 20, 10), 5.0, bearing, Surface.ROOF_TILE, (wing,))
        height = lay_ground(replace(bare, buildings=(house,))).height_m
        row, col = int((bare.side_m - center[1]) / 0.3), int(center[0] / 0.3)
        assert height[row, col] == pytest.approx(5 if roof == "flat" else 8, abs=0.15)
        end = center[0] + 9.3 * along[0], center[1] + 9.3 * along[1]
        assert height[int((bare.side_m - end[1]) / 0.3), int(end[0] / 0.3)] == pytest.approx(
            at_end_m, abs=0.25
        )
        assert (height > 0).sum() * 0.09 == pytest.approx(200, rel=0.03)


def test_a_crown_is_as_wide_and_high_as_its_tree(bare: Plan) -> None:
    tree = Tree(100.0, 60.0, 12.0, 3.0, 4.0, "broad", 0.9)
    scene = build_scene(replace(bare, trees=(tree,)), 1)
    assert scene.crown_top_m.max() == pytest.approx(12.0, abs=0.1)
    assert scene.crown_bottom_m[scene.crown_id > 0].min() == pytest.approx(3.0, abs=0.1)
    assert (scene.crown_id > 0).sum() * 0.09 == pytest.approx(np.pi * 16, rel=0.15)
    rows, cols = np.nonzero(scene.surface == Surface.TRUNK)
    assert cols.mean() == pytest.approx(100 / 0.3, abs=1) and rows.mean() == pytest.approx(180 / 0.3, abs=1)


@pytest.mark.parametrize(
    ("difficulty", "low", "high"), [("easy", 0.02, 0.09), ("normal", 0.1, 0.2), ("hard", 0.15, 0.25)]
)
def test_some_trees_differ_between_the_days(bare: Plan, difficulty: str, low: float, high: float) -> None:
    rng = np.random.default_rng(0)
    spots = [(x, y) for x in np.arange(4, 236, 8.0) for y in np.arange(4, 236, 8.0)]
    wood = replace(bare, trees=tuple(Tree(x, y, 6, 2, 1.5, "broad", rng.uniform()) for x, y in spots))
    standing = [set(np.unique(build_scene(wood, day, difficulty).crown_id)) for day in (0, 1, 2)]
    assert low < len(standing[0] ^ standing[1]) / len(spots) < high
    assert standing[0] - standing[1] and standing[1] - standing[0]
    assert standing[1] == standing[2]


def test_all_cars_differ_and_no_building_does(plan: Plan, ground: Scene) -> None:
    before = {name: getattr(ground, name).copy() for name in RASTERS}
    days = [dress(ground, plan, day) for day in (0, 1, 2)]
    assert all(np.array_equal(before[name], getattr(ground, name)) for name in RASTERS)
    cars = [set(np.unique(day.owner[day.surface == Surface.CAR])) for day in days]
    assert all(cars) and not cars[0] & cars[1] and not cars[1] & cars[2]
    built = np.isin(ground.surface, ROOFS)
    for day in days:
        assert np.array_equal(day.owner[built], ground.owner[built])


def test_a_day_is_the_same_each_time(plan: Plan) -> None:
    one, two = build_scene(plan, 1), build_scene(plan, 1)
    assert all(np.array_equal(getattr(one, name), getattr(two, name)) for name in RASTERS)


def test_cameras_keep_their_distance_and_stand_in_the_open(plan: Plan, ground: Scene) -> None:
    scene = dress(ground, plan, 1)
    taken = np.array([[120.0, 120.0]])
    places = place_cameras(np.random.default_rng(1), plan, scene, 25, 30.0, taken)
    everyone = np.concatenate((taken, places))
    apart = np.hypot(*(everyone[:, None] - everyone[None]).transpose(2, 0, 1)) + 99 * np.eye(26)
    assert apart.min() >= 6
    assert places.min() > 30 and places.max() < 210
    rows, cols = ((plan.side_m - places[:, 1]) / 0.3).astype(int), (places[:, 0] / 0.3).astype(int)
    assert scene.height_m[rows, cols].max() < 0.4


def test_a_town_too_small_for_its_cameras_says_so(plan: Plan, ground: Scene) -> None:
    with pytest.raises(
        DataError, match=r"room for .* not 5000: ask for fewer pairs per town or a larger side"
    ):
        place_cameras(np.random.default_rng(1), plan, ground, 5000, 30.0, np.empty((0, 2)))
