"""Open blocks: parks with paths, ponds, groves and pitches."""

import numpy as np
from shapely.geometry import LineString, Point, Polygon

from preprocessing.towns.centre import flat
from preprocessing.towns.scene import Surface
from preprocessing.towns.shapes import (
    bearing_deg,
    bent_line,
    blob,
    lines,
    long_axis,
    offset,
    polygons,
    rectangle,
    walk,
)  # fmt: skip
from preprocessing.towns.sketch import Building, Sketch, Wing, plant
from preprocessing.towns.suburb import scatter


def fill_park(rng: np.random.Generator, sketch: Sketch, block: Polygon) -> None:
    """Meadow, bare patches, a pond, winding paths, a pitch or a pavilion, groves."""
    sketch.ground.append((Surface.GRASS, block))
    west, south, east, north = block.bounds
    center, along, length, width = long_axis(block)
    for _ in range(int(rng.integers(0, 4))):
        spot = blob(rng, (rng.uniform(west, east), rng.uniform(south, north)), rng.uniform(3, 14), 0.4)
        sketch.ground.append((Surface.DIRT, spot.intersection(block.buffer(-1))))
    pond = Polygon()
    if rng.uniform() < 0.6:
        at = offset(center, along, rng.uniform(-0.25, 0.25) * length, rng.uniform(-0.2, 0.2) * width)
        pond = blob(rng, at, float(rng.uniform(0.12, 0.3)) * width + 4)
        sketch.ground.append((Surface.DIRT, pond.buffer(1.2).intersection(block.buffer(-2))))
        sketch.ground.append((Surface.WATER, pond.intersection(block.buffer(-3))))
    _paths(rng, sketch, block, pond)
    if rng.uniform() < 0.45:
        at = offset(center, along, rng.uniform(-0.3, 0.3) * length, rng.uniform(-0.25, 0.25) * width)
        draw_pitch(rng, sketch, block, Point(at), pond)
    if rng.uniform() < 0.7:
        _pavilion(rng, sketch, block, pond)
    conifers = float(rng.choice([0.05, 0.2, 0.6]))
    for _ in range(int(rng.integers(2, 7))):
        grove = blob(rng, (rng.uniform(west, east), rng.uniform(south, north)), rng.uniform(10, 28), 0.4)
        for piece in polygons(grove.intersection(block)):
            scatter(rng, sketch, piece, float(rng.uniform(90, 220)), conifers, 0.95)
    scatter(rng, sketch, block, float(rng.uniform(8, 35)), conifers, 0.95)


def _paths(rng: np.random.Generator, sketch: Sketch, block: Polygon, pond: Polygon) -> None:
    ring = block.exterior
    wide = float(rng.uniform(1.6, 2.8))
    surface = Surface.PATH if rng.uniform() < 0.75 else Surface.PAVEMENT
    for _ in range(int(rng.integers(2, 5))):
        at = rng.uniform()
        a, b = (ring.interpolate(p % 1.0, normalized=True) for p in (at, at + rng.uniform(0.3, 0.7)))
        path = bent_line(rng, (a.x, a.y), (b.x, b.y), 0.3)
        for part in lines(path.intersection(block).difference(pond.buffer(2)), 8):
            sketch.ground.append((surface, part.buffer(wide / 2)))
            for x, y, ux, uy in walk(part, 6.0, 2.0, 6.0):
                sketch.tracks.append((x, y, bearing_deg((ux, uy))))
            for x, y, ux, uy in walk(part, 5.0, 30.0):
                sketch.lamps.append(offset((x, y), (ux, uy), 0, wide / 2 + 0.4))
    if not pond.is_empty and rng.uniform() < 0.7:
        walkway = LineString(pond.buffer(3.5).exterior.coords).intersection(block.buffer(-1))
        sketch.ground.append((surface, walkway.buffer(wide / 2)))


