"""Where a circular sequence of scores peaks, the slow way."""

import numpy as np
from numpy.polynomial import Polynomial


def vertex(ring: np.ndarray, at: int | None = None) -> tuple[float, float]:
    """The height of the parabola through the highest of a ring (or place `at`) and its two neighbours, at
    most half a step off it, and where that is."""
    top = int(ring.argmax()) if at is None else at
    parabola = Polynomial.fit([-1, 0, 1], ring[[top - 1, top, (top + 1) % len(ring)]], 2)
    off = float(np.clip(parabola.deriv().roots()[0], -0.5, 0.5))
    return float(parabola(off)), (top + off) % len(ring)
