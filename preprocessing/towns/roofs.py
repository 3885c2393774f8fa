"""Roof heights: the wings of a building raised above its eaves."""

import numpy as np
from jaxtyping import Float32, Int32
from scipy.ndimage import distance_transform_edt

from preprocessing.towns.plan import Plan
from preprocessing.towns.sketch import Building, Wing


def raise_roofs(plan: Plan, index: Int32[np.ndarray, "h w"], height_m: Float32[np.ndarray, "h w"]) -> None:
    """Lift `height_m` in place to the roofs; `index` is 1 + the building's place in the plan."""
    for number, building in enumerate(plan.buildings, 1):
        if building.slope:
            _slope(plan, building, index, number, height_m)
        for wing in building.wings:
            window = _window(plan, wing)
            own = index[window]
            if own.size:
                roof = _roof(plan, wing, window)
                lifted = np.maximum(height_m[window], roof)
                height_m[window] = np.where(own == number, lifted, height_m[window])


def _slope(
    plan: Plan,
    building: Building,
    index: Int32[np.ndarray, "h w"],
    number: int,
    height_m: Float32[np.ndarray, "h w"],
) -> None:
    west, south, east, north = building.outline.bounds
    rows = slice(
        max(0, int((plan.side_m - north) / plan.gsd_m) - 1),
        max(0, int((plan.side_m - south) / plan.gsd_m) + 2),
    )
    cols = slice(max(0, int(west / plan.gsd_m) - 1), max(0, int(east / plan.gsd_m) + 2))
    own = index[rows, cols] == number
    if own.any():
        inward_m = distance_transform_edt(np.pad(own, 1))[1:-1, 1:-1] * plan.gsd_m
        height_m[rows, cols] += np.minimum(inward_m * building.slope, 4.0).astype(np.float32)


def _window(plan: Plan, wing: Wing) -> tuple[slice, slice]:
    (x, y), (ux, uy) = wing.center, wing.along
    half_x = (abs(ux) * wing.length_m + abs(uy) * wing.width_m) / 2
    half_y = (abs(uy) * wing.length_m + abs(ux) * wing.width_m) / 2
    top, left = plan.side_m - y - half_y, x - half_x
    rows = np.clip(np.round(np.array((top, top + 2 * half_y)) / plan.gsd_m), 0, plan.size_px).astype(int)
    cols = np.clip(np.round(np.array((left, left + 2 * half_x)) / plan.gsd_m), 0, plan.size_px).astype(int)
    return slice(*rows.tolist()), slice(*cols.tolist())


def _roof(plan: Plan, wing: Wing, window: tuple[slice, slice]) -> Float32[np.ndarray, "h w"]:
    """The roof's height in a window, 0 outside the wing."""
    rows, cols = np.mgrid[window]
    east = (cols + 0.5) * plan.gsd_m - wing.center[0]
    north = plan.side_m - (rows + 0.5) * plan.gsd_m - wing.center[1]
    ux, uy = wing.along
    to_end = wing.length_m / 2 - np.abs(east * ux + north * uy)
    to_side = wing.width_m / 2 - np.abs(north * ux - east * uy)
    inside = np.minimum(to_end, to_side)
    slope = {"gable": to_side, "hip": inside, "flat": np.zeros_like(inside)}[wing.roof]
    rise = wing.rise_m / (wing.width_m / 2) * np.maximum(slope, 0)
    return np.where(inside > -plan.gsd_m / 2, wing.eave_m + rise, 0).astype(np.float32)
