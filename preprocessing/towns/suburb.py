"""A suburban block: detached houses along its edge, gardens behind them."""

from dataclasses import dataclass

import numpy as np
from shapely.geometry import LineString, Polygon
from shapely.geometry.polygon import orient

from preprocessing.towns.scene import Surface
from preprocessing.towns.shapes import Vector, bearing_deg, lines, offset, rectangle, walk
from preprocessing.towns.sketch import Building, Sketch, Slot, Wing, plant


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


def manner(rng: np.random.Generator, leafy: float) -> Manner:
    """Draw a block's manner; `leafy` scales its trees."""
    return Manner(
        frontage_m=float(rng.uniform(8.5, 13.5)),
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
    ring = LineString(orient(block).exterior.coords)
    at = float(rng.uniform(0, 8))
    while at < ring.length - how.frontage_m / 2:
        x, y, ux, uy = walk(ring, at, 1e9)[0]
        front = how.frontage_m * float(rng.uniform(0.85, 1.25))
        house = _house(rng, how, (x, y), (ux, uy), front)
        fits = inner.contains(house.outline) and not any(house.outline.distance(t) < 2.2 for t in taken)
        if fits and rng.uniform() < 0.95:
            sketch.buildings.append(house)
            taken.append(house.outline)
            _garden(rng, sketch, how, block, (x, y), (ux, uy), front, house, taken)
            at += front + how.gap_m * float(rng.uniform(0.7, 1.5))
        else:
            at += 2.5
    scatter(rng, sketch, block, how.trees_per_ha, how.conifers, 0.65)


def scatter(
    rng: np.random.Generator, sketch: Sketch, area: Polygon, per_ha: float, conifers: float, size: float
) -> None:
    """Trees anywhere in an area; those that stand on something else are dropped later."""
    west, south, east, north = area.bounds
    count = rng.poisson(per_ha * (east - west) * (north - south) / 1e4)
    for x, y in rng.uniform((west, south), (east, north), (count, 2)):
        sketch.trees.append(plant(rng, (float(x), float(y)), size, conifers))


def _house(rng: np.random.Generator, how: Manner, kerb: Vector, street: Vector, front_m: float) -> Building:
    deep = float(rng.uniform(7.5, 10.5))
    eave = 2.7 * max(1, round(how.storeys + rng.uniform(-0.4, 0.4))) + 0.4
    roof = str(rng.choice(["gable", "hip"])) if rng.uniform() < how.roof_mix else how.roof
    pitch = 0.0 if roof == "flat" else float(rng.uniform(0.45, 0.95))
    middle = offset(kerb, street, 0, how.setback_m + float(rng.uniform(-0.8, 0.8)) + deep / 2)
    inward = (-street[1], street[0])
    wings = [_wing(middle, street, front_m, deep, eave, pitch, roof)]
    if rng.uniform() < 0.55:
        wide, out = front_m * float(rng.uniform(0.35, 0.5)), float(rng.uniform(3, 5.5))
        side = float(rng.choice([-1, 0, 1])) * (front_m - wide) / 2
        back = float(rng.choice([-1, 1, 1]))
        if back < 0:
            out = min(out, how.setback_m - 1.5)
        if out > 1.2:
            reach = deep / 2 + out
            wings.append(
                _wing(offset(middle, street, side, back * reach / 2), inward, reach, wide, eave, pitch, roof)
            )
    outline = wings[0]
    shape = rectangle(outline.center, outline.along, outline.length_m, outline.width_m)
    for wing in wings[1:]:
        shape = shape.union(rectangle(wing.center, wing.along, wing.length_m, wing.width_m))
    surface = Surface.ROOF_FLAT if roof == "flat" else Surface.ROOF_TILE
    return Building(shape, eave, bearing_deg(street) % 180, surface, tuple(wings))


def _wing(
    center: Vector, along: Vector, length_m: float, width_m: float, eave_m: float, pitch: float, roof: str
) -> Wing:
    if width_m > length_m:
        along, length_m, width_m = (-along[1], along[0]), width_m, length_m
    return Wing(center, along, length_m, width_m, eave_m, pitch * width_m / 2, roof)


def _garden(
    rng: np.random.Generator, sketch: Sketch, how: Manner, block: Polygon,
    kerb: Vector, street: Vector, front_m: float, house: Building, taken: list[Polygon],
) -> None:  # fmt: skip
    """Driveway with its car, garage, front path, patio, shed, pool, and what parts it from its neighbour."""
    hand = float(rng.choice([-1, 1]))
    lane = hand * (front_m / 2 - 1.4) if how.gap_m < 5 else hand * (front_m / 2 + 1.9)
    deep = how.setback_m if how.gap_m < 5 else how.setback_m + float(rng.uniform(2, 8))
    drive = rectangle(offset(kerb, street, lane, deep / 2 - 2), (-street[1], street[0]), deep + 4, 2.9)
    sketch.ground.append((Surface.DRIVEWAY, drive))
    if deep > 4.5:
        car = offset(kerb, street, lane, deep - 2.8)
        sketch.slots.append(Slot(*car, (street[1], -street[0]), 0.45))
    path = rectangle(
        offset(kerb, street, -hand * front_m * 0.2, how.setback_m / 2 - 0.5), (-street[1], street[0]), how.setback_m + 1, 1.2
    )
    sketch.ground.append((Surface.PATH, path))
    behind = how.setback_m + 10.5
    extras = (
        (0.5, Surface.PAVEMENT, (5.0, 3.5), behind + 1.5), (0.25, Surface.DIRT, (6.0, 4.0), behind + 7),
        (0.09, Surface.WATER, (8.0, 4.0), behind + 6.5),
    )  # fmt: skip
    for chance, surface, (wide, tall), depth in extras:
        spot = rectangle(offset(kerb, street, rng.uniform(-0.3, 0.3) * front_m, depth), street, wide, tall)
        if rng.uniform() < chance and block.contains(spot) and not any(spot.intersects(t) for t in taken):
            sketch.ground.append((surface, spot))
    if rng.uniform() < 0.5:
        _shed(rng, sketch, block, offset(kerb, street, -hand * front_m * 0.45, behind + rng.uniform(4, 9)), street, taken)
    if how.gap_m >= 5 and rng.uniform() < 0.35:
        garage = offset(kerb, street, lane, deep + 2.9)
        _shed(rng, sketch, block, garage, (-street[1], street[0]), taken, (6.0, 3.2))
    _borders(rng, sketch, how, block, kerb, street, front_m, taken, drive)


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
    rng: np.random.Generator, sketch: Sketch, how: Manner, block: Polygon,
    kerb: Vector, street: Vector, front_m: float, taken: list[Polygon], drive: Polygon,
) -> None:  # fmt: skip
    """A fence or hedge down one side, at the back, and sometimes along the street."""
    edge = str(rng.choice(["hedge", "fence", "open"])) if how.edge == "mixed" else how.edge
    if edge == "open":
        return
    half, deep = (front_m + how.gap_m) / 2, how.setback_m + float(rng.uniform(17, 24))
    path = [offset(kerb, street, half, 0.8), offset(kerb, street, half, deep), offset(kerb, street, -half, deep)]
    if rng.uniform() < 0.6:
        path.insert(0, offset(kerb, street, -half, 0.8))
    border = LineString(path).intersection(block.buffer(-0.4)).difference(drive.buffer(0.5))
    for house in taken:
        border = border.difference(house.buffer(0.6))
    if edge == "hedge":
        for part in lines(border, 2.0):
            sketch.walls.append((Surface.HEDGE, part.buffer(0.45, cap_style="flat"), float(rng.uniform(1.1, 2.0))))
    else:
        for part in lines(border, 2.0):
            sketch.walls.append((Surface.FENCE, part, float(rng.uniform(0.9, 1.7))))
