"""Parking lots."""

import numpy as np
from shapely.geometry import LineString, Polygon

from preprocessing.towns.scene import Surface
from preprocessing.towns.shapes import Vector, long_axis, offset, rectangle
from preprocessing.towns.sketch import Sketch, Slot


def parking(rng: np.random.Generator, sketch: Sketch, lot: Polygon) -> None:
    """Rows of painted bays along the lot's length, a car in some; every third row of a wide lot is a lane."""
    center, along, length, width = long_axis(lot)
    odds = float(rng.uniform(0.15, 0.85))
    sketch.ground.append((Surface.PARKING, lot))
    inner = lot.buffer(-0.3)
    across: Vector = (-along[1], along[0])
    wide = width >= 20
    for number, row in enumerate(np.arange(-width / 2 + 2.6, width / 2 - 2, 5.2 if wide else 8.0)):
        if wide and number % 3 == 1:
            continue
        for forward in np.arange(-length / 2 + 1.6, length / 2 - 1.3, 2.7):
            bay = offset(center, along, float(forward), float(row))
            if not inner.contains(rectangle(bay, along, 2.7, 5.0)):
                continue
            stripe = [offset(bay, along, 1.35, -2.5), offset(bay, along, 1.35, 2.5)]
            sketch.markings.append((Surface.LANE_MARKING, LineString(stripe)))
            facing = across if rng.uniform() < 0.6 else (-across[0], -across[1])
            sketch.slots.append(Slot(*bay, facing, odds))
