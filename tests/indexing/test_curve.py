"""The curve against what makes it one: every cell once, each next to the one before."""

import numpy as np
import pytest

from indexing.curve import curve_position
from indexing.rows import ranges_of

CELL = 360 / 2**26


@pytest.mark.parametrize("bits", [1, 2, 5])
@pytest.mark.parametrize("corner", [(0.0, 0.0), (-90.0, 45.0), (22.5, -67.5)])
def test_a_square_of_cells_is_one_run_of_neighbours(bits, corner):
    side = np.arange(2**bits)
    x, y = (part.ravel() for part in np.meshgrid(side, side))
    lon, lat = corner[0] + (x + 0.5) * CELL, corner[1] + (y + 0.5) * CELL
    position = curve_position(lon, lat)
    assert np.array_equal(np.sort(position) - position.min(), np.arange(4**bits))
    order = np.argsort(curve_position(lon, lat), kind="stable")
    assert (np.abs(np.diff(x[order])) + np.abs(np.diff(y[order])) == 1).all()


def test_a_region_is_few_ranges():
    """As many as its edge is long, not as its area: a quarter of 40,000 tiles."""
    lon, lat = (part.ravel() for part in np.meshgrid(np.arange(200) * 1e-4 + 24, np.arange(200) * 1e-4 + 60))
    order = np.argsort(curve_position(lon, lat), kind="stable")
    inside = (lon < 24.00995) & (lat < 60.00995)
    assert len(ranges_of(inside[order])) < 100 < len(ranges_of(inside)) + 1


def test_the_ends_of_the_world():
    lon, lat = np.array([-180.0, 180.0, 0.0, np.nextafter(180, 0)]), np.array([-90.0, 90.0, 0.0, 90.0])
    assert (curve_position(lon, lat) >= 0).all() and (curve_position(lon, lat) < 2**52).all()
    assert len(np.argsort(curve_position(lon[:0], lat[:0]), kind="stable")) == 0
