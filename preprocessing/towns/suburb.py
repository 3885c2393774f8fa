"""A suburban block: detached houses along its edge, gardens behind them."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import shapely
from shapely.geometry import LineString, MultiPoint, Polygon
from shapely.geometry.polygon import orient

from preprocessing.towns.scene import Surface
from preprocessing.towns.shapes import Vector, bearing_deg, lines, offset, rectangle, walk
from preprocessing.towns.sketch import Building, Sketch, Slot, Wing, plant

YARD = (
    (0.5, Surface.PAVEMENT, (5.0, 3.5), 1.5),
    (0.25, Surface.DIRT, (6.0, 4.0), 7.0),
    (0.09, Surface.WATER, (8.0, 4.0), 6.5),
)


@dataclass(frozen=True)
class Manner:
    """How one block is built: neighbours resemble each other, blocks do not."""

    frontage_m: float
    gap_m: float
    setback_m: float
    storeys: float
    roof: str
    roof_mix: float
    edge: str
    trees_per_ha: float
    conifers: float


class Plot(NamedTuple):
    """A house's piece of street: the middle of its front, the way the street runs, the driveway's side."""

    kerb: Vector
    street: Vector
    front_m: float
    hand: float

    def at(self, along_m: float, inward_m: float) -> Vector:
        """The point so far along the street and into the block."""
        return offset(self.kerb, self.street, along_m, inward_m)


def manner(rng: np.random.Generator, leafy: float) -> Manner:
    """Draw a block's manner; `leafy` scales its trees."""
    return Manner(
        frontage_m=float(rng.uniform(8.5, 13.5) if rng.uniform() < 0.82 else rng.uniform(20, 34)),
        gap_m=float(rng.uniform(3.5, 12)),
        setback_m=float(rng.uniform(3, 9)),
        storeys=float(rng.uniform(1, 2.2)),
        roof=str(rng.choice(["gable", "gable", "hip", "hip", "flat"], p=[0.25, 0.25, 0.2, 0.2, 0.1])),
        roof_mix=float(rng.uniform(0, 0.5)),
        edge=str(rng.choice(["hedge", "fence", "open", "mixed"])),
        trees_per_ha=float(rng.uniform(8, 55)) * leafy,
        conifers=float(rng.choice([0.05, 0.15, 0.5])),
    )


def fill_suburb(rng: np.random.Generator, sketch: Sketch, block: Polygon, leafy: float) -> None:
    """Houses along the block's edge, then the trees of the gardens."""
    how = manner(rng, leafy)
    inner = block.buffer(-1.2)
    taken: list[Polygon] = []
    plots: list[Plot] = []
    ring = LineString(orient(block).exterior.coords)
    at = float(rng.uniform(0, 8))
    while at < ring.length - how.frontage_m / 2:
        x, y, ux, uy = walk(ring, at, 1e9)[0]
        plot = Plot(
            (x, y), (ux, uy), how.frontage_m * float(rng.uniform(0.85, 1.25)), float(rng.choice([-1, 1]))
        )
        house = draw_house(rng, how, plot)
        fits = inner.contains(house.outline) and not any(house.outline.distance(t) < 2.2 for t in taken)
        if fits and rng.uniform() < 0.95:
            sketch.buildings.append(house)
            taken.append(house.outline)
            plots.append(plot)
            at += plot.front_m + how.gap_m * float(rng.uniform(0.7, 1.5))
        else:
            at += 2.5
    for plot in plots:
        _garden(rng, sketch, how, block, plot, taken)
    if how.edge != "open" and plots:
        _borders(rng, sketch, how, block, plots, taken)
    scatter(rng, sketch, block, how.trees_per_ha, how.conifers, 0.65)


def scatter(
    rng: np.random.Generator, sketch: Sketch, area: Polygon, per_ha: float, conifers: float, size: float
) -> None:
    """Trees anywhere in an area; those that stand on something else are dropped later."""
    west, south, east, north = area.bounds
    count = rng.poisson(per_ha * (east - west) * (north - south) / 1e4)
    for x, y in rng.uniform((west, south), (east, north), (count, 2)):
        sketch.trees.append(plant(rng, (float(x), float(y)), size, conifers))


def draw_house(rng: np.random.Generator, how: Manner, plot: Plot) -> Building:
    """A detached house on its plot."""
    street, front_m = plot.street, plot.front_m
    deep = float(rng.uniform(7.5, 10.5))
    eave = 2.7 * max(1, round(how.storeys + rng.uniform(-0.4, 0.4))) + 0.4
    roof = str(rng.choice(["gable", "hip"])) if rng.uniform() < how.roof_mix else how.roof
    pitch = 0.0 if roof == "flat" else float(rng.uniform(0.45, 0.95))
    middle = plot.at(0, how.setback_m + float(rng.uniform(-0.8, 0.8)) + deep / 2)
    wings = [_wing(middle, street, front_m, deep, eave, pitch, roof)]
    wide, out = min(front_m, 14) * float(rng.uniform(0.35, 0.5)), float(rng.uniform(3, 5.5))
    back = float(rng.choice([-1, 1, 1]))
    if back < 0:
        out = min(out, how.setback_m - 1.5)
    if rng.uniform() < 0.55 and out > 1.2:
        side = float(rng.choice([-1, 0, 1])) * (front_m - wide) / 2
        center = offset(middle, street, side, back * (deep / 2 + out) / 2)
        wings.append(_wing(center, (-street[1], street[0]), deep / 2 + out, wide, eave, pitch, roof))
    shape = shapely.union_all([rectangle(w.center, w.along, w.length_m, w.width_m) for w in wings])
    surface = Surface.ROOF_FLAT if roof == "flat" else Surface.ROOF_TILE
    return Building(shape, eave, bearing_deg(street) % 180, surface, tuple(wings))


