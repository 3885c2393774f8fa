"""Shading of what a ray meets on the height map: tops from the painted map, sides from their owner."""

import numpy as np
from jaxtyping import Float32, Int32

from preprocessing.towns import noise
from preprocessing.towns.colours import surface_colours
from preprocessing.towns.facades import Walls, normals, wall_colours
from preprocessing.towns.march import Ground, Rays, refine
from preprocessing.towns.painted import ROOFS, WHITE, Painted, light
from preprocessing.towns.pixels import Pixels, put
from preprocessing.towns.scene import Surface

WALL_RISE_M = np.array([1.2 if surface in ROOFS else 0.45 for surface in Surface], np.float32)
GRAINY_UNTIL_M = 14.0
SHARP_UNTIL_M = (16.0, 28.0, 50.0)
ROUGHNESS = np.full(len(Surface), 0.16, np.float32)
ROUGHNESS[[Surface.GRASS, Surface.SCRUB, Surface.LITTER, Surface.CROP, Surface.ROCK]] = 0.62
ROUGHNESS[[Surface.SOIL, Surface.SAND, Surface.GRAVEL, Surface.STUBBLE, Surface.CEREAL, Surface.DIRT]] = 0.36


def solids(
    painted: Painted, ground: Ground, rays: Rays, step: Int32[np.ndarray, " n"], eye_m: float
) -> Pixels:
    """Find where rays that end at `step` strike, and colour them."""
    heights = painted.scene.height_m.ravel()
    range_m = refine(heights, ground, rays, step, eye_m)
    there = ground.index(range_m, rays.east, rays.north)
    height_m = heights[there]
    front = ground.index(np.maximum(range_m - np.float32(1.15 * ground.gsd_m), 0), rays.east, rays.north)
    z_m = np.float32(eye_m) + range_m * rays.tangent
    under_m = height_m - z_m
    surface = painted.scene.surface.ravel()[there]
    rise_m = height_m - heights[front]
    upright = (under_m > 0.04) & ((rise_m > WALL_RISE_M[surface]) | (under_m > 0.9))
    range_m = np.where(upright, range_m, _level_range(range_m, height_m - np.float32(eye_m), rays, ground))

    colours = np.empty((3, len(range_m)), np.float32)
    side, flat = np.flatnonzero(upright), np.flatnonzero(~upright)
    put(colours, flat, textured(painted, ground, rays[flat], range_m[flat]))
    owned = painted.scene.owner.ravel()[there[side]] > 0
    built, loose = side[owned], side[~owned]
    put(colours, built, _walls(painted, ground, rays[built], there[built], range_m[built], z_m[built]))
    put(colours, loose, _rough(painted, rays[loose], surface[loose], z_m[loose], range_m[loose]))
    surface[built] = np.where(surface[built] == Surface.CAR, surface[built], np.uint8(Surface.FACADE))
    return Pixels(colours, surface, range_m)


def _level_range(
    range_m: np.ndarray, height_m: np.ndarray, rays: Rays, ground: Ground
) -> Float32[np.ndarray, " n"]:
    """Where the ray crosses the struck pixel's own level: smooth ground instead of steps."""
    steep = np.abs(rays.tangent) > 1e-3
    crossing = np.where(steep, height_m / np.where(steep, rays.tangent, 1), range_m)
    slack = np.float32(ground.gsd_m) + np.float32(0.004) * range_m
    return np.clip(crossing, range_m - slack, range_m + slack)


def textured(
    painted: Painted, ground: Ground, rays: Rays, range_m: Float32[np.ndarray, " n"]
) -> Float32[np.ndarray, "3 n"]:
    """The lit map's colours, interpolated, from coarser levels further away."""
    colours = np.empty((3, len(range_m)), np.float32)
    crisp = np.float32(1.0 if painted.weather.look is None else 1.7)
    level = np.searchsorted(np.array(SHARP_UNTIL_M, np.float32), range_m)
    for depth, texture in enumerate(painted.texture):
        some = np.flatnonzero(level == depth)
        pixels = range_m[some] * np.float32(1 / (ground.gsd_m * 2**depth))
        column = pixels * rays.east[some] + np.float32(ground.column / 2**depth)
        row = np.float32(ground.row / 2**depth) - pixels * rays.north[some]
        if painted.weather.look is not None and depth == 0:
            column, row = _frayed(column, row)
        fine = Ground((texture.shape[0], texture.shape[1]), ground.gsd_m, 0, 0)
        put(
            colours,
            some,
            _interpolated(texture.ravel(), fine, column - np.float32(0.5), row - np.float32(0.5), crisp),
        )
    colours *= WHITE / 255
    if painted.weather.look is not None:
        colours *= _blades(painted, ground, rays, range_m)
        return colours
    near = np.flatnonzero(range_m < GRAINY_UNTIL_M)
    put(colours, near, np.take(colours, near, axis=1) * _grain(ground, rays[near], range_m[near]))
    return colours


