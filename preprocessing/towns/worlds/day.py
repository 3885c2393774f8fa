"""One day in a world: the weather of a town's day, and on it a look drawn from wide ranges."""

import math
from dataclasses import replace

import numpy as np

from preprocessing.towns.weather import RGB, Weather, draw_weather
from preprocessing.towns.worlds.look import Film, Flight, Look, SkyLook
from preprocessing.towns.worlds.mixing import between
from preprocessing.towns.worlds.palette import draw_ground, draw_leaves
from preprocessing.towns.worlds.world import World

SEASONS = {"spring": 2.0, "summer": 3.5, "late summer": 2.5, "autumn": 1.5, "winter": 0.8}


def draw_day(rng: np.random.Generator, world: World, difficulty: str, *, ortho: bool) -> Weather:
    """A day for the orthophoto or for street views; the two share nothing but the world.

    Raises DataError for an unknown difficulty.
    """
    weather = draw_weather(rng, difficulty, ortho=ortho)
    share = np.array(list(SEASONS.values()))
    season = str(rng.choice(list(SEASONS), p=share / share.sum()))
    ground, patch = draw_ground(rng, world, season, snow=season == "winter" and rng.uniform() < 0.3)
    leaf, bare, dense = draw_leaves(rng, world, season)
    look = Look(
        ground=ground,
        patch=patch,
        leaf=leaf,
        bare=bare,
        dense=dense,
        grain=float(rng.uniform(0.35, 0.8) if ortho else rng.uniform(0.25, 0.6)),
        roofs=world.roofs,
        walls=world.walls,
        sky=_sky(rng, weather.overcast),
        film=_aerial_film(rng) if ortho else _street_film(rng),
        flight=_flight(rng) if ortho else None,
    )
    azimuth_deg = (weather.sun_azimuth_deg + (180 if world.south else 0)) % 360
    return replace(weather, sun_azimuth_deg=azimuth_deg, look=look)


def _sky(rng: np.random.Generator, overcast: float) -> SkyLook:
    deep, haze = float(rng.uniform()), float(rng.uniform(0, 1 - 0.5 * overcast))
    grey = float(rng.uniform(0.64, 0.9))
    zenith = between(
        between((0.22, 0.38, 0.66), (0.50, 0.61, 0.74), deep), (grey, grey, grey * 1.02), overcast
    )
    pale = between((0.58, 0.69, 0.80), (0.80, 0.82, 0.83), haze)
    horizon = between(pale, (grey * 1.04, grey * 1.04, grey * 1.04), overcast)
    wood = between((0.20, 0.26, 0.17), (0.36, 0.36, 0.24), float(rng.uniform()))
    bright = float(rng.uniform(0.85, 1.08))
    return SkyLook(
        zenith=zenith,
        horizon=horizon,
        cloud=(bright, bright, bright * 1.01),
        far=between((0.40, 0.44, 0.30), (0.62, 0.56, 0.44), float(rng.uniform())),
        wood=wood,
        hills_deg=float(rng.choice([0.0, rng.uniform(0.5, 3), rng.uniform(2, 9)])),
        trees_deg=float(rng.uniform(0, 1.8)),
        veil=float(rng.uniform(0.1, 0.8)),
        cloud_scale=float(math.exp(rng.uniform(math.log(22), math.log(90)))),
        cloud_cover=float(rng.choice([0.0, rng.uniform(0, 0.5), rng.uniform(0.3, 1.0)])),
        glare=float(rng.choice([0.3, rng.uniform(0.4, 2.2)])),
    )


def _street_film(rng: np.random.Generator) -> Film:
    return Film(
        gamma=float(math.exp(rng.normal(0, 0.14))),
        contrast=float(rng.uniform(0.85, 1.4)),
        saturation=float(rng.uniform(0.4, 1.2)),
        tint=_tint(rng, 0.045),
        vignette=float(rng.choice([0.0, rng.uniform(0, 0.45)])),
        lenses=int(rng.integers(5, 10)),
        uneven=float(rng.choice([0.0, rng.uniform(0, 0.03)])),
        soften_px=float(rng.uniform(0, 0.8)),
        sharpen=float(rng.choice([0.0, rng.uniform(0, 1.2)])),
        jpeg=int(rng.integers(40, 96)),
        nadir=str(rng.choice(["none", "smear", "bonnet"], p=[0.6, 0.28, 0.12])),
        target=float(np.clip(rng.normal(122, 16), 85, 165)),
        auto=float(rng.uniform(0.7, 1.0)),
        lift_deg=float(rng.uniform(-2.0, 6.0)),
    )


def _aerial_film(rng: np.random.Generator) -> Film:
    return Film(
        gamma=float(math.exp(rng.normal(0.05, 0.15))),
        contrast=float(rng.uniform(0.9, 1.6)),
        saturation=float(rng.uniform(0.3, 1.05)),
        tint=_colder(_tint(rng, 0.07)),
        soften_px=float(rng.choice([0.0, rng.uniform(0.1, 1.1)])),
        sharpen=float(rng.uniform(0, 1.1)),
        target=float(np.clip(rng.normal(102, 24), 64, 165)),
        auto=float(rng.uniform(0.7, 1.0)),
    )


def _flight(rng: np.random.Generator) -> Flight:
    turns, tilts = rng.uniform(0, 2 * math.pi, 2), rng.uniform(0, 0.32, 2) * rng.uniform(0, 1, 2)
    leans = [(tilt * math.sin(turn), tilt * math.cos(turn)) for turn, tilt in zip(turns, tilts, strict=True)]
    return Flight(
        lean=(leans[0], leans[1]),
        seam_deg=float(rng.uniform(0, 360)),
        seam_at=float(rng.uniform(0.2, 0.8)) if rng.uniform() < 0.5 else 9.0,
        step=_tint(rng, 0.08),
    )


def _colder(tint: RGB) -> RGB:
    """From high above the air adds its blue, as most imagery shows."""
    return tint[0] * 0.96, tint[1] * 1.02, tint[2] * 1.1


def _tint(rng: np.random.Generator, spread: float) -> RGB:
    warm, green = rng.normal(0, 1, 2) * spread
    return float(1 + warm), float(1 + green / 2), float(1 - warm)
