"""What lies along a country road: paint, wheel tracks, ditches, fences, poles, guard rails."""

from dataclasses import dataclass

import numpy as np
from shapely.geometry import LineString

from preprocessing.towns.roads import Road, Streets
from preprocessing.towns.scene import Surface
from preprocessing.towns.shapes import beside, lines, offset, walk
from preprocessing.towns.sketch import plant
from preprocessing.towns.worlds.biome import Biome
from preprocessing.towns.worlds.world import Country, Post, Stain


@dataclass(frozen=True)
class RoadStyle:
    """How the paved roads of one country are built.

    width_m: of the main roads. verge_m: of each verge. centre: "solid", "double", "dashed" or "none".
    rails: the share of stretches with a guard rail; poles: of roads with poles.
    """

    width_m: float
    verge_m: float
    verge: Surface
    shoulder: Surface
    shoulder_m: float
    centre: str
    paint: Surface
    edges: bool
    ditch_m: float
    poles: float
    fences: float
    rails: float


def draw_road_style(rng: np.random.Generator, biome: Biome) -> RoadStyle:
    """One way to build roads."""
    dry = "saguaro" in biome.trees
    verges = [Surface.GRASS, Surface.GRASS, Surface.SCRUB] if not dry else [Surface.SAND, Surface.SCRUB]
    shoulders = [Surface.GRAVEL, Surface.GRAVEL, Surface.SOIL, Surface.ASPHALT]
    return RoadStyle(
        width_m=float(rng.uniform(5.4, 8.2)),
        verge_m=float(rng.uniform(2.5, 8.0)),
        verge=verges[int(rng.integers(len(verges)))],
        shoulder=shoulders[int(rng.integers(len(shoulders)))],
        shoulder_m=float(rng.uniform(0.3, 2.4)) if rng.uniform() < 0.75 else 0.0,
        centre=str(rng.choice(["solid", "double", "dashed", "none"], p=[0.15, 0.35, 0.35, 0.15])),
        paint=Surface.YELLOW_MARKING if rng.uniform() < 0.6 else Surface.LANE_MARKING,
        edges=bool(rng.uniform() < 0.6),
        ditch_m=float(rng.uniform(0.25, 0.8)) if rng.uniform() < 0.6 else 0.0,
        poles=biome.poles,
        fences=float(rng.uniform(0, 0.4)),
        rails=biome.rails,
    )


def dress_road(
    rng: np.random.Generator, sketch: Country, road: Road, streets: Streets, style: RoadStyle
) -> None:
    """Everything along one road, junctions left free."""
    paved = road.surface is Surface.ASPHALT
    edge_m = (style.shoulder_m if paved else 0.0) + road.width_m / 2
    hem = edge_m + max(1.2, road.pavement_m - 0.6)
    fenced, poled = rng.uniform(size=2) < (style.fences, style.poles * (1.0 if paved else 0.4))
    rows = float(rng.choice([0, 0, 0, 0, 9, 14, 22]))
    for part in lines(road.line.difference(streets.junctions), 8.0):
        if paved:
            _mark(sketch, road, part, style)
            _wear(rng, sketch, road, part)
        if style.ditch_m and road.pavement_m > 3:
            _ditch(rng, sketch, part, edge_m + 1.2, style.ditch_m)
        if fenced:
            _fence(rng, sketch, part, hem)
        if poled:
            _poles(rng, sketch, part, min(hem, edge_m + 2.5))
        if paved and rng.uniform() < style.rails * 0.6:
            side = float(rng.choice([-1, 1]))
            rail = beside(part, side * (edge_m + 0.5)).buffer(0.17, cap_style="flat")
            sketch.walls.append((Surface.GUARD_RAIL, rail, 0.78))
        if rows:
            for side in (-1, 1):
                for x, y, ux, uy in walk(part, 5.0, rows, 5.0):
                    if rng.uniform() < 0.7:
                        at = offset((x, y), (ux, uy), float(rng.uniform(-2, 2)), side * (hem + 1))
                        sketch.street_trees.append(plant(rng, at, 0.8, 0.1))


