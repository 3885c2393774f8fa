"""A motorway through open country: two carriageways, a median, guard rails, lamps."""

from dataclasses import replace

import numpy as np
import shapely
from shapely.geometry import LineString
from shapely.geometry.base import BaseGeometry

from preprocessing.towns.roads import Road, Streets
from preprocessing.towns.scene import Surface
from preprocessing.towns.shapes import bearing_deg, bent_line, beside, lines, offset, unit, walk
from preprocessing.towns.sketch import Slot
from preprocessing.towns.worlds.world import Country, Post, Stain


def draw_motorway(
    rng: np.random.Generator, sketch: Country, streets: Streets, side_m: float, bearing: float
) -> tuple[Streets, list[tuple[Surface, BaseGeometry]]]:
    """Lay it across the middle; other roads end at its fence. Returns the roads left, and its layers."""
    along = unit(bearing + float(rng.choice([0, 90])) + float(rng.normal(0, 6)))
    middle = side_m * float(rng.uniform(0.35, 0.65)), side_m * float(rng.uniform(0.35, 0.65))
    ends = [offset(middle, along, reach * side_m, 0) for reach in (-1.2, 1.2)]
    line = bent_line(rng, ends[0], ends[1], float(rng.choice([0.0, 0.005, 0.012])))
    lanes = int(rng.integers(2, 4))
    median_m, half_m = float(rng.choice([2.5, 6.0, 14.0, 22.0])), lanes * 3.7 + 3.0
    axis_m = median_m / 2 + half_m / 2
    fence_m = median_m / 2 + half_m + float(rng.uniform(4, 14))
    carriages = [beside(line, side * axis_m) for side in (1, -1)]
    _equip(rng, sketch, line, carriages[0], carriages[1].reverse(), lanes, median_m)
    corridor = line.buffer(fence_m)
    verge = Surface.GRASS if rng.uniform() < 0.7 else Surface.SCRUB
    between = Surface(rng.choice([Surface.GRASS, Surface.GRAVEL, Surface.CONCRETE, Surface.SCRUB]))
    layers = [
        (verge, corridor),
        (Surface.GRAVEL, shapely.union_all([c.buffer(half_m / 2 + 1.2) for c in carriages])),
        (between, line.buffer(median_m / 2)),
        (Surface.ASPHALT, shapely.union_all([c.buffer(half_m / 2) for c in carriages])),
    ]
    roads = tuple(
        replace(r, line=part) for r in streets.roads for part in lines(r.line.difference(corridor), 5)
    )
    return _with(streets, roads, corridor, [c.buffer(half_m / 2) for c in carriages]), layers


def _with(
    streets: Streets, roads: tuple[Road, ...], corridor: BaseGeometry, carriages: list[BaseGeometry]
) -> Streets:
    return replace(
        streets, roads=roads, corridor=streets.corridor.union(corridor),
        carriageway=shapely.union_all([streets.carriageway.difference(corridor), *carriages]),
    )  # fmt: skip


def _equip(
    rng: np.random.Generator, sketch: Country, line: LineString, left: LineString, right: LineString,
    lanes: int, median_m: float,
) -> None:  # fmt: skip
    """Lines, wheel paths, traffic, camera tracks, rails along the median, lamps now and then."""
    edge = lanes * 3.7 / 2
    for carriage in (left, right):
        for lane in range(1, lanes):
            divider = beside(carriage, edge - lane * 3.7)
            for x, y, ux, uy in walk(divider, 2.0, 12.0, 4.0):
                dash = LineString([(x, y), offset((x, y), (ux, uy), 4, 0)])
                sketch.markings.append((Surface.LANE_MARKING, dash))
        inner = Surface.YELLOW_MARKING if rng.uniform() < 0.5 else Surface.LANE_MARKING
        sketch.markings += [
            (inner, beside(carriage, edge)), (Surface.LANE_MARKING, beside(carriage, -edge)),
        ]  # fmt: skip
        tone = int(rng.integers(-24, 20))
        for lane in range(lanes):
            centre = edge - (lane + 0.5) * 3.7
            for wheel in (-0.85, 0.85):
                path = beside(carriage, centre + wheel).buffer(0.4, cap_style="flat")
                sketch.stains.append(Stain(path, tone))
            for x, y, ux, uy in walk(carriage, 3.0, 14.0):
                sketch.slots.append(Slot(*offset((x, y), (ux, uy), 0, centre), (ux, uy), 0.06))
            for x, y, ux, uy in walk(carriage, 1.0, 3.0):
                sketch.tracks.append((*offset((x, y), (ux, uy), 0, centre), bearing_deg((ux, uy))))
    if median_m < 16 and rng.uniform() < 0.8:
        sketch.walls.append((Surface.GUARD_RAIL, line.buffer(0.2), float(rng.choice([0.8, 1.0]))))
    if rng.uniform() < 0.4:
        for x, y, _, _ in walk(line, 5.0, 45.0):
            sketch.posts.append(Post((float(x), float(y)), 10.0, Surface.LAMP_POST))
