"""Colours of a world's ground and leaves on one day: the season, and chance."""

import numpy as np
from jaxtyping import Float32

from preprocessing.towns.colours import GROUND
from preprocessing.towns.scene import Surface
from preprocessing.towns.weather import RGB
from preprocessing.towns.worlds.world import World

GREENS: dict[str, tuple[RGB, RGB]] = {
    "spring": ((96, 124, 58), (136, 146, 82)), "summer": ((84, 112, 52), (130, 138, 80)),
    "late summer": ((124, 122, 72), (178, 162, 110)), "autumn": ((108, 112, 62), (158, 144, 94)),
    "winter": ((122, 116, 80), (164, 150, 112)),
}  # fmt: skip
CROPS: tuple[RGB, ...] = ((78, 104, 46), (96, 120, 56), (116, 128, 62), (140, 134, 76), (104, 98, 62))
CEREALS: tuple[RGB, ...] = ((104, 124, 62), (176, 156, 96), (194, 172, 112), (140, 142, 80))
SCRUBS: tuple[RGB, ...] = ((132, 120, 78), (110, 110, 66), (152, 138, 96), (96, 104, 58))
AUTUMN: tuple[RGB, ...] = ((164, 96, 44), (178, 138, 58), (132, 70, 42), (150, 124, 60))
TWIGS: RGB = (116, 102, 88)
BARE = {"spring": (0.0, 0.6), "summer": (0.0, 0.0), "late summer": (0.0, 0.1), "autumn": (0.0, 0.7), "winter": (0.7, 0.95)}


def draw_ground(
    rng: np.random.Generator, world: World, season: str, snow: bool
) -> tuple[Float32[np.ndarray, "3 s"], Float32[np.ndarray, "3 s"]]:
    """`ground` and `patch` of a `Look`."""
    ground = {surface: _near(rng, colour, 8) for surface, colour in GROUND.items()}
    soil, asphalt = _near(rng, world.soil, 9), _near(rng, world.asphalt, 9)
    low, high = GREENS[season]
    grass = _between(low, high, float(rng.uniform()))
    ground |= {
        Surface.GRASS: _near(rng, grass, 10), Surface.ASPHALT: asphalt, Surface.SOIL: soil,
        Surface.DIRT: _near(rng, soil, 12), Surface.PARKING: _near(rng, world.asphalt, 14),
        Surface.GRAVEL: _near(rng, world.gravel, 10), Surface.CONCRETE: _near(rng, world.concrete, 10),
        Surface.PAVEMENT: _near(rng, world.concrete, 12), Surface.KERB: _near(rng, world.concrete, 14),
        Surface.DRIVEWAY: _near(rng, _between(world.concrete, world.asphalt, 0.3), 12),
        Surface.PATH: _near(rng, world.gravel, 12), Surface.CROP: _near(rng, _one(rng, CROPS), 10),
        Surface.CEREAL: _near(rng, _one(rng, CEREALS), 12),
        Surface.STUBBLE: _near(rng, _between((176, 156, 112), soil, 0.3), 10),
        Surface.SCRUB: _near(rng, _between(_one(rng, SCRUBS), grass, float(rng.uniform(0, 0.6))), 10),
        Surface.LITTER: _near(rng, _between(_one(rng, ((104, 82, 60), (92, 80, 62))), grass, float(rng.uniform(0, 0.5))), 10),
        Surface.SAND: _near(rng, _between(world.soil, (206, 190, 158), 0.25), 10),
        Surface.ROCK: _near(rng, _between(world.soil, (138, 134, 128), 0.5), 14),
        Surface.WATER: _near(rng, _one(rng, ((66, 88, 96), (56, 74, 66), (84, 98, 100), (40, 66, 84))), 12),
        Surface.HEDGE: _near(rng, (64, 84, 46), 12), Surface.YELLOW_MARKING: _near(rng, (206, 164, 62), 14),
        Surface.POLE: _near(rng, (106, 90, 76), 14), Surface.GUARD_RAIL: _near(rng, (158, 160, 160), 20),
        Surface.FENCE: _near(rng, (128, 112, 94), 18),
    }  # fmt: skip
    patch = _patches(rng, ground, soil, grass)
    if snow:
        for surface in (Surface.GRASS, Surface.SCRUB, Surface.LITTER, Surface.SOIL, Surface.CROP,
                        Surface.STUBBLE, Surface.CEREAL, Surface.SAND, Surface.GRAVEL):  # fmt: skip
            ground[surface] = _near(rng, (214, 220, 230), 8)
    return _table(ground), _table({**ground, **patch})


