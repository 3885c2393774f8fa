"""The weather of one day: sun, season, sky and the camera's mood. It decides how far the two views differ."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geoloc.errors import DataError

if TYPE_CHECKING:
    from preprocessing.towns.worlds.look import Look

RGB = tuple[float, float, float]


@dataclass(frozen=True)
class Season:
    """Colours (sRGB, 0-255) of leaves, from one kind of tree to the other, and of grass.

    bare: the fraction of the foliage that has fallen.
    """

    leaf_from: RGB
    leaf_to: RGB
    grass: RGB
    bare: float


SEASONS = {
    "spring": Season((104, 138, 62), (138, 164, 84), (108, 138, 70), 0.15),
    "summer": Season((58, 94, 44), (98, 122, 58), (104, 128, 64), 0.0),
    "late summer": Season((72, 96, 44), (124, 126, 60), (150, 146, 88), 0.0),
    "autumn": Season((164, 96, 36), (186, 152, 56), (116, 122, 66), 0.25),
    "winter": Season((110, 96, 82), (92, 84, 76), (134, 128, 98), 0.75),
}


@dataclass(frozen=True)
class Gap:
    """How far a street view's day may be from the orthophoto's: ranges to draw from."""

    seasons: tuple[str, ...]
    sun_elevation_deg: tuple[float, float]
    overcast: tuple[float, float]
    visibility_m: tuple[float, float]
    exposure_stops: float
    white_balance: float
    noise: tuple[float, float]
    traffic: float


GAPS = {
    "easy": Gap(("summer",), (35, 60), (0.0, 0.2), (1500, 3000), 0.1, 0.02, (0.004, 0.008), 0.05),
    "normal": Gap(
        ("spring", "summer", "late summer", "autumn"),
        (18, 62),
        (0.0, 1.0),
        (350, 3000),
        0.4,
        0.07,
        (0.004, 0.02),
        0.15,
    ),
    "hard": Gap(tuple(SEASONS), (5, 62), (0.0, 1.0), (90, 2000), 0.8, 0.14, (0.008, 0.035), 0.35),
}


@dataclass(frozen=True)
class Weather:
    """One day. Angles in degrees, azimuth clockwise from grid north; light in linear units.

    overcast: 0 a clear sky, 1 no sun. visibility_m: where haze has taken 63 % of the contrast.
    exposure: gain of the camera. white_balance: gain per channel. noise: sensor noise, standard
    deviation as a fraction of white. traffic: how likely a vehicle passes in front of a view.
    cloud_seed: where in the endless cloud field this day lies. look: colours, sky and film of a world's
    day, in place of the season's and the standard ones.
    """

    sun_azimuth_deg: float
    sun_elevation_deg: float
    season: Season
    overcast: float
    visibility_m: float
    exposure: float
    white_balance: RGB
    noise: float
    traffic: float
    cloud_seed: int
    look: "Look | None" = None

    @property
    def sun(self) -> RGB:
        """Unit vector (east, north, up) towards the sun."""
        azimuth, elevation = math.radians(self.sun_azimuth_deg), math.radians(self.sun_elevation_deg)
        level = math.cos(elevation)
        return level * math.sin(azimuth), level * math.cos(azimuth), math.sin(elevation)

    @property
    def ambient(self) -> RGB:
        """Light of the sky on level ground, per channel; ambient and sun together come to about 1."""
        strength = 0.34 + 0.62 * self.overcast
        blue = 0.12 * (1 - self.overcast)
        return strength * (1 - blue), strength, strength * (1 + 1.4 * blue)

    @property
    def sunlight(self) -> RGB:
        """Light of the sun on a surface that faces it, per channel; warmer as it sinks."""
        strength = (1 - self.ambient[1]) / max(self.sun[2], 0.5)
        warmth = max(0.0, 1 - self.sun_elevation_deg / 40)
        return strength * (1 + 0.1 * warmth), strength * (1 - 0.08 * warmth), strength * (1 - 0.4 * warmth)


def draw_weather(rng: np.random.Generator, difficulty: str, *, ortho: bool) -> Weather:
    """A day for the orthophoto (clear, sun high, leaves on) or for street views, from `GAPS`.

    Raises DataError for an unknown difficulty.
    """
    if difficulty not in GAPS:
        raise DataError(f"No difficulty is called {difficulty!r}: choose one of {', '.join(GAPS)}.")
    gap = GAPS[difficulty]
    if ortho:
        seasons = ("summer",) if difficulty == "easy" else ("spring", "summer", "late summer")
        gap = Gap(seasons, (35, 62), (0.0, 0.1), (1e5, 1e5), 0.15, 0.03, (0.004, 0.012), 0.0)
    elevation_deg = rng.uniform(*gap.sun_elevation_deg)
    spread_deg = max(0.0, 110 - 1.2 * elevation_deg)
    blue_yellow, green_magenta = rng.uniform(-1, 1, 2) * gap.white_balance
    return Weather(
        sun_azimuth_deg=float(180 + rng.uniform(-spread_deg, spread_deg)),
        sun_elevation_deg=float(elevation_deg),
        season=SEASONS[gap.seasons[rng.integers(len(gap.seasons))]],
        overcast=_skewed_to_extremes(rng, *gap.overcast),
        visibility_m=float(math.exp(rng.uniform(*np.log(gap.visibility_m)))),
        exposure=float(2 ** rng.uniform(-gap.exposure_stops, gap.exposure_stops)),
        white_balance=(float(1 - blue_yellow), float(1 - green_magenta / 2), float(1 + blue_yellow)),
        noise=float(rng.uniform(*gap.noise)),
        traffic=gap.traffic,
        cloud_seed=int(rng.integers(1 << 30)),
    )


def _skewed_to_extremes(rng: np.random.Generator, low: float, high: float) -> float:
    """Days are mostly clear or mostly grey."""
    return float(low + (high - low) * (0.5 - 0.5 * math.cos(math.pi * rng.uniform())))
