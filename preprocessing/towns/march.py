"""Rays over a height map: which step of the way each pixel sees (the voxel-space algorithm, 1992).

All columns and steps at once: along an image column the highest slope met so far is the horizon, and a
pixel sees the first step whose horizon reaches it. Arrays are (w, ...): one row per image column.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float32, Int32, Int64

NEAREST_M, FINE_STEP_M, GROWTH, FARTHEST_M = 0.6, 0.25, 1.02, 220.0
HALVINGS = 4


@dataclass(frozen=True)
class Lens:
    """How image columns and rows see the world.

    bent: whether rows count elevation, as in an equirectangular image, or slope. east, north: unit
    vector of each column. tangent: rise over run at the centre of each pixel. scale: rows per radian
    of elevation or per unit of slope. middle: the row of the horizon.
    """

    bent: bool
    east: Float32[np.ndarray, " w"]
    north: Float32[np.ndarray, " w"]
    tangent: Float32[np.ndarray, "w h"]
    scale: Float32[np.ndarray, " w"]
    middle: Float32[np.ndarray, " w"]

    def first_row(self, slope: np.ndarray, column: np.ndarray) -> Int32[np.ndarray, "*n"]:
        """The first row whose centre lies at or below that slope, from 0 to h."""
        rise = arctangent(slope) if self.bent else slope
        row = self.middle[column] - rise * self.scale[column] - np.float32(0.5)
        h = self.tangent.shape[1]
        first: Int32[np.ndarray, "*n"] = np.ceil(np.clip(row, 0, h, out=row), out=row).astype(np.int32)
        return first


@cache
def ranges_m() -> Float32[np.ndarray, " r"]:
    """Distances to look at: fine steps near by, then steps that grow with the distance."""
    turn = FINE_STEP_M / (GROWTH - 1)
    near = np.arange(NEAREST_M, turn, FINE_STEP_M)
    far = turn * GROWTH ** np.arange(np.log(FARTHEST_M / turn) // np.log(GROWTH) + 1)
    return np.concatenate([near, far]).astype(np.float32)


def arctangent(slope: Float32[np.ndarray, "*n"]) -> Float32[np.ndarray, "*n"]:
    """Arc tangent to 1e-5, from exactly rounded operations only, so that every machine agrees.

    Half-angle identity, then the polynomial of Abramowitz and Stegun 4.4.47.
    """
    half = slope / (1 + np.sqrt(1 + slope * slope))
    square = half * half
    polynomial: Float32[np.ndarray, "*n"] = np.full_like(half, 0.0208351)
    for coefficient in (-0.0851330, 0.1801410, -0.3302995, 0.9998660):
        polynomial *= square
        polynomial += np.float32(coefficient)
    polynomial *= half
    polynomial *= 2
    return polynomial


@dataclass(frozen=True)
class Ground:
    """The map under the rays: shape, metres per pixel, and the camera's column and row in it."""

    hw: tuple[int, int]
    gsd_m: float
    column: float
    row: float

    def index(self, range_m: np.ndarray, east: np.ndarray, north: np.ndarray) -> Int32[np.ndarray, "*n"]:
        """Flat pixel index at a range; beyond its edge the map goes on as its own mirror image."""
        pixels = range_m * np.float32(1 / self.gsd_m)
        return self.flat(pixels * east + np.float32(self.column), np.float32(self.row) - pixels * north)

    def flat(self, column: np.ndarray, row: np.ndarray) -> Int32[np.ndarray, "*n"]:
        """Flat index of map coordinates (corner origin), mirrored at the edges."""
        h, w = self.hw
        index = _mirrored(row, h)
        index *= w
        index += _mirrored(column, w)
        return index


def _mirrored(at: np.ndarray, size: int) -> Int32[np.ndarray, "*n"]:
    """Floor, then fold back into 0..size-1."""
    whole: Int32[np.ndarray, "*n"] = np.floor(at).astype(np.int32)
    if whole.size and (whole.min() < 0 or whole.max() >= size):
        period = 2 * size
        whole %= period
        np.minimum(whole, period - 1 - whole, out=whole)
    return whole


def march(height_m: np.ndarray, ground: Ground, lens: Lens, eye_m: float) -> tuple[np.ndarray, np.ndarray]:
    """Which step every pixel sees.

    height_m: flat. Returns steps, int (w, h), len(ranges_m()) for the sky, and the flat map index of
    every column's steps, (w, r).
    """
    ranges = ranges_m()
    index = ground.index(ranges[None], lens.east[:, None], lens.north[:, None])
    slope = np.take(height_m, index)
    slope -= np.float32(eye_m)
    slope *= 1 / ranges
    np.maximum.accumulate(slope, axis=1, out=slope)
    w, h = lens.tangent.shape
    first = lens.first_row(slope, np.arange(w)[:, None])
    first += np.arange(w, dtype=np.int32)[:, None] * np.int32(h + 1)
    starting = np.bincount(first.ravel(), minlength=w * (h + 1)).reshape(w, h + 1)
    below = len(ranges) - np.cumsum(starting[:, :h], axis=1)
    return below.astype(np.int32), index


def refine(
    height_m: np.ndarray, ground: Ground, rays: "Rays", step: Int32[np.ndarray, " n"], eye_m: float
) -> Float32[np.ndarray, " n"]:
    """Range in metres where each ray first meets the solid surface, bisected inside its step."""
    ranges = np.concatenate([np.zeros(1, np.float32), ranges_m()])
    near, far = np.take(ranges, step), np.take(ranges, step + 1)
    for _ in range(HALVINGS):
        middle = (near + far) * np.float32(0.5)
        there = ground.index(middle, rays.east, rays.north)
        struck = np.take(height_m, there) >= np.float32(eye_m) + middle * rays.tangent
        far = np.where(struck, middle, far)
        near = np.where(struck, near, middle)
    return far


@dataclass(frozen=True)
class Rays:
    """Some pixels of an image: their flat index (column-major) and the direction each looks in."""

    pixel: Int64[np.ndarray, " n"]
    east: Float32[np.ndarray, " n"]
    north: Float32[np.ndarray, " n"]
    tangent: Float32[np.ndarray, " n"]

    def __getitem__(self, some: np.ndarray) -> "Rays":
        return Rays(self.pixel[some], self.east[some], self.north[some], self.tangent[some])


def rays_of(lens: Lens, pixel: Int64[np.ndarray, " n"]) -> Rays:
    """The rays of pixels given by flat index into (w, h)."""
    column = pixel // lens.tangent.shape[1]
    return Rays(pixel, lens.east[column], lens.north[column], lens.tangent.ravel()[pixel])
