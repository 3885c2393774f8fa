"""Shading of what a ray meets on the height map: tops from the painted map, sides from their owner."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int32, UInt8

from preprocessing.towns import noise
from preprocessing.towns.facades import Walls, normals, wall_colours
from preprocessing.towns.march import Ground, Rays, refine
from preprocessing.towns.painted import WHITE, Painted, light
from preprocessing.towns.scene import Surface

STEEPEST_ROOF_M = np.float32(0.45)
SHARP_UNTIL_M = (16.0, 28.0, 50.0)


@dataclass(frozen=True)
class Solids:
    """What rays met: colours (sRGB from 0), surface classes and ranges in metres, one row per ray."""

    colours: Float32[np.ndarray, "n 3"]
    surface: UInt8[np.ndarray, " n"]
    range_m: Float32[np.ndarray, " n"]


def solids(painted: Painted, ground: Ground, rays: Rays, step: Int32[np.ndarray, " n"], eye_m: float) -> Solids:
    """Find where rays that end at `step` strike, and colour them."""
    heights = painted.scene.height_m.ravel()
    range_m = refine(heights, ground, rays, step, eye_m)
    there = ground.index(range_m, rays.east, rays.north)
    height_m = heights[there]
    front = ground.index(np.maximum(range_m - np.float32(1.15 * ground.gsd_m), 0), rays.east, rays.north)
    z_m = eye_m + range_m * rays.tangent
    upright = (height_m - heights[front] > STEEPEST_ROOF_M) & (z_m < height_m - np.float32(0.04))
    range_m = np.where(upright, range_m, _level_range(range_m, height_m - np.float32(eye_m), rays, ground))

    surface = painted.scene.surface.ravel()[there]
    colours = textured(painted, ground, rays, range_m)
    side = np.flatnonzero(upright)
    owned = painted.scene.owner.ravel()[there[side]] > 0
    built, loose = side[owned], side[~owned]
    colours[built] = _walls(painted, ground, rays[built], there[built], front[built], range_m[built], z_m[built])
    colours[loose] *= _rough(painted, rays[loose], z_m[loose], range_m[loose])
    surface[built] = np.where(surface[built] == Surface.CAR, surface[built], np.uint8(Surface.FACADE))
    return Solids(colours, surface, range_m)


def _level_range(range_m: np.ndarray, height_m: np.ndarray, rays: Rays, ground: Ground) -> Float32[np.ndarray, " n"]:
    """Where the ray crosses the struck pixel's own level: smooth ground instead of steps."""
    steep = np.abs(rays.tangent) > 1e-3
    crossing = np.where(steep, height_m / np.where(steep, rays.tangent, 1), range_m)
    slack = np.float32(ground.gsd_m) + np.float32(0.004) * range_m
    return np.clip(crossing, range_m - slack, range_m + slack)


def textured(
    painted: Painted, ground: Ground, rays: Rays, range_m: Float32[np.ndarray, " n"]
) -> Float32[np.ndarray, "n 3"]:
    """The lit map's colours, interpolated, from coarser levels further away."""
    colours = np.empty((len(range_m), 3), np.float32)
    level = np.searchsorted(np.array(SHARP_UNTIL_M, np.float32), range_m)
    for depth, texture in enumerate(painted.texture):
        some = np.flatnonzero(level == depth)
        pixels = range_m[some] * np.float32(1 / (ground.gsd_m * 2**depth))
        column = pixels * rays.east[some] + np.float32(ground.column / 2**depth)
        row = np.float32(ground.row / 2**depth) - pixels * rays.north[some]
        fine = Ground((texture.shape[0], texture.shape[1]), ground.gsd_m, 0, 0)
        colours[some] = _interpolated(texture.ravel(), fine, column - np.float32(0.5), row - np.float32(0.5))
    colours *= WHITE / 255
    return colours


def _interpolated(texture: np.ndarray, ground: Ground, column: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Bilinear lookup in packed bytes, values 0 to 255."""
    left, top = np.floor(column), np.floor(row)
    x, y = (column - left)[:, None], (row - top)[:, None]
    corners = [
        texture[ground.flat(left + dx, top + dy)].view(np.uint8).reshape(-1, 4)[:, :3].astype(np.float32)
        for dy in (0, 1)
        for dx in (0, 1)
    ]
    upper = corners[0] + x * (corners[1] - corners[0])
    lower = corners[2] + x * (corners[3] - corners[2])
    return upper + y * (lower - upper)


def _walls(
    painted: Painted,
    ground: Ground,
    rays: Rays,
    there: np.ndarray,
    front: np.ndarray,
    range_m: np.ndarray,
    z_m: np.ndarray,
) -> Float32[np.ndarray, "n 3"]:
    """Facades and cars: their paint in sun and sky light."""
    owner = painted.scene.owner.ravel()[there]
    face = painted.face.ravel()[there].astype(np.int32)
    foot_m = np.take(painted.scene.height_m, front)
    x_m = np.float32(ground.column * ground.gsd_m) + range_m * rays.east
    y_m = range_m * rays.north - np.float32(ground.row * ground.gsd_m)
    top_m = np.take(painted.scene.height_m, there) - foot_m
    walls = Walls(owner, face, x_m, y_m, z_m - foot_m, top_m, range_m)
    east, north = normals(painted.owners, owner, face)
    sun = painted.weather.sun
    sunlit = np.clip((z_m - np.take(painted.shadow_m, front)) * 2 + np.float32(0.5), 0, 1)
    facing = np.maximum(east * np.float32(sun[0]) + north * np.float32(sun[1]), 0) * sunlit
    openness = np.float32(0.5) + np.float32(0.25) * np.minimum((z_m - foot_m) / 4, 1)
    return wall_colours(painted.owners, walls) * light(painted.weather, facing, openness)


def _rough(painted: Painted, rays: Rays, z_m: np.ndarray, range_m: np.ndarray) -> Float32[np.ndarray, "n 1"]:
    """Gain of the sides of hedges, trunks, posts: grain, and darker away from the sun."""
    sun = painted.weather.sun
    toward = -(rays.east * np.float32(sun[0]) + rays.north * np.float32(sun[1]))
    grain = noise.sample(2, range_m * 6 + rays.east * 300, z_m * 9 + rays.north * 300) - np.float32(0.5)
    return (np.float32(0.78) + np.float32(0.16 * (1 - painted.weather.overcast)) * toward + np.float32(0.4) * grain)[:, None]