def _frayed(column: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Map coordinates shaken by a fraction of a pixel, so that no edge shows the map's stairs."""
    shake = noise.sample(2, column * 11, row * 11), noise.sample(2, row * 11, column * 11 + 200)
    return column + (shake[0] - np.float32(0.5)) * np.float32(0.9), row + (
        shake[1] - np.float32(0.5)
    ) * np.float32(0.9)


def _blades(painted: Painted, ground: Ground, rays: Rays, range_m: np.ndarray) -> Float32[np.ndarray, " n"]:
    """Blades, stones and clods at every distance, as large as a pixel there, as rough as their material."""
    surface = np.take(painted.scene.surface, ground.index(range_m, rays.east, rays.north))
    octave = np.frexp(np.maximum(range_m, np.float32(2)))[1].astype(np.float32)
    scale = np.ldexp(np.float32(300), -np.frexp(np.maximum(range_m, np.float32(2)))[1])
    east_m = range_m * rays.east + np.float32(ground.column * ground.gsd_m)
    north_m = range_m * rays.north - np.float32(ground.row * ground.gsd_m)
    speck = noise.sample(2, east_m * scale, north_m * scale + octave * 37) - np.float32(0.5)
    return np.asarray(1 + speck * np.take(ROUGHNESS, surface))


def _grain(ground: Ground, rays: Rays, range_m: Float32[np.ndarray, " n"]) -> Float32[np.ndarray, " n"]:
    """Pebbles and blades near the camera, finer than the map's pixels, fading with the distance."""
    east_m = range_m * rays.east + np.float32(ground.column * ground.gsd_m)
    north_m = range_m * rays.north - np.float32(ground.row * ground.gsd_m)
    speck = noise.sample(2, east_m * 20, north_m * 20) - np.float32(0.5)
    return 1 + speck * (np.float32(0.3) - np.float32(0.3 / GRAINY_UNTIL_M) * range_m)


def _interpolated(
    texture: np.ndarray, ground: Ground, column: np.ndarray, row: np.ndarray, crisp: np.float32
) -> np.ndarray:
    """Bilinear lookup, values 0 to 255, that mixes no roof into the ground beside it and the reverse.

    crisp: 1, or above it for harder transitions.
    """
    left, top = np.floor(column), np.floor(row)
    x, y = column - left, row - top
    if crisp > 1:
        x, y = (np.clip((part - np.float32(0.5)) * crisp + np.float32(0.5), 0, 1) for part in (x, y))
    nearest = texture[ground.flat(column + np.float32(0.5), row + np.float32(0.5))] >> np.uint32(31)
    total, weights = np.zeros((3, len(column)), np.float32), np.full(len(column), 1e-6, np.float32)
    for dx, dy, weight in (
        (0, 0, (1 - x) * (1 - y)),
        (1, 0, x * (1 - y)),
        (0, 1, (1 - x) * y),
        (1, 1, x * y),
    ):
        texel = texture[ground.flat(left + np.float32(dx), top + np.float32(dy))]
        weight *= texel >> np.uint32(31) == nearest
        weights += weight
        for channel, shift in zip(total, (0, 8, 16), strict=True):
            channel += (texel >> np.uint32(shift) & np.uint32(255)) * weight
    return total / weights


def _walls(
    painted: Painted,
    ground: Ground,
    rays: Rays,
    there: np.ndarray,
    range_m: np.ndarray,
    z_m: np.ndarray,
) -> Float32[np.ndarray, "3 n"]:
    """Facades and cars: their paint in sun and sky light."""
    owner = painted.scene.owner.ravel()[there]
    face = painted.face.ravel()[there].astype(np.int32)
    front = ground.index(np.maximum(range_m - np.float32(3 * ground.gsd_m), 0), rays.east, rays.north)
    foot_m = np.take(painted.scene.height_m, front)
    x_m = np.float32(ground.column * ground.gsd_m) + range_m * rays.east
    y_m = range_m * rays.north - np.float32(ground.row * ground.gsd_m)
    top_m = np.take(painted.scene.height_m, there) - foot_m
    walls = Walls(owner, face, x_m, y_m, z_m - foot_m, top_m, range_m)
    east, north = normals(painted.owners, owner, face)
    sun = painted.weather.sun
    sunlit = np.clip((z_m - np.take(painted.shadow_m, front)) * 2 + np.float32(0.5), 0, 1)
    facing = np.maximum(east * np.float32(sun[0]) + north * np.float32(sun[1]), 0) * sunlit
    openness = np.float32(0.5) + np.float32(0.25) * np.clip((z_m - foot_m) / 4, 0, 1)
    return np.asarray(wall_colours(painted.owners, walls) * light(painted.weather, facing, openness))


def _rough(
    painted: Painted, rays: Rays, surface: np.ndarray, z_m: np.ndarray, range_m: np.ndarray
) -> Float32[np.ndarray, "3 n"]:
    """The sides of hedges, fences, trunks and posts: grain, and darker away from the sun."""
    east, north, _ = painted.weather.sun
    facing = np.float32(0.35) - np.float32(0.3) * (
        rays.east * np.float32(east) + rays.north * np.float32(north)
    )
    grain = noise.sample(2, range_m * (8 + 40 * rays.east), z_m * 9 + rays.north * 300) - np.float32(0.5)
    colours = np.take(surface_colours(painted.weather), surface, axis=1)
    gain = light(painted.weather, facing, np.full_like(facing, 0.6)) * (1 + np.float32(0.5) * grain)
    return np.asarray(colours * gain)
