"""Open country: long roads, and what lies between and beside them."""

from dataclasses import replace

import numpy as np
import shapely
from shapely.geometry import LineString, Polygon
from shapely.geometry.base import BaseGeometry

from preprocessing.towns.roads import Road, Streets, cut_streets, drive
from preprocessing.towns.scene import Surface
from preprocessing.towns.shapes import lines, polygons, rectangle, unit
from preprocessing.towns.worlds.biome import Biome
from preprocessing.towns.worlds.homestead import settle
from preprocessing.towns.worlds.landuse import use_land
from preprocessing.towns.worlds.motorway import draw_motorway
from preprocessing.towns.worlds.roadside import RoadStyle, draw_road_style, dress_road
from preprocessing.towns.worlds.world import Country

Layers = list[tuple[Surface, BaseGeometry]]


def draw_country(
    rng: np.random.Generator, sketch: Country, biome: Biome, name: str, side_m: float
) -> tuple[Streets, Layers]:
    """Fill `sketch`; return the roads, and the layers of the roads to paint over all other ground."""
    town = shapely.box(0, 0, side_m, side_m)
    style = draw_road_style(rng, biome)
    bearing = float(rng.uniform(0, 90))
    land = rectangle((side_m / 2, side_m / 2), unit(bearing), 1.7 * side_m, 1.6 * side_m)
    sway = float(rng.choice([0.0, 0.03, 0.08, 0.16]))
    scale = float(rng.uniform(0.85, 1.15))
    block_m = min(biome.block_m[0] * scale, 0.45 * side_m), min(biome.block_m[1] * scale, 0.75 * side_m)
    streets = cut_streets(
        rng, land, town, lambda _: block_m, sway,
        lambda rng, line, length: _country_road(rng, line, length, style, biome),
    )  # fmt: skip
    streets = replace(streets, roundabouts=())
    above: Layers = []
    if name == "motorway":
        streets, above = draw_motorway(rng, sketch, streets, side_m, bearing)
    _fill(rng, sketch, biome, name, streets, town)
    for road in streets.roads:
        dress_road(rng, sketch, road, streets, style)
        drive(sketch, road, ())
    return streets, [*_road_layers(rng, streets, style), *above]


def _country_road(
    rng: np.random.Generator, line: LineString, length_m: float, style: RoadStyle, biome: Biome
) -> Road:
    """Paved roads where cells are long; between them some tracks."""
    if length_m > 420 or rng.uniform() < biome.paved:
        level = 0 if length_m > 420 else 1
        width_m = style.width_m if level == 0 else style.width_m * float(rng.uniform(0.72, 1.0))
        return Road(line, width_m, style.verge_m * float(rng.uniform(0.8, 1.3)), level)
    surface = Surface.GRAVEL if rng.uniform() < 0.65 else Surface.SOIL
    return Road(line, float(rng.uniform(3.0, 5.6)), float(rng.uniform(1.0, 3.0)), 2, surface)


def _fill(
    rng: np.random.Generator, sketch: Country, biome: Biome, name: str, streets: Streets, town: Polygon
) -> None:
    leafy = float(rng.uniform(*biome.leafy))
    sea = _sea(rng, town) if name == "coast" else Polygon()
    sketch.ground += [(Surface.SAND, sea.buffer(float(rng.uniform(4, 30)))), (Surface.WATER, sea)]
    kept_free = streets.corridor.union(sea.buffer(float(rng.uniform(5, 25))))
    lots = settle(rng, sketch, biome, streets, kept_free)
    kept_free = shapely.union_all([kept_free, *lots])
    for cell in streets.cells:
        for field in polygons(cell.difference(kept_free), 60.0):
            use_land(rng, sketch, field, biome, leafy)


def _sea(rng: np.random.Generator, town: Polygon) -> BaseGeometry:
    """Everything beyond a shore line that winds through the outer part of the land."""
    side_m = town.bounds[2]
    away = unit(float(rng.uniform(0, 360)))
    far = float(rng.uniform(0.12, 0.36)) * side_m
    middle = side_m / 2 + away[0] * (far + side_m), side_m / 2 + away[1] * (far + side_m)
    water = rectangle(middle, away, 2 * side_m, 4 * side_m)
    bays = [
        shapely.Point(rng.uniform(0, side_m, 2)).buffer(float(rng.uniform(0.05, 0.12)) * side_m)
        for _ in range(int(rng.integers(0, 5)))
    ]
    near = [bay for bay in bays if bay.intersects(water)]
    return shapely.union_all([water, *near]).buffer(12).buffer(-24).buffer(12)


def _road_layers(rng: np.random.Generator, streets: Streets, style: RoadStyle) -> Layers:
    """Verges, shoulders, tracks, asphalt, from the bottom up."""
    paved = [r for r in streets.roads if r.surface is Surface.ASPHALT]
    tracks = [r for r in streets.roads if r.surface is not Surface.ASPHALT]
    asphalt = _joined([r.line.buffer(r.width_m / 2) for r in paved])
    layers: Layers = [(style.verge, streets.corridor)]
    if style.shoulder_m:
        layers.append((style.shoulder, asphalt.buffer(style.shoulder_m)))
    layers += [(r.surface, r.line.buffer(r.width_m / 2)) for r in tracks]
    for road in tracks:
        if road.width_m < 4.2 and rng.uniform() < 0.7:
            middle = [part.buffer(road.width_m * 0.13) for part in lines(road.line.difference(asphalt), 5)]
            layers += [(style.verge, strip) for strip in middle]
    return [*layers, (Surface.ASPHALT, asphalt)]


def _joined(strips: list[Polygon]) -> BaseGeometry:
    """One carriageway with rounded corners."""
    return shapely.union_all(strips).buffer(5.0).buffer(-5.0) if strips else Polygon()
