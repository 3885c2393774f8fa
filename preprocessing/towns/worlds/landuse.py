"""What the land between country roads is for: fields, pasture, woods, desert, yards."""

from collections.abc import Callable

import numpy as np
from shapely.geometry import LineString, Point, Polygon
from shapely.ops import split

from preprocessing.towns.industry import fill_industry
from preprocessing.towns.park import fill_orchard
from preprocessing.towns.scene import Surface
from preprocessing.towns.shapes import bearing_deg, blob, lines, long_axis, offset, polygons, walk
from preprocessing.towns.sketch import Tree, plant
from preprocessing.towns.suburb import fill_suburb, scatter
from preprocessing.towns.worlds.biome import Biome, pick
from preprocessing.towns.worlds.world import Country, Rows, Stain

Use = Callable[[np.random.Generator, Country, Polygon, float], None]


def use_land(rng: np.random.Generator, sketch: Country, cell: Polygon, biome: Biome, leafy: float) -> None:
    """Divide a cell between uses, mostly with straight boundaries, some of them hedged."""
    for field in _parcels(rng, cell, float(rng.uniform(90, 260))):
        USES[pick(rng, biome.uses)](rng, sketch, field, leafy)
        sketch.stains.append(Stain(field, int(rng.normal(0, 9))))
        luck = rng.uniform()
        if luck < 0.18 and "saguaro" not in biome.trees:
            _hedgerow(rng, sketch, field, float(rng.uniform(5, 16)), float(rng.uniform(0.3, 0.9)))


def _parcels(rng: np.random.Generator, cell: Polygon, longest_m: float) -> list[Polygon]:
    center, along, length, width = long_axis(cell)
    if length < longest_m or cell.area < 3000:
        return [cell]
    middle = offset(center, along, float(rng.uniform(-0.2, 0.2)) * length, 0)
    cut = LineString([offset(middle, along, 0, side * (width + 5)) for side in (-1, 1)])
    return [part for half in polygons(split(cell, cut)) for part in _parcels(rng, half, longest_m)]


def _hedgerow(rng: np.random.Generator, sketch: Country, field: Polygon, every_m: float, size: float) -> None:
    """Trees and bushes along a side or two of a field."""
    ring = LineString(field.exterior.coords)
    start, share = float(rng.uniform()), float(rng.uniform(0.2, 0.6))
    for part in lines(_stretch(ring, start, share), 10):
        for x, y, ux, uy in walk(part, 2.0, every_m):
            at = offset((x, y), (ux, uy), *(float(v) for v in rng.normal(0, 1.0, 2)))
            sketch.trees.append(plant(rng, at, size, 0.1))


def _stretch(ring: LineString, start: float, share: float) -> LineString:
    steps = (start + np.linspace(0, share, 24)) % 1.0
    return LineString([ring.interpolate(float(s), normalized=True) for s in steps])


def _field(rng: np.random.Generator, sketch: Country, field: Polygon, _leafy: float) -> None:
    """A crop, stubble or bare earth, in rows along the field, within a grassy headland."""
    crops = [Surface.CROP, Surface.CROP, Surface.CEREAL, Surface.SOIL, Surface.SOIL, Surface.STUBBLE]
    surface = crops[int(rng.integers(len(crops)))]
    sketch.ground.append((Surface.GRASS if rng.uniform() < 0.6 else Surface.SCRUB, field))
    _, along, _, _ = long_axis(field)
    turned = 90.0 if rng.uniform() < 0.15 else 0.0
    step, bare = float(rng.uniform(0.9, 2.4)), float(rng.uniform(0.15, 0.5))
    if surface is Surface.CEREAL:
        step, bare = float(rng.uniform(10, 24)), 0.06
    for area in polygons(field.buffer(-float(rng.uniform(0.5, 5))), 200):
        sketch.ground.append((surface, area))
        sketch.treeless.append(area)
        sketch.rows.append(Rows(area, (bearing_deg(along) + turned) % 180, step, bare))
        tall = {Surface.CROP: (0.0, 1.0), Surface.CEREAL: (0.2, 0.9)}.get(surface)
        if tall and rng.uniform() < 0.5:
            high = float(rng.uniform(*tall)) if rng.uniform() < 0.8 else float(rng.uniform(1.4, 2.4))
            sketch.walls.append((surface, area, high))


def _pasture(rng: np.random.Generator, sketch: Country, field: Polygon, leafy: float) -> None:
    sketch.ground.append((Surface.GRASS, field))
    scatter(rng, sketch, field, float(rng.uniform(0, 12)) * leafy, 0.2, 1.0)
    _spots(rng, sketch, field, Surface.SOIL, 3)
    if rng.uniform() < 0.12:
        pond = blob(rng, Point(field.centroid).coords[0], float(rng.uniform(5, 22)), 0.3)
        sketch.ground.append((Surface.WATER, pond.intersection(field.buffer(-3))))


