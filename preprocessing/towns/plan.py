"""The plan of a town: where it lies, its streets, its districts and all that stands in them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import shapely
from jaxtyping import Float64
from shapely.geometry import MultiPoint, Point, Polygon, box
from shapely.geometry.base import BaseGeometry

from geoloc.errors import DataError
from preprocessing.towns.centre import fill_centre
from preprocessing.towns.industry import fill_industry
from preprocessing.towns.park import fill_orchard, fill_park, fill_school
from preprocessing.towns.roads import ISLAND_M, KERB_M, Streets, cut_streets, draw_streets
from preprocessing.towns.scene import Surface
from preprocessing.towns.shapes import Vector, bent_line, blob, offset, polygons, rectangle, unit
from preprocessing.towns.sketch import Building, Sketch, Slot, Tree
from preprocessing.towns.suburb import fill_suburb, scatter
from preprocessing.towns.worlds.world import World

BLOCK_M = {
    "suburb": (62.0, 110.0), "centre": (55.0, 90.0), "industry": (110.0, 190.0), "park": (130.0, 230.0),
}  # fmt: skip
TREELESS = (
    Surface.WATER, Surface.PARKING, Surface.DRIVEWAY, Surface.PATH, Surface.ASPHALT, Surface.PAVEMENT,
)  # fmt: skip
PLAN_STREAM = 1
GSD_M = 0.3


@dataclass(frozen=True)
class Plan:
    """A town in metres east and north of its south-western corner.

    seed: decides everything. side_m: the town is a square. gsd_m: metres per pixel of its rasters.
    crs, west_m, north_m: a UTM zone and the town's north-western corner in it.
    ground, markings, walls: what is painted or raised on the ground, in painting order.
    tracks: (n, 3) x, y and bearing in degrees of places where a camera may stand.
    world: what a world has beside, None for a plain town.
    """

    seed: int
    side_m: float
    gsd_m: float
    crs: str
    west_m: float
    north_m: float
    ground: tuple[tuple[Surface, BaseGeometry], ...]
    markings: tuple[tuple[Surface, BaseGeometry], ...]
    walls: tuple[tuple[Surface, BaseGeometry, float], ...]
    buildings: tuple[Building, ...]
    trees: tuple[Tree, ...]
    lamps: tuple[Vector, ...]
    slots: tuple[Slot, ...]
    tracks: Float64[np.ndarray, "n 3"]
    world: World | None = None

    @property
    def size_px(self) -> int:
        """The side of the town's rasters."""
        return round(self.side_m / self.gsd_m)


def draw_plan(seed: int, side_m: float = 640.0, gsd_m: float = GSD_M) -> Plan:
    """Draw the town of a seed. Raises DataError for a side or a resolution that no town can have."""
    side_m = whole_side_m(seed, side_m, gsd_m)
    rng = np.random.default_rng(np.random.SeedSequence([seed, PLAN_STREAM]))
    crs, west_m, south_m = draw_place(rng)
    town = box(0, 0, side_m, side_m)
    bearing = float(rng.uniform(0, 90))
    land = rectangle((side_m / 2, side_m / 2), unit(bearing), 1.7 * side_m, 1.6 * side_m)
    districts = _districts(rng, side_m)
    leafy = float(rng.uniform(0.5, 1.5))
    streets = cut_streets(rng, land, town, districts.block_m, float(rng.choice([0.03, 0.1, 0.2, 0.3])))
    sketch = Sketch()
    brook = draw_brook(rng, side_m)
    sketch.ground += [(Surface.DIRT, brook.buffer(1.0)), (Surface.WATER, brook)]
    kept_free = streets.corridor.union(brook.buffer(4.0))
    for cell in streets.cells:
        for block in polygons(cell.difference(kept_free)):
            fill_block(rng, sketch, block, districts.kind_at(cell.centroid), leafy)
    draw_streets(rng, sketch, streets)
    return Plan(
        seed, side_m, gsd_m, crs, west_m, south_m + side_m,
        (*sketch.ground, *_paved(sketch, streets)), tuple(sketch.markings), tuple(sketch.walls),
        tuple(sketch.buildings), tuple(rooted(sketch, streets, town)), tuple(sketch.lamps),
        tuple(sketch.slots), np.array(sketch.tracks).reshape(-1, 3),
    )  # fmt: skip


def whole_side_m(seed: int, side_m: float, gsd_m: float) -> float:
    """The side as a whole number of pixels. Raises DataError where there can be no such town."""
    if seed < 0 or not 160 <= side_m <= 2400 or not 0.1 <= gsd_m <= 1.0:
        raise DataError(
            f"A town of seed {seed}, {side_m} m a side at {gsd_m} m per pixel cannot be drawn; "
            "want a seed >= 0, 160 to 2400 m, and 0.1 to 1 m per pixel."
        )
    return round(side_m / gsd_m) * gsd_m


def _paved(sketch: Sketch, streets: Streets) -> Iterator[tuple[Surface, BaseGeometry]]:
    """The streets' own layers, over all others."""
    driveways = shapely.union_all([shape for surface, shape in sketch.ground if surface is Surface.DRIVEWAY])
    yield Surface.PAVEMENT, streets.corridor.difference(driveways)
    yield Surface.KERB, streets.carriageway.buffer(KERB_M)
    yield Surface.ASPHALT, streets.carriageway
    for at in streets.roundabouts:
        yield Surface.KERB, at.buffer(ISLAND_M)
        yield Surface.GRASS, at.buffer(ISLAND_M - 0.6)


