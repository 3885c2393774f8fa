"""What a plan is made of, and the open sketch the districts draw into."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry

from preprocessing.towns.scene import Surface
from preprocessing.towns.shapes import Vector


class Wing(NamedTuple):
    """A rectangular part of a roof: `roof` is "gable" (ridge along the length), "hip" or "flat"."""

    center: Vector
    along: Vector
    length_m: float
    width_m: float
    eave_m: float
    rise_m: float
    roof: str


class Building(NamedTuple):
    """A footprint as high as its eaves, and the wings that rise above them.

    slope: metres the roof rises per metre from the outline, up to 4 m; 0 for a flat one.
    """

    outline: Polygon
    eave_m: float
    axis_deg: float
    surface: Surface
    wings: tuple[Wing, ...]
    slope: float = 0.0


class Tree(NamedTuple):
    """A tree. kind: "broad", "conifer" or "shrub". luck in [0, 1): the least lucky differ between days."""

    x: float
    y: float
    top_m: float
    bottom_m: float
    radius_m: float
    kind: str
    luck: float


class Slot(NamedTuple):
    """A place where a car may stand, and how often one does (odds in [0, 1])."""

    x: float
    y: float
    along: Vector
    odds: float


@dataclass
class Sketch:
    """The lists that roads and districts add to while a town is drawn, in painting order."""

    ground: list[tuple[Surface, BaseGeometry]] = field(default_factory=list)
    markings: list[tuple[Surface, BaseGeometry]] = field(default_factory=list)
    treeless: list[BaseGeometry] = field(default_factory=list)
    walls: list[tuple[Surface, BaseGeometry, float]] = field(default_factory=list)
    buildings: list[Building] = field(default_factory=list)
    trees: list[Tree] = field(default_factory=list)
    street_trees: list[Tree] = field(default_factory=list)
    lamps: list[Vector] = field(default_factory=list)
    slots: list[Slot] = field(default_factory=list)
    tracks: list[tuple[float, float, float]] = field(default_factory=list)


def plant(rng: np.random.Generator, at: Vector, size: float, conifers: float) -> Tree:
    """A tree of about `size` (1 = full grown); `conifers` is the share of those."""
    x, y = at
    grown = size * float(rng.uniform(0.65, 1.2))
    luck = float(rng.uniform())
    if rng.uniform() < conifers:
        return Tree(x, y, 15 * grown + 2, 0.7, 3.0 * grown + 0.5, "conifer", luck)
    if rng.uniform() < 0.12:
        return Tree(x, y, 2.6 * grown + 0.6, 0.2, 1.3 * grown + 0.3, "shrub", luck)
    return Tree(x, y, 10 * grown + 2.5, 1.8 + 1.5 * grown, 3.9 * grown + 0.6, "broad", luck)
