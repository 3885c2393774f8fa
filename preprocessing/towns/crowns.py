"""Foliage: it floats between two heights, so it is drawn as intervals of rows, the nearest last."""

import numpy as np
from jaxtyping import Float32, Int32, Int64

from preprocessing.towns import noise
from preprocessing.towns.colours import bareness, leaf_colours
from preprocessing.towns.march import Ground, Lens, Rays, ranges_m, rays_of
from preprocessing.towns.painted import Painted, light
from preprocessing.towns.pixels import Pixels
from preprocessing.towns.scene import Surface

LEAVES_PER_M, CLUMPS_PER_M = 14.0, 3.0


def crowns(
    painted: Painted,
    ground: Ground,
    lens: Lens,
    eye_m: float,
    index: Int32[np.ndarray, "w r"],
    range_m: np.ndarray,
) -> tuple[Int64[np.ndarray, " n"], Pixels]:
    """What leaves hide: which pixels (flat in (w, h)), and what is there; a pixel's last entry counts.

    index: map pixels of every column's steps. range_m: of the solid things already drawn, flat (w, h).
    """
    entry = np.flatnonzero(np.take(painted.crown_top_m, index) > 0)
    column, step = np.divmod(entry, index.shape[1])
    there = index.ravel()[entry]
    away_m = ranges_m()[step]
    first = lens.first_row((np.take(painted.crown_top_m, there) - np.float32(eye_m)) / away_m, column)
    last = lens.first_row((np.take(painted.crown_bottom_m, there) - np.float32(eye_m)) / away_m, column)
    which, row = _newly_covered(entry, column, first, last)

    pixel = column[which] * lens.tangent.shape[1] + row
    visible = away_m[which] < range_m[pixel]
    which, pixel = which[visible][::-1], pixel[visible][::-1]
    rays = rays_of(lens, pixel)
    kept, colours = _foliage(painted, ground, lens, rays, there[which], away_m[which], eye_m)
    surface = np.full(len(kept), Surface.CROWN, np.uint8)
    return pixel[kept], Pixels(colours, surface, away_m[which[kept]])


def _newly_covered(
    entry: np.ndarray, column: np.ndarray, first: np.ndarray, last: np.ndarray
) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """(which entry, row) for rows that the step before did not already cover: the nearer one wins."""
    follows = np.zeros(len(entry), bool)
    follows[1:] = (np.diff(entry) == 1) & (np.diff(column) == 0)
    before_first = np.where(follows, np.roll(first, 1), last)
    before_last = np.where(follows, np.roll(last, 1), last)
    starts = np.stack([first, np.maximum(first, before_last)], axis=1).ravel()
    stops = np.stack([np.minimum(last, before_first), last], axis=1).ravel()
    lengths = np.maximum(stops - starts, 0)
    which = np.repeat(np.arange(len(lengths)), lengths)
    row = np.arange(len(which)) + (starts - np.cumsum(lengths) + lengths)[which]
    return which // 2, row


def _foliage(
    painted: Painted,
    ground: Ground,
    lens: Lens,
    rays: Rays,
    there: np.ndarray,
    away_m: np.ndarray,
    eye_m: float,
) -> tuple[Int64[np.ndarray, " k"], Float32[np.ndarray, "3 k"]]:
    """Which rays meet leaves, rather than a gap between them, and the leaves' colours."""
    z_m = np.float32(eye_m) + away_m * rays.tangent
    top, bottom = np.take(painted.crown_top_m, there), np.take(painted.crown_bottom_m, there)
    starts_m = np.take(painted.scene.crown_bottom_m, there)
    speck, clump = _twigs(rays, lens, away_m)
    tree = np.take(painted.scene.crown_id, there)
    bare = bareness(painted.weather, tree, starts_m)
    inside_m = np.minimum(top - z_m, z_m - bottom)
    solid = np.float32(0.56) + np.minimum(inside_m * np.float32(0.5), np.float32(0.4))
    if painted.weather.look is not None:
        solid *= np.take(painted.weather.look.dense, tree & 7)
        speck = np.float32(0.45) * speck + np.float32(0.55) * clump
        bare = bare * np.float32(0.75)
    solid -= bare * (np.float32(0.25) + np.float32(0.7) * clump)
    kept = np.flatnonzero(speck < solid)

    there, speck, clump = there[kept], speck[kept], clump[kept]
    height = (z_m[kept] - bottom[kept]) / np.maximum(top[kept] - bottom[kept], np.float32(0.2))
    height = np.clip(height, 0, 1)
    facing = _facing(painted, ground, there, height)
    ripple = np.float32(0.62) + np.float32(0.4) * clump + np.float32(0.4) * speck
    openness = np.float32(0.35) + np.float32(0.6) * height
    colours = leaf_colours(painted.weather, tree[kept], starts_m[kept])
    return kept, colours * light(painted.weather, facing * ripple, openness) * ripple


def _twigs(rays: Rays, lens: Lens, away_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fine and coarse noise across the image, its grain of the size of leaves, or of a pixel."""
    column, row = np.divmod(rays.pixel, lens.tangent.shape[1])
    pixel_m = np.ldexp(np.float32(1), np.frexp(away_m)[1]) / lens.scale.min()
    grain = np.minimum(pixel_m * np.float32(LEAVES_PER_M), np.float32(1))
    clump = np.minimum(pixel_m * np.float32(CLUMPS_PER_M), np.float32(1))
    shift = np.floor(away_m / 8) * 57
    return noise.sample(2, column * grain + shift, row * grain), noise.sample(
        3, column * clump, row * clump + shift
    )


def _facing(
    painted: Painted, ground: Ground, there: np.ndarray, height: np.ndarray
) -> Float32[np.ndarray, " n"]:
    """Cosine between the sun and a crown's round surface, softened, as leaves let light through."""
    h, w = ground.hw
    reach = max(1, round(0.9 / ground.gsd_m))
    row, column = np.divmod(there, w)
    top = painted.crown_top_m
    east = top[row, np.maximum(column - reach, 0)] - top[row, np.minimum(column + reach, w - 1)]
    north = top[np.minimum(row + reach, h - 1), column] - top[np.maximum(row - reach, 0), column]
    up = 2 * height - 1
    level = np.sqrt(np.maximum(1 - up * up, 0) / np.maximum(east * east + north * north, np.float32(1e-3)))
    sun = np.array(painted.weather.sun, np.float32)
    cosine = level * (east * sun[0] + north * sun[1]) + up * sun[2]
    return np.asarray(np.clip(np.float32(0.2) + np.float32(0.75) * cosine, 0.03, 1))
