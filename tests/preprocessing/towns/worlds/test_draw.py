from collections import Counter
from functools import cache
from typing import get_args

import numpy as np
import pytest
import shapely

from geoloc.errors import DataError
from preprocessing.towns.cameras import place_cameras
from preprocessing.towns.plan import Plan
from preprocessing.towns.raster import RASTERS, dress, lay_ground
from preprocessing.towns.scene import Scene, Surface
from preprocessing.towns.worlds.biome import BIOMES, draw_biome
from preprocessing.towns.worlds.draw import draw_world
from preprocessing.towns.worlds.relief import on_hills
from ui.synth import World

SIDE_M = 160.0


@cache
def drawn(name: str) -> Plan:
    return draw_world(6, name, SIDE_M)


@pytest.fixture(scope="module", params=BIOMES)
def plan(request: pytest.FixtureRequest) -> Plan:
    return drawn(request.param)


@pytest.fixture(scope="module")
def ground(plan: Plan) -> Scene:
    return lay_ground(plan)


@pytest.mark.parametrize("name", ["suburb", "farmland", "motorway"])
def test_a_seed_decides_the_world(name: str) -> None:
    plan, again = drawn(name), draw_world(6, name, SIDE_M)
    assert plan.world is not None
    assert again.trees == plan.trees and again.world is not None
    assert again.world.species == plan.world.species and again.world.soil == plan.world.soil
    assert np.array_equal(again.tracks, plan.tracks)


def test_nothing_is_built_and_no_tree_stands_on_the_road(plan: Plan) -> None:
    assert plan.world is not None
    roads = plan.world.roads.buffer(-0.2)
    shapely.prepare(roads)
    for building in plan.buildings:
        assert building.outline.is_valid
        assert building.outline.intersection(roads).area < 0.5
    stems = shapely.points([(tree.x, tree.y) for tree in plan.trees])
    assert not shapely.contains(roads, stems).any()
    houses = shapely.union_all([building.outline for building in plan.buildings])
    assert not shapely.contains(houses, stems).any()


def test_its_cameras_have_room_on_its_roads(plan: Plan, ground: Scene) -> None:
    scene = dress(ground, plan, 1)
    places = place_cameras(np.random.default_rng(1), plan, scene, 8, 25.0, np.empty((0, 2)))
    assert len(places) == 8 and places.min() > 25 and places.max() < plan.side_m - 25


def test_its_rasters_agree_with_each_other(plan: Plan, ground: Scene) -> None:
    assert ground.land_m is not None and ground.patch is not None and ground.grain is not None
    scene = dress(ground, plan, 1)
    assert {getattr(scene, name).shape for name in (*RASTERS, "land_m", "patch", "grain")} == {(533, 533)}
    assert ground.land_m.min() >= 0
    assert np.abs(np.diff(ground.land_m, axis=1)).max() < 0.45  # gentler than what counts as a wall
    leafy = scene.crown_id > 0
    assert (scene.crown_top_m[leafy] > scene.crown_bottom_m[leafy]).all()
    assert not scene.crown_top_m[~leafy].any()
    assert ground.patch.max() > 60 and ground.grain.std() > 3
    assert len(np.unique(ground.surface)) > 4


def test_country_differs_from_towns() -> None:
    plans = {name: drawn(name) for name in ("farmland", "centre", "forest", "desert")}
    surfaces = {name: {surface for surface, _ in plan.ground} for name, plan in plans.items()}
    fields = {Surface.CROP, Surface.CEREAL, Surface.SOIL, Surface.STUBBLE}
    assert surfaces["farmland"] & fields and not surfaces["centre"] & fields
    assert Surface.LITTER in surfaces["forest"] and Surface.SAND in surfaces["desert"]
    assert len(plans["forest"].trees) > 2 * len(plans["farmland"].trees)


def test_a_mixed_set_has_every_biome() -> None:
    drawn = Counter(draw_biome(np.random.default_rng(seed), "mixed") for seed in range(400))
    assert set(drawn) == set(BIOMES)
    for name, biome in BIOMES.items():
        assert drawn[name] / 400 == pytest.approx(biome.share, abs=0.07)


def test_the_command_line_offers_every_biome() -> None:
    assert set(get_args(World)) == {"town", *BIOMES, "mixed"}


def test_an_unknown_world_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"No world is called 'atlantis': choose one of suburb, .*, mixed"):
        draw_world(1, "atlantis")
    with pytest.raises(DataError, match="160 to 2400"):
        draw_world(1, "mixed", 20.0)


def test_hills_lift_all_that_stands_on_them() -> None:
    plan = drawn("desert")
    ground = lay_ground(plan)
    assert ground.land_m is not None
    flat = {name: getattr(ground, name).copy() for name in RASTERS}
    flat["crown_id"][10, 10], flat["crown_top_m"][10, 10], flat["crown_bottom_m"][10, 10] = 8, 9.0, 4.0
    lifted = on_hills(Scene(ground.gsd_m, ground.crs, ground.west_m, ground.north_m, **{
        name: raster.copy() for name, raster in flat.items()}, land_m=ground.land_m))  # fmt: skip
    assert np.allclose(lifted.height_m - flat["height_m"], ground.land_m, atol=1e-4)
    assert lifted.crown_top_m[10, 10] == pytest.approx(9 + ground.land_m[10, 10], abs=1e-4)
    assert lifted.crown_top_m[20, 20] == 0