def _meadow(rng: np.random.Generator, sketch: Country, field: Polygon, leafy: float) -> None:
    """Tall dry grass that bushes and young trees take over."""
    sketch.ground.append((Surface.SCRUB, field))
    _spots(rng, sketch, field, Surface.GRASS, 5)
    _shrubs(rng, sketch, field, float(rng.uniform(5, 120)) * leafy, (0.4, 1.6))
    scatter(rng, sketch, field, float(rng.uniform(2, 40)) * leafy, 0.2, 0.6)


def _wood(rng: np.random.Generator, sketch: Country, field: Polygon, leafy: float) -> None:
    """Trees crown to crown over litter, bushes at the edge."""
    sketch.ground.append((Surface.LITTER, field))
    size, conifers = float(rng.uniform(0.75, 1.5)), float(rng.choice([0.0, 0.1, 0.5, 0.9]))
    inner = field.buffer(-float(rng.uniform(0, 6)))
    for area in polygons(inner, 50):
        scatter(
            rng, sketch, area, float(rng.uniform(160, 420)) * min(leafy, 1.2) / max(size, 0.9), conifers, size
        )
    _hedgerow(rng, sketch, field, float(rng.uniform(2.5, 6)), 0.3)


def _clearing(rng: np.random.Generator, sketch: Country, field: Polygon, leafy: float) -> None:
    _meadow(rng, sketch, field, 1.4 * leafy)
    for _ in range(int(rng.integers(1, 4))):
        west, south, east, north = field.bounds
        grove = blob(
            rng, (rng.uniform(west, east), rng.uniform(south, north)), float(rng.uniform(12, 40)), 0.4
        )
        for area in polygons(grove.intersection(field), 50):
            sketch.ground.append((Surface.LITTER, area))
            scatter(rng, sketch, area, 300, float(rng.choice([0.1, 0.8])), 1.0)


def _desert(rng: np.random.Generator, sketch: Country, field: Polygon, leafy: float) -> None:
    """Bare ground with dots of bush, rocks, dry washes."""
    sketch.ground.append((Surface.SAND, field))
    _spots(rng, sketch, field, Surface.ROCK, int(rng.integers(0, 8)))
    _spots(rng, sketch, field, Surface.SCRUB, int(rng.integers(0, 6)))
    _shrubs(rng, sketch, field, float(rng.uniform(250, 1100)) * leafy, (0.3, 1.3))
    scatter(rng, sketch, field, float(rng.choice([0, 2, 12, 40])) * leafy, 0.0, 0.8)


def _dune(rng: np.random.Generator, sketch: Country, field: Polygon, leafy: float) -> None:
    sketch.ground.append((Surface.SCRUB, field))
    _spots(rng, sketch, field, Surface.SAND, 14)
    _shrubs(rng, sketch, field, 60 * leafy, (0.4, 1.5))


def _yard(rng: np.random.Generator, sketch: Country, field: Polygon, leafy: float) -> None:
    sketch.ground.append((Surface.GRAVEL if rng.uniform() < 0.6 else Surface.SOIL, field))
    _shrubs(rng, sketch, field, 20 * leafy, (0.3, 1.0))


def _houses(rng: np.random.Generator, sketch: Country, field: Polygon, leafy: float) -> None:
    sketch.ground.append((Surface.GRASS, field))
    fill_suburb(rng, sketch, field, leafy)


def _orchard(rng: np.random.Generator, sketch: Country, field: Polygon, _leafy: float) -> None:
    fill_orchard(rng, sketch, field)


def _works(rng: np.random.Generator, sketch: Country, field: Polygon, _leafy: float) -> None:
    sketch.ground.append((Surface.GRASS, field))
    fill_industry(rng, sketch, field)


def _spots(rng: np.random.Generator, sketch: Country, field: Polygon, surface: Surface, most: int) -> None:
    """Rough patches of something else."""
    west, south, east, north = field.bounds
    for _ in range(int(rng.integers(0, most + 1))):
        spot = blob(rng, (rng.uniform(west, east), rng.uniform(south, north)), float(rng.uniform(2, 16)), 0.5)
        sketch.ground.append((surface, spot.intersection(field)))


def _shrubs(
    rng: np.random.Generator, sketch: Country, field: Polygon, per_ha: float, radius_m: tuple[float, float]
) -> None:
    west, south, east, north = field.bounds
    count = rng.poisson(per_ha * (east - west) * (north - south) / 1e4)
    for x, y, r, luck in rng.uniform(
        (west, south, *((radius_m[0], 0))), (east, north, radius_m[1], 1), (count, 4)
    ):
        sketch.trees.append(Tree(x, y, float(0.3 + 1.15 * r), 0.05, float(r), "shrub", float(luck)))


USES: dict[str, Use] = {
    "field": _field, "pasture": _pasture, "meadow": _meadow, "wood": _wood, "clearing": _clearing,
    "desert": _desert, "dune": _dune, "yard": _yard, "houses": _houses, "orchard": _orchard,
    "industry": _works,
}  # fmt: skip
