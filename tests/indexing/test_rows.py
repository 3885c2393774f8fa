"""Ranges of rows against plain sets."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexing.rows import both, count, every_row, holds, mask_of, nth, ranges_of, rows_of

MASKS = st.lists(st.booleans(), min_size=1, max_size=40).map(lambda bits: np.array(bits, bool))


@given(MASKS)
def test_a_mask_comes_back(mask):
    ranges = ranges_of(mask)
    assert np.array_equal(mask_of(ranges, len(mask)), mask) and count(ranges) == mask.sum()
    assert np.array_equal(rows_of(ranges), np.flatnonzero(mask))
    assert (ranges[:, 0] < ranges[:, 1]).all() and (ranges[1:, 0] > ranges[:-1, 1]).all()


@given(MASKS, MASKS)
def test_both(a, b):
    rows = min(len(a), len(b))
    a, b = a[:rows], b[:rows]
    assert np.array_equal(both(ranges_of(a), ranges_of(b)), ranges_of(a & b))


@pytest.mark.parametrize("rows", [0, 1, 7])
def test_every_row(rows):
    assert rows_of(every_row(rows)).tolist() == list(range(rows))


@given(MASKS, st.integers(0, 2**32 - 1))
def test_nth_and_holds_equal_the_rows_themselves(mask, seed):
    ranges = ranges_of(mask)
    every = rows_of(ranges)
    places = np.random.default_rng(seed).integers(0, max(1, len(every)), 5 if len(every) else 0)
    assert nth(ranges, places).tolist() == every[places].tolist()
    assert [bool(holds(ranges, row)) for row in range(-1, len(mask) + 1)] == [False, *mask.tolist(), False]
