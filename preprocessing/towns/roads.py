"""The streets: cells cut from the land by bent lines, wider ones first, and what is painted on them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import shapely
from jaxtyping import Float64
from shapely.geometry import LineString, Point, Polygon
from shapely.geometry.base import BaseGeometry
from shapely.ops import split

from preprocessing.towns.scene import Surface
from preprocessing.towns.shapes import (
    bearing_deg,
    bent_line,
    lines,
    long_axis,
    offset,
    polygons,
    rectangle,
    walk,
)
from preprocessing.towns.sketch import Sketch, Slot, plant

KERB_M = 0.3
ISLAND_M = 6.0
RING_M = 13.0


@dataclass(frozen=True)
class Road:
    """A centre line and the widths of its carriageway and of each pavement (or verge).

    level: 0 the main roads. surface: what it is made of.
    """

    line: LineString
    width_m: float
    pavement_m: float
    level: int
    surface: Surface = Surface.ASPHALT


DrawRoad: TypeAlias = Callable[[np.random.Generator, LineString, float], Road]


@dataclass(frozen=True)
class Streets:
    """The roads, the land between them, and the carriageway with rounded corners."""

    roads: tuple[Road, ...]
    cells: tuple[Polygon, ...]
    carriageway: BaseGeometry
    corridor: BaseGeometry
    junctions: BaseGeometry
    roundabouts: tuple[Point, ...]


def cut_streets(
    rng: np.random.Generator,
    land: Polygon,
    town: Polygon,
    block_m: Callable[[Point], tuple[float, float]],
    sway: float,
    draw_road: DrawRoad | None = None,
) -> Streets:
    """Cut `land` into cells until each is as long as `block_m` (low, high) wants it at its middle.

    draw_road: the road along a cut through a cell of that length in metres; a town's street if None.
    """
    roads: list[Road] = []
    cells: list[Polygon] = []
    seen = town.buffer(40.0)

    def cut(cell: Polygon) -> None:
        if not cell.intersects(town):
            return
        low, high = block_m(cell.centroid)
        *_, length, _ = long_axis(cell)
        parts = [] if length < rng.uniform(low, high) * 1.45 else _halves(rng, cell, sway)
        if not parts:
            cells.append(cell)
            return
        line, halves = parts
        road = (draw_road or _street)(rng, line, length)
        roads.extend(replace(road, line=piece) for piece in lines(line.intersection(seen), 1.0))
        for half in halves:
            cut(half)

    cut(land)
    return _join(rng, roads, cells)


def _join(rng: np.random.Generator, roads: list[Road], cells: list[Polygon]) -> Streets:
    """Round the corners, find the junctions and make roundabouts of a few where wide roads meet."""
    ends = [Point(p) for r in roads for p in (r.line.coords[0], r.line.coords[-1])]
    meet = [[r for r in roads if r.line.distance(p) < 0.5] for p in ends]
    reach = [max(r.width_m for r in near) / 2 + 3.0 for near in meet]
    wide = [p for p, near in zip(ends, meet, strict=True) if sum(r.level < 2 for r in near) > 1]
    chosen = rng.permutation(len(wide))[: int(rng.integers(0, 5))]
    roundabouts = tuple(wide[i] for i in sorted(chosen.tolist()))
    rings = [p.buffer(RING_M) for p in roundabouts]
    walks = [p.buffer(RING_M + KERB_M + 2.0) for p in roundabouts]
    carriageway = shapely.union_all([r.line.buffer(r.width_m / 2) for r in roads] + rings)
    corridor = shapely.union_all(
        [r.line.buffer(r.width_m / 2 + KERB_M + r.pavement_m) for r in roads] + walks
    )
    junctions = [p.buffer(r) for p, r in zip(ends, reach, strict=True)] + [
        p.buffer(RING_M + 2) for p in roundabouts
    ]
    return Streets(
        tuple(roads), tuple(cells), carriageway.buffer(4.0).buffer(-4.0), corridor.buffer(3.0).buffer(-3.0),
        shapely.union_all(junctions), roundabouts,
    )  # fmt: skip


def _halves(
    rng: np.random.Generator, cell: Polygon, sway: float
) -> tuple[LineString, list[Polygon]] | list[Polygon]:
    center, along, length, width = long_axis(cell)
    for _ in range(4):
        middle = offset(center, along, rng.uniform(-0.14, 0.14) * length, 0)
        skew = rng.normal(0, 0.05) * width
        a = offset(middle, along, skew, 0.55 * width + 5)
        b = offset(middle, along, -skew, -0.55 * width - 5)
        line = bent_line(rng, a, b, sway)
        halves = polygons(split(cell, line))
        inside = lines(line.intersection(cell))
        if len(halves) == 2 and len(inside) == 1 and min(h.area for h in halves) > 0.2 * cell.area:
            return inside[0], halves
    return []


def _street(rng: np.random.Generator, line: LineString, cell_length_m: float) -> Road:
    if cell_length_m > 430:
        return Road(line, float(rng.uniform(11, 14)), float(rng.uniform(2.4, 3.4)), 0)
    if cell_length_m > 210:
        return Road(line, float(rng.uniform(7.5, 9.5)), float(rng.uniform(1.8, 2.6)), 1)
    return Road(line, float(rng.uniform(5.2, 7.2)), float(rng.uniform(1.2, 2.0)), 2)


def draw_streets(rng: np.random.Generator, sketch: Sketch, streets: Streets) -> None:
    """Markings, crossings, kerbside cars, lamps, street trees and camera tracks of every road."""
    for road in streets.roads:
        open_road = lines(road.line.difference(streets.junctions), 6.0)
        trees_every_m = float(rng.choice([0, 0, 9, 13, 18, 25]))
        conifers = float(rng.choice([0.0, 0.0, 0.0, 0.6]))
        parked = float(rng.uniform(0.05, 0.75))
        for part in open_road:
            _mark(sketch, road, part)
            _park_along(sketch, road, part, parked)
            _furnish(rng, sketch, road, part, trees_every_m, conifers)
            for way in (part, part.reverse()):
                _end(rng, sketch, road, way)
        drive(sketch, road, streets.roundabouts)
    for at in streets.roundabouts:
        sketch.street_trees.append(plant(rng, (at.x, at.y), 0.7, 0.3))


def _mark(sketch: Sketch, road: Road, part: LineString) -> None:
    if road.width_m < 6.2:
        return
    dash, gap = ((4.0, 4.0), (3.0, 6.0), (2.0, 4.0))[road.level]
    for x, y, ux, uy in walk(part, 1.5, dash + gap, dash):
        sketch.markings.append(
            (Surface.LANE_MARKING, LineString([(x, y), offset((x, y), (ux, uy), dash, 0)]))
        )
    if road.level == 0:
        for side in (-1, 1):
            edge = part.offset_curve(side * (road.width_m / 2 - 2.3))
            sketch.markings.append((Surface.LANE_MARKING, edge))


def _end(rng: np.random.Generator, sketch: Sketch, road: Road, part: LineString) -> None:
    """A zebra crossing or a stop line where a road meets a junction (its end)."""
    x, y, ux, uy = walk(part, part.length - 1.8, 1e9)[0]
    if rng.uniform() < (0.65, 0.4, 0.1)[road.level]:
        count = int(road.width_m / 1.2)
        for i in range(count):
            left = (i - (count - 1) / 2) * 1.2
            stripe = rectangle(offset((x, y), (ux, uy), 0, left), (ux, uy), 3.4, 0.6)
            sketch.markings.append((Surface.ZEBRA, stripe))
    elif road.level < 2:
        stop = [offset((x, y), (ux, uy), 1.0, -0.4), offset((x, y), (ux, uy), 1.0, 0.6 - road.width_m / 2)]
        sketch.markings.append((Surface.LANE_MARKING, LineString(stop)))


def _park_along(sketch: Sketch, road: Road, part: LineString, odds: float) -> None:
    if road.width_m < 6.4:
        return
    side_m = road.width_m / 2 - 1.05
    for x, y, ux, uy in walk(part, 8.0, 6.3, 8.0):
        right = offset((x, y), (ux, uy), 0, -side_m)
        sketch.slots.append(Slot(*right, (ux, uy), odds))
        if road.width_m > 7.4:
            left = offset((x, y), (ux, uy), 0, side_m)
            sketch.slots.append(Slot(*left, (-ux, -uy), odds * 0.8))


def _furnish(
    rng: np.random.Generator,
    sketch: Sketch,
    road: Road,
    part: LineString,
    trees_every_m: float,
    conifers: float,
) -> None:
    edge = road.width_m / 2 + KERB_M + 0.5
    lamps_every = 24.0 + 4 * road.level
    for i, (x, y, ux, uy) in enumerate(walk(part, 4.0, lamps_every)):
        side = edge if i % 2 or road.level == 2 else -edge
        sketch.lamps.append(offset((x, y), (ux, uy), 0, side))
    if not trees_every_m:
        return
    size = 0.55 + 0.12 * (2 - road.level)
    for side in (-1, 1):
        for x, y, ux, uy in walk(part, 7.0, trees_every_m, 3.0):
            if rng.uniform() < 0.8:
                at = offset((x, y), (ux, uy), rng.uniform(-1, 1), side * (edge + road.pavement_m * 0.6))
                sketch.street_trees.append(plant(rng, at, size, conifers))


def drive(sketch: Sketch, road: Road, roundabouts: Sequence[Point]) -> None:
    """Traffic slots and camera tracks, on the right-hand lane of either direction."""
    lane_m = road.width_m / 4 if road.width_m > 6.2 else 0.9
    lane_m = min(lane_m, 1.9) if road.level else 2.1
    odds = (0.09, 0.05, 0.02)[road.level]
    for backward in (False, True):
        line = road.line.reverse() if backward else road.line
        for x, y, ux, uy in _away(walk(line, 2.0, 9.0), roundabouts, ISLAND_M + 8):
            sketch.slots.append(Slot(*offset((x, y), (ux, uy), 0, -lane_m), (ux, uy), odds))
        for x, y, ux, uy in _away(walk(line, 1.0, 2.0), roundabouts, ISLAND_M + 3):
            sketch.tracks.append((*offset((x, y), (ux, uy), 0, -lane_m), bearing_deg((ux, uy))))


def _away(
    steps: Float64[np.ndarray, "n 4"], points: Sequence[Point], least_m: float
) -> Float64[np.ndarray, "m 4"]:
    """The steps of a walk that keep away from some points."""
    for point in points:
        steps = steps[np.hypot(steps[:, 0] - point.x, steps[:, 1] - point.y) > least_m]
    return steps
