"""Pixels of satellite imagery: north-up squares for tiles, and whole images for maps."""

import math
from collections.abc import Sequence

import numpy as np
import rasterio
from affine import Affine
from jaxtyping import Bool, Int16, UInt8
from PIL import Image
from rasterio.enums import Resampling
from rasterio.transform import from_bounds
from rasterio.warp import reproject
from rasterio.windows import Window
from rasterio.windows import transform as window_transform

from geoloc.places import LonLat, to_lonlat
from preprocessing.source import LARGEST_READ_PX, SELF_CONTAINED, Bounds, Hw, Imagery, apply, project


def read_square(
    imagery: Sequence[Imagery], crs: str, bounds: Bounds, hw: Hw
) -> tuple[UInt8[np.ndarray, "h w 3"], Int16[np.ndarray, "h w"]]:
    """A north-up mosaic of `bounds` (left, bottom, right, top in crs): RGB, and whose pixel each is.

    The first imagery listed wins; those after it fill only what it does not cover. The second array
    holds the index into `imagery`, -1 (and black) where none has a valid pixel. Bilinear, widened to
    an average where the imagery is finer than the square. Raises ImageryError for a file that moved.
    """
    rgb = np.zeros((*hw, 3), np.uint8)
    owner = np.full(hw, -1, np.int16)
    for index, one in enumerate(imagery):
        empty = owner < 0
        if not empty.any():
            break
        warped, valid = _warp(one, crs, bounds, hw)
        fill = empty & valid
        np.copyto(rgb, warped, where=fill[..., None])
        owner[fill] = index
    return rgb, owner


def _warp(
    imagery: Imagery, crs: str, bounds: Bounds, hw: Hw
) -> tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"]]:
    with imagery.reader.level((bounds[2] - bounds[0]) / hw[1] / imagery.gsd_m) as level:
        window = _window(imagery.crs, level.transform, level.hw, crs, bounds, hw)
        if window is None:
            return np.zeros((*hw, 3), np.uint8), np.zeros(hw, bool)
        if window.width * window.height > LARGEST_READ_PX and max(hw) > 64:
            return _warp_halves(imagery, crs, bounds, hw)
        source = level.read(window, None)
    place = window_transform(window, level.transform)
    opaque = bool(source[3].all())  # then the alpha band changes no pixel, and a quarter of the time is saved
    if opaque and imagery.crs == crs and (box := _box(place, bounds, source.shape[1:])):
        rgb = [
            np.asarray(Image.fromarray(band).resize(hw[::-1], Image.Resampling.BILINEAR, box))
            for band in source[:3]
        ]
        return np.stack(rgb, axis=2), np.ones(hw, bool)
    target = np.zeros((4, *hw), np.uint8)
    with rasterio.Env(**SELF_CONTAINED):
        reproject(
            source[:3] if opaque else source,
            target,
            src_transform=place,
            src_crs=imagery.crs,
            dst_transform=from_bounds(*bounds, hw[1], hw[0]),
            dst_crs=crs,
            src_alpha=0 if opaque else 4,
            dst_alpha=4,
            resampling=Resampling.bilinear,
            **_scale(imagery.crs, level.transform, crs, bounds, hw),
        )
    return target[:3].transpose(1, 2, 0), target[3] >= 128


def _box(place: Affine, bounds: Bounds, hw: Hw) -> tuple[float, float, float, float] | None:
    """The square in pixels of imagery in its own CRS; None where that lies turned, or does not cover it.

    Then a resize is the same as a warp, to one level of 255, and takes a fourth of the time.
    """
    (left, bottom, right, top), (h, w) = bounds, hw
    if place.b or place.d or place.a < 0 or place.e > 0:
        return None
    (first, last), (above, below) = apply(~place, np.array([left, right]), np.array([top, bottom]))
    if first < 0 or above < 0 or last > w or below > h:
        return None
    return float(first), float(above), float(last), float(below)


