import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geoloc.polar import polar_form, polar_grid


def safa_xy(i: float, j: float, side: float, h: int, w: int) -> tuple[float, float]:
    """SAFA's equations as published, for row i and column j."""
    radius = side / 2 * (h - 1 - i) / h
    return (
        side / 2 - radius * math.sin(2 * math.pi * j / w),
        side / 2 + radius * math.cos(2 * math.pi * j / w),
    )


@pytest.mark.parametrize("hw", [(16, 64), (112, 616)])
def test_grid_is_safas_equation_at_pixel_centres(hw: tuple[int, int]) -> None:
    h, w = hw
    side = 256.0
    polar_grid.cache_clear()
    with torch.device("meta"):  # as for counting operations: the grid is kept for those who compute
        assert polar_form(torch.empty(1, 3, 8, 8), hw).shape == (1, 3, *hw)
    grid = polar_grid(hw).double().numpy()
    for i in range(0, h, 3):
        for j in range(0, w, 7):
            x, y = safa_xy(i - 0.5, j + 0.5, side, h, w)
            assert (grid[i, j] + 1) / 2 * side == pytest.approx((x, y), abs=1e-3)


def test_compass_points() -> None:
    tile = torch.zeros(1, 1, 129, 129)
    tile[0, 0, 19:22, 63:66] = 1  # north, 44 of 64.5 pixels out
    tile[0, 0, 63:66, 107:110] = 2  # east
    polar = polar_form(tile, (64, 256))[0, 0].numpy()
    north, east = np.argwhere((polar > 0.5) & (polar <= 1)), np.argwhere(polar > 1)
    assert east.mean(axis=0) == pytest.approx((64 - 64 * 44 / 64.5 - 0.5, 191.5), abs=1.5)
    north = north[np.abs(north[:, 1] - 191.5) > 10]
    assert north.mean(axis=0) == pytest.approx((64 - 64 * 44 / 64.5 - 0.5, 127.5), abs=1.5)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 3), st.integers(0, 2**31))
def test_turning_the_tile_rolls_the_columns(quarter: int, seed: int) -> None:
    tile = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(seed))
    turned = torch.rot90(tile, -quarter, dims=(2, 3))  # clockwise: what was north is now east
    want = torch.roll(polar_form(tile, (16, 64)), 16 * quarter, dims=3)
    assert torch.allclose(polar_form(turned, (16, 64)), want, atol=1e-4)
