"""Aerial photographs of worlds: tall things lean away from the camera, and mosaics have seams."""

import math

import numpy as np
from jaxtyping import Float32, UInt8

from preprocessing.towns.scene import Scene
from preprocessing.towns.shapes import unit
from preprocessing.towns.worlds.look import Flight

LOWEST_M, STEEP = 0.6, 0.02


def mosaic(photo: UInt8[np.ndarray, "h w 3"], scene: Scene, flight: Flight) -> UInt8[np.ndarray, "h w 3"]:
    """A photograph from straight above as two flights would have taken it, joined along a line."""
    tall_m = np.maximum(scene.height_m, scene.crown_top_m)
    if scene.land_m is not None:
        tall_m = tall_m - scene.land_m
    first = leaning(photo, tall_m, scene.gsd_m, flight.lean[0])
    if flight.seam_at > 1:
        return first
    second = leaning(photo, tall_m, scene.gsd_m, flight.lean[1])
    second = np.clip(second * np.array(flight.step, np.float32), 0, 255).astype(np.uint8)
    h, w, _ = photo.shape
    east, north = unit(flight.seam_deg)
    beyond = (np.arange(w) - flight.seam_at * w) * east + (flight.seam_at * h - np.arange(h))[
        :, None
    ] * north > 0
    return np.where(beyond[..., None], second, first)


def leaning(
    photo: UInt8[np.ndarray, "h w 3"],
    tall_m: Float32[np.ndarray, "h w"],
    gsd_m: float,
    lean: tuple[float, float],
) -> UInt8[np.ndarray, "h w 3"]:
    """Move what stands `tall_m` above the ground by `lean` metres per metre, showing its darker sides.

    Level by level from the ground up, so that the higher hides the lower.
    """
    slant = math.hypot(*lean)
    if slant < STEEP:
        return photo
    out = photo.copy()
    row, column = np.nonzero(tall_m > LOWEST_M)
    height_m = tall_m[row, column]
    colour = photo[row, column]
    sides = (colour * np.float32(0.72)).astype(np.uint8)
    step_m = max(gsd_m / slant, 0.5)
    h, w = tall_m.shape
    for level in range(int(height_m.max() / step_m) + 1 if len(height_m) else 0):
        z_m = level * step_m
        there = np.flatnonzero(height_m >= z_m)
        to_row = row[there] - round(z_m * lean[1] / gsd_m)
        to_column = column[there] + round(z_m * lean[0] / gsd_m)
        inside = (to_row >= 0) & (to_row < h) & (to_column >= 0) & (to_column < w)
        there, to_row, to_column = there[inside], to_row[inside], to_column[inside]
        on_top = (height_m[there] < z_m + step_m)[:, None]
        out[to_row, to_column] = np.where(on_top, colour[there], sides[there])
    return out
