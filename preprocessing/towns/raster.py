"""A plan as rasters: the ground and the buildings once per town, then the trees and cars of each day."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32, UInt8
from rasterio.features import rasterize
from rasterio.transform import Affine
from shapely.geometry import box
from shapely.geometry.base import BaseGeometry

from preprocessing.towns.plan import Plan
from preprocessing.towns.roofs import raise_roofs
from preprocessing.towns.scene import Scene, Surface
from preprocessing.towns.stamps import stamp_cars, stamp_trees
from preprocessing.towns.worlds.ground import lay_world
from preprocessing.towns.worlds.relief import on_hills
from preprocessing.towns.worlds.trees import stamp_forest

TREE_STREAM, CAR_STREAM = 2, 3
RASTERS = ("height_m", "surface", "owner", "axis_deg", "crown_top_m", "crown_bottom_m", "crown_id")


@dataclass(frozen=True)
class DayGaps:
    """How far the street views lie from the orthophoto, weather apart (that is `weather.GAPS`).

    trees_differ: the share of trees that stand in one view only. wobble_deg: standard deviation of the
    camera's roll and pitch.
    """

    trees_differ: float
    wobble_deg: float


GAPS = {"easy": DayGaps(0.05, 0.3), "normal": DayGaps(0.15, 1.0), "hard": DayGaps(0.20, 2.0)}


def build_scene(plan: Plan, day: int, difficulty: str = "normal") -> Scene:
    """A town on one day: 0 is the orthophoto's, 1 and up are the street views'."""
    return dress(lay_ground(plan), plan, day, difficulty)


def lay_ground(plan: Plan) -> Scene:
    """The town without trees and cars: what stays from day to day."""
    n = plan.size_px
    surface = _burn(plan, ((s, int(k)) for k, s in plan.ground), np.uint8)
    _burn(plan, ((s, int(k)) for k, s in plan.markings), np.uint8, surface)
    height = np.zeros((n, n), np.float32)
    height[(surface == Surface.PAVEMENT) | (surface == Surface.KERB)] = 0.12
    _burn(plan, ((s, int(k)) for k, s, _ in plan.walls), np.uint8, surface)
    walls = _burn(plan, ((s, i + 1) for i, (_, s, _) in enumerate(plan.walls)), np.int32)
    high = np.array([0.0] + [h for _, _, h in plan.walls], np.float32)
    height = np.where(walls > 0, high[walls], height)
    for x, y in plan.lamps:
        row, col = int((plan.side_m - y) / plan.gsd_m), int(x / plan.gsd_m)
        if 0 <= row < n and 0 <= col < n:
            surface[row, col], height[row, col] = Surface.LAMP_POST, 6.0 + 2.0 * ((row * 7 + col) % 11) / 11
    ground = _build(plan, surface, height)
    return ground if plan.world is None else lay_world(plan, plan.world, ground)


def _build(plan: Plan, surface: UInt8[np.ndarray, "h w"], height: Float32[np.ndarray, "h w"]) -> Scene:
    index = _burn(plan, ((b.outline, i + 1) for i, b in enumerate(plan.buildings)), np.int32)
    built = index > 0
    eaves = np.array([0.0] + [b.eave_m for b in plan.buildings], np.float32)
    roofs = np.array([0] + [b.surface for b in plan.buildings], np.uint8)
    axes = np.array([0.0] + [b.axis_deg for b in plan.buildings], np.float32)
    height = np.where(built, eaves[index], height)
    raise_roofs(plan, index, height)
    return Scene(
        plan.gsd_m, plan.crs, plan.west_m, plan.north_m, height, np.where(built, roofs[index], surface),
        index, axes[index], np.zeros_like(height), np.zeros_like(height), np.zeros_like(index),
    )  # fmt: skip


def dress(ground: Scene, plan: Plan, day: int, difficulty: str = "normal") -> Scene:
    """The town of `lay_ground` with the trees and cars of a day: all cars and some trees differ between days.

    A share `trees_differ` of the trees stands on one side only: half of it on day 0, half on the others.
    """
    half = GAPS[difficulty].trees_differ / 2
    first, last = (half, 2 * half) if day else (0.0, half)
    scene = replace(ground, **{name: getattr(ground, name).copy() for name in RASTERS})
    names = np.random.default_rng(np.random.SeedSequence([plan.seed, TREE_STREAM])).permutation(1_000_000) + 1
    standing = [i for i, tree in enumerate(plan.trees) if not first <= tree.luck < last]
    trees = [plan.trees[i] for i in standing]
    if plan.world is None:
        stamp_trees(scene, plan, trees, names[standing])
    else:
        stamp_forest(scene, plan, plan.world, trees, names[standing])
    rng = np.random.default_rng(np.random.SeedSequence([plan.seed, CAR_STREAM, day]))
    slots = [slot for slot in plan.slots if rng.uniform() < slot.odds]
    first_id = 1 + len(plan.buildings) + day * len(plan.slots)
    stamp_cars(rng, scene, plan, slots, first_id)
    return scene if scene.land_m is None else on_hills(scene)


def _burn(
    plan: Plan, shapes: Iterable[tuple[BaseGeometry, int]], dtype: type, out: np.ndarray | None = None
) -> np.ndarray:
    """Rasterise shapes in order, later over earlier, on the town's grid."""
    n = plan.size_px
    grid = np.zeros((n, n), dtype) if out is None else out
    transform = Affine(plan.gsd_m, 0, 0, 0, -plan.gsd_m, plan.side_m)
    town = box(0, 0, plan.side_m, plan.side_m)
    kept = [(shape, value) for shape, value in shapes if shape.intersects(town)]
    if kept:
        rasterize(kept, out=grid, transform=transform)
    return grid
