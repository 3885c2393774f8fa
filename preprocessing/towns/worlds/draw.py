"""Drawing a world: the plan of a place in one of the biomes."""

import numpy as np
import shapely
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry

from preprocessing.towns.plan import GSD_M, Plan, draw_place, rooted, whole_side_m
from preprocessing.towns.roads import Streets
from preprocessing.towns.scene import Surface
from preprocessing.towns.worlds.biome import BIOMES, draw_biome
from preprocessing.towns.worlds.character import draw_character
from preprocessing.towns.worlds.country import draw_country
from preprocessing.towns.worlds.garden_city import draw_town
from preprocessing.towns.worlds.world import Country

WORLD_STREAM = 21


def draw_world(seed: int, name: str, side_m: float = 640.0, gsd_m: float = GSD_M) -> Plan:
    """Draw the world of a seed: a biome by name, or "mixed" for one drawn by the seed.

    Raises DataError for an unknown name, and for a side or a resolution that no town can have.
    """
    side_m = whole_side_m(seed, side_m, gsd_m)
    rng = np.random.default_rng(np.random.SeedSequence([seed, WORLD_STREAM]))
    name = draw_biome(rng, name)
    biome = BIOMES[name]
    crs, west_m, south_m = draw_place(rng)
    sketch = Country()
    if biome.districts:
        streets, layers = draw_town(rng, sketch, biome, side_m)
    else:
        streets, layers = draw_country(rng, sketch, biome, name, side_m)
    roads = _roads(streets, layers)
    world = draw_character(rng, name, sketch, roads, seed)
    town = shapely.box(0, 0, side_m, side_m)
    return Plan(
        seed, side_m, gsd_m, crs, west_m, south_m + side_m, (*sketch.ground, *layers),
        tuple(sketch.markings), tuple(sketch.walls), tuple(sketch.buildings),
        tuple(rooted(sketch, streets, town)), tuple(sketch.lamps), tuple(sketch.slots),
        np.array(sketch.tracks).reshape(-1, 3), world,
    )  # fmt: skip


def _roads(streets: Streets, layers: list[tuple[Surface, BaseGeometry]]) -> BaseGeometry:
    """All that is level because traffic rolls on it."""
    paved = [shape for surface, shape in layers if surface is Surface.ASPHALT]
    return shapely.union_all([streets.carriageway, *paved]) if paved else Polygon()
