"""What both views make of a world: materials agree, tall things lean, days differ."""

from dataclasses import replace

import numpy as np
import pytest
from box_town import GSD_M, NOON, meadow, offsets_m, panorama, with_tower

from preprocessing.towns.ortho import orthophoto
from preprocessing.towns.painted import paint
from preprocessing.towns.scene import Scene, Surface
from preprocessing.towns.street import render
from preprocessing.towns.weather import Weather
from preprocessing.towns.worlds.day import draw_day
from preprocessing.towns.worlds.draw import draw_world
from preprocessing.towns.worlds.flight import leaning
from preprocessing.towns.worlds.look import Film, Flight, Look

SIDE_PX = 640
WORLD = draw_world(4, "farmland", 160.0).world
PLAIN_FLIGHT = Flight(((0.0, 0.0), (0.0, 0.0)), 0.0, 9.0, (1.0, 1.0, 1.0))


def plain_day(film: Film | None = None, *, ortho: bool = False) -> Weather:
    """Noon under a look that changes nothing: grass is green, what it gives way to is red."""
    assert WORLD is not None
    look = draw_day(np.random.default_rng(1), WORLD, "easy", ortho=ortho).look
    assert look is not None
    ground, patch = look.ground.copy(), look.patch.copy()
    ground[:, Surface.GRASS], patch[:, Surface.GRASS] = (0.2, 0.5, 0.2), (0.7, 0.1, 0.1)
    flight = PLAIN_FLIGHT if ortho else None
    calm = replace(look, ground=ground, patch=patch, grain=0.0, film=film or Film(), flight=flight)
    return replace(NOON, look=calm)


def look_of(weather: Weather) -> Look:
    assert weather.look is not None
    return weather.look


def with_patch(scene: Scene, east_m: float, north_m: float, radius_m: float) -> Scene:
    east, north = offsets_m(scene)
    there = (east - east_m) ** 2 + (north - north_m) ** 2 < radius_m**2
    return replace(
        scene, patch=np.where(there, 255, 0).astype(np.uint8), grain=np.zeros(there.shape, np.int8)
    )


def is_red(rgb: np.ndarray) -> np.ndarray:
    return rgb[..., 0].astype(int) > 1.5 * rgb[..., 1]


@pytest.mark.parametrize(("bearing_deg", "away_m"), [(30.0, 9.0), (145.0, 14.0), (260.0, 20.0)])
def test_a_bare_patch_is_seen_at_its_place_in_both_views(bearing_deg: float, away_m: float) -> None:
    turn = np.radians(bearing_deg)
    scene = with_patch(meadow(SIDE_PX), away_m * np.sin(turn), away_m * np.cos(turn), 3.0)
    photo = orthophoto(paint(scene, plain_day(ortho=True)), np.random.default_rng(0))
    east, north = offsets_m(scene)
    red = is_red(photo)
    assert np.degrees(np.arctan2(east[red].mean(), north[red].mean())) % 360 == pytest.approx(
        bearing_deg, abs=1
    )
    assert np.hypot(east[red].mean(), north[red].mean()) == pytest.approx(away_m, abs=0.3)
    assert red.sum() * GSD_M**2 == pytest.approx(np.pi * 9, rel=0.05)

    seen = is_red(render(paint(scene, plain_day()), panorama(scene), np.random.default_rng(0))[0])
    azimuth = (np.nonzero(seen)[1] + 0.5 - 256) * 360 / 512 - bearing_deg
    assert np.degrees(np.angle(np.exp(1j * np.radians(azimuth)).mean())) == pytest.approx(0, abs=1.5)
    nearest, farthest = (np.degrees(np.arctan(2.5 / (away_m + r))) * 512 / 360 for r in (-3, 3))
    rows = np.flatnonzero(seen.any(axis=1)) - 64
    assert rows[-1] == pytest.approx(nearest, abs=2) and rows[0] == pytest.approx(farthest, abs=2)


