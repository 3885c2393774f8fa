from dataclasses import replace

import numpy as np
import pytest
from box_town import GSD_M, NOON, meadow, offsets_m, with_tower, with_tree
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.towns.painted import paint
from preprocessing.towns.scene import Scene, Surface
from preprocessing.towns.shadows import foliage_shade, shadow_height
from preprocessing.towns.weather import Weather


def naive_shadow_m(scene: Scene, weather: Weather, row: int, column: int) -> float:
    """March towards the sun, metre by metre."""
    east, north, up = weather.sun
    level = np.hypot(east, north)
    highest = -np.inf
    for distance_m in np.arange(GSD_M, 60, GSD_M / 4):
        y = round(row - distance_m / GSD_M * north / level)
        x = round(column + distance_m / GSD_M * east / level)
        if 0 <= y < scene.height_m.shape[0] and 0 <= x < scene.height_m.shape[1]:
            highest = max(highest, scene.height_m[y, x] - distance_m * up / level)
    return highest


@settings(max_examples=15, deadline=None)
@given(azimuth_deg=st.floats(0, 360), elevation_deg=st.floats(20, 70))
def test_shadow_points_away_from_the_sun_with_the_right_length(
    azimuth_deg: float, elevation_deg: float
) -> None:
    weather = replace(NOON, sun_azimuth_deg=azimuth_deg, sun_elevation_deg=elevation_deg)
    scene = with_tower(meadow(300), 0, 0, 3.0, 12.0)
    east, north = offsets_m(scene)
    shaded = (shadow_height(scene, weather) > 0) & (scene.owner == 0)
    away = -np.sin(np.radians(azimuth_deg)), -np.cos(np.radians(azimuth_deg))
    along, aside = east * away[0] + north * away[1], east * away[1] - north * away[0]
    assert np.abs(aside[shaded]).max() < 3.0
    assert along[shaded].min() > -2.5
    length_m = 12 / np.tan(np.radians(elevation_deg))
    edge_m = 1.5 * max(abs(away[0]) + abs(away[1]), 1)
    assert along[shaded].max() == pytest.approx(length_m + edge_m, abs=1.2)


def test_shadow_height_agrees_with_a_walk_towards_the_sun() -> None:
    weather = replace(NOON, sun_azimuth_deg=130.0, sun_elevation_deg=30.0)
    scene = with_tower(with_tower(meadow(200), -8, 5, 6, 9), 10, 3, 4, 15, owner=2, axis_deg=30)
    below = shadow_height(scene, weather)
    rng = np.random.default_rng(0)
    errors = [
        abs(below[r, c] - naive_shadow_m(scene, weather, r, c)) < 1.0
        for r, c in rng.integers(30, 170, (200, 2))
    ]
    assert np.mean(errors) > 0.93  # the rest lie within a pixel of a wall's shadow


def test_trees_shade_the_ground_away_from_the_sun() -> None:
    scene = with_tree(meadow(200), 0, 0, 3, 4, 9)
    shade = foliage_shade(scene, NOON)
    east, north = offsets_m(scene)
    assert north[shade > 0].mean() == pytest.approx(6.5, abs=0.7)
    assert abs(east[shade > 0].mean()) < 0.3


def test_ground_in_shadow_is_darker() -> None:
    painted = paint(with_tower(meadow(200), 0, 0, 3, 12), NOON)
    green = painted.texture[0] >> np.uint32(8) & np.uint32(255)
    east, north = offsets_m(painted.scene)
    shaded = (np.abs(east) < 1) & (north > 3) & (north < 10)
    sunny = (np.abs(east) < 1) & (north < -6)
    assert green[shaded].mean() < 0.8 * green[sunny].mean()


def test_pyramid_halves_and_keeps_the_mean() -> None:
    texture = paint(with_tower(meadow(202), 4, 4, 9, 6), NOON).texture
    assert [level.shape for level in texture] == [(202, 202), (101, 101), (50, 50), (25, 25)]
    means = [(level & np.uint32(255)).mean() for level in texture]
    assert means == pytest.approx([means[0]] * 4, abs=2)


@pytest.mark.parametrize("axis_deg", [0.0, 25.0, 70.0, 140.0])
def test_faces_are_counted_clockwise_from_the_axis(axis_deg: float) -> None:
    painted = paint(with_tower(meadow(120), 0, 0, 12, 8, axis_deg=axis_deg), NOON)
    east, north = offsets_m(painted.scene)
    for quarter in range(4):
        bearing = np.radians(axis_deg + 90 * quarter)
        forward = east * np.sin(bearing) + north * np.cos(bearing)
        right = east * np.cos(bearing) - north * np.sin(bearing)
        wall = (painted.scene.owner == 1) & (forward > 5.4) & (np.abs(right) < 4)
        assert (painted.face[wall] == quarter).all()


def test_owners_are_measured_along_their_own_axes() -> None:
    owners = paint(with_tower(meadow(120), 3, 2, 12, 8, owner=5, axis_deg=33.0), NOON).owners
    assert np.diff(owners.along_m[:, 5])[0] == pytest.approx(12, abs=0.5)
    assert np.diff(owners.across_m[:, 5])[0] == pytest.approx(12, abs=0.5)
    assert owners.kind[5] == Surface.ROOF_FLAT
