"""A sample of the ground of a region, as tiles that no street view belongs to."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, UInt8

from geoloc.errors import ImageryError
from geoloc.places import to_lonlat
from geoloc.report import Report
from preprocessing.source import Imagery
from preprocessing.tiles import cut_block, make_grid, plan_blocks

BLOCKS = 16
"""Blocks of the grid that a sample is spread over, at most: the ground of each is read whole."""


def sample_ground(
    imagery: Sequence[Imagery],
    side_m: float,
    size_px: int,
    most: int,
    report: Report = lambda *_: None,
) -> tuple[UInt8[np.ndarray, "n s s 3"], Float64[np.ndarray, "n 2"]]:
    """At most so many tiles of side_m, drawn evenly every half of it, and the lonlat of their centres.

    The same imagery gives the same tiles. Raises ImageryError where not one fits, or none has pixels.
    """
    rng = np.random.default_rng(0)
    grid = make_grid(imagery, side_m, size_px, side_m / 2)
    blocks = plan_blocks(imagery, grid)
    chosen = [blocks[n] for n in sorted(rng.permutation(len(blocks))[:BLOCKS])]
    cells = np.repeat(np.arange(len(chosen)), [len(block.rows) for block in chosen])
    kept = np.zeros(len(cells), bool)
    kept[rng.permutation(len(cells))[:most]] = True
    tiles, lonlats = [], []
    for number, block in enumerate(chosen):
        here = block.only(kept[cells == number])
        for strip in cut_block(here, grid, imagery) if len(here.rows) else ():
            tiles += [strip.rgb[rows, columns] for rows, columns in strip.squares()]
            to_place = to_lonlat(grid.crs(block.zone))
            lonlats += list(zip(*to_place.transform(*grid.middles(strip.ids)[1].T), strict=True))
        report(number + 1, len(chosen))
    if not tiles:
        raise ImageryError("Not one tile of the imagery has pixels enough; give imagery of the region.")
    return np.stack(tiles), np.array(lonlats, np.float64)
