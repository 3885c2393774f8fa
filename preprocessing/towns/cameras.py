"""Where the cameras of a town stand."""

import numpy as np
from jaxtyping import Bool, Float64

from geoloc.errors import DataError
from preprocessing.towns.plan import Plan
from preprocessing.towns.scene import Scene

SPACINGS_M = (10.0, 8.0, 6.0, 4.0)
CLEARANCE_M = 1.2
EYE_LEVEL_M = 3.5


def place_cameras(
    rng: np.random.Generator,
    plan: Plan,
    scene: Scene,
    count: int,
    margin_m: float,
    taken: Float64[np.ndarray, "m 2"],
) -> Float64[np.ndarray, "n 2"]:
    """`count` new positions on the plan's tracks, metres east and north of its south-western corner.

    At least 10 m (8, 6, 4 where the town is too full) from each other and from those `taken`, `margin_m`
    from the town's edge, and clear of all that is solid or leafy in `scene`. Raises DataError where
    the town has no room.
    """
    tracks = plan.tracks[:, :2] + rng.uniform(-0.4, 0.4, (len(plan.tracks), 2))
    inside = np.all((tracks > margin_m) & (tracks < plan.side_m - margin_m), axis=1)
    candidates = rng.permutation(tracks[inside])
    candidates = candidates[_clear(plan, scene, candidates)]
    for spacing_m in SPACINGS_M:
        chosen = _spread(candidates, count, spacing_m, taken)
        if len(chosen) == count:
            return chosen
    raise DataError(
        f"Town {plan.seed} has room for {len(taken) + len(chosen)} street views, not {len(taken) + count}: "
        "ask for fewer pairs per town or a larger side."
    )


def _spread(
    candidates: Float64[np.ndarray, "c 2"], count: int, spacing_m: float, taken: Float64[np.ndarray, "m 2"]
) -> Float64[np.ndarray, "n 2"]:
    """The first candidates, in order, that keep their distance."""
    kept = np.concatenate((taken, np.empty((count, 2))))
    n = len(taken)
    for point in candidates:
        if n == len(kept):
            break
        if n == 0 or ((kept[:n] - point) ** 2).sum(axis=1).min() >= spacing_m**2:
            kept[n] = point
            n += 1
    return kept[len(taken) : n]


def _clear(plan: Plan, scene: Scene, points: Float64[np.ndarray, "n 2"]) -> Bool[np.ndarray, " n"]:
    """Which points have nothing solid or leafy within `CLEARANCE_M`."""
    reach = int(np.ceil(CLEARANCE_M / plan.gsd_m))
    near = np.arange(-reach, reach + 1)
    rows = ((plan.side_m - points[:, 1]) / plan.gsd_m).astype(int)[:, None, None] + near[:, None]
    cols = (points[:, 0] / plan.gsd_m).astype(int)[:, None, None] + near
    land_m = np.float32(0) if scene.land_m is None else scene.land_m[rows, cols]
    solid = scene.height_m[rows, cols] - land_m > 0.4
    low = scene.crown_bottom_m[rows, cols] - land_m < EYE_LEVEL_M
    leafy = (scene.crown_top_m[rows, cols] - land_m > 1) & low
    clear: np.ndarray = np.logical_not(np.any(solid | leafy, axis=(1, 2)))
    return clear
