"""The order of rows: along a Hilbert curve over the ground, so that a region is a few ranges of rows."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int64

from geoloc.places import to_lonlat
from preprocessing.tiles import BLOCK, Block, Grid

_BITS = 26
"""0.6 m of longitude at the equator."""


def along_curve(blocks: Sequence[Block], grid: Grid) -> list[Block]:
    """The blocks in the order in which a build embeds and stores them."""
    corners = np.array([(block.zone, block.columns[0], block.rows[0]) for block in blocks]).reshape(-1, 3)
    position = _of_blocks(corners[:, 0], corners[:, 1], corners[:, 2], grid)
    return [blocks[number] for number in np.argsort(position, kind="stable")]


def row_order(ids: Int64[np.ndarray, "n"], grid: Grid) -> Int64[np.ndarray, "n"]:
    """The order in which a build stores tiles, whatever order they are in."""
    zones, columns, rows = grid.cells(ids)
    position = _of_blocks(zones, columns, rows, grid)
    return np.lexsort((columns % BLOCK, rows % BLOCK, columns // BLOCK, rows // BLOCK, zones, position))


def _of_blocks(
    zones: Int64[np.ndarray, "n"], columns: Int64[np.ndarray, "n"], rows: Int64[np.ndarray, "n"], grid: Grid
) -> Int64[np.ndarray, "n"]:
    """How far along the curve the middles of the blocks lie that hold these cells."""
    position = np.empty(len(zones), np.int64)
    bounds = grid.bounds(columns // BLOCK * BLOCK + BLOCK // 2, rows // BLOCK * BLOCK + BLOCK // 2)
    for zone in np.unique(zones).tolist():
        here = zones == zone
        x, y = bounds[here, :2].T
        position[here] = curve_position(*to_lonlat(grid.crs(zone)).transform(x, y))
    return position


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
