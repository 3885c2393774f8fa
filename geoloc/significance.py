"""Whether two models differ, judged by the same queries."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
from scipy.stats import binomtest

RESAMPLES = 2000


@dataclass(frozen=True)
class Paired:
    """Of the queries: difference in the share found, second less first, its 95 % interval by the paired
    bootstrap; those that only the first and only the second found; and McNemar's p.
    """

    difference: float
    interval: tuple[float, float]
    only_first: int
    only_second: int
    p: float


def paired(first: Bool[np.ndarray, " q"], second: Bool[np.ndarray, " q"]) -> Paired:
    """McNemar's exact test (1947): of the queries that one alone found, each had even odds for either."""
    gain = second.astype(np.int64) - first.astype(np.int64)
    only_first, only_second = int((gain < 0).sum()), int((gain > 0).sum())
    discordant = only_first + only_second
    p = float(binomtest(only_first, discordant).pvalue) if discordant else 1.0
    n = len(gain)
    odds = np.array([only_first, n - discordant, only_second]) / n
    drawn = np.random.default_rng(0).multinomial(n, odds, RESAMPLES)
    low, high = np.quantile((drawn[:, 2] - drawn[:, 0]) / n, [0.025, 0.975])
    return Paired(float(gain.mean()), (float(low), float(high)), only_first, only_second, p)
