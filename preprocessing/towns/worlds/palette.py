"""Colours of a world's ground and leaves on one day: the season, and chance."""

import numpy as np
from jaxtyping import Float32

from preprocessing.towns.colours import GROUND
from preprocessing.towns.scene import Surface
from preprocessing.towns.weather import RGB
from preprocessing.towns.worlds.mixing import between, near, one
from preprocessing.towns.worlds.world import World

GREENS: dict[str, tuple[RGB, RGB]] = {
    "spring": ((100, 130, 64), (146, 156, 90)), "summer": ((92, 120, 60), (142, 148, 90)),
    "late summer": ((124, 122, 72), (178, 162, 110)), "autumn": ((108, 112, 62), (158, 144, 94)),
    "winter": ((122, 116, 80), (164, 150, 112)),
}  # fmt: skip
CROPS: tuple[RGB, ...] = ((78, 104, 46), (96, 120, 56), (116, 128, 62), (140, 134, 76), (104, 98, 62))
CEREALS: tuple[RGB, ...] = ((104, 124, 62), (176, 156, 96), (194, 172, 112), (140, 142, 80))
SCRUBS: tuple[RGB, ...] = ((132, 120, 78), (110, 110, 66), (152, 138, 96), (96, 104, 58))
LITTERS: tuple[RGB, ...] = ((104, 82, 60), (92, 80, 62))
AUTUMN: tuple[RGB, ...] = ((164, 96, 44), (178, 138, 58), (132, 70, 42), (150, 124, 60))
TWIGS: RGB = (116, 102, 88)
BARE = {
    "spring": (0.0, 0.6),
    "summer": (0.0, 0.0),
    "late summer": (0.0, 0.1),
    "autumn": (0.0, 0.7),
    "winter": (0.7, 0.95),
}


def draw_ground(
    rng: np.random.Generator, world: World, season: str, snow: bool
) -> tuple[Float32[np.ndarray, "3 s"], Float32[np.ndarray, "3 s"]]:
    """`ground` and `patch` of a `Look`."""
    ground = {surface: near(rng, colour, 8) for surface, colour in GROUND.items()}
    soil, asphalt = near(rng, world.soil, 9), near(rng, world.asphalt, 9)
    low, high = GREENS[season]
    grass = between(low, high, float(rng.uniform()))
    ground |= {
        Surface.GRASS: near(rng, grass, 10), Surface.ASPHALT: asphalt, Surface.SOIL: soil,
        Surface.DIRT: near(rng, soil, 12), Surface.PARKING: near(rng, world.asphalt, 14),
        Surface.GRAVEL: near(rng, world.gravel, 10), Surface.CONCRETE: near(rng, world.concrete, 10),
        Surface.PAVEMENT: near(rng, world.concrete, 12), Surface.KERB: near(rng, world.concrete, 14),
        Surface.DRIVEWAY: near(rng, between(world.concrete, world.asphalt, 0.3), 12),
        Surface.PATH: near(rng, world.gravel, 12), Surface.CROP: near(rng, one(rng, CROPS), 10),
        Surface.CEREAL: near(rng, one(rng, CEREALS), 12),
        Surface.STUBBLE: near(rng, between((176, 156, 112), soil, 0.3), 10),
        Surface.SCRUB: near(rng, between(one(rng, SCRUBS), grass, float(rng.uniform(0, 0.6))), 10),
        Surface.LITTER: near(rng, between(one(rng, LITTERS), grass, float(rng.uniform(0, 0.5))), 10),
        Surface.SAND: near(rng, between(soil, (188, 170, 138), 0.2), 8),
        Surface.LANE_MARKING: near(rng, (240, 240, 236), 6),
        Surface.ROCK: near(rng, between(world.soil, (138, 134, 128), 0.5), 14),
        Surface.WATER: near(rng, one(rng, ((66, 88, 96), (56, 74, 66), (84, 98, 100), (40, 66, 84))), 12),
        Surface.HEDGE: near(rng, (64, 84, 46), 12), Surface.YELLOW_MARKING: near(rng, (216, 168, 46), 14),
        Surface.POLE: near(rng, (106, 90, 76), 14), Surface.GUARD_RAIL: near(rng, (158, 160, 160), 20),
        Surface.FENCE: near(rng, (128, 112, 94), 18),
    }  # fmt: skip
    patch = _patches(rng, ground, soil, grass)
    if snow:
        for surface in (Surface.GRASS, Surface.SCRUB, Surface.LITTER, Surface.SOIL, Surface.CROP,
                        Surface.STUBBLE, Surface.CEREAL, Surface.SAND, Surface.GRAVEL):  # fmt: skip
            ground[surface] = near(rng, (214, 220, 230), 8)
    return _table(ground), _table({**ground, **patch})


