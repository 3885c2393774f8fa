"""Where the sun does not reach: one map for walls and ground, one for what stands under trees."""

import math

import numpy as np
from jaxtyping import Float32
from scipy import ndimage

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
    """How much of the sun the crowns take from each pixel's surface: 0 none, 1 all.

    A walk towards the sun over every other pixel, for leaves cast no sharp shadow.
    """
    east, north, up = weather.sun
    level = math.hypot(east, north)
    stride = max(1, round(0.6 / scene.gsd_m))
    height, top, bottom = (
        np.ascontiguousarray(part[::stride, ::stride])
        for part in (scene.height_m, scene.crown_top_m, scene.crown_bottom_m)
    )
    reach_px = min(60.0, float(top.max()) * level / up) / (stride * scene.gsd_m)
    shaded = np.zeros(height.shape, bool)
    for pixels in np.arange(0.0, reach_px):
        away = pixels * east / level, pixels * north / level, pixels * stride * scene.gsd_m * up / level
        shaded |= (height < _towards(top, *away)) & (height >= _towards(bottom, *away))
    h, w = scene.height_m.shape
    full = np.repeat(np.repeat(shaded.astype(np.float32), stride, 0)[:h], stride, 1)[:, :w]
    bare = weather.season.bare if weather.look is None else 0.6 * float(weather.look.bare.max())
    return np.asarray(ndimage.uniform_filter(full, 2 * stride - 1)) * np.float32(0.85 * (1 - bare))


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
