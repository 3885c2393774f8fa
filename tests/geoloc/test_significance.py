from math import comb

import numpy as np
import pytest

from geoloc.significance import paired


@pytest.mark.parametrize(("only_first", "only_second"), [(0, 0), (1, 0), (3, 9), (10, 10), (40, 61)])
def test_mcnemar_is_the_sum_of_binomials(only_first: int, only_second: int) -> None:
    first = np.array([True] * only_first + [False] * only_second + [True] * 50 + [False] * 30)
    second = np.array([False] * only_first + [True] * only_second + [True] * 50 + [False] * 30)
    n, least = only_first + only_second, min(only_first, only_second)
    expected = min(1.0, 2 * sum(comb(n, i) for i in range(least + 1)) / 2**n)
    found = paired(first, second)
    assert (found.only_first, found.only_second) == (only_first, only_second)
    assert found.p == pytest.approx(expected)
    assert found.difference == pytest.approx((only_second - only_first) / len(first))
    assert found.interval[0] <= found.difference <= found.interval[1]


def test_the_interval_is_that_of_resampled_queries() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.uniform(size=400) < 0.5, rng.uniform(size=400) < 0.6
    gains = second.astype(float) - first
    drawn = [gains[rng.integers(0, 400, 400)].mean() for _ in range(4000)]
    assert paired(first, second).interval == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.01)
