"""What the ground, the roofs and the leaves look like in even light: sRGB from 0 to 1."""

import numpy as np
from jaxtyping import Float32

from preprocessing.towns import noise
from preprocessing.towns.owners import Owners
from preprocessing.towns.scene import Scene, Surface
from preprocessing.towns.weather import RGB, Season

GROUND: dict[Surface, RGB] = {
    Surface.DIRT: (146, 124, 96),
    Surface.WATER: (66, 88, 96),
    Surface.ASPHALT: (104, 104, 106),
    Surface.LANE_MARKING: (222, 222, 216),
    Surface.ZEBRA: (226, 226, 222),
    Surface.PAVEMENT: (166, 160, 152),
    Surface.KERB: (186, 184, 178),
    Surface.PARKING: (92, 92, 95),
    Surface.DRIVEWAY: (158, 148, 138),
    Surface.PATH: (178, 158, 126),
    Surface.TRUNK: (84, 68, 54),
    Surface.FENCE: (136, 112, 86),
    Surface.LAMP_POST: (112, 116, 118),
}
FINE_GRAIN = {Surface.GRASS: 0.16, Surface.DIRT: 0.14, Surface.ASPHALT: 0.07, Surface.HEDGE: 0.3, Surface.WATER: 0.05}
WIDE_GRAIN = {Surface.GRASS: 0.28, Surface.DIRT: 0.2, Surface.ASPHALT: 0.16, Surface.PARKING: 0.14, Surface.WATER: 0.1}
PLAIN_GRAIN = 0.08


def seen_from_above(scene: Scene, season: Season, owners: Owners, rows: slice) -> Float32[np.ndarray, "h w 3"]:
    """Colours of those rows of the scene without light or shadow, crowns left out."""
    surface, owner = scene.surface[rows], scene.owner[rows]
    colours = _table(season)[surface]
    owned = owner > 0
    colours[owned] = owners.top[owner[owned]]
    row, column = np.indices(surface.shape, np.float32)
    row += rows.start
    _add_glass(colours, scene, owners, rows)
    _add_ridges(colours, scene, owners, row, column, rows)
    metres = np.float32(scene.gsd_m)
    fine = noise.sample(2, column, row) - np.float32(0.5)
    wide = noise.sample(6, column * metres * np.float32(1.7), row * metres * np.float32(1.7)) - np.float32(0.5)
    grain = 1 + fine * _grain(FINE_GRAIN)[surface] + wide * _grain(WIDE_GRAIN)[surface]
    dry = np.where(surface == Surface.GRASS, wide, np.float32(0))
    colours *= grain[..., None]
    colours[..., 0] *= 1 + np.float32(0.25) * dry
    return colours


def _table(season: Season) -> Float32[np.ndarray, "n 3"]:
    table = np.full((len(Surface), 3), 150, np.float32)
    for surface, colour in GROUND.items():
        table[surface] = colour
    table[Surface.GRASS] = season.grass
    table[Surface.HEDGE] = np.array(season.leaf_from) * (1 - 0.3 * season.bare)
    return table / 255


def _grain(amounts: dict[Surface, float]) -> Float32[np.ndarray, " n"]:
    return np.array([amounts.get(surface, PLAIN_GRAIN) for surface in Surface], np.float32)


def _add_glass(colours: np.ndarray, scene: Scene, owners: Owners, rows: slice) -> None:
    """Windscreens and rear windows on cars."""
    row, column = np.nonzero(scene.surface[rows] == Surface.CAR)
    owner = scene.owner[rows][row, column]
    x_m = (column + 0.5) * scene.gsd_m
    y_m = -(row + rows.start + 0.5) * scene.gsd_m
    start, stop = owners.along_m[owner].T
    place = (x_m * owners.east[owner] + y_m * owners.north[owner] - start) / np.maximum(stop - start, 0.1)
    glass = ((place > 0.24) & (place < 0.36)) | ((place > 0.78) & (place < 0.88))
    colours[row[glass], column[glass]] = (0.13, 0.15, 0.18)


def _add_ridges(
    colours: np.ndarray, scene: Scene, owners: Owners, row: np.ndarray, column: np.ndarray, rows: slice
) -> None:
    """Courses of tiles, seams of metal: stripes along the building's axis."""
    surface, owner = scene.surface[rows], scene.owner[rows]
    striped = (surface == Surface.ROOF_TILE) | (surface == Surface.ROOF_METAL)
    owner = owner[striped]
    x_m, y_m = column[striped] * scene.gsd_m, -row[striped] * scene.gsd_m
    place = x_m * owners.north[owner] - y_m * owners.east[owner]
    place += np.where(surface[striped] == Surface.ROOF_METAL, x_m, 0) * 0
    colours[striped] *= np.where(place - np.floor(place) < 0.35, np.float32(0.93), np.float32(1))[:, None]


def leaves(tree: np.ndarray, season: Season) -> Float32[np.ndarray, "*n 3"]:
    """Each tree's own leaf colour."""
    kind, shade = noise.chance(tree, 1)[..., None], noise.chance(tree, 2)[..., None]
    first, last = np.array(season.leaf_from, np.float32), np.array(season.leaf_to, np.float32)
    return (first + kind * (last - first)) * (0.85 + 0.3 * shade) / np.float32(255)