def _warp_halves(
    imagery: Imagery, crs: str, bounds: Bounds, hw: Hw
) -> tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"]]:
    """The same, in two parts along the longer side, so that memory stays bounded."""
    (left, bottom, right, top), (h, w) = bounds, hw
    if h >= w:
        cut = top - (top - bottom) * (h // 2) / h
        parts = [((left, cut, right, top), (h // 2, w)), ((left, bottom, right, cut), (h - h // 2, w))]
    else:
        cut = left + (right - left) * (w // 2) / w
        parts = [((left, bottom, cut, top), (h, w // 2)), ((cut, bottom, right, top), (h, w - w // 2))]
    rgb, valid = zip(*(_warp(imagery, crs, *part) for part in parts), strict=True)
    axis = 0 if h >= w else 1
    return np.concatenate(rgb, axis), np.concatenate(valid, axis)


def _window(source_crs: str, transform: Affine, shape: Hw, crs: str, bounds: Bounds, hw: Hw) -> Window | None:
    """The pixels that the square needs, with a margin for the kernel; None where they do not meet."""
    left, bottom, right, top = bounds
    xs, ys = np.meshgrid(np.linspace(left, right, 17), np.linspace(bottom, top, 17))
    xs, ys = project(crs, source_crs, xs.ravel(), ys.ravel())
    columns, rows = apply(~transform, xs, ys)
    known = np.isfinite(columns) & np.isfinite(rows)
    if not known.any():
        return None
    columns, rows = columns[known], rows[known]
    margin = 3 + 2 * math.ceil(max(np.ptp(columns) / hw[1], np.ptp(rows) / hw[0]))
    first = max(0, math.floor(columns.min()) - margin), max(0, math.floor(rows.min()) - margin)
    last = min(shape[1], math.ceil(columns.max()) + margin), min(shape[0], math.ceil(rows.max()) + margin)
    if last[0] <= first[0] or last[1] <= first[1]:
        return None
    return Window(first[0], first[1], last[0] - first[0], last[1] - first[1])


def _scale(source_crs: str, transform: Affine, crs: str, bounds: Bounds, hw: Hw) -> dict[str, float]:
    """Pixels of the square per source pixel, across and down, at its middle, as options of the warp.

    GDAL's guess, made of the part that the source covers, would have a tile at its edge differ in a strip.
    """
    left, bottom, right, top = bounds
    x, y, w, h = (left + right) / 2, (bottom + top) / 2, (right - left) / hw[1], (top - bottom) / hw[0]
    xs, ys = project(crs, source_crs, np.array([x, x + w, x]), np.array([y, y, y - h]))
    if not np.isfinite([xs, ys]).all():
        return {}
    columns, rows = apply(~transform, xs, ys)
    across, down = (float(np.abs(steps[1:] - steps[0]).sum()) for steps in (columns, rows))
    return {"XSCALE": 1 / across, "YSCALE": 1 / down}


def read_overview(imagery: Imagery, max_px: int) -> tuple[UInt8[np.ndarray, "h w 4"], tuple[LonLat, ...]]:
    """The whole image as RGBA, at most max_px a side, as a backdrop for maps.

    The corners are those of the image as it lies on the earth: bottom left, top left, top right,
    bottom right. Raises ImageryError.
    """
    factor = max(1.0, max(imagery.hw) / max_px)
    with imagery.reader.level(factor) as level:
        h, w = level.hw
        hw = max(1, round(imagery.hw[0] / factor)), max(1, round(imagery.hw[1] / factor))
        rgba = level.read(Window(0, 0, w, h), hw)
        xs, ys = apply(level.transform, np.array([0, 0, w, w]), np.array([h, 0, 0, h]))
    lon, lat = to_lonlat(imagery.crs).transform(xs, ys)
    return np.ascontiguousarray(rgba.transpose(1, 2, 0)), tuple(map(LonLat, lon.tolist(), lat.tolist()))
