"""Industrial blocks: halls, yards, tanks, containers."""

import numpy as np
from shapely.geometry import Point, Polygon

from preprocessing.towns.centre import flat, footprint, lots
from preprocessing.towns.parking import parking
from preprocessing.towns.scene import Surface
from preprocessing.towns.shapes import bearing_deg, long_axis, offset, polygons, rectangle
from preprocessing.towns.sketch import Building, Sketch, Wing
from preprocessing.towns.suburb import scatter


def fill_industry(rng: np.random.Generator, sketch: Sketch, block: Polygon) -> None:
    """Lots with a hall each; the rest of a lot is yard, bays, tanks and containers."""
    for lot in lots(rng, block.buffer(-1.0), 55, 95):
        ground = Surface(rng.choice([Surface.ASPHALT, Surface.PARKING, Surface.DIRT, Surface.GRASS]))
        sketch.ground.append((ground, lot.buffer(-float(rng.uniform(0.5, 3)))))
        center, along, length, width = long_axis(lot)
        side = float(rng.choice([-1, 1]))
        share = float(rng.uniform(0.35, 0.65))
        hall_at = offset(center, along, side * length * (1 - share) * 0.42, 0)
        hall = footprint(
            rng, rectangle(hall_at, along, length * share, width * float(rng.uniform(0.55, 0.85)))
        )
        for shape in polygons(hall.intersection(lot.buffer(-4)), 150):
            sketch.buildings.append(_hall(rng, shape))
        free = rectangle(
            offset(center, along, -side * length * share * 0.52, 0), along, length * (1 - share) * 0.8, width
        )
        for yard in polygons(free.intersection(lot.buffer(-3)).difference(hall.buffer(3)), 200):
            if rng.uniform() < 0.55:
                parking(rng, sketch, yard)
            else:
                _stores(rng, sketch, yard)
        if rng.uniform() < 0.5:
            sketch.walls.append(
                (Surface.FENCE, lot.exterior.difference(lot.centroid.buffer(0.25 * length)), 1.9)
            )
    scatter(rng, sketch, block, float(rng.uniform(2, 14)), 0.2, 0.8)


def _hall(rng: np.random.Generator, shape: Polygon) -> Building:
    center, along, length, width = long_axis(shape)
    surface = Surface.ROOF_METAL if rng.uniform() < 0.65 else Surface.ROOF_FLAT
    hall = flat(rng, shape, 1, surface, float(rng.uniform(5, 10)))
    bays = int(rng.integers(1, 4))
    if surface is Surface.ROOF_FLAT or width < 10:
        return hall
    ridges = tuple(
        Wing(offset(center, along, 0, (i - (bays - 1) / 2) * width / bays), along, length, width / bays,
             hall.eave_m, 0.16 * width / bays, "gable")
        for i in range(bays)
    )  # fmt: skip
    return hall._replace(wings=ridges)


def _stores(rng: np.random.Generator, sketch: Sketch, yard: Polygon) -> None:
    """Stacks of containers, or round tanks."""
    center, along, length, width = long_axis(yard)
    if rng.uniform() < 0.3:
        radius = float(rng.uniform(3, 6))
        for forward in np.arange(-length / 2 + radius + 1, length / 2 - radius, 2.6 * radius):
            tank = Point(offset(center, along, float(forward), 0)).buffer(radius)
            if yard.contains(tank):
                sketch.buildings.append(
                    Building(tank, float(rng.uniform(5, 10)), 0.0, Surface.ROOF_METAL, ())
                )
        return
    for row in np.arange(-width / 2 + 2, width / 2 - 2, 3.2):
        for forward in np.arange(-length / 2 + 7, length / 2 - 7, 12.8):
            box = rectangle(offset(center, along, float(forward), float(row)), along, 12.2, 2.5)
            if rng.uniform() < 0.4 and yard.contains(box):
                high = 2.6 * int(rng.integers(1, 4))
                sketch.buildings.append(Building(box, high, bearing_deg(along) % 180, Surface.ROOF_METAL, ()))
