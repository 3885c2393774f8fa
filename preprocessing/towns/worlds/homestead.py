"""Lone houses and farms along country roads."""

import numpy as np
from shapely.geometry import LineString, Polygon
from shapely.geometry.base import BaseGeometry

from preprocessing.towns.roads import Streets
from preprocessing.towns.scene import Surface
from preprocessing.towns.shapes import Vector, bearing_deg, offset, rectangle, walk
from preprocessing.towns.sketch import Building, Slot, Tree, Wing, plant
from preprocessing.towns.suburb import Plot, draw_house, manner
from preprocessing.towns.worlds.biome import Biome
from preprocessing.towns.worlds.world import Country


def settle(
    rng: np.random.Generator, sketch: Country, biome: Biome, streets: Streets, kept_free: BaseGeometry
) -> list[Polygon]:
    """Homesteads here and there along the roads; returns their lots."""
    lots: list[Polygon] = []
    if not biome.homes:
        return lots
    for road in streets.roads:
        every_m = float(rng.uniform(45, 220)) / biome.homes * 0.5
        for x, y, ux, uy in walk(road.line, float(rng.uniform(10, 90)), every_m, 20):
            side = float(rng.choice([-1, 1]))
            edge = offset((x, y), (ux, uy), 0, side * (road.width_m / 2 + road.pavement_m + 0.3))
            street = (ux * side, uy * side)
            wide, deep = float(rng.uniform(26, 60)), float(rng.uniform(30, 65))
            lot = rectangle(offset(edge, street, 0, deep / 2), street, wide, deep)
            free = lot.buffer(-1).disjoint(kept_free) and all(lot.disjoint(other) for other in lots)
            if free and rng.uniform() < 0.75:
                lots.append(lot)
                _homestead(rng, sketch, lot, edge, street, (wide, deep))
    return lots


def _homestead(
    rng: np.random.Generator, sketch: Country, lot: Polygon, gate: Vector, street: Vector,
    size: tuple[float, float],
) -> None:  # fmt: skip
    """A lawn or a dusty yard, a house set back from the road, a drive, barns, trees for shade."""
    wide, deep = size
    lawn = Surface(rng.choice([Surface.GRASS, Surface.GRASS, Surface.GRASS, Surface.SCRUB, Surface.GRAVEL]))
    sketch.ground.append((lawn, lot))
    how = manner(rng, 1.0)
    back = float(rng.uniform(8, max(9, deep - 22)))
    plot = Plot(offset(gate, street, float(rng.uniform(-0.12, 0.12)) * wide, back), street,
                float(rng.uniform(9, 18)), 1.0)  # fmt: skip
    house = draw_house(rng, how, plot)
    if lot.contains(house.outline):
        sketch.buildings.append(house)
    lane = float(rng.choice([-1, 1])) * wide * 0.36
    inward = (-street[1], street[0])
    surface = Surface(rng.choice([Surface.GRAVEL, Surface.CONCRETE, Surface.SOIL, Surface.ASPHALT]))
    reach = float(rng.uniform(0.5, 0.85)) * deep
    drive = rectangle(
        offset(gate, street, lane, reach / 2 - 5), inward, reach + 10, float(rng.uniform(2.8, 4.5))
    )
    sketch.ground.append((surface, drive))
    sketch.slots += [Slot(*offset(gate, street, lane, at), inward, 0.5) for at in (reach * 0.6, reach * 0.9)]
    _barns(rng, sketch, lot, offset(gate, street, -lane, deep * 0.72), street)
    _shade(rng, sketch, size, gate, street)


def _barns(rng: np.random.Generator, sketch: Country, lot: Polygon, at: Vector, street: Vector) -> None:
    for _ in range(int(rng.integers(0, 3))):
        length, width = float(rng.uniform(4, 18)), float(rng.uniform(3.5, 10))
        place = offset(at, street, float(rng.uniform(-6, 6)), float(rng.uniform(-8, 8)))
        along = street if rng.uniform() < 0.5 else (-street[1], street[0])
        shape = rectangle(place, along, max(length, width), min(length, width))
        near = [b.outline for b in sketch.buildings[-4:]]
        if lot.buffer(-1).contains(shape) and all(shape.distance(other) > 1.5 for other in near):
            eave = 2.2 + 0.18 * min(length, width)
            rise = float(rng.uniform(0.15, 0.45)) * min(length, width)
            wing = Wing(place, along, max(length, width), min(length, width), eave, rise, "gable")
            sketch.buildings.append(
                Building(shape, eave, bearing_deg(along) % 180, Surface.ROOF_METAL, (wing,))
            )


def _shade(
    rng: np.random.Generator, sketch: Country, size: tuple[float, float], gate: Vector, street: Vector
) -> None:
    """Single trees on the lot, and sometimes a hedge along the road."""
    wide, deep = size
    for _ in range(int(rng.integers(1, 12))):
        at = offset(
            gate, street, float(rng.uniform(-0.48, 0.48)) * wide, float(rng.uniform(0.05, 0.98)) * deep
        )
        sketch.trees.append(plant(rng, at, float(rng.uniform(0.5, 1.3)), 0.2))
    if rng.uniform() < 0.35:
        line = LineString([offset(gate, street, side * wide / 2, 0.6) for side in (-1, 1)])
        for x, y, _, _ in walk(line, 1.0, 2.2):
            sketch.trees.append(Tree(float(x), float(y), 1.6, 0.1, 0.9, "shrub", float(rng.uniform())))
