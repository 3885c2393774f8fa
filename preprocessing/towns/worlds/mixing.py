"""Colours beside, between and among others."""

import numpy as np

from preprocessing.towns.weather import RGB


def one(rng: np.random.Generator, colours: tuple[RGB, ...]) -> RGB:
    """Any of them."""
    return colours[int(rng.integers(len(colours)))]


def near(rng: np.random.Generator, colour: RGB, spread: float) -> RGB:
    """A colour (0 to 255) beside another: brighter or darker as a whole, and a little in each channel."""
    level, *each = rng.normal(0, 1, 4) * np.array((1, 0.4, 0.3, 0.4)) * spread
    red, green, blue = (float(min(250, max(8, c + level + e))) for c, e in zip(colour, each, strict=True))
    return red, green, blue


def between(first: RGB, last: RGB, share: float) -> RGB:
    """The first at 0, the last at 1."""
    red, green, blue = (a + share * (b - a) for a, b in zip(first, last, strict=True))
    return red, green, blue
