"""What stands on the ground, by its number: the frame of each building and car, and its paint."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int32, UInt8

from preprocessing.towns.noise import chance
from preprocessing.towns.scene import Scene, Surface
from preprocessing.towns.weather import RGB
from preprocessing.towns.worlds.look import Look

ROOFS: dict[Surface, list[RGB]] = {
    Surface.ROOF_TILE: [
        (150, 86, 62),
        (128, 78, 62),
        (104, 82, 72),
        (92, 92, 98),
        (168, 104, 76),
        (74, 72, 76),
    ],
    Surface.ROOF_FLAT: [(146, 144, 140), (178, 174, 168), (206, 206, 204), (98, 97, 98), (132, 122, 112)],
    Surface.ROOF_METAL: [(172, 178, 184), (128, 142, 156), (120, 146, 132), (156, 118, 100), (206, 210, 214)],
}
WALLS: dict[Surface, list[RGB]] = {
    Surface.ROOF_TILE: [
        (214, 200, 172),
        (226, 222, 212),
        (156, 92, 72),
        (178, 112, 88),
        (196, 176, 138),
        (186, 196, 202),
    ],
    Surface.ROOF_FLAT: [
        (198, 192, 182),
        (166, 106, 84),
        (222, 218, 208),
        (158, 156, 154),
        (206, 182, 142),
        (140, 84, 70),
    ],
    Surface.ROOF_METAL: [(184, 188, 190), (150, 164, 178), (204, 198, 184), (138, 152, 140), (170, 130, 112)],
}
CARS = [
    (228, 228, 228),
    (32, 33, 36),
    (126, 128, 132),
    (172, 175, 180),
    (150, 34, 32),
    (38, 62, 116),
    (60, 84, 70),
    (196, 178, 140),
]


@dataclass(frozen=True)
class Owners:
    """One row per owner number; row 0 is the ground and means nothing.

    A building's frame: `east`, `north` is the unit vector along its axis; in metres east and north of
    the scene's top left corner, `along_m` is the extent (from, to) along the axis and `across_m` to
    its right. Colours are sRGB from 0 to 1. luck: four numbers in [0, 1) that decide the style.
    """

    kind: UInt8[np.ndarray, " n"]
    east: Float32[np.ndarray, " n"]
    north: Float32[np.ndarray, " n"]
    along_m: Float32[np.ndarray, "2 n"]
    across_m: Float32[np.ndarray, "2 n"]
    top: Float32[np.ndarray, "3 n"]
    side: Float32[np.ndarray, "3 n"]
    luck: Float32[np.ndarray, "4 n"]


def owners_of(scene: Scene, look: Look | None = None) -> Owners:
    """Frames measured from the rasters, paint drawn from each owner's number and the town's place.

    look: of a world, whose houses have palettes of their own.
    """
    pixels = np.flatnonzero(scene.owner)
    owner = scene.owner.ravel()[pixels]
    order = np.argsort(owner, kind="stable")
    pixels, owner = pixels[order], owner[order]
    starts = np.flatnonzero(np.diff(owner, prepend=0))
    present = owner[starts]
    n = int(present[-1]) + 1 if len(present) else 1

    kind, axis_rad = np.zeros(n, np.uint8), np.zeros(n)
    kind[present] = scene.surface.ravel()[pixels[starts]]
    axis_rad[present] = np.radians(scene.axis_deg.ravel()[pixels[starts]].astype(np.float64))
    east, north = np.sin(axis_rad).astype(np.float32), np.cos(axis_rad).astype(np.float32)
    rows, columns = np.divmod(pixels, scene.owner.shape[1])
    x_m = ((columns + 0.5) * scene.gsd_m).astype(np.float32)
    y_m = (-(rows + 0.5) * scene.gsd_m).astype(np.float32)
    along = _extent(x_m * east[owner] + y_m * north[owner], starts, present, n, scene.gsd_m)
    across = _extent(x_m * north[owner] - y_m * east[owner], starts, present, n, scene.gsd_m)

    place = int(scene.west_m) * 31 + int(scene.north_m)
    luck = np.stack([chance(np.arange(n), place + salt) for salt in range(4)])
    return Owners(kind, east, north, along, across, *_paint(kind, luck, look), luck)


def _extent(along: np.ndarray, starts: np.ndarray, present: np.ndarray, n: int, gsd_m: float) -> np.ndarray:
    extent = np.zeros((2, n), np.float32)
    if len(present):
        extent[0, present] = np.minimum.reduceat(along, starts) - np.float32(gsd_m / 2)
        extent[1, present] = np.maximum.reduceat(along, starts) + np.float32(gsd_m / 2)
    return extent


def _paint(
    kind: Int32[np.ndarray, " n"], luck: np.ndarray, look: Look | None
) -> tuple[np.ndarray, np.ndarray]:
    """Colours of tops and sides. A car is of one colour all over."""
    top, side = np.full((2, 3, len(kind)), 0.6, np.float32)
    roofs, walls = (ROOFS, WALLS) if look is None else _palettes(look)
    for surface in (Surface.ROOF_TILE, Surface.ROOF_FLAT, Surface.ROOF_METAL, Surface.CAR):
        chosen = kind == surface
        for colours, palette, which in (
            (top, roofs.get(surface, CARS), luck[0]),
            (side, walls.get(surface, CARS), luck[0] if surface == Surface.CAR else luck[1]),
        ):
            shades = np.array(palette, np.float32)[(which[chosen] * len(palette)).astype(int)] / 255
            colours[:, chosen] = shades.T * (0.9 + 0.2 * luck[2][chosen])
    return top, side


def _palettes(look: Look) -> tuple[dict[Surface, list[RGB]], dict[Surface, list[RGB]]]:
    """A world's own roof tiles and walls; flat and metal roofs as everywhere."""
    walls = list(look.walls)
    return ROOFS | {Surface.ROOF_TILE: list(look.roofs)}, WALLS | {
        Surface.ROOF_TILE: walls,
        Surface.ROOF_FLAT: walls + WALLS[Surface.ROOF_FLAT],
    }
