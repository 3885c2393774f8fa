"""Walls seen from the street: windows, doors and bricks on buildings, glass and wheels on cars."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int32

from preprocessing.towns import noise
from preprocessing.towns.owners import Owners
from preprocessing.towns.pixels import put
from preprocessing.towns.scene import Surface

FRAME_M = np.float32(0.09)
SILL, CURTAIN, DOOR_FRAME, SKYLIGHT, DARK_GLASS, LAMP, RUBBER = np.array(
    [
        (0.72, 0.71, 0.69), (0.68, 0.65, 0.6), (0.85, 0.84, 0.82), (0.9, 1.0, 1.12),
        (0.14, 0.17, 0.2), (0.75, 0.62, 0.5), (0.07, 0.07, 0.075),
    ],
    np.float32,
)[..., None]  # fmt: skip


@dataclass(frozen=True)
class Walls:
    """Points on the sides of things.

    owner and face as in `Painted`; x_m, y_m east and north of the scene's top left corner; z_m above the
    ground; top_m the height of the wall there; range_m from the camera.
    """

    owner: Int32[np.ndarray, " n"]
    face: Int32[np.ndarray, " n"]
    x_m: Float32[np.ndarray, " n"]
    y_m: Float32[np.ndarray, " n"]
    z_m: Float32[np.ndarray, " n"]
    top_m: Float32[np.ndarray, " n"]
    range_m: Float32[np.ndarray, " n"]

    def __getitem__(self, some: np.ndarray) -> "Walls":
        return Walls(*(getattr(self, name)[some] for name in self.__dataclass_fields__))


def normals(owners: Owners, owner: np.ndarray, face: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors (east, north) out of the walls: the owner's axis turned clockwise by `face` quarters."""
    east, north = owners.east[owner], owners.north[owner]
    east, north = np.where(face & 1, north, east), np.where(face & 1, -east, north)
    sign = np.where(face & 2, np.float32(-1), np.float32(1))
    return east * sign, north * sign


def _place(owners: Owners, walls: Walls) -> tuple[np.ndarray, np.ndarray]:
    """How far along its wall each point is, and how long that wall is, both in metres."""
    east, north = owners.east[walls.owner], owners.north[walls.owner]
    lengthwise = (walls.face & 1).astype(bool)
    place = np.where(lengthwise, walls.x_m * east + walls.y_m * north, walls.x_m * north - walls.y_m * east)
    along, across = (np.take(extent, walls.owner, axis=1) for extent in (owners.along_m, owners.across_m))
    start, stop = np.where(lengthwise, along, across)
    return place - start, np.maximum(stop - start, np.float32(0.5))


def wall_colours(owners: Owners, walls: Walls) -> Float32[np.ndarray, "3 n"]:
    """Colours in even light, sRGB from 0 to 1."""
    colours = np.take(owners.side, walls.owner, axis=1)
    is_car = owners.kind[walls.owner] == Surface.CAR
    for chosen, paint in ((is_car, _car), (~is_car, _building)):
        some = np.flatnonzero(chosen)
        if len(some):
            put(colours, some, paint(owners, walls[some], np.take(colours, some, axis=1)))
    return colours


def _building(owners: Owners, walls: Walls, colours: np.ndarray) -> Float32[np.ndarray, "3 n"]:
    place, length = _place(owners, walls)
    luck = np.take(owners.luck, walls.owner, axis=1)
    metal = owners.kind[walls.owner] == Surface.ROOF_METAL
    floor_m = np.where(metal, np.float32(4.5), np.float32(2.7) + luck[3] * np.float32(0.6))
    bays = np.maximum(np.floor(length / (np.float32(2.3) + luck[2] * np.float32(1.8))), 1)
    bay_m = length / bays
    bay = np.floor(place / bay_m)
    across_m = np.abs(place - (bay + np.float32(0.5)) * bay_m)
    floor = np.floor(walls.z_m / floor_m)
    up_m = walls.z_m - floor * floor_m

    _texture(colours, luck[1] * 7 - np.floor(luck[1] * 7) < 0.4, place, walls, metal)
    half_m = np.where(luck[0] < 0.2, bay_m * np.float32(0.42), np.float32(0.45) + luck[0] * np.float32(0.4))
    sill_m = np.where(luck[3] < 0.25, np.float32(0.45), np.float32(0.95))
    head_m = floor_m - np.float32(0.45)
    room = ((floor + 1) * floor_m < walls.top_m + np.float32(0.4)) & (walls.z_m > 0)
    window = room & (across_m < half_m) & (up_m > sill_m) & (up_m < head_m)
    centre_m = (sill_m + head_m) / 2
    inset_m = np.minimum(half_m - across_m, (head_m - sill_m) / 2 - np.abs(up_m - centre_m))
    fine = walls.range_m < 60
    bar = fine & ((across_m < FRAME_M / 2) | (np.abs(up_m - centre_m) < FRAME_M / 2)) & (luck[1] > 0.5)
    glass = window & ((inset_m > FRAME_M) | ~fine) & ~bar
    frame = np.where(luck[2] < 0.7, np.float32(0.88), np.float32(0.28))
    np.copyto(colours, frame, where=window)
    np.copyto(colours, _glass(walls, floor, bay, up_m, head_m), where=glass)
    sill = room & fine & (across_m < half_m + FRAME_M) & (up_m <= sill_m) & (up_m > sill_m - 0.12)
    colours[:, sill] = SILL
    _doors(colours, walls, luck, bays, bay, across_m)
    return colours