def _wing(
    center: Vector, along: Vector, length_m: float, width_m: float, eave_m: float, pitch: float, roof: str
) -> Wing:
    if width_m > length_m:
        along, length_m, width_m = (-along[1], along[0]), width_m, length_m
    return Wing(center, along, length_m, width_m, eave_m, pitch * width_m / 2, roof)


def _garden(
    rng: np.random.Generator, sketch: Sketch, how: Manner, block: Polygon, plot: Plot, taken: list[Polygon]
) -> None:
    """Driveway with its car, garage, front path, patio, vegetables or pool, shed."""
    inward = (-plot.street[1], plot.street[0])
    lane, deep = _drive(rng, how, plot)
    drive = rectangle(plot.at(lane, deep / 2 - 2), inward, deep + 4, 2.9)
    sketch.ground.append((Surface.DRIVEWAY, drive))
    if deep > 4.5:
        sketch.slots.append(Slot(*plot.at(lane, deep - 2.8), (-inward[0], -inward[1]), 0.45))
    door = plot.at(-plot.hand * min(plot.front_m, 14) * 0.2, how.setback_m / 2 - 0.5)
    sketch.ground.append((Surface.PATH, rectangle(door, inward, how.setback_m + 1, 1.2)))
    behind = how.setback_m + 10.5
    for chance, surface, (wide, tall), depth in YARD:
        spot = rectangle(
            plot.at(rng.uniform(-0.3, 0.3) * plot.front_m, behind + depth), plot.street, wide, tall
        )
        if rng.uniform() < chance and block.contains(spot) and not any(spot.intersects(t) for t in taken):
            sketch.ground.append((surface, spot))
    if rng.uniform() < 0.5:
        shed = plot.at(-plot.hand * plot.front_m * 0.45, behind + rng.uniform(4, 9))
        _shed(rng, sketch, block, shed, plot.street, taken)
    if how.gap_m >= 5 and rng.uniform() < 0.35:
        _shed(rng, sketch, block, plot.at(lane, deep + 2.9), inward, taken, (6.0, 3.2))


def _drive(rng: np.random.Generator, how: Manner, plot: Plot) -> tuple[float, float]:
    """How far along the street a driveway lies from the house's middle, and how deep it runs."""
    if how.gap_m < 5:
        return plot.hand * (plot.front_m / 2 - 1.4), how.setback_m
    return plot.hand * (plot.front_m / 2 + 1.9), how.setback_m + float(rng.uniform(2, 8))


def _shed(
    rng: np.random.Generator, sketch: Sketch, block: Polygon, center: Vector, along: Vector,
    taken: list[Polygon], size: tuple[float, float] | None = None,
) -> None:  # fmt: skip
    length, width = size or (float(rng.uniform(2.5, 4.5)), float(rng.uniform(2, 3)))
    shape = rectangle(center, along, length, width)
    if not block.buffer(-0.5).contains(shape) or any(shape.distance(t) < 0.2 for t in taken):
        return
    roof, surface = (("flat", Surface.ROOF_FLAT), ("gable", Surface.ROOF_METAL))[int(rng.integers(2))]
    wing = _wing(center, along, length, width, 2.3, 0.5 if roof == "gable" else 0.0, roof)
    sketch.buildings.append(Building(shape, 2.3, bearing_deg(along) % 180, surface, (wing,)))
    taken.append(shape)


def _borders(
    rng: np.random.Generator,
    sketch: Sketch,
    how: Manner,
    block: Polygon,
    plots: list[Plot],
    taken: list[Polygon],
) -> None:
    """Hedges and fences between the gardens (half way between the houses) and along the street."""
    middles = MultiPoint([plot.at(0, how.setback_m + 4) for plot in plots])
    gates = [rectangle(plot.at(plot.hand * plot.front_m / 2, 0), plot.street, 8.0, 9.0) for plot in plots]
    blocked = shapely.union_all([t.buffer(0.7) for t in taken] + gates)
    inside = shapely.voronoi_polygons(middles, only_edges=True).intersection(block.buffer(-0.6))
    front = block.buffer(-0.7).boundary
    for border, odds in ((inside.difference(blocked), 0.85), (front.difference(blocked), 0.5)):
        for part in lines(border, 2.0):
            edge = str(rng.choice(["hedge", "fence"])) if how.edge == "mixed" else how.edge
            high = float(rng.uniform(0.9, 2.0))
            if rng.uniform() > odds:
                continue
            if edge == "hedge":
                sketch.walls.append((Surface.HEDGE, part.buffer(0.45, cap_style="flat"), high))
            else:
                sketch.walls.append((Surface.FENCE, part, high))
