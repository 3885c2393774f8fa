"""The character of a world, drawn once for both views: species, soils, paving, houses."""

import numpy as np
from shapely.geometry.base import BaseGeometry

from preprocessing.towns.weather import RGB
from preprocessing.towns.worlds.biome import BIOMES, Biome, pick
from preprocessing.towns.worlds.mixing import between, near, one
from preprocessing.towns.worlds.world import Country, Species, World

SPECIES = {
    "broad": Species("broad", 1.0, 1.05, 0.2, 1.0, False, ((62, 88, 40), (104, 124, 58))),
    "oak": Species("broad", 1.05, 1.35, 0.16, 1.05, False, ((54, 76, 38), (84, 104, 50))),
    "birch": Species("light", 1.2, 0.8, 0.22, 0.85, False, ((92, 116, 58), (128, 142, 78))),
    "column": Species("column", 1.5, 0.42, 0.06, 1.0, False, ((66, 92, 46), (98, 120, 58))),
    "pine": Species("light", 1.45, 0.9, 0.32, 0.9, True, ((50, 68, 42), (80, 96, 58))),
    "fir": Species("conifer", 1.55, 0.62, 0.05, 1.0, True, ((38, 56, 40), (66, 84, 56))),
    "gum": Species("light", 1.4, 1.2, 0.28, 0.8, True, ((86, 98, 66), (122, 126, 88))),
    "olive": Species("shrubby", 0.42, 0.7, 0.05, 0.85, True, ((92, 98, 66), (134, 132, 92))),
    "saguaro": Species("column", 0.5, 0.16, 0.0, 1.2, True, ((84, 96, 62), (104, 112, 76))),
    "palm": Species("palm", 1.0, 0.75, 0.78, 0.8, True, ((82, 100, 56), (120, 124, 74))),
    "bare": Species("light", 1.1, 0.8, 0.25, 0.3, False, ((112, 100, 84), (140, 128, 108))),
    "bush": Species("shrubby", 1.0, 1.0, 0.04, 0.95, False, ((70, 92, 46), (120, 128, 70))),
}
SOILS: dict[str, RGB] = {
    "brown": (132, 106, 80), "tan": (176, 152, 118), "grey": (142, 134, 122), "red": (158, 104, 76),
    "dark": (92, 76, 60), "sand": (204, 184, 148),
}  # fmt: skip
ASPHALTS: tuple[RGB, ...] = (
    (112, 112, 114), (144, 142, 138), (164, 160, 152), (92, 92, 96), (148, 136, 124), (132, 126, 130),
    (176, 168, 152), (156, 148, 140),
)  # fmt: skip
ROOFS: tuple[RGB, ...] = (
    (150, 86, 62), (104, 82, 72), (92, 92, 98), (74, 72, 76), (128, 122, 116), (116, 104, 90),
    (160, 152, 142), (84, 94, 88), (176, 118, 84), (188, 186, 180), (64, 58, 56), (136, 60, 52),
)  # fmt: skip
WALLS: tuple[RGB, ...] = (
    (226, 224, 216), (206, 196, 174), (156, 92, 72), (184, 176, 160), (140, 82, 66), (172, 180, 184),
    (196, 176, 138), (120, 130, 128), (238, 236, 230), (118, 98, 84), (150, 160, 140), (206, 190, 150),
)  # fmt: skip


def draw_character(
    rng: np.random.Generator, name: str, sketch: Country, roads: BaseGeometry, place: int
) -> World:
    """The world of a finished sketch."""
    biome = BIOMES[name]
    soil = near(rng, SOILS[pick(rng, biome.soils)], 14)
    return World(
        biome=name,
        species=_species(rng, biome),
        rows=tuple(sketch.rows),
        stains=tuple(sketch.stains),
        posts=tuple(sketch.posts),
        roads=roads,
        relief_m=float(rng.uniform(*biome.relief_m)) * float(rng.uniform() ** 0.5),
        relief_wave_m=float(rng.uniform(90, 420)),
        banks_m=float(rng.uniform(*biome.relief_m)) * 0.45,
        soil=soil,
        asphalt=near(rng, one(rng, ASPHALTS), 10),
        gravel=between(near(rng, soil, 16), near(rng, (186, 178, 162), 20), 0.5),
        concrete=near(rng, (178, 172, 160), 16),
        roofs=_few(rng, ROOFS),
        walls=_few(rng, WALLS),
        worn=float(rng.uniform(0.15, 1.0)),
        south=bool(rng.uniform() < 0.25),
        place=place,
    )


def _species(rng: np.random.Generator, biome: Biome) -> tuple[Species, ...]:
    """Seven species, some twice, so that one may rule; the eighth is a bush."""
    favourite = [pick(rng, biome.trees) for _ in range(int(rng.integers(1, 5)))]
    names = [str(rng.choice(favourite)) for _ in range(7)]
    return tuple(_vary(rng, SPECIES[name]) for name in [*names, "bush"])


def _vary(rng: np.random.Generator, kind: Species) -> Species:
    return kind._replace(
        tall=kind.tall * float(rng.uniform(0.75, 1.25)),
        wide=kind.wide * float(rng.uniform(0.85, 1.25)),
        dense=kind.dense * float(rng.uniform(0.85, 1.1)),
        leaf=(near(rng, kind.leaf[0], 12), near(rng, kind.leaf[1], 14)),
    )


def _few(rng: np.random.Generator, colours: tuple[RGB, ...]) -> tuple[RGB, ...]:
    return tuple(near(rng, one(rng, colours), 12) for _ in range(int(rng.integers(3, 9))))
