"""Skies of worlds: gradients, the glare of the sun, heaps of cloud, and the land beyond the map."""

import numpy as np
from jaxtyping import Bool, Float32

from preprocessing.towns import noise
from preprocessing.towns.march import Rays
from preprocessing.towns.weather import Weather
from preprocessing.towns.worlds.look import SkyLook

DEGREE = 0.0174533


def wide_sky(
    weather: Weather, look: SkyLook, rays: Rays
) -> tuple[Float32[np.ndarray, "3 n"], Bool[np.ndarray, " n"]]:
    """Colours of rays that meet nothing, and which of them end at the land beyond the map."""
    level = 1 / np.sqrt(1 + rays.tangent * rays.tangent)
    up = np.maximum(rays.tangent * level, np.float32(0.01))
    east, north = rays.east * level, rays.north * level
    blend = np.minimum(up * np.float32(1.7), 1)
    blend = blend * (2 - blend)
    horizon, zenith = (np.array(colour, np.float32)[:, None] for colour in (look.horizon, look.zenith))
    colours: Float32[np.ndarray, "3 n"] = horizon + blend * (zenith - horizon)
    _clouds(weather, look, colours, east / (up + np.float32(0.1)), north / (up + np.float32(0.1)), up)
    _glare(weather, look, colours, east, north, up)
    land = _beyond(weather, look, colours, rays)
    return colours, land


def _clouds(
    weather: Weather, look: SkyLook, colours: np.ndarray, east: np.ndarray, north: np.ndarray, up: np.ndarray
) -> None:
    """Bright heaps with grey bellies; none in a clear sky."""
    if look.cloud_cover <= 0:
        return
    shift_u, shift_v = weather.cloud_seed & 511, weather.cloud_seed >> 9 & 511
    scale = np.float32(look.cloud_scale)
    u, v = east * scale + shift_u, north * scale + shift_v
    density = noise.sample(7, u, v) * np.float32(0.78) + noise.sample(6, 2.3 * u, 2.3 * v) * np.float32(0.22)
    edge = np.float32(0.66 - 0.36 * look.cloud_cover)
    cover = np.clip((density - edge) * np.float32(3.6), 0, 1) * np.clip(up * 10 - np.float32(0.05), 0, 1)
    belly = 1 - np.clip((density - edge) * np.float32(1.6), 0, 1) * np.float32(0.2 + 0.25 * weather.overcast)
    for channel, bright in zip(colours, look.cloud, strict=True):
        channel += cover * (np.float32(bright) * belly - channel)


def _glare(
    weather: Weather, look: SkyLook, colours: np.ndarray, east: np.ndarray, north: np.ndarray, up: np.ndarray
) -> None:
    """A burnt-out spot in a wide halo."""
    sun = weather.sun
    toward = np.maximum(east * np.float32(sun[0]) + north * np.float32(sun[1]) + up * np.float32(sun[2]), 0)
    near = np.float32(1) / (1 + (1 - toward) * np.float32(45))
    close = near * near
    halo = (np.float32(0.15) * near + close + 2 * close * close) * np.float32(
        look.glare * (1 - 0.85 * weather.overcast)
    )
    colours += halo


def _beyond(weather: Weather, look: SkyLook, colours: np.ndarray, rays: Rays) -> Bool[np.ndarray, " n"]:
    """Hills and a tree line at the horizon, veiled by haze."""
    shift = weather.cloud_seed >> 3 & 511
    hill = noise.sample(8, rays.east * 70 + shift, rays.north * 70)
    jag = noise.sample(4, rays.east * 240 + shift, rays.north * 240)
    hills = np.float32(look.hills_deg * DEGREE) * np.maximum(2 * hill - np.float32(0.7), 0)
    wood = np.float32(look.trees_deg * DEGREE) * np.clip(hill * 3 - 1, 0, 1) * (np.float32(0.6) + jag)
    horizon = np.array(look.horizon, np.float32)
    far_veil, near_veil = np.float32(0.35 + 0.6 * look.veil), np.float32(0.15 + 0.6 * look.veil)
    light = np.float32(0.75 + 0.5 * (1 - weather.overcast) * weather.sun[2])
    land: Bool[np.ndarray, " n"] = rays.tangent < np.maximum(hills, wood)
    for where, colour, veil in (
        (rays.tangent < hills, look.far, far_veil), (rays.tangent < wood, look.wood, near_veil),
        (rays.tangent < np.float32(-0.002), look.far, near_veil),
    ):  # fmt: skip
        lit = np.array(colour, np.float32) * light
        shade = lit + veil * (horizon - lit)
        for channel, value in zip(colours, shade, strict=True):
            np.copyto(channel, value * (np.float32(0.94) + np.float32(0.12) * jag), where=where)
        land |= where
    return land