def _patches(
    rng: np.random.Generator, ground: dict[Surface, RGB], soil: RGB, grass: RGB
) -> dict[Surface, RGB]:
    """What each surface gives way to."""
    asphalt = ground[Surface.ASPHALT]
    worn = tuple(c * float(rng.uniform(0.78, 1.2)) for c in (1.0,))[0]
    other: RGB = (asphalt[0] * worn, asphalt[1] * worn, asphalt[2] * worn)
    dry = _between((176, 158, 112), soil, float(rng.uniform(0.2, 0.9)))
    green = _near(rng, _between(grass, (84, 96, 52), 0.5), 10)
    return {
        Surface.GRASS: dry, Surface.SCRUB: _between(green, soil, float(rng.uniform(0, 1))),
        Surface.LITTER: green, Surface.SOIL: _between(soil, (70, 60, 48), 0.3),
        Surface.DIRT: _between(soil, grass, 0.4), Surface.GRAVEL: _between(soil, grass, float(rng.uniform(0, 0.5))),
        Surface.SAND: _between(ground[Surface.SCRUB], soil, 0.4), Surface.ROCK: _between(soil, (90, 86, 80), 0.5),
        Surface.CROP: soil, Surface.CEREAL: _between(soil, ground[Surface.CEREAL], 0.4),
        Surface.STUBBLE: soil, Surface.ASPHALT: other, Surface.PARKING: other,
        Surface.LANE_MARKING: asphalt, Surface.YELLOW_MARKING: asphalt, Surface.ZEBRA: asphalt,
        Surface.CONCRETE: _between(ground[Surface.CONCRETE], soil, 0.4),
        Surface.DRIVEWAY: _between(ground[Surface.DRIVEWAY], soil, 0.4),
    }  # fmt: skip


def draw_leaves(
    rng: np.random.Generator, world: World, season: str
) -> tuple[Float32[np.ndarray, "2 3 8"], Float32[np.ndarray, " 8"], Float32[np.ndarray, " 8"]]:
    """`leaf`, `bare` and `dense` of a `Look`: evergreens stay, the others follow the season, each its own way."""
    leaf, bare = np.empty((2, 3, len(world.species)), np.float32), np.zeros(len(world.species), np.float32)
    for i, kind in enumerate(world.species):
        first, last = kind.leaf
        if not kind.evergreen:
            bare[i] = rng.uniform(*BARE[season])
            if season == "spring":
                first, last = _between(first, (138, 160, 84), 0.5), _between(last, (150, 172, 96), 0.5)
            elif season == "autumn":
                turned = float(rng.uniform(0, 1.0))
                first, last = _between(first, _one(rng, AUTUMN), turned), _between(last, _one(rng, AUTUMN), turned)
            elif season == "winter":
                first, last = TWIGS, _between(TWIGS, (150, 136, 122), 0.5)
        leaf[0, :, i], leaf[1, :, i] = _near(rng, first, 9), _near(rng, last, 10)
    dense = np.array([kind.dense for kind in world.species], np.float32)
    return leaf / np.float32(255), bare, dense


def _table(colours: dict[Surface, RGB]) -> Float32[np.ndarray, "3 s"]:
    rows = [colours.get(surface, (150.0, 150.0, 150.0)) for surface in Surface]
    return np.ascontiguousarray(np.array(rows, np.float32).T) / np.float32(255)


def _one(rng: np.random.Generator, colours: tuple[RGB, ...]) -> RGB:
    return colours[int(rng.integers(len(colours)))]


def _between(one: RGB, other: RGB, share: float) -> RGB:
    red, green, blue = (a + share * (b - a) for a, b in zip(one, other, strict=True))
    return red, green, blue


def _near(rng: np.random.Generator, colour: RGB, spread: float) -> RGB:
    level, *each = rng.normal(0, 1, 4) * np.array((1, 0.4, 0.3, 0.4)) * spread
    red, green, blue = (float(min(250, max(8, c + level + e))) for c, e in zip(colour, each, strict=True))
    return red, green, blue
