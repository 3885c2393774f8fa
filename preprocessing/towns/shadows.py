"""Where the sun does not reach: one map for walls and ground, one for what stands under trees."""

import math

import numpy as np
from jaxtyping import Float32

from preprocessing.towns.scene import Scene
from preprocessing.towns.weather import Weather

LONGEST_M = 160.0


def shadow_height(scene: Scene, weather: Weather) -> Float32[np.ndarray, "h w"]:
    """Height in metres below which each pixel lies in the shadow of something solid.

    The shadow of a height h reaches h / tan(elevation); the maximum over 2^n steps towards the sun is
    built from two maxima over 2^(n-1), so the cost grows with the logarithm of the length.
    """
    east, north, up = weather.sun
    level = math.hypot(east, north)
    drop_m = scene.gsd_m * up / level
    tallest_m = float(scene.height_m.max() - scene.height_m.min())
    steps = max(1.0, min(LONGEST_M / scene.gsd_m, tallest_m / drop_m))
    below = _towards(scene.height_m, east / level, north / level, drop_m)
    for doubling in range(math.ceil(math.log2(steps))):
        n = 2**doubling
        np.maximum(below, _towards(below, n * east / level, n * north / level, n * drop_m), out=below)
    return below


def foliage_shade(scene: Scene, weather: Weather) -> Float32[np.ndarray, "h w"]:
    """How much of the sun the crowns take from each pixel's surface: 0 none, 1 all."""
    east, north, up = weather.sun
    level = math.hypot(east, north)
    step_m = max(0.5, scene.gsd_m)
    reach_m = min(60.0, float(scene.crown_top_m.max()) * level / up)
    shaded = np.zeros(scene.height_m.shape, bool)
    for distance_m in np.arange(0.0, reach_m, step_m):
        pixels = distance_m / scene.gsd_m
        rise_m = distance_m * up / level
        top = _towards(scene.crown_top_m, pixels * east / level, pixels * north / level, rise_m)
        bottom = _towards(scene.crown_bottom_m, pixels * east / level, pixels * north / level, rise_m)
        shaded |= (scene.height_m < top) & (scene.height_m >= bottom)
    return shaded * np.float32(0.85 * (1 - weather.season.bare))


def _towards(heights: np.ndarray, east_px: float, north_px: float, drop_m: float) -> np.ndarray:
    """What stands so far away in that direction, lowered; beyond the edge there is nothing."""
    rows, columns = -round(north_px), round(east_px)
    moved = np.full_like(heights, -np.inf)
    h, w = heights.shape
    if abs(rows) < h and abs(columns) < w:
        moved[max(0, -rows) : h - max(0, rows), max(0, -columns) : w - max(0, columns)] = heights[
            max(0, rows) : h - max(0, -rows), max(0, columns) : w - max(0, -columns)
        ] - np.float32(drop_m)
    return moved
