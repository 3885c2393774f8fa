"""What a world adds to the rasters of a town."""

from dataclasses import replace

import numpy as np
from rasterio.features import rasterize
from rasterio.transform import Affine

from preprocessing.towns.plan import Plan
from preprocessing.towns.scene import Scene
from preprocessing.towns.worlds.materials import lay_materials
from preprocessing.towns.worlds.relief import raise_land
from preprocessing.towns.worlds.world import World


def lay_world(plan: Plan, world: World, ground: Scene) -> Scene:
    """The ground with posts, materials and, still flat, the land that `dress` will lift it by."""
    n, gsd_m = plan.size_px, plan.gsd_m
    for post in world.posts:
        row, column = int((plan.side_m - post.at[1]) / gsd_m), int(post.at[0] / gsd_m)
        if 0 <= row < n and 0 <= column < n and not ground.owner[row, column]:
            ground.surface[row, column], ground.height_m[row, column] = post.surface, post.height_m
    patch, grain = lay_materials(plan, world, ground.surface)
    level = ground.owner > 0
    if not world.roads.is_empty:
        burnt = np.zeros((n, n), np.uint8)
        rasterize([(world.roads, 1)], out=burnt, transform=Affine(gsd_m, 0, 0, 0, -gsd_m, plan.side_m))
        level |= burnt > 0
    return replace(ground, patch=patch, grain=grain, land_m=raise_land(plan, world, ground, level))
