"""The order of rows: along a Hilbert curve over the ground, so that a region is a few ranges of rows."""

import numpy as np
from jaxtyping import Float, Int64

_BITS = 26
"""0.6 m of longitude at the equator."""


def curve_order(lon: Float[np.ndarray, "n"], lat: Float[np.ndarray, "n"]) -> Int64[np.ndarray, "n"]:
    """Which place comes first along the curve, which second, and so on; places alike stay in order."""
    return np.argsort(curve_position(lon, lat), kind="stable")


def curve_position(lon: Float[np.ndarray, "n"], lat: Float[np.ndarray, "n"]) -> Int64[np.ndarray, "n"]:
    """How far along a Hilbert curve over the world places lie, in cells of 360 / 2^26 degrees.

    A step along the curve is a step to a neighbouring cell; every quadrant of every quadrant is one run.
    """
    last = (1 << _BITS) - 1
    x, y = (
        np.clip((degrees + 180) / 360 * (last + 1), 0, last).astype(np.int64)
        for degrees in (np.asarray(lon), np.asarray(lat))
    )
    position = np.zeros(len(x), np.int64)
    for bit in range(_BITS - 1, -1, -1):
        right, upper = x >> bit & 1, y >> bit & 1
        position = position << 2 | 3 * right ^ upper
        turned = upper == 0
        flipped = turned & (right == 1)
        x, y = np.where(flipped, last - x, x), np.where(flipped, last - y, y)
        x, y = np.where(turned, y, x), np.where(turned, x, y)
    return position
