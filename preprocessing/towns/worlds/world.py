"""What a world adds to the plan of a town: its land, its species, its colours, and the marks of use."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry

from preprocessing.towns.scene import Surface
from preprocessing.towns.shapes import Vector
from preprocessing.towns.sketch import Sketch
from preprocessing.towns.weather import RGB


class Species(NamedTuple):
    """A kind of tree beside the plain tree of a sketch, which it stretches.

    form: the shape of its crown (see `trees.py`). tall, wide: factors of height and radius. clear: where
    its crown starts, as a share of its height. dense: how little light passes. evergreen: keeps its leaves.
    leaf: two colours of its summer leaves.
    """

    form: str
    tall: float
    wide: float
    clear: float
    dense: float
    evergreen: bool
    leaf: tuple[RGB, RGB]


class Rows(NamedTuple):
    """A field worked in straight lines. step_m: from row to row; bare: the share that shows earth."""

    area: Polygon
    bearing_deg: float
    step_m: float
    bare: float


class Post(NamedTuple):
    """A thin upright thing."""

    at: Vector
    height_m: float
    surface: Surface


class Stain(NamedTuple):
    """A place that is brighter or darker (tone, -60 to 60) than its material."""

    area: BaseGeometry
    tone: int


@dataclass
class Country(Sketch):
    """A sketch with what only worlds have."""

    rows: list[Rows] = field(default_factory=list)
    stains: list[Stain] = field(default_factory=list)
    posts: list[Post] = field(default_factory=list)


@dataclass(frozen=True)
class World:
    """One world. species: up to eight; a tree belongs to one by its number. relief_m, relief_wave_m:
    height and length of its hills; banks_m: how far the land rises or falls beside the roads, which
    themselves lie in `roads`. soil, asphalt, gravel, concrete: sRGB 0-255. roofs, walls: palettes of its
    houses. worn: from 0 to 1, how patchy its ground is. south: the sun stands in the north.
    """

    biome: str
    species: tuple[Species, ...]
    rows: tuple[Rows, ...]
    stains: tuple[Stain, ...]
    posts: tuple[Post, ...]
    roads: BaseGeometry
    relief_m: float
    relief_wave_m: float
    banks_m: float
    soil: RGB
    asphalt: RGB
    gravel: RGB
    concrete: RGB
    roofs: tuple[RGB, ...]
    walls: tuple[RGB, ...]
    worn: float
    south: bool
    place: int

    def shift(self, salt: int) -> tuple[int, int]:
        """Where this world lies in the endless noise."""
        at = np.random.default_rng([self.place, salt]).integers(0, 1 << 20, 2)
        return int(at[0]), int(at[1])
