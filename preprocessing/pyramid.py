"""Pyramids of map tiles in web mercator, read like one image of many resolutions, whatever holds them."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from affine import Affine
from jaxtyping import UInt8
from PIL import Image
from rasterio.windows import Window

from geoloc.errors import ImageError, ImageryError
from geoloc.places import EQUATOR_M
from geoloc.street_view import decode_tile, tile_side_px
from preprocessing.source import LARGEST_READ_PX, Bounds, Hw, Imagery, Level, State, place

HALF_M = EQUATOR_M / 2
"""Half the side of the web mercator square, EPSG:3857."""

MAX_ZOOM = 24
LARGEST_TILE_BYTES = 1 << 24

GetTile = Callable[[int, int, int], bytes | None]
"""The encoded image at (zoom, column, row), rows counted from the north; None where there is none."""


class TileStore(Protocol):
    """What holds map tiles. Plain data; opened anew for each read. Raises ImageryError."""

    def opened(self) -> AbstractContextManager[GetTile]:
        """A function that gets tiles, none of them over LARGEST_TILE_BYTES."""


@dataclass(frozen=True)
class Pyramid:
    """Reads map tiles as imagery. A tile that is absent, or transparent, is ground without valid pixels.

    zooms: those stored, ascending. tile_px: the side of every tile. bounds: (west, south, east, north) in
    EPSG:3857; nothing beyond is valid.
    """

    address: str
    store: TileStore
    zooms: tuple[int, ...]
    tile_px: int
    bounds: Bounds

    @contextmanager
    def level(self, factor: float) -> Iterator[Level]:
        """The coarsest zoom that is fine enough; the deepest where none is."""
        deepest = self.zooms[-1]
        zoom = next(z for z in self.zooms if 2 ** (deepest - z) <= factor * 1.001 or z == deepest)
        left, top, hw = self.window_px(zoom)
        with self.store.opened() as get:
            yield Level(self.transform(zoom, left, top), hw, partial(self._read, get, zoom, left, top))

    def transform(self, zoom: int, left: int, top: int) -> Affine:
        """To EPSG:3857 from pixels of a zoom, counted from a pixel of the whole world."""
        gsd = 2 * HALF_M / (self.tile_px << zoom)
        return Affine(gsd, 0, left * gsd - HALF_M, 0, -gsd, HALF_M - top * gsd)

    def window_px(self, zoom: int) -> tuple[int, int, Hw]:
        """The bounds in whole pixels of the world at a zoom: left, top, (h, w).

        Rounded outwards, but for a tenth of a pixel: PMTiles states its bounds to 10^-7 degrees.
        """
        west, south, east, north = self.bounds
        per_m, side = (self.tile_px << zoom) / (2 * HALF_M), self.tile_px << zoom
        left, top = ((m + HALF_M) * per_m for m in (west, -north))
        right, bottom = ((m + HALF_M) * per_m for m in (east, -south))
        first = [max(0, math.floor(px + 0.1)) for px in (left, top)]
        last = [min(side, math.ceil(px - 0.1)) for px in (right, bottom)]
        return first[0], first[1], (max(1, last[1] - first[1]), max(1, last[0] - first[0]))

    def _read(
        self, get: GetTile, zoom: int, left: int, top: int, window: Window, hw: Hw | None = None
    ) -> UInt8[np.ndarray, "4 h w"]:
        if window.width * window.height > 2 * LARGEST_READ_PX:
            raise ImageryError(f"{self.address} has no zoom coarse enough to be read whole.")
        x, y, side = left + window.col_off, top + window.row_off, self.tile_px
        rgba = np.zeros((window.height, window.width, 4), np.uint8)
        for row in range(y // side, -(-(y + window.height) // side)):
            for column in range(x // side, -(-(x + window.width) // side)):
                tile = self._tile(get, zoom, column, row)
                if tile is not None:
                    _paste(rgba, tile, column * side - x, row * side - y)
        if hw is not None and hw != rgba.shape[:2]:
            rgba = np.array(Image.fromarray(rgba).resize((hw[1], hw[0]), Image.Resampling.BOX))
        rgba[..., 3] = np.where(rgba[..., 3] >= 128, 255, 0)
        return rgba.transpose(2, 0, 1)

    def _tile(self, get: GetTile, zoom: int, column: int, row: int) -> UInt8[np.ndarray, "s s 4"] | None:
        blob = get(zoom, column, row)
        if blob is None:
            return None
        with decoding():
            return decode_tile(blob, f"{self.address}: tile {zoom}/{column}/{row}", self.tile_px)


def _paste(target: UInt8[np.ndarray, "h w 4"], tile: UInt8[np.ndarray, "s s 4"], left: int, top: int) -> None:
    """Put a tile where it overlaps the target."""
    (h, w), side = target.shape[:2], len(tile)
    rows, columns = slice(max(0, top), min(h, top + side)), slice(max(0, left), min(w, left + side))
    target[rows, columns] = tile[
        rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
    ]


@contextmanager
def decoding() -> Iterator[None]:
    """An image that cannot be decoded is imagery that cannot be read."""
    try:
        yield
    except ImageError as cause:
        raise ImageryError(str(cause)) from cause


def open_pyramid(
    address: str,
    store: TileStore,
    zooms: tuple[int, ...],
    bounds: Bounds,
    sample: tuple[int, int, int],
    state: State,
) -> Imagery:
    """Place a pyramid on the earth; its tiles' size is that of the sample, (zoom, column, row).

    Raises ImageryError for tiles that are no images, or too deep.
    """
    if not zooms or not 0 <= zooms[0] <= zooms[-1] <= MAX_ZOOM:
        raise ImageryError(f"{address} has no tiles at zooms 0 to {MAX_ZOOM}; check it.")
    with store.opened() as get:
        blob = get(*sample)
    if blob is None:
        raise ImageryError(f"{address} has no tile at its deepest zoom, {zooms[-1]}; check it.")
    with decoding():
        tile_px = tile_side_px(blob, f"{address}: tile {'/'.join(map(str, sample))}")
    pyramid = Pyramid(address, store, zooms, tile_px, bounds)
    left, top, hw = pyramid.window_px(zooms[-1])
    return place(address, "EPSG:3857", pyramid.transform(zooms[-1], left, top), hw, pyramid, state)


def tile_bounds(zoom: int, columns: tuple[int, int], rows: tuple[int, int]) -> Bounds:
    """(west, south, east, north) in EPSG:3857 of the tiles from the first to the last column and row."""
    side = 2 * HALF_M / 2**zoom
    return (
        columns[0] * side - HALF_M,
        HALF_M - (rows[1] + 1) * side,
        (columns[1] + 1) * side - HALF_M,
        HALF_M - rows[0] * side,
    )


def bounds_to_mercator(bounds: Bounds) -> Bounds:
    """(west, south, east, north) in degrees to EPSG:3857, cut to the web mercator square.

    Raises ImageryError where they are no bounds on the earth.
    """
    west, south, east, north = bounds
    if not (-180.001 <= west < east <= 180.001 and -90 <= south < north <= 90):
        raise ImageryError(f"{west}, {south}, {east}, {north} are no bounds in degrees.")
    x = [max(-1.0, min(1.0, lon / 180)) * HALF_M for lon in (west, east)]
    lats = [math.radians(max(-85.0511, min(85.0511, lat))) for lat in (south, north)]
    y = [math.asinh(math.tan(lat)) / math.pi * HALF_M for lat in lats]
    return x[0], y[0], x[1], y[1]