def draw_place(rng: np.random.Generator) -> tuple[str, float, float]:
    """A UTM zone of the north and the town's south-western corner, near the zone's central meridian."""
    zone = int(rng.integers(1, 61))
    west = 500_000 + round(float(rng.uniform(-1000, 400)), 1)
    south = round(float(rng.uniform(4_210_000, 6_420_000)), 1)
    return f"EPSG:{32600 + zone}", west, south


@dataclass(frozen=True)
class Districts:
    """Voronoi cells of a kind each. scale: how large this town's blocks are beside others'."""

    seeds: tuple[Point, ...]
    kinds: tuple[str, ...]
    scale: float

    def kind_at(self, point: Point) -> str:
        """What kind of district a point lies in."""
        return self.kinds[int(np.argmin([point.distance(seed) for seed in self.seeds]))]

    def block_m(self, point: Point) -> tuple[float, float]:
        """The least and greatest length of blocks around a point."""
        low, high = BLOCK_M[self.kind_at(point)]
        return low * self.scale, high * self.scale


def _districts(rng: np.random.Generator, side_m: float) -> Districts:
    """A town has at least a suburb and one other kind."""
    count = int(rng.integers(4, 8))
    seeds = [Point(p) for p in rng.uniform(-0.1 * side_m, 1.1 * side_m, (count, 2))]
    names = ["suburb", "centre", "industry", "park"]
    kinds = ["suburb"] + [str(k) for k in rng.choice(names, count - 1, p=[0.42, 0.28, 0.16, 0.14])]
    if len(set(kinds)) == 1:
        kinds[-1] = "centre"
    return Districts(tuple(seeds), tuple(kinds), float(rng.uniform(0.9, 1.15)))


def draw_brook(rng: np.random.Generator, side_m: float) -> BaseGeometry:
    """A brook or a canal across one town in three."""
    if rng.uniform() > 0.35:
        return Polygon()
    along = unit(float(rng.uniform(0, 180)))
    middle = (side_m * float(rng.uniform(0.25, 0.75)), side_m * float(rng.uniform(0.25, 0.75)))
    ends = [offset(middle, along, side * side_m, 0) for side in (-1, 1)]
    return bent_line(rng, ends[0], ends[1], float(rng.choice([0.0, 0.08, 0.2]))).buffer(
        float(rng.uniform(2, 7))
    )


def fill_block(rng: np.random.Generator, sketch: Sketch, block: Polygon, kind: str, leafy: float) -> None:
    """Fill a block with what belongs in a district of that kind."""
    if block.area < 250:
        sketch.ground.append((Surface.PAVEMENT if rng.uniform() < 0.5 else Surface.GRASS, block))
    elif kind == "park" or rng.uniform() < 0.035:
        fill_park(rng, sketch, block)
    elif kind == "centre":
        fill_centre(rng, sketch, block)
    elif kind == "industry":
        fill_industry(rng, sketch, block)
    else:
        _fill_suburb(rng, sketch, block, leafy)


def _fill_suburb(rng: np.random.Generator, sketch: Sketch, block: Polygon, leafy: float) -> None:
    """Mostly houses; now and then a school, a shop with its lot, an orchard, allotments, waste ground."""
    west, south, east, north = block.bounds
    for _ in range(int(rng.integers(0, 3))):
        spot = blob(rng, (rng.uniform(west, east), rng.uniform(south, north)), rng.uniform(2, 7), 0.4)
        sketch.ground.append((Surface.DIRT, spot.intersection(block)))
    luck = rng.uniform()
    if luck > 0.15 or block.area < 2500:
        fill_suburb(rng, sketch, block, leafy)
    elif luck > 0.11:
        fill_industry(rng, sketch, block)
    elif luck > 0.07:
        fill_school(rng, sketch, block)
    elif luck > 0.02:
        fill_orchard(rng, sketch, block)
    else:
        sketch.ground.append((Surface.DIRT, block))
        scatter(rng, sketch, block, 60 * leafy, 0.2, 0.5)


def rooted(sketch: Sketch, streets: Streets, town: Polygon) -> list[Tree]:
    """The trees that stand on nothing else and not on each other's trunk."""
    solid = [b.outline.buffer(1.6) for b in sketch.buildings]
    paved = [shape for surface, shape in sketch.ground if surface in TREELESS]
    paint = sketch.treeless + [shape.buffer(1.0) for _, shape in sketch.markings]
    off_road = shapely.STRtree(solid + paved + paint + polygons(streets.corridor))
    off_house = shapely.STRtree(solid + polygons(streets.carriageway.buffer(KERB_M + 0.2)))
    kept: list[Tree] = []
    for trees, obstacles in ((sketch.trees, off_road), (sketch.street_trees, off_house)):
        if trees:
            points = shapely.points([(t.x, t.y) for t in trees])
            hit = set(obstacles.query(points, predicate="intersects")[0].tolist())
            kept += [t for i, t in enumerate(trees) if i not in hit and town.contains(points[i])]
    if len(kept) < 2:
        return kept
    near = shapely.STRtree(MultiPoint([(t.x, t.y) for t in kept]).geoms)
    first, second = near.query([Point(t.x, t.y) for t in kept], predicate="dwithin", distance=1.6)
    crowded = set(first[second < first].tolist())
    return [t for i, t in enumerate(kept) if i not in crowded]