@pytest.mark.parametrize("lean", [(0.3, 0.0), (0.0, -0.25), (-0.2, 0.2)])
def test_roofs_lean_by_their_height_and_show_a_darker_side(lean: tuple[float, float]) -> None:
    scene = with_tower(meadow(400), 0, 0, 9, 12)
    photo = np.full((400, 400, 3), 100, np.uint8)
    photo[scene.height_m > 1] = 220
    moved = leaning(photo, scene.height_m, GSD_M, lean)[..., 0]
    east, north = offsets_m(scene)
    roof, side = moved == 220, (moved != 220) & (moved != 100)
    assert (east[roof].mean(), north[roof].mean()) == pytest.approx((12 * lean[0], 12 * lean[1]), abs=0.4)
    assert roof.sum() * GSD_M**2 == pytest.approx(81, rel=0.08)
    assert moved[side].min() >= 0.72 * 220 - 1 and side.any()
    assert np.array_equal(leaning(photo, scene.height_m, GSD_M, (0.0, 0.0)), photo)


def test_automatic_exposure_brings_light_and_dark_days_together() -> None:
    scene = with_patch(meadow(SIDE_PX), 0, 0, 1)
    means = []
    for exposure in (0.5, 2.0):
        day = replace(plain_day(Film(target=120.0, auto=1.0)), exposure=exposure)
        rgb = render(paint(scene, day), panorama(scene), np.random.default_rng(0))[0]
        means.append(float(rgb.mean()))
    assert means[1] - means[0] < 75


def test_a_bonnet_hides_the_ground_below_and_is_labelled() -> None:
    scene = with_patch(meadow(SIDE_PX), 0, 0, 1)
    day = plain_day(Film(nadir="bonnet"))
    surface = render(paint(scene, day), panorama(scene, hw=(256, 512)), np.random.default_rng(0))[1]
    bonnet = surface == Surface.BONNET
    assert 0.02 < bonnet.mean() < 0.35
    assert not bonnet[:160].any()


def test_vignetting_darkens_the_edge_of_the_sky() -> None:
    scene = with_patch(meadow(SIDE_PX), 0, 0, 1)
    plain, dark = (
        render(paint(scene, plain_day(film)), panorama(scene), np.random.default_rng(0))[0].astype(float)
        for film in (Film(), Film(vignette=0.4))
    )
    assert dark[:4].mean() < 0.85 * plain[:4].mean()
    assert dark[60:68].mean() == pytest.approx(plain[60:68].mean(), rel=0.1)


def test_the_middle_row_may_look_up() -> None:
    scene = with_patch(meadow(SIDE_PX), 0, 0, 1)
    horizons = []
    for lift_deg in (0.0, 5.0):
        painted = paint(scene, plain_day(Film(lift_deg=lift_deg)))
        surface = render(painted, panorama(scene), np.random.default_rng(0))[1]
        horizons.append(np.flatnonzero((surface == Surface.GRASS).any(axis=1))[0])
    assert horizons[1] - horizons[0] == pytest.approx(5 * 512 / 360, abs=1.5)


def test_the_land_goes_on_beyond_the_map() -> None:
    scene = with_patch(meadow(SIDE_PX), 0, 0, 1)
    surface = render(paint(scene, plain_day()), panorama(scene, hw=(256, 1024)), np.random.default_rng(0))[1]
    assert (surface == Surface.DISTANCE).any(axis=0).all()
    assert (surface[:40] == Surface.SKY).all()


def test_days_share_the_world_and_little_else() -> None:
    assert WORLD is not None
    days = [draw_day(np.random.default_rng(seed), WORLD, "normal", ortho=seed % 2 == 0) for seed in range(20)]
    grass = np.array([look_of(day).ground[:, Surface.GRASS] for day in days])
    soil = np.array([look_of(day).ground[:, Surface.SOIL] for day in days])
    assert grass.std(axis=0).mean() > soil.std(axis=0).mean() > 0
    assert all(look_of(day).roofs == WORLD.roofs for day in days)
    assert all((look_of(day).flight is not None) == (number % 2 == 0) for number, day in enumerate(days))
    for name in ("ground", "patch"):
        colours = np.array([getattr(look_of(day), name) for day in days])
        assert colours.min() >= 0 and colours.max() <= 1