def _mark(sketch: Country, road: Road, part: LineString, style: RoadStyle) -> None:
    """Centre and edge lines. A line is a third of a metre wide, as the ground's pixels are."""
    if road.level > 0 and road.width_m < 5.2:
        return
    if style.centre == "dashed":
        for x, y, ux, uy in walk(part, 1.5, 12.0, 4.0):
            dash = LineString([(x, y), offset((x, y), (ux, uy), 3.5, 0)])
            sketch.markings.append((style.paint, dash))
    elif style.centre != "none":
        gaps = (-0.28, 0.28) if style.centre == "double" else (0.0,)
        sketch.markings += [(style.paint, beside(part, gap) if gap else part) for gap in gaps]
    if style.edges:
        edge = road.width_m / 2 - 0.35
        sketch.markings += [(Surface.LANE_MARKING, beside(part, side * edge)) for side in (-1, 1)]


def _wear(rng: np.random.Generator, sketch: Country, road: Road, part: LineString) -> None:
    """Wheel paths, patches of repair, sealed cracks."""
    tone = int(rng.integers(-22, 23))
    for lane in (-1, 1):
        for wheel in (-0.85, 0.85):
            path = beside(part, lane * road.width_m / 4 + wheel).buffer(0.35, cap_style="flat")
            sketch.stains.append(Stain(path, tone))
    for x, y, ux, uy in walk(part, float(rng.uniform(3, 30)), float(rng.uniform(15, 70))):
        luck = rng.uniform(size=4)
        long = 1.0 + 9 * float(luck[0])
        left = (float(luck[1]) - 0.5) * road.width_m * 0.7
        ends = [offset((x, y), (ux, uy), 0, left), offset((x, y), (ux, uy), long, left)]
        patch = LineString(ends).buffer(0.6 + float(luck[2]), cap_style="flat")
        sketch.stains.append(Stain(patch, int(-38 + 60 * luck[3])))
    for x, y, ux, uy in walk(part, 2.0, float(rng.uniform(4, 40))):
        skew = float(rng.normal(0, 0.4))
        ends = [offset((x, y), (ux, uy), side * skew, side * road.width_m / 2) for side in (-1, 1)]
        sketch.stains.append(Stain(LineString(ends).buffer(0.12), -30))


def _ditch(rng: np.random.Generator, sketch: Country, part: LineString, away_m: float, deep_m: float) -> None:
    wide = float(rng.uniform(0.7, 1.6))
    surface = Surface.SCRUB if rng.uniform() < 0.7 else Surface.SOIL
    for side in (-1, 1):
        if rng.uniform() < 0.85:
            line = beside(part, side * (away_m + wide))
            sketch.walls.append((surface, line.buffer(wide), -deep_m / 2))
            sketch.walls.append((surface, line.buffer(wide / 2), -deep_m))


def _fence(rng: np.random.Generator, sketch: Country, part: LineString, away_m: float) -> None:
    """Wire on posts, of which only the posts can be seen, or now and then planks."""
    planks = rng.uniform() < 0.15
    for side in (-1, 1):
        line = beside(part, side * away_m)
        if rng.uniform() < 0.25:
            continue
        if planks:
            sketch.walls.append((Surface.FENCE, line.buffer(0.16), 1.25))
        for x, y, _, _ in walk(line, 1.0, float(rng.uniform(3, 6))):
            sketch.posts.append(Post((float(x), float(y)), 1.25, Surface.FENCE))


def _poles(rng: np.random.Generator, sketch: Country, part: LineString, away_m: float) -> None:
    side = float(rng.choice([-1, 1]))
    high = float(rng.uniform(7.5, 11))
    surface = Surface.POLE if rng.uniform() < 0.8 else Surface.LAMP_POST
    for x, y, ux, uy in walk(part, float(rng.uniform(3, 25)), float(rng.uniform(32, 60))):
        sketch.posts.append(Post(offset((x, y), (ux, uy), 0, side * away_m), high, surface))
