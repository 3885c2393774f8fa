"""An image while it is drawn: what each pixel shows, and how far away that is."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from preprocessing.towns.scene import Surface


@dataclass(frozen=True)
class Pixels:
    """Colours (sRGB from 0, bright light above 1), a `Surface` each, ranges in metres (inf: the sky).

    A whole image is flat and column by column: (w, h) ravelled.
    """

    colours: Float32[np.ndarray, "3 n"]
    surface: UInt8[np.ndarray, " n"]
    range_m: Float32[np.ndarray, " n"]

    def put(self, where: Int64[np.ndarray, " k"], what: "Pixels") -> None:
        """Draw `what` over the pixels `where`; where one is named twice, its last entry stays."""
        put(self.colours, where, what.colours)
        self.surface[where] = what.surface
        self.range_m[where] = what.range_m


def put(
    colours: Float32[np.ndarray, "3 n"], where: Int64[np.ndarray, " k"], what: Float32[np.ndarray, "3 k"]
) -> None:
    """colours[:, where] = what, a channel at a time, for numpy does that three times as fast."""
    for channel, drawn in zip(colours, what, strict=True):
        channel[where] = drawn


def empty_sky(n: int) -> Pixels:
    """An image of nothing."""
    return Pixels(
        np.zeros((3, n), np.float32), np.full(n, Surface.SKY, np.uint8), np.full(n, np.inf, np.float32)
    )
