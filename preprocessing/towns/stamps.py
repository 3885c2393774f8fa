"""Trees and cars, stamped into a scene."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from preprocessing.towns.plan import Plan
from preprocessing.towns.scene import Scene, Surface
from preprocessing.towns.sketch import Slot, Tree


def stamp_trees(scene: Scene, plan: Plan, trees: Sequence[Tree], names: Int64[np.ndarray, " n"]) -> None:
    """Crowns (an ellipsoid, or a cone for conifers, with a lobed edge) and trunks, in place."""
    for tree, name in zip(trees, names.tolist(), strict=True):
        window, east, north = window_around(plan, tree.x, tree.y, 1.25 * tree.radius_m)
        if not east.size:
            continue
        reach = _lobed(east, north, tree.radius_m, name)
        inner = np.sqrt(np.maximum(1 - reach, 0))
        if tree.kind == "conifer":
            rise = 1 - np.sqrt(reach)
            top = tree.bottom_m + (tree.top_m - tree.bottom_m) * rise
            bottom = np.full_like(top, tree.bottom_m)
        else:
            middle, half = (tree.top_m + tree.bottom_m) / 2, (tree.top_m - tree.bottom_m) / 2
            top, bottom = middle + half * inner, middle - half * inner
        old_top = scene.crown_top_m[window]
        wins = (reach < 1) & (top - bottom > 0.15) & (top > old_top)
        scene.crown_bottom_m[window] = np.where(wins, bottom, scene.crown_bottom_m[window])
        scene.crown_id[window] = np.where(wins, name, scene.crown_id[window])
        scene.crown_top_m[window] = np.where(wins, top, old_top)
        if tree.kind != "shrub":
            thick = 0.12 + 0.018 * tree.top_m
            trunk = (np.maximum(np.abs(east), np.abs(north)) < thick) & (scene.owner[window] == 0)
            tall = (tree.bottom_m + tree.top_m) / 2
            scene.height_m[window] = np.where(trunk, tall, scene.height_m[window])
            scene.surface[window] = np.where(trunk, Surface.TRUNK, scene.surface[window])


def _lobed(east: np.ndarray, north: np.ndarray, radius_m: float, name: int) -> np.ndarray:
    """The squared distance from the trunk over the squared radius, which swells and shrinks around it."""
    squared = east**2 + north**2
    safe = np.maximum(squared, 1e-9)
    two, four = (east**2 - north**2) / safe, 8 * (east * north) ** 2 / safe**2 - 1
    a, b = (name % 17 / 16 - 0.5) * 0.36, (name // 17 % 19 / 18 - 0.5) * 0.4
    lobed: np.ndarray = squared / (radius_m**2 * (1 + a * two + b * four))
    return lobed


def stamp_cars(
    rng: np.random.Generator, scene: Scene, plan: Plan, slots: Sequence[Slot], first_id: int
) -> None:
    """A car (or a van) in each slot, unless something stands there, in place; owners from `first_id` on."""
    for name, slot in enumerate(slots, first_id):
        van = rng.uniform() < 0.13
        length, width = (5.3, 2.0) if van else (float(rng.uniform(3.7, 4.8)), float(rng.uniform(1.7, 1.85)))
        nudge = rng.normal(0, (0.35, 0.12))
        x = slot.x + nudge[0] * slot.along[0] - nudge[1] * slot.along[1]
        y = slot.y + nudge[0] * slot.along[1] + nudge[1] * slot.along[0]
        window, east, north = window_around(plan, x, y, length / 2 + 0.3)
        if not east.size:
            continue
        forward = east * slot.along[0] + north * slot.along[1]
        aside = np.abs(north * slot.along[0] - east * slot.along[1])
        body = (np.abs(forward) < length / 2) & (aside < width / 2)
        if not body.any() or scene.height_m[window][body].max() > 0.3:
            continue
        cabin = forward < (0.36 if van else 0.12) * length
        cabin &= forward > (-0.5 if van else -0.42) * length
        tall = np.where(cabin & (aside < 0.46 * width), 2.1 if van else 1.45, 1.0 if van else 0.85)
        scene.height_m[window] = np.where(body, tall, scene.height_m[window])
        scene.surface[window] = np.where(body, Surface.CAR, scene.surface[window])
        scene.owner[window] = np.where(body, name, scene.owner[window])
        scene.axis_deg[window] = np.where(
            body, np.degrees(np.arctan2(slot.along[0], slot.along[1])) % 180, scene.axis_deg[window]
        )


def window_around(
    plan: Plan, x: float, y: float, reach_m: float
) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray]:
    """The pixels within a square around a point, and how far east and north of it each lies."""
    n, gsd = plan.size_px, plan.gsd_m
    rows = np.arange(
        max(0, int((plan.side_m - y - reach_m) / gsd)), min(n, int((plan.side_m - y + reach_m) / gsd) + 1)
    )
    cols = np.arange(max(0, int((x - reach_m) / gsd)), min(n, int((x + reach_m) / gsd) + 1))
    if not len(rows) or not len(cols):
        return (slice(0, 0), slice(0, 0)), np.empty((0, 0)), np.empty((0, 0))
    east = (cols + 0.5) * gsd - x
    north = plan.side_m - (rows + 0.5) * gsd - y
    window = slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1)
    return (
        window,
        np.broadcast_to(east, (len(rows), len(cols))),
        np.broadcast_to(north[:, None], (len(rows), len(cols))),
    )
