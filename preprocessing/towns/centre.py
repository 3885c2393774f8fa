"""Blocks of the centre: perimeters around courtyards, slabs, lots, squares."""

from collections.abc import Iterator

import numpy as np
from shapely.geometry import LineString, Point, Polygon
from shapely.geometry.base import BaseGeometry
from shapely.ops import split

from preprocessing.towns.parking import parking
from preprocessing.towns.scene import Surface
from preprocessing.towns.shapes import bearing_deg, long_axis, offset, polygons, rectangle
from preprocessing.towns.sketch import Building, Sketch, Wing, plant
from preprocessing.towns.suburb import scatter

FLOOR_M = 3.1


def lots(rng: np.random.Generator, area: BaseGeometry, low_m: float, high_m: float) -> Iterator[Polygon]:
    """Cut an area into lots until each is no longer than a draw from (low, high)."""
    for piece in polygons(area, 20.0):
        center, along, length, width = long_axis(piece)
        if length < rng.uniform(low_m, high_m):
            yield piece
            continue
        middle = offset(center, along, rng.uniform(-0.18, 0.18) * length, 0)
        ends = [offset(middle, along, 0, side * (width + 5)) for side in (-1, 1)]
        yield from lots(rng, split(piece, LineString(ends)), low_m, high_m)


def fill_centre(rng: np.random.Generator, sketch: Sketch, block: Polygon) -> None:
    """A perimeter of houses around a courtyard, free-standing blocks, or a square."""
    style = str(rng.choice(["perimeter", "slabs", "lots", "square"], p=[0.42, 0.22, 0.26, 0.1]))
    if block.area < 1200:
        style = "lots"
    floors = int(rng.integers(3, 8))
    if style == "square":
        return _square(rng, sketch, block)
    ground = Surface.PAVEMENT if rng.uniform() < 0.6 else Surface.GRASS
    sketch.ground.append((ground if style != "slabs" else Surface.GRASS, block))
    if style == "perimeter":
        _perimeter(rng, sketch, block, floors)
    elif style == "slabs":
        _slabs(rng, sketch, block, floors)
    else:
        for lot in lots(rng, block.buffer(-1.0), 22, 40):
            for shape in polygons(footprint(rng, lot.buffer(-float(rng.uniform(0.8, 4)))), 60):
                tall = max(2, min(10, floors + int(rng.integers(-2, 3))))
                sketch.buildings.append(flat(rng, shape, tall))
    scatter(rng, sketch, block, float(rng.uniform(5, 30)), 0.05, 0.7)


def flat(
    rng: np.random.Generator,
    shape: Polygon,
    floors: int,
    surface: Surface = Surface.ROOF_FLAT,
    floor_m: float = FLOOR_M,
) -> Building:
    """A flat-roofed building with a few boxes (lifts, vents) on its roof."""
    center, along, length, width = long_axis(shape)
    eave = floors * floor_m + float(rng.uniform(0.3, 1.2))
    boxes = []
    for _ in range(int(rng.integers(0, 3 + int(shape.area / 300)))):
        at = offset(center, along, rng.uniform(-0.42, 0.42) * length, rng.uniform(-0.42, 0.42) * width)
        size = float(rng.uniform(1.2, 4.5)), float(rng.uniform(1.2, 3.2))
        if shape.buffer(-1.0).contains(rectangle(at, along, *size)):
            boxes.append(Wing(at, along, *size, eave + float(rng.uniform(0.8, 2.8)), 0.0, "flat"))
    return Building(shape, eave, bearing_deg(along) % 180, surface, tuple(boxes))


def footprint(rng: np.random.Generator, lot: BaseGeometry) -> BaseGeometry:
    """The lot's rectangle, sometimes with a corner (L) or a middle (U) taken out."""
    best = max(polygons(lot), key=lambda p: p.area, default=None)
    if best is None:
        return Polygon()
    center, along, length, width = long_axis(best)
    shape: BaseGeometry = rectangle(center, along, length, width).intersection(best)
    kind = rng.uniform()
    if kind < 0.3:
        corner = offset(
            center, along, float(rng.choice([-1, 1])) * length / 2, float(rng.choice([-1, 1])) * width / 2
        )
        shape = shape.difference(rectangle(corner, along, length * 0.95, width * 1.0))
    elif kind < 0.45:
        edge = offset(center, along, 0, float(rng.choice([-1, 1])) * width / 2)
        shape = shape.difference(rectangle(edge, along, length * 0.4, width * 1.0))
    return shape