def _texture(
    colours: np.ndarray, brick: Bool[np.ndarray, " n"], place: np.ndarray, walls: Walls, metal: np.ndarray
) -> None:
    """Courses of brick, seams of metal, stains, a darker foot and a shadow under the eaves."""
    wide = noise.sample(6, place * 9 + walls.owner * 37, walls.z_m * 9) - np.float32(0.5)
    fine = noise.sample(1, place * 12, walls.z_m * 14) - np.float32(0.5)
    gain = 1 + np.float32(0.2) * wide + np.where(brick, np.float32(0.11), np.float32(0.04)) * fine
    seams = place * 2.5
    gain -= np.where(metal & (seams - np.floor(seams) < 0.25), np.float32(0.09), 0)
    gain -= np.where(walls.z_m < 0.45, np.float32(0.2), 0)
    gain -= np.where(walls.top_m - walls.z_m < 0.3, np.float32(0.16), 0)
    colours *= gain


def _glass(
    walls: Walls, floor: np.ndarray, bay: np.ndarray, up_m: np.ndarray, head_m: np.ndarray
) -> Float32[np.ndarray, "3 n"]:
    """Panes that mirror some sky at the top, with curtains behind some of them."""
    room = noise.chance((floor * 131 + bay * 17 + walls.owner * 7 + walls.face * 3).astype(np.int32), 5)
    bright = np.float32(0.16) + np.float32(0.2) * up_m / head_m + np.float32(0.16) * room
    panes: Float32[np.ndarray, "3 n"] = bright * SKYLIGHT
    curtain = (room > 0.7) & (up_m > head_m * (1.5 - 0.8 * room))
    panes[:, curtain] = CURTAIN
    return panes


def _doors(
    colours: np.ndarray,
    walls: Walls,
    luck: np.ndarray,
    bays: np.ndarray,
    bay: np.ndarray,
    across_m: np.ndarray,
) -> None:
    """One door on two opposite faces, in a bay of the building's choosing."""
    home = np.floor(luck[1] * bays)
    low = (walls.z_m < 2.25) & (bay == home) & ((walls.face & 1) == (luck[0] > 0.4))
    frame, door = low & (across_m < 0.62), low & (across_m < 0.52) & (walls.z_m < 2.1)
    colours[:, frame] = DOOR_FRAME
    wood = np.stack([0.25 + 0.4 * luck[2], 0.22 + 0.2 * luck[3], 0.2 + 0.3 * luck[0]])
    np.copyto(colours, wood, where=door)


def _car(owners: Owners, walls: Walls, colours: np.ndarray) -> Float32[np.ndarray, "3 n"]:
    place, length = _place(owners, walls)
    return car_side(place / length, length, walls.z_m, colours)


def car_side(place: np.ndarray, length_m: np.ndarray, z_m: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """A car's flank, place from 0 to 1 along it: dark sill and wheels, a band of windows, lamps in front."""
    lengthwise = length_m > 2.6
    wheel = np.zeros(place.shape, bool)
    for hub in (0.19, 0.81):
        aside_m, above_m = (place - np.float32(hub)) * length_m, z_m - np.float32(0.32)
        wheel |= lengthwise & (aside_m * aside_m + above_m * above_m < 0.34**2)
    glass = (z_m > 0.95) & (z_m < 1.38) & (np.abs(place - 0.5) < np.where(lengthwise, 0.33, 0.42))
    pillar = lengthwise & (np.abs(np.abs(place - 0.5) - 0.04) < 0.015)
    lamp = ~lengthwise & (np.abs(z_m - 0.68) < 0.1) & (np.abs(place - 0.5) > 0.3)
    shaded: Float32[np.ndarray, "3 n"] = colours * (np.float32(0.8) + np.float32(0.2) * np.clip(z_m, 0, 1))
    shaded[:, glass & ~pillar] = DARK_GLASS
    shaded[:, lamp] = LAMP
    shaded[:, (z_m < 0.24) | wheel] = RUBBER
    return shaded
