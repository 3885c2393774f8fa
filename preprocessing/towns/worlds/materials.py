"""What the ground of a world is like from place to place, at every scale, once for both views."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int8, Int32, UInt8
from rasterio.enums import MergeAlg
from rasterio.features import rasterize
from rasterio.transform import Affine
from shapely.geometry.base import BaseGeometry

from preprocessing.towns import noise
from preprocessing.towns.plan import Plan
from preprocessing.towns.scene import Surface
from preprocessing.towns.shapes import unit
from preprocessing.towns.worlds.world import World

BAND = 256


@dataclass(frozen=True)
class Texture:
    """How strong a surface's grain is at four scales, each in units of 1/127: pixels, metres, tens, hundreds.

    patchy: how much of it gives way to another material where the world is worn; 0 for none.
    """

    fine: float = 16
    mid: float = 10
    wide: float = 12
    vast: float = 0
    patchy: float = 0.0


PLAIN = Texture()
TEXTURES = {
    Surface.GRASS: Texture(28, 40, 46, 44, 0.55),
    Surface.SCRUB: Texture(52, 62, 52, 44, 0.9),
    Surface.LITTER: Texture(44, 50, 44, 20, 0.6),
    Surface.SOIL: Texture(34, 22, 36, 44, 0.5),
    Surface.DIRT: Texture(36, 30, 36, 20, 0.4),
    Surface.GRAVEL: Texture(40, 20, 26, 16, 0.35),
    Surface.SAND: Texture(22, 34, 44, 44, 0.7),
    Surface.ROCK: Texture(90, 80, 50, 20, 0.5),
    Surface.CROP: Texture(40, 30, 40, 40, 0.3),
    Surface.CEREAL: Texture(34, 22, 40, 40, 0.2),
    Surface.STUBBLE: Texture(44, 22, 34, 34, 0.4),
    Surface.WATER: Texture(8, 8, 18, 30),
    Surface.ASPHALT: Texture(16, 12, 22, 16, 0.3),
    Surface.PARKING: Texture(14, 12, 24, 10, 0.3),
    Surface.CONCRETE: Texture(14, 10, 20, 8, 0.15),
    Surface.PAVEMENT: Texture(16, 12, 20, 8, 0.15),
    Surface.DRIVEWAY: Texture(16, 14, 24, 8, 0.2),
    Surface.HEDGE: Texture(70, 50, 20),
    Surface.LANE_MARKING: Texture(10, 16, 10, 0, 0.3),
    Surface.YELLOW_MARKING: Texture(10, 16, 10, 0, 0.3),
    Surface.ZEBRA: Texture(20, 30, 20, 0, 0.5),
    Surface.ROOF_TILE: Texture(36, 18, 16, 0, 0.1),
    Surface.ROOF_FLAT: Texture(18, 24, 34, 0, 0.3),
    Surface.ROOF_METAL: Texture(10, 14, 20, 0, 0.15),
}


def lay_materials(
    plan: Plan, world: World, surface: UInt8[np.ndarray, "h w"]
) -> tuple[UInt8[np.ndarray, "h w"], Int8[np.ndarray, "h w"]]:
    """`patch` and `grain` of `Scene`."""
    textures = [TEXTURES.get(s, PLAIN) for s in Surface]
    weight = {
        name: np.array([getattr(t, name) for t in textures], np.float32)
        for name in Texture.__dataclass_fields__
    }
    tone = _stains(plan, world)
    rows_of = _burn(plan, [(rows.area, i + 1) for i, rows in enumerate(world.rows)])
    patch, grain = np.empty(surface.shape, np.uint8), np.empty(surface.shape, np.int8)
    for top in range(0, len(surface), BAND):
        band = slice(top, top + BAND)
        here = surface[band]
        grid = np.indices(here.shape, np.float32)
        row, column = grid[0] + np.float32(top), grid[1]
        scales = _scales(world, plan.gsd_m, row, column)
        total = np.zeros(here.shape, np.float32)
        for name, scale in zip(("fine", "mid", "wide", "vast"), scales, strict=True):
            total += weight[name][here] * scale
        grain[band] = np.clip(total + tone[band], -127, 127)
        worn = _worn(world, plan.gsd_m, row, column, scales[0]) * weight["patchy"][here]
        between = _between_rows(world, plan, rows_of[band], here, row, column)
        patch[band] = np.maximum(np.clip(worn, 0, 1), between) * np.float32(255)
    return patch, grain


def _scales(world: World, gsd_m: float, row: np.ndarray, column: np.ndarray) -> tuple[np.ndarray, ...]:
    """Noise around 0, from -1 to 1, that varies over pixels, metres, tens and hundreds of metres."""
    fields = []
    for salt, (octaves, per_m) in enumerate(((1, 1 / gsd_m), (3, 1 / gsd_m), (6, 1.3), (8, 0.8))):
        east, south = world.shift(salt)
        scale = np.float32(per_m * gsd_m)
        fields.append(2 * noise.sample(octaves, column * scale + east % 512, row * scale + south % 512) - 1)
    return tuple(fields)


def _worn(world: World, gsd_m: float, row: np.ndarray, column: np.ndarray, fine: np.ndarray) -> np.ndarray:
    """From 0 to 1: patches of metres to tens of metres with frayed edges; more where the world is worn."""
    east, south = world.shift(9)
    scale = np.float32(1.1 * gsd_m)
    patches = noise.sample(7, column * scale + east % 512, row * scale + south % 512)
    threshold = np.float32(0.72 - 0.27 * world.worn)
    worn: np.ndarray = np.clip((patches - threshold) * 5 + np.float32(0.12) * fine, 0, 1)
    return worn


def _between_rows(
    world: World, plan: Plan, rows_of: Int32[np.ndarray, "h w"], surface: np.ndarray, row: np.ndarray,
    column: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """1 between the rows of a crop, 0 on them and elsewhere."""
    between = np.zeros(rows_of.shape, np.float32)
    if not world.rows:
        return between
    where = np.nonzero(rows_of)
    which = rows_of[where] - 1
    across = np.array([unit(rows.bearing_deg + 90) for rows in world.rows], np.float32)[which]
    step, bare = np.array([(rows.step_m, rows.bare) for rows in world.rows], np.float32)[which].T
    place = (column[where] * across[:, 0] - row[where] * across[:, 1]) * np.float32(plan.gsd_m) / step
    place += noise.sample(6, column[where], row[where]) * np.float32(0.3) / step
    worked = np.isin(surface[where], (Surface.CROP, Surface.CEREAL, Surface.STUBBLE, Surface.SOIL))
    between[where] = worked & (place - np.floor(place) < bare)
    return between


def _stains(plan: Plan, world: World) -> np.ndarray:
    """Tones added up, for stains lie over each other."""
    return _burn(plan, [(stain.area, stain.tone) for stain in world.stains if stain.tone], MergeAlg.add)


def _burn(
    plan: Plan, shapes: list[tuple[BaseGeometry, int]], merge: MergeAlg = MergeAlg.replace
) -> Int32[np.ndarray, "h w"]:
    grid = np.zeros((plan.size_px, plan.size_px), np.int32)
    kept = [(shape, value) for shape, value in shapes if not shape.is_empty]
    if kept:
        transform = Affine(plan.gsd_m, 0, 0, 0, -plan.gsd_m, plan.side_m)
        rasterize(kept, out=grid, transform=transform, merge_alg=merge)
    return grid
