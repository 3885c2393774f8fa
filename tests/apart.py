"""Pairs that are all negatives of each other."""

import numpy as np

from geoloc.training.negatives import Negatives


def apart(n: int) -> Negatives:
    """Each pair a place of its own, nobody knows where; with room for one more tile that is right."""
    rows = np.arange(n)
    right = np.stack([rows, np.full(n, -1)], axis=1)
    return Negatives(np.full((n, 2), np.nan), 25.0, rows, right, rows)
