"""Hills: a gentle relief that roads follow, and banks that rise and fall beside them."""

import numpy as np
from jaxtyping import Float32
from scipy import ndimage

from preprocessing.towns.plan import Plan
from preprocessing.towns.scene import Scene, Surface
from preprocessing.towns.worlds.world import World

COARSE = 8
STEEPEST = 0.07


def raise_land(plan: Plan, world: World, scene: Scene, level: np.ndarray) -> Float32[np.ndarray, "h w"]:
    """`land_m` of `Scene`: 0 or more everywhere, flat on water, without banks where `level`."""
    n = plan.size_px
    coarse = slice(COARSE // 2, None, COARSE)
    cell_m = COARSE * plan.gsd_m
    water = scene.surface[coarse, coarse] == Surface.WATER
    from_water_m = _distance_m(water, cell_m)
    from_level_m = _distance_m(level[coarse, coarse] | water, cell_m)
    height_m = min(world.relief_m, STEEPEST * world.relief_wave_m)
    hills = height_m * _waves(world, 31, plan.side_m / world.relief_wave_m, len(water))
    banks = world.banks_m * (2 * _waves(world, 32, plan.side_m / 70, len(water)) - np.float32(0.8))
    rise = np.clip((from_level_m - 2) / 24, 0, 1)
    land = hills * np.clip(from_water_m / 60, 0, 1) + banks * rise * rise * (3 - 2 * rise)
    land = ndimage.gaussian_filter(land.astype(np.float32), 1.5)
    land -= land.min()
    fine: np.ndarray = ndimage.zoom(land, n / len(land), order=1, mode="nearest", grid_mode=True)
    return np.ascontiguousarray(fine.astype(np.float32))


def _distance_m(there: np.ndarray, cell_m: float) -> np.ndarray:
    if not there.any():
        return np.full(there.shape, 1e4)
    return np.asarray(ndimage.distance_transform_edt(~there)) * cell_m


def _waves(world: World, salt: int, count: float, size: int) -> np.ndarray:
    """Smooth noise, mostly from 0 to 1, with about `count` waves on a side."""
    knots = max(4, int(count * 2) + 3)
    values = np.random.default_rng([world.place, salt]).uniform(-0.15, 1.15, (knots, knots))
    smooth: np.ndarray = ndimage.zoom(values, (size + 1) / knots, order=3)
    padded = np.pad(smooth, ((0, max(0, size - len(smooth))),) * 2, mode="edge")
    return padded[:size, :size]


def on_hills(scene: Scene) -> Scene:
    """A flat scene with everything lifted by its `land_m`, in place of its own rasters."""
    assert scene.land_m is not None
    leafy = scene.crown_id > 0
    for raster, where in ((scene.height_m, True), (scene.crown_top_m, leafy), (scene.crown_bottom_m, leafy)):
        np.add(raster, scene.land_m, out=raster, where=where)
    return scene
