"""Trees of a world's species, stamped into a scene."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from preprocessing.towns.noise import chance
from preprocessing.towns.plan import Plan
from preprocessing.towns.scene import Scene, Surface
from preprocessing.towns.sketch import Tree
from preprocessing.towns.stamps import window_around
from preprocessing.towns.worlds.crown_shapes import REACH, SIDE, VARIANTS, mould
from preprocessing.towns.worlds.world import Species, World

KINDS = 8


def stamp_forest(
    scene: Scene, plan: Plan, world: World, trees: Sequence[Tree], names: Int64[np.ndarray, " n"]
) -> None:
    """Crowns and trunks, in place. A crown's id is 8 times its tree's number plus its species'."""
    evergreens = [
        i for i, kind in enumerate(world.species[:-1]) if kind.form in ("conifer", "light") and kind.evergreen
    ]
    luck = chance(names, 11)
    for tree, name, fate in zip(trees, names.tolist(), luck.tolist(), strict=True):
        number = int(fate * (KINDS - 1))
        if tree.kind == "shrub":
            number = KINDS - 1
        elif tree.kind == "conifer" and evergreens:
            number = evergreens[int(fate * len(evergreens))]
        _stamp(scene, plan, tree, world.species[number], name * KINDS + number)


def _size(tree: Tree, kind: Species) -> tuple[float, float, float]:
    """Height, lower edge and radius of the crown in metres."""
    if tree.kind == "shrub":
        return tree.top_m * kind.tall, 0.05, tree.radius_m * kind.wide
    tall, wide = (0.68, 1.25) if tree.kind == "conifer" else (1.0, 1.0)
    top_m = max(2.0, tree.top_m * tall * kind.tall)
    return top_m, kind.clear * top_m, max(0.4, tree.radius_m * wide * kind.wide)


def _stamp(scene: Scene, plan: Plan, tree: Tree, kind: Species, id: int) -> None:
    top_m, bottom_m, radius_m = _size(tree, kind)
    window, east, north = window_around(plan, tree.x, tree.y, REACH * radius_m)
    if not east.size:
        return
    shape = mould(kind.form, id // KINDS % VARIANTS)
    scale = SIDE / (2 * REACH * radius_m)
    column = np.clip((east * scale + SIDE / 2).astype(np.intp), 0, SIDE - 1)
    row = np.clip((SIDE / 2 - north * scale).astype(np.intp), 0, SIDE - 1)
    thick_m = top_m - bottom_m
    top = bottom_m + thick_m * shape.top[row, column]
    bottom = bottom_m + thick_m * shape.bottom[row, column]
    old_top, old_bottom = scene.crown_top_m[window], scene.crown_bottom_m[window]
    leafy = top - bottom > 0.12
    wins = leafy & (top > old_top)
    scene.crown_bottom_m[window] = np.where(leafy & (old_top > 0), np.minimum(bottom, old_bottom),
                                            np.where(wins, bottom, old_bottom))  # fmt: skip
    scene.crown_id[window] = np.where(wins, id, scene.crown_id[window])
    scene.crown_top_m[window] = np.where(wins, top, old_top)
    if tree.kind != "shrub" and kind.form != "shrubby":
        half_m = 0.1 + 0.007 * top_m
        trunk = (np.maximum(np.abs(east), np.abs(north)) < half_m) & (scene.owner[window] == 0)
        tall_m = bottom_m + 0.6 * thick_m
        scene.height_m[window] = np.where(trunk, tall_m, scene.height_m[window])
        scene.surface[window] = np.where(trunk, Surface.TRUNK, scene.surface[window])