def fill_school(rng: np.random.Generator, sketch: Sketch, block: Polygon) -> None:
    """A school: a building of two wings at one end, a pitch at the other, a yard between."""
    sketch.ground.append((Surface.GRASS, block))
    center, along, length, width = long_axis(block)
    side = float(rng.choice([-1, 1]))
    floors = int(rng.integers(1, 4))
    at = offset(center, along, side * 0.3 * length, 0)
    main = rectangle(at, along, 13, 0.6 * width).union(
        rectangle(offset(at, along, -side * 0.1 * length, 0.22 * width), along, 0.22 * length, 12)
    )
    yard = rectangle(offset(center, along, side * 0.12 * length, 0), along, 0.3 * length, 0.7 * width)
    sketch.ground.append((Surface.PAVEMENT, yard.intersection(block.buffer(-2))))
    for shape in polygons(main.intersection(block.buffer(-4)), 100):
        sketch.buildings.append(flat(rng, shape, floors))
    draw_pitch(rng, sketch, block, Point(offset(center, along, -side * 0.22 * length, 0)), Polygon())
    scatter(rng, sketch, block, 35, 0.1, 0.8)


def fill_orchard(rng: np.random.Generator, sketch: Sketch, block: Polygon) -> None:
    """Rows of fruit trees, or allotments: beds of earth with a hut each."""
    sketch.ground.append((Surface.GRASS, block))
    center, along, length, width = long_axis(block)
    beds = rng.uniform() < 0.5
    step, row = (
        (float(rng.uniform(13, 17)), 9.0) if beds else (float(rng.uniform(5, 8)), float(rng.uniform(6, 9)))
    )
    for forward in np.arange(-length / 2 + 4, length / 2 - 3, step):
        for left in np.arange(-width / 2 + 4, width / 2 - 3, row):
            at = offset(center, along, float(forward), float(left))
            if not block.buffer(-4).contains(Point(at)) or rng.uniform() < 0.1:
                continue
            if not beds:
                sketch.trees.append(plant(rng, at, 0.4, 0.0))
                continue
            sketch.ground.append((Surface.DIRT, rectangle(at, along, step - 5, float(rng.uniform(3, 6.5)))))
            if rng.uniform() < 0.6:
                hut = rectangle(offset(at, along, step / 2 - 1, 0), along, 2.6, 2.4)
                sketch.buildings.append(Building(hut, 2.3, bearing_deg(along) % 180, Surface.ROOF_METAL, ()))


def draw_pitch(rng: np.random.Generator, sketch: Sketch, block: Polygon, at: Point, pond: Polygon) -> None:
    """A sports pitch with painted lines where there is room for one."""
    length, width = ((40.0, 22.0), (60.0, 36.0), (28.0, 15.0))[int(rng.integers(3))]
    _, along, _, _ = long_axis(block)
    center = (at.x, at.y)
    pitch = rectangle(center, along, length, width)
    if not block.buffer(-2).contains(pitch) or pitch.intersects(pond.buffer(3)):
        return
    surface = Surface(rng.choice([Surface.GRASS, Surface.DIRT, Surface.DRIVEWAY]))
    sketch.ground.append((surface, pitch.buffer(2, join_style="mitre")))
    sketch.treeless.append(pitch)
    halfway = LineString([offset(center, along, 0, -width / 2), offset(center, along, 0, width / 2)])
    for line in (pitch.exterior, halfway, Point(center).buffer(width / 6).exterior):
        sketch.markings.append((Surface.LANE_MARKING, line))
    for side in (-1, 1):
        box = rectangle(offset(center, along, side * 0.43 * length, 0), along, 0.14 * length, 0.5 * width)
        sketch.markings.append((Surface.LANE_MARKING, box.exterior))


def _pavilion(rng: np.random.Generator, sketch: Sketch, block: Polygon, pond: Polygon) -> None:
    center, along, length, width = long_axis(block)
    at = offset(center, along, rng.uniform(-0.4, 0.4) * length, rng.uniform(-0.35, 0.35) * width)
    size = float(rng.uniform(7, 16)), float(rng.uniform(6, 9))
    shape = rectangle(at, along, *size)
    if not block.buffer(-3).contains(shape) or shape.intersects(pond.buffer(4)):
        return
    wing = Wing(at, along, max(size), min(size), 3.0, 1.8, "hip")
    sketch.ground.append((Surface.PAVEMENT, shape.buffer(3)))
    sketch.buildings.append(Building(shape, 3.0, bearing_deg(along) % 180, Surface.ROOF_TILE, (wing,)))
    for x, y, _, _ in walk(LineString(shape.buffer(7).exterior.coords), 3.0, 9.0):
        sketch.trees.append(plant(rng, (x, y), 0.6, 0.0))
