"""What the ground, the roofs and the leaves look like in even light: sRGB from 0 to 1."""

import numpy as np
from jaxtyping import Bool, Float32

from preprocessing.towns import noise
from preprocessing.towns.owners import Owners
from preprocessing.towns.scene import Scene, Surface
from preprocessing.towns.weather import RGB, Season, Weather

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
EVERGREEN: tuple[RGB, RGB] = (44, 70, 46), (70, 94, 54)
EVERGREEN_BELOW_M = 1.3
TWIGS = np.array([[0.42], [0.37], [0.32]], np.float32)
FINE_GRAIN = {
    Surface.GRASS: 0.16,
    Surface.DIRT: 0.14,
    Surface.ASPHALT: 0.07,
    Surface.HEDGE: 0.3,
    Surface.WATER: 0.05,
}
WIDE_GRAIN = {
    Surface.GRASS: 0.28,
    Surface.DIRT: 0.2,
    Surface.ASPHALT: 0.16,
    Surface.PARKING: 0.14,
    Surface.WATER: 0.1,
}
PLAIN_GRAIN = 0.08


def seen_from_above(
    scene: Scene, weather: Weather, owners: Owners, rows: slice
) -> Float32[np.ndarray, "3 h w"]:
    """Colours of those rows of the scene without light or shadow, crowns left out."""
    surface, owner = scene.surface[rows], scene.owner[rows]
    colours = np.take(surface_colours(weather), surface, axis=1)
    if weather.look is not None and scene.patch is not None:
        given_way = scene.patch[rows] * np.float32(1 / 255)
        colours += given_way * (np.take(weather.look.patch, surface, axis=1) - colours)
    owned = owner > 0
    colours[:, owned] = np.take(owners.top, owner[owned], axis=1)
    grid = np.indices(surface.shape, np.float32)
    row, column = grid[0] + np.float32(rows.start), grid[1]
    _add_glass(colours, scene, owners, rows)
    _add_ridges(colours, scene, owners, row, column, rows)
    if weather.look is not None and scene.grain is not None:
        colours *= 1 + scene.grain[rows] * np.float32(weather.look.grain / 127)
        return colours
    metres = np.float32(scene.gsd_m)
    fine = noise.sample(2, column, row) - np.float32(0.5)
    wide = noise.sample(6, column * metres * np.float32(1.7), row * metres * np.float32(1.7)) - np.float32(
        0.5
    )
    grain = 1 + fine * _grain(FINE_GRAIN)[surface] + wide * _grain(WIDE_GRAIN)[surface]
    dry = np.where(surface == Surface.GRASS, wide, np.float32(0))
    colours *= grain
    colours[0] *= 1 + np.float32(0.25) * dry
    return colours


def surface_colours(weather: Weather) -> Float32[np.ndarray, "3 n"]:
    """One colour per `Surface`; roofs and cars get theirs from their owner."""
    if weather.look is not None:
        return weather.look.ground
    season = weather.season
    table = np.full((len(Surface), 3), 150, np.float32)
    for surface, colour in GROUND.items():
        table[surface] = colour
    table[Surface.GRASS] = season.grass
    table[Surface.HEDGE] = 0.6 * np.array(EVERGREEN[1]) + 0.4 * np.array(season.leaf_from)
    return np.ascontiguousarray(table.T) / 255


def _grain(amounts: dict[Surface, float]) -> Float32[np.ndarray, " n"]:
    return np.array([amounts.get(surface, PLAIN_GRAIN) for surface in Surface], np.float32)


def _add_glass(colours: np.ndarray, scene: Scene, owners: Owners, rows: slice) -> None:
    """Windscreens and rear windows on cars."""
    row, column = np.nonzero(scene.surface[rows] == Surface.CAR)
    owner = scene.owner[rows][row, column]
    x_m = (column + 0.5) * scene.gsd_m
    y_m = -(row + rows.start + 0.5) * scene.gsd_m
    start, stop = np.take(owners.along_m, owner, axis=1)
    place = (x_m * owners.east[owner] + y_m * owners.north[owner] - start) / np.maximum(stop - start, 0.1)
    glass = ((place > 0.24) & (place < 0.36)) | ((place > 0.78) & (place < 0.88))
    colours[:, row[glass], column[glass]] = np.array([[0.13], [0.15], [0.18]])


def _add_ridges(
    colours: np.ndarray, scene: Scene, owners: Owners, row: np.ndarray, column: np.ndarray, rows: slice
) -> None:
    """Courses of tiles, seams of metal: stripes along the building's axis."""
    surface, owner = scene.surface[rows], scene.owner[rows]
    striped = (surface == Surface.ROOF_TILE) | (surface == Surface.ROOF_METAL)
    owner = owner[striped]
    east_m, north_m = column[striped] * np.float32(scene.gsd_m), -row[striped] * np.float32(scene.gsd_m)
    place = east_m * owners.north[owner] - north_m * owners.east[owner]
    colours[:, striped] *= np.where(place - np.floor(place) < 0.35, np.float32(0.93), np.float32(1))


def is_evergreen(bottom_m: np.ndarray) -> Bool[np.ndarray, "*n"]:
    """Foliage that reaches down to the ground is a fir's or a shrub's, and stays."""
    return bottom_m < EVERGREEN_BELOW_M


def leaves(tree: np.ndarray, bottom_m: np.ndarray, season: Season) -> Float32[np.ndarray, "3 n"]:
    """Each tree's own leaf colour. bottom_m: where the foliage starts, as in `Scene`."""
    kind, shade = noise.chance(tree, 1), noise.chance(tree, 2)
    green = is_evergreen(bottom_m)
    first, last = [
        np.where(green, np.array(ever, np.float32)[:, None], np.array(now, np.float32)[:, None])
        for ever, now in zip(EVERGREEN, (season.leaf_from, season.leaf_to), strict=True)
    ]
    return np.asarray(
        (first + kind * (last - first)) * (np.float32(0.85) + np.float32(0.3) * shade) / np.float32(255)
    )


def leaf_colours(weather: Weather, tree: np.ndarray, bottom_m: np.ndarray) -> Float32[np.ndarray, "3 n"]:
    """Each tree's own leaf colour, by its id: the season's, or between those of its species in a world."""
    if weather.look is None:
        return leaves(tree, bottom_m, weather.season)
    species, kind, shade = tree & 7, noise.chance(tree, 1), noise.chance(tree, 2)
    first, last = (np.take(colours, species, axis=1) for colours in weather.look.leaf)
    leaf = (first + kind * (last - first)) * (np.float32(0.8) + np.float32(0.4) * shade)
    return np.asarray(leaf + np.take(weather.look.bare, species) * (TWIGS - leaf))


def bareness(weather: Weather, tree: np.ndarray, bottom_m: np.ndarray) -> Float32[np.ndarray, "*n"]:
    """How much of its foliage each tree has lost."""
    if weather.look is None:
        return np.where(is_evergreen(bottom_m), 0, np.float32(weather.season.bare))
    return np.take(weather.look.bare, tree & 7)
