"""Pixels of satellite imagery: north-up squares for tiles, and whole images for maps."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from jaxtyping import Bool, Int16, UInt8
from rasterio.enums import MaskFlags, Resampling
from rasterio.io import DatasetReader
from rasterio.transform import from_bounds
from rasterio.warp import reproject
from rasterio.windows import Window
from rasterio.windows import transform as window_transform

from geoloc.errors import ImageryError
from geoloc.places import LonLat, to_lonlat
from preprocessing.geotiff import SELF_CONTAINED, Imagery, apply, open_imagery, opened, project

_LARGEST_READ_PX = 1 << 25
_Bounds = tuple[float, float, float, float]


def read_square(
    imagery: Sequence[Imagery], crs: str, bounds: _Bounds, hw: tuple[int, int]
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
        rgb[fill] = warped[fill]
        owner[fill] = index
    return rgb, owner


def _warp(
    imagery: Imagery, crs: str, bounds: _Bounds, hw: tuple[int, int]
) -> tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"]]:
    with _at_resolution(imagery, (bounds[2] - bounds[0]) / hw[1]) as dataset:
        a, b, c, d, e, f = imagery.transform[:6]
        across, down = imagery.hw[1] / dataset.width, imagery.hw[0] / dataset.height
        transform = Affine(a * across, b * down, c, d * across, e * down, f)
        window = _window(imagery.crs, transform, dataset.shape, crs, bounds, hw)
        if window is None:
            return np.zeros((*hw, 3), np.uint8), np.zeros(hw, bool)
        if window.width * window.height > _LARGEST_READ_PX and max(hw) > 64:
            return _warp_halves(imagery, crs, bounds, hw)
        source = _rgba(dataset, imagery, window)
        scale = _scale(imagery.crs, transform, crs, bounds, hw)
    target = np.zeros((4, *hw), np.uint8)
    with rasterio.Env(**SELF_CONTAINED):
        reproject(
            source,
            target,
            src_transform=window_transform(window, transform),
            src_crs=imagery.crs,
            dst_transform=from_bounds(*bounds, hw[1], hw[0]),
            dst_crs=crs,
            src_alpha=4,
            dst_alpha=4,
            resampling=Resampling.bilinear,
            **scale,
        )
    return target[:3].transpose(1, 2, 0), target[3] >= 128


def _warp_halves(
    imagery: Imagery, crs: str, bounds: _Bounds, hw: tuple[int, int]
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


@contextmanager
def _at_resolution(imagery: Imagery, gsd_m: float) -> Iterator[DatasetReader]:
    """The file's coarsest overview that is still as fine as asked, or the file itself."""
    with opened(imagery.path) as dataset:
        if dataset.shape != imagery.hw:
            raise ImageryError(f"{imagery.path} is not the file it was; build the gallery again.")
        levels = [i for i, f in enumerate(dataset.overviews(1)) if f * imagery.gsd_m <= gsd_m * 1.001]
        if not levels:
            yield dataset
            return
    with opened(imagery.path, overview_level=levels[-1]) as dataset:
        yield dataset


def _window(
    source_crs: str, transform: Affine, shape: tuple[int, int], crs: str, bounds: _Bounds, hw: tuple[int, int]
) -> Window | None:
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


def _scale(
    source_crs: str, transform: Affine, crs: str, bounds: _Bounds, hw: tuple[int, int]
) -> dict[str, float]:
    """Pixels of the square per source pixel, across and down, at its middle, as options of the warp.

    GDAL's own guess is of the part that the source covers: a tile at an edge would differ with its strip.
    """
    left, bottom, right, top = bounds
    x, y, w, h = (left + right) / 2, (bottom + top) / 2, (right - left) / hw[1], (top - bottom) / hw[0]
    xs, ys = project(crs, source_crs, np.array([x, x + w, x]), np.array([y, y, y - h]))
    if not np.isfinite([xs, ys]).all():
        return {}
    columns, rows = apply(~transform, xs, ys)
    across, down = np.hypot(columns[1:] - columns[0], rows[1:] - rows[0]).tolist()
    return {"XSCALE": 1 / across, "YSCALE": 1 / down}


def _rgba(
    dataset: DatasetReader, imagery: Imagery, window: Window, hw: tuple[int, int] | None = None
) -> UInt8[np.ndarray, "4 h w"]:
    """8-bit colours, averaged down to hw where that is given, and 255 for what is valid, else 0."""
    hw = hw or (window.height, window.width)
    read = partial(dataset.read, window=window)
    colours = read(imagery.rgb, out_shape=(3, *hw), resampling=Resampling.average)
    if imagery.alpha is not None:
        alpha = read(imagery.alpha, out_shape=hw)
        valid = alpha > np.iinfo(alpha.dtype).max // 2
    elif MaskFlags.alpha in dataset.mask_flag_enums[0]:  # an alpha band that is none
        valid = np.ones(hw, bool)
    else:
        valid = dataset.dataset_mask(window=window, out_shape=hw) > 0
    return np.concatenate([_to_8_bit(colours, imagery), np.where(valid, 255, 0)[None].astype(np.uint8)])


def _to_8_bit(values: np.ndarray, imagery: Imagery) -> UInt8[np.ndarray, "3 h w"]:
    if values.dtype == np.uint8:
        return np.asarray(values)
    scaled = (values.astype(np.float32) - imagery.black) * (255 / (imagery.white - imagery.black))
    return np.asarray(np.clip(np.rint(scaled), 0, 255), np.uint8)


def read_overview(source: Path, max_px: int) -> tuple[UInt8[np.ndarray, "h w 4"], tuple[LonLat, ...]]:
    """The whole image as RGBA, at most max_px a side, as a backdrop for maps.

    The corners are those of the image as it lies on the earth: bottom left, top left, top right,
    bottom right. Raises ImageryError.
    """
    imagery = open_imagery(source)
    h, w = imagery.hw
    scale = min(1.0, max_px / max(h, w))
    out_hw = max(1, round(h * scale)), max(1, round(w * scale))
    with opened(source) as dataset:
        rgba = _rgba(dataset, imagery, Window(0, 0, w, h), out_hw)
    xs, ys = apply(imagery.transform, np.array([0, 0, w, w]), np.array([h, 0, 0, h]))
    lon, lat = to_lonlat(imagery.crs).transform(xs, ys)
    return np.ascontiguousarray(rgba.transpose(1, 2, 0)), tuple(map(LonLat, lon.tolist(), lat.tolist()))