def _patches(
    rng: np.random.Generator, ground: dict[Surface, RGB], soil: RGB, grass: RGB
) -> dict[Surface, RGB]:
    """What each surface gives way to."""
    asphalt = ground[Surface.ASPHALT]
    worn = float(rng.uniform(0.78, 1.2))
    other: RGB = (asphalt[0] * worn, asphalt[1] * worn, asphalt[2] * worn)
    dry = between((176, 158, 112), soil, float(rng.uniform(0.2, 0.9)))
    green = near(rng, between(grass, (84, 96, 52), 0.5), 10)
    return {
        Surface.GRASS: dry, Surface.SCRUB: between(green, soil, float(rng.uniform(0, 1))),
        Surface.LITTER: green, Surface.SOIL: between(soil, (70, 60, 48), 0.3),
        Surface.DIRT: between(soil, grass, 0.4),
        Surface.GRAVEL: between(soil, grass, float(rng.uniform(0, 0.5))),
        Surface.SAND: between(ground[Surface.SCRUB], soil, 0.4),
        Surface.ROCK: between(soil, (90, 86, 80), 0.5),
        Surface.CROP: soil, Surface.CEREAL: between(soil, ground[Surface.CEREAL], 0.4),
        Surface.STUBBLE: soil, Surface.ASPHALT: other, Surface.PARKING: other,
        Surface.LANE_MARKING: asphalt, Surface.YELLOW_MARKING: asphalt, Surface.ZEBRA: asphalt,
        Surface.CONCRETE: between(ground[Surface.CONCRETE], soil, 0.4),
        Surface.DRIVEWAY: between(ground[Surface.DRIVEWAY], soil, 0.4),
    }  # fmt: skip


def draw_leaves(
    rng: np.random.Generator, world: World, season: str
) -> tuple[Float32[np.ndarray, "2 3 8"], Float32[np.ndarray, " 8"], Float32[np.ndarray, " 8"]]:
    """`leaf`, `bare` and `dense` of a `Look`: each leafy species follows the season in its own way."""
    leaf, bare = np.empty((2, 3, len(world.species)), np.float32), np.zeros(len(world.species), np.float32)
    for i, kind in enumerate(world.species):
        first, last = kind.leaf
        if not kind.evergreen:
            bare[i] = rng.uniform(*BARE[season])
            if season == "spring":
                first, last = between(first, (138, 160, 84), 0.5), between(last, (150, 172, 96), 0.5)
            elif season == "autumn":
                turned = float(rng.uniform(0, 1.0))
                first, last = (
                    between(first, one(rng, AUTUMN), turned),
                    between(last, one(rng, AUTUMN), turned),
                )
            elif season == "winter":
                first, last = TWIGS, between(TWIGS, (150, 136, 122), 0.5)
        leaf[0, :, i], leaf[1, :, i] = near(rng, first, 9), near(rng, last, 10)
    dense = np.array([kind.dense for kind in world.species], np.float32)
    return leaf / np.float32(255), bare, dense


def _table(colours: dict[Surface, RGB]) -> Float32[np.ndarray, "3 s"]:
    rows = [colours.get(surface, (150.0, 150.0, 150.0)) for surface in Surface]
    return np.ascontiguousarray(np.array(rows, np.float32).T) / np.float32(255)
