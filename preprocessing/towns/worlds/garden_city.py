"""Built-up worlds: a town's blocks and streets with lawns for verges, drives, wide gardens and poles."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import shapely
from shapely.geometry import LineString, Point, Polygon
from shapely.geometry.base import BaseGeometry

from preprocessing.towns.plan import Districts, draw_brook, fill_block
from preprocessing.towns.roads import KERB_M, Road, Streets, cut_streets, draw_streets
from preprocessing.towns.scene import Surface
from preprocessing.towns.shapes import beside, offset, polygons, rectangle, unit, walk
from preprocessing.towns.suburb import fill_suburb
from preprocessing.towns.worlds.biome import Biome, pick
from preprocessing.towns.worlds.world import Country, Post, Stain

Layers = list[tuple[Surface, BaseGeometry]]


@dataclass(frozen=True)
class StreetStyle:
    """How a town builds its streets. lawn_m: of grass between kerb and footway; 0 for pavement alone.

    footways: on how many sides of a street one may walk. kerbs: whether they show.
    """

    lawn_m: float
    footway_m: float
    footways: int
    kerbs: bool
    width: float
    poles: float


def draw_town(
    rng: np.random.Generator, sketch: Country, biome: Biome, side_m: float
) -> tuple[Streets, Layers]:
    """Fill `sketch`; return the streets, and their layers to paint over all other ground."""
    style = _street_style(rng, biome)
    town = shapely.box(0, 0, side_m, side_m)
    bearing = float(rng.uniform(0, 90))
    land = rectangle((side_m / 2, side_m / 2), unit(bearing), 1.7 * side_m, 1.6 * side_m)
    districts = _districts(rng, biome, side_m)
    scale = float(rng.uniform(0.85, 1.3))
    block_m = biome.block_m[0] * scale, biome.block_m[1] * scale
    streets = cut_streets(
        rng, land, town, lambda _: block_m, float(rng.choice([0.02, 0.08, 0.2, 0.3])),
        lambda rng, line, length: _street(rng, line, length, style),
    )  # fmt: skip
    leafy = float(rng.uniform(*biome.leafy))
    brook = draw_brook(rng, side_m)
    sketch.ground += [(Surface.SCRUB, brook.buffer(3.0)), (Surface.WATER, brook)]
    kept_free = streets.corridor.union(brook.buffer(4.0))
    for cell in streets.cells:
        kind = districts.kind_at(cell.centroid)
        for block in polygons(cell.difference(kept_free)):
            if kind == "garden" and block.area > 400:
                sketch.ground.append((Surface.GRASS, block))
                fill_suburb(rng, sketch, block, leafy)
            else:
                fill_block(rng, sketch, block, "suburb" if kind == "garden" else kind, leafy)
            sketch.stains.append(Stain(block, int(rng.normal(0, 8))))
    draw_streets(rng, sketch, streets)
    _put_poles(rng, sketch, streets, style)
    _wear(rng, sketch, streets)
    return streets, list(_paved(sketch, streets, style))


def _street_style(rng: np.random.Generator, biome: Biome) -> StreetStyle:
    green = rng.uniform() < (0.8 if "garden" in biome.districts and biome.poles < 0.6 else 0.3)
    return StreetStyle(
        lawn_m=float(rng.uniform(1.5, 6.0)) if green else 0.0,
        footway_m=float(rng.uniform(1.1, 2.2)),
        footways=int(rng.integers(0, 3)) if green else 2,
        kerbs=bool(rng.uniform() < 0.65) or not green,
        width=float(rng.uniform(0.9, 1.35)),
        poles=biome.poles,
    )


def _districts(rng: np.random.Generator, biome: Biome, side_m: float) -> Districts:
    count = int(rng.integers(3, 8))
    seeds = tuple(Point(p) for p in rng.uniform(-0.1 * side_m, 1.1 * side_m, (count, 2)))
    return Districts(seeds, tuple(pick(rng, biome.districts) for _ in seeds), 1.0)


def _street(rng: np.random.Generator, line: LineString, length_m: float, style: StreetStyle) -> Road:
    level = 0 if length_m > 460 else 1 if length_m > 230 else 2
    width_m = (float(rng.uniform(10, 14)), float(rng.uniform(7.0, 9.0)), float(rng.uniform(5.4, 7.6)))[level]
    beside_m = style.lawn_m + style.footway_m + 0.4 if style.lawn_m else float(rng.uniform(1.4, 3.2))
    return Road(line, width_m * (1 if level == 0 else style.width), beside_m, level)


def _put_poles(rng: np.random.Generator, sketch: Country, streets: Streets, style: StreetStyle) -> None:
    if style.lawn_m:
        sketch.lamps[:] = [lamp for lamp in sketch.lamps if rng.uniform() < 0.25]
    for road in streets.roads:
        if rng.uniform() > style.poles:
            continue
        side = float(rng.choice([-1, 1])) * (road.width_m / 2 + KERB_M + 0.8)
        for x, y, ux, uy in walk(road.line, 9.0, float(rng.uniform(28, 48)), 6.0):
            at = offset((x, y), (ux, uy), 0, side)
            if not streets.carriageway.contains(Point(at)):
                sketch.posts.append(Post(at, float(rng.uniform(7.5, 10)), Surface.POLE))


def _wear(rng: np.random.Generator, sketch: Country, streets: Streets) -> None:
    """Streets differ in age; patches and joints."""
    for road in streets.roads:
        sketch.stains.append(Stain(road.line.buffer(road.width_m / 2), int(rng.normal(0, 12))))
        for x, y, ux, uy in walk(road.line, float(rng.uniform(2, 20)), float(rng.uniform(9, 50))):
            long, left, wide, tone = rng.uniform((0.8, -0.4, 0.5, -36), (8, 0.4, 1.8, 24))
            start = offset((x, y), (ux, uy), 0, left * road.width_m)
            patch = LineString([start, offset(start, (ux, uy), long, 0)]).buffer(wide, cap_style="flat")
            sketch.stains.append(Stain(patch, int(tone)))


def _paved(sketch: Country, streets: Streets, style: StreetStyle) -> Iterator[tuple[Surface, BaseGeometry]]:
    """Lawns with footways and drives across them, or pavements; kerbs; asphalt."""
    drives = shapely.union_all([shape for surface, shape in sketch.ground if surface is Surface.DRIVEWAY])
    if style.lawn_m:
        yield Surface.GRASS, streets.corridor.difference(drives)
        yield Surface.CONCRETE, _footways(streets, style)
    else:
        yield Surface.PAVEMENT, streets.corridor.difference(drives)
    if style.kerbs:
        yield Surface.KERB, streets.carriageway.buffer(KERB_M)
    yield Surface.ASPHALT, streets.carriageway
    for at in streets.roundabouts:
        yield Surface.KERB, at.buffer(6.0)
        yield Surface.GRASS, at.buffer(5.4)


def _footways(streets: Streets, style: StreetStyle) -> BaseGeometry:
    """Narrow strips at the outer edge of the lawns."""
    strips: list[Polygon] = []
    for road in streets.roads:
        away_m = road.width_m / 2 + KERB_M + road.pavement_m - style.footway_m / 2 - 0.3
        sides = ((), (1,), (1, -1))[style.footways]
        strips += [
            beside(road.line, side * away_m).buffer(style.footway_m / 2, cap_style="flat") for side in sides
        ]
    return shapely.union_all(strips).intersection(streets.corridor) if strips else Polygon()
