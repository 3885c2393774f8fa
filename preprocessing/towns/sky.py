"""The sky: a gradient, the sun's glow, and clouds on a plane far above."""

import numpy as np
from jaxtyping import Float32

from preprocessing.towns import noise
from preprocessing.towns.march import Rays
from preprocessing.towns.weather import Weather

ZENITH, HORIZON, GREY = (0.36, 0.54, 0.82), (0.76, 0.84, 0.92), (0.80, 0.82, 0.85)


def horizon_colour(weather: Weather) -> Float32[np.ndarray, "3"]:
    """What haze fades into."""
    if weather.look is not None:
        return np.array(weather.look.sky.horizon, np.float32)
    dusk = max(0.0, 1 - weather.sun_elevation_deg / 25) * (1 - weather.overcast)
    clear = np.array(HORIZON) * (1 + dusk * np.array((0.06, -0.08, -0.22)))
    return (clear + weather.overcast * (np.array(GREY) - clear)).astype(np.float32)


def sky(weather: Weather, rays: Rays) -> Float32[np.ndarray, "3 n"]:
    """Colours of rays that meet nothing."""
    level = 1 / np.sqrt(1 + rays.tangent * rays.tangent)
    up = np.maximum(rays.tangent * level, np.float32(0.01))
    horizon = horizon_colour(weather)
    zenith = (1 - weather.overcast) * np.array(ZENITH, np.float32) + weather.overcast * np.array(
        GREY, np.float32
    ) * 0.9
    blend = np.sqrt(np.minimum(up * np.float32(1.4), 1))
    colours = horizon[:, None] + blend * (zenith - horizon).astype(np.float32)[:, None]

    east, north = rays.east * level, rays.north * level
    sun = weather.sun
    toward = np.maximum(east * np.float32(sun[0]) + north * np.float32(sun[1]) + up * np.float32(sun[2]), 0)
    glow = toward * toward
    glow = glow * glow * glow * glow
    colours += glow * glow * np.float32(0.35 * (1 - weather.overcast))
    return _clouded(weather, colours, east / (up + np.float32(0.12)), north / (up + np.float32(0.12)), up)


def _clouded(
    weather: Weather, colours: np.ndarray, east: np.ndarray, north: np.ndarray, up: np.ndarray
) -> Float32[np.ndarray, "3 n"]:
    """Clouds over clear sky, darker folds over a grey one."""
    shift_u, shift_v = weather.cloud_seed & 511, weather.cloud_seed >> 9 & 511
    u, v = east * np.float32(80) + shift_u, north * np.float32(80) + shift_v
    density = noise.sample(7, u, v) * np.float32(0.75) + noise.sample(5, 2.7 * u, 2.7 * v) * np.float32(0.25)
    cover = np.float32(0.62 - 0.45 * weather.overcast)
    cloud = np.clip((density - cover) * 4, 0, 1) * np.minimum(up * 8, 1)
    bright = np.float32(0.98 - 0.12 * weather.overcast) - np.float32(0.28) * density * density * np.float32(
        0.4 + weather.overcast
    )
    return np.asarray(colours + cloud * (bright - colours))