def _perimeter(rng: np.random.Generator, sketch: Sketch, block: Polygon, floors: int) -> None:
    slope = float(rng.uniform(0.5, 1.0)) if floors < 6 and rng.uniform() < 0.6 else 0.0
    inner = block.buffer(-float(rng.uniform(0.3, 2.0)), join_style="mitre")
    court = inner.buffer(-float(rng.uniform(10, 14)), join_style="mitre")
    if rng.uniform() < 0.5:
        mouth = long_axis(inner)
        gate = rectangle(mouth[0], (mouth[1][1], -mouth[1][0]), 2 * mouth[2], 4.5)
        court = court.union(gate.intersection(inner))
    for lot in lots(rng, inner, 20, 36):
        for shape in polygons(lot.difference(court), 45):
            tall = max(2 if slope else 3, min(10, floors + int(rng.integers(-1, 2))))
            house = flat(rng, shape, tall)
            if slope:
                house = house._replace(surface=Surface.ROOF_TILE, wings=(), slope=slope)
            sketch.buildings.append(house)
    for yard in polygons(court.buffer(-1.0), 60):
        if rng.uniform() < 0.4:
            parking(rng, sketch, yard)
        else:
            sketch.ground.append((Surface.GRASS, yard.buffer(-1.5)))
            scatter(rng, sketch, yard, 90, 0.05, 0.55)


def _slabs(rng: np.random.Generator, sketch: Sketch, block: Polygon, floors: int) -> None:
    center, along, length, width = long_axis(block)
    if rng.uniform() < 0.5:
        along, length, width = (-along[1], along[0]), width, length
    deep, space = float(rng.uniform(11, 14)), float(rng.uniform(16, 26))
    at = -length / 2 + 4 + deep / 2
    while at < length / 2:
        slab = rectangle(
            offset(center, along, at, rng.uniform(-4, 4)), along, deep, width * float(rng.uniform(0.6, 0.85))
        )
        for shape in polygons(slab.intersection(block.buffer(-3)), 120):
            sketch.buildings.append(flat(rng, shape, min(10, floors + int(rng.integers(0, 3)))))
        gap = rectangle(offset(center, along, at + (deep + space) / 2, 0), along, space * 0.6, width * 0.7)
        if rng.uniform() < 0.45:
            for lot in polygons(gap.intersection(block.buffer(-2)), 150):
                parking(rng, sketch, lot)
        else:
            sketch.ground.append(
                (
                    Surface.PATH,
                    rectangle(offset(center, along, at + deep / 2 + 2, 0), along, 1.8, width).intersection(
                        block
                    ),
                )
            )
        at += deep + space
    scatter(rng, sketch, block, 45, 0.1, 0.8)


def _square(rng: np.random.Generator, sketch: Sketch, block: Polygon) -> None:
    """A paved square: a fountain, lawns, a grid of trees and one landmark."""
    sketch.ground.append((Surface.PAVEMENT, block))
    center, along, length, width = long_axis(block)
    sketch.ground.append((Surface.GRASS, rectangle(center, along, length * 0.55, width * 0.5)))
    sketch.ground.append((Surface.PAVEMENT, rectangle(center, along, 3.5, width)))
    sketch.ground.append((Surface.PAVEMENT, Point(center).buffer(9)))
    sketch.ground.append((Surface.WATER, Point(center).buffer(float(rng.uniform(3, 6)))))
    step = float(rng.uniform(7, 11))
    for row in (-0.4, 0.4):
        for forward in np.arange(-0.42 * length, 0.42 * length, step):
            at = offset(center, along, float(forward), row * width)
            if block.buffer(-2).contains(Point(at)):
                sketch.street_trees.append(plant(rng, at, 0.6, 0.0))
    hall = rectangle(offset(center, along, 0.36 * length, 0), along, 0.16 * length, 0.45 * width)
    for shape in polygons(hall.intersection(block.buffer(-3)), 60):
        sketch.buildings.append(flat(rng, shape, int(rng.integers(3, 7))))
