"""A vehicle that happens to pass: boxes between the camera and the town."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32

from preprocessing.towns.facades import car_side
from preprocessing.towns.march import Ground, Lens
from preprocessing.towns.owners import CARS
from preprocessing.towns.painted import Painted, light
from preprocessing.towns.scene import Surface

ROAD = (Surface.ASPHALT, Surface.LANE_MARKING, Surface.ZEBRA)


@dataclass(frozen=True)
class Box:
    """Part of a vehicle: where along its length it starts and stops, its width and its top, in metres."""

    start_m: float
    stop_m: float
    width_m: float
    top_m: float


CAR = (Box(-2.2, 2.2, 1.8, 0.95), Box(-1.7, 1.0, 1.6, 1.45))
VAN = (Box(-2.7, 2.7, 2.0, 1.1), Box(-2.7, 2.2, 2.0, 2.3))
BUS = (Box(-5.5, 5.5, 2.5, 3.0),)


def pass_by(
    painted: Painted,
    ground: Ground,
    lens: Lens,
    eye_m: float,
    colours: np.ndarray,
    surface: np.ndarray,
    range_m: np.ndarray,
    rng: np.random.Generator,
) -> None:
    """Draw a vehicle on the road near by over the flat (w, h) image, if a place for one is found."""
    boxes = (CAR, CAR, CAR, VAN, VAN, BUS)[rng.integers(6)]
    paint = np.array(CARS[rng.integers(len(CARS))], np.float32) / 255
    place = _free_place(painted, ground, rng)
    if place is None:
        return
    east_m, north_m, forward = place
    for box in boxes:
        _draw(painted, lens, eye_m, colours, surface, range_m, box, paint, (east_m, north_m), forward)


def _free_place(
    painted: Painted, ground: Ground, rng: np.random.Generator
) -> tuple[float, float, tuple[float, float]] | None:
    """A spot of road 3 to 9 m away, and the direction in which the road goes on there."""
    surface = painted.scene.surface.ravel()
    for bearing, away_m in zip(rng.uniform(0, 2 * np.pi, 12), rng.uniform(3.2, 9, 12), strict=True):
        east_m, north_m = away_m * np.sin(bearing), away_m * np.cos(bearing)
        turns = np.arange(0, np.pi, np.pi / 16)
        steps_m = np.arange(-9, 9.1, 1.5)
        column = ground.column + (east_m + np.sin(turns)[:, None] * steps_m) / ground.gsd_m
        row = ground.row - (north_m + np.cos(turns)[:, None] * steps_m) / ground.gsd_m
        on_road = np.isin(surface[ground.flat(column, row)], ROAD).sum(axis=1)
        best = turns[int(on_road.argmax())]
        clear_m = abs(east_m * np.cos(best) - north_m * np.sin(best))
        if on_road.max() > 10 and clear_m > 2.4:
            return east_m, north_m, (float(np.sin(best)), float(np.cos(best)))
    return None


def _draw(
    painted: Painted,
    lens: Lens,
    eye_m: float,
    colours: np.ndarray,
    surface: np.ndarray,
    range_m: np.ndarray,
    box: Box,
    paint: np.ndarray,
    center_m: tuple[float, float],
    forward: tuple[float, float],
) -> None:
    """One box over the image where it is nearer than what is there."""
    along = lens.east * forward[0] + lens.north * forward[1]
    right = lens.east * forward[1] - lens.north * forward[0]
    at_along = center_m[0] * forward[0] + center_m[1] * forward[1]
    at_right = center_m[0] * forward[1] - center_m[1] * forward[0]
    enter_a, leave_a = _slab(along, at_along + box.start_m, at_along + box.stop_m)
    enter_r, leave_r = _slab(right, at_right - box.width_m / 2, at_right + box.width_m / 2)
    enter, leave = np.maximum(enter_a, enter_r), np.minimum(leave_a, leave_r)
    column = np.flatnonzero((enter < leave) & (enter > 0))
    tangent = lens.tangent[column]
    near, far = enter[column, None], leave[column, None]
    z_m = eye_m + near * tangent
    side = (z_m >= 0) & (z_m <= box.top_m)
    top = (z_m > box.top_m) & (eye_m + far * tangent <= box.top_m)
    which, row = np.nonzero(side | top)
    pixel = column[which] * lens.tangent.shape[1] + row
    struck = near[which, 0]
    nearer = struck < range_m[pixel]
    which, row, pixel, struck = which[nearer], row[nearer], pixel[nearer], struck[nearer]

    flank = (enter_r > enter_a)[column[which]]
    place = np.where(
        flank,
        struck * along[column[which]] - at_along - box.start_m,
        struck * right[column[which]] - at_right,
    )
    length = np.where(flank, box.stop_m - box.start_m, box.width_m).astype(np.float32)
    place = np.where(flank, place / length, place / length + 0.5).astype(np.float32)
    height = (z_m[which, row] * 1.45 / max(box.top_m, 1.45)).astype(np.float32)
    shaded = car_side(place, length, height, np.repeat(paint[:, None], len(which), axis=1))
    shaded[:, top[which, row]] = paint[:, None]
    facing = np.where(top[which, row], painted.weather.sun[2], 0.25).astype(np.float32)
    colours[:, pixel] = shaded * light(painted.weather, facing, np.full_like(facing, 0.7))
    surface[pixel], range_m[pixel] = Surface.CAR, struck


def _slab(
    direction: Float32[np.ndarray, " w"], low: float, high: float
) -> tuple[Float32[np.ndarray, " w"], Float32[np.ndarray, " w"]]:
    """Ranges at which rays enter and leave low <= x <= high."""
    safe: Bool[np.ndarray, " w"] = np.abs(direction) > 1e-6
    direction = np.where(safe, direction, np.float32(1e-6))
    one, other = np.float32(low) / direction, np.float32(high) / direction
    return np.minimum(one, other), np.maximum(one, other)
