"""A vehicle that happens to pass: boxes between the camera and the town."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Float32

from preprocessing.towns.facades import car_side
from preprocessing.towns.march import Ground, Lens
from preprocessing.towns.owners import CARS
from preprocessing.towns.painted import Painted, light
from preprocessing.towns.pixels import Pixels
from preprocessing.towns.scene import Surface

Number = TypeVar("Number", float, np.ndarray)
ROAD = (Surface.ASPHALT, Surface.LANE_MARKING, Surface.ZEBRA)


@dataclass(frozen=True)
class Box:
    """Part of a vehicle: where along its length it starts and stops, its width and its top, in metres."""

    start_m: float
    stop_m: float
    width_m: float
    top_m: float


CAR = (Box(-2.2, 2.2, 1.8, 0.95), Box(-1.7, 1.0, 1.6, 1.45))
VAN = (Box(-2.7, 2.7, 2.0, 0.95), Box(-2.7, 2.2, 2.0, 2.3))
BUS = (Box(-5.5, 5.5, 2.5, 3.0),)


@dataclass(frozen=True)
class Spot:
    """A place on the road, in metres from the camera, and the unit vector (east, north) of the road."""

    east_m: float
    north_m: float
    forward: tuple[float, float]

    def along(self, east: Number, north: Number) -> Number:
        """How far a vector goes along the road."""
        return east * self.forward[0] + north * self.forward[1]

    def right(self, east: Number, north: Number) -> Number:
        """How far a vector goes to the right of it."""
        return east * self.forward[1] - north * self.forward[0]


def pass_by(
    painted: Painted, ground: Ground, lens: Lens, eye_m: float, image: Pixels, rng: np.random.Generator
) -> None:
    """Draw a vehicle on the road near by over a flat (w, h) image, if a place for one is found.

    eye_m: above the road.
    """
    boxes = (CAR, CAR, CAR, VAN, VAN, BUS)[rng.integers(6)]
    paint = np.array(CARS[rng.integers(len(CARS))], np.float32) / 255
    spot = _free_spot(painted, ground, rng)
    if spot is not None:
        for box in boxes:
            _draw(painted, lens, eye_m, image, box, paint, spot)


def _free_spot(painted: Painted, ground: Ground, rng: np.random.Generator) -> Spot | None:
    """A spot of road 3 to 9 m away, and the direction in which the road goes on there."""
    surface = painted.scene.surface.ravel()
    turns, steps_m = np.arange(0, np.pi, np.pi / 16), np.arange(-9, 9.1, 1.5)
    for bearing, away_m in zip(rng.uniform(0, 2 * np.pi, 12), rng.uniform(3.2, 9, 12), strict=True):
        east_m, north_m = away_m * np.sin(bearing), away_m * np.cos(bearing)
        column = ground.column + (east_m + np.sin(turns)[:, None] * steps_m) / ground.gsd_m
        row = ground.row - (north_m + np.cos(turns)[:, None] * steps_m) / ground.gsd_m
        on_road = np.isin(surface[ground.flat(column, row)], ROAD).sum(axis=1)
        best = float(turns[int(on_road.argmax())])
        spot = Spot(float(east_m), float(north_m), (float(np.sin(best)), float(np.cos(best))))
        if on_road.max() > 10 and abs(spot.right(east_m, north_m)) > 2.4:
            return spot
    return None


def _draw(
    painted: Painted, lens: Lens, eye_m: float, image: Pixels, box: Box, paint: np.ndarray, spot: Spot
) -> None:
    """One box, where it is nearer than what the image shows."""
    along, right = spot.along(lens.east, lens.north), spot.right(lens.east, lens.north)
    at_along, at_right = (part(spot.east_m, spot.north_m) for part in (spot.along, spot.right))
    enter_a, leave_a = _slab(along, at_along + box.start_m, at_along + box.stop_m)
    enter_r, leave_r = _slab(right, at_right - box.width_m / 2, at_right + box.width_m / 2)
    enter, leave = np.maximum(enter_a, enter_r), np.minimum(leave_a, leave_r)
    column = np.flatnonzero((enter < leave) & (enter > 0))
    which, row, struck, z_m = _strikes(lens.tangent[column], enter[column], leave[column], eye_m, box.top_m)
    column = column[which]
    pixel = column * lens.tangent.shape[1] + row
    near = struck < image.range_m[pixel]
    column, pixel, struck, z_m = column[near], pixel[near], struck[near], z_m[near]

    flank = (enter_r > enter_a)[column]
    lengthwise = (struck * along[column] - at_along - box.start_m) / (box.stop_m - box.start_m)
    crosswise = (struck * right[column] - at_right) / box.width_m + 0.5
    length_m = np.where(flank, box.stop_m - box.start_m, box.width_m)
    height_m = z_m * (1.45 / max(box.top_m, 1.45))
    on_top = z_m > box.top_m - 1e-3
    coat = np.repeat(paint[:, None], len(pixel), axis=1)
    shaded = car_side(np.where(flank, lengthwise, crosswise), length_m, height_m, coat)
    shaded[:, on_top] = paint[:, None]
    facing = np.where(on_top, np.float32(painted.weather.sun[2]), np.float32(0.25))
    image.colours[:, pixel] = shaded * light(painted.weather, facing, np.full_like(facing, 0.7))
    image.surface[pixel], image.range_m[pixel] = Surface.CAR, struck


def _strikes(
    tangent: Float32[np.ndarray, "n h"], enter: np.ndarray, leave: np.ndarray, eye_m: float, top_m: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(which of n, row, range, height) where rays strike a side or, from above, the top of a box."""
    enter_z, leave_z = eye_m + enter[:, None] * tangent, eye_m + leave[:, None] * tangent
    which, row = np.nonzero((enter_z >= 0) & ((enter_z <= top_m) | (leave_z <= top_m)))
    z_m = np.minimum(enter_z[which, row], top_m)
    from_above = enter_z[which, row] > top_m
    falling = np.where(from_above, tangent[which, row], -1)
    return which, row, np.where(from_above, (top_m - eye_m) / falling, enter[which]), z_m


def _slab(
    direction: Float32[np.ndarray, " w"], low: float, high: float
) -> tuple[Float32[np.ndarray, " w"], Float32[np.ndarray, " w"]]:
    """Ranges at which rays enter and leave low <= x <= high."""
    safe: Bool[np.ndarray, " w"] = np.abs(direction) > 1e-6
    direction = np.where(safe, direction, np.float32(1e-6))
    one, other = np.float32(low) / direction, np.float32(high) / direction
    return np.minimum(one, other), np.maximum(one, other)
