"""GeoTIFF and COG files, on disk or on a web server: opened with care, and understood."""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import pyproj
import rasterio
from affine import Affine
from jaxtyping import UInt8
from pyproj.exceptions import CRSError
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError, RasterioIOError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from geoloc.errors import ImageryError
from preprocessing.remote import RangeReader, is_url, remote
from preprocessing.source import SELF_CONTAINED, Hw, Imagery, Level, State, file_state, place

warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)  # for all threads at once

_LARGEST_SIDE_PX = 2_000_000
_LARGEST_BLOCK_PX = 1 << 28


@dataclass(frozen=True)
class GeoTiff:
    """Reads a GeoTIFF. Nothing but the file itself is read: no sidecar, and of the network only its URL.

    rgb: the three bands, from 1. alpha: the band that says what is valid, or None. black, white: the
    values that become 0 and 255.
    """

    address: str
    hw: Hw
    rgb: tuple[int, int, int]
    alpha: int | None
    black: float
    white: float

    @contextmanager
    def level(self, factor: float) -> Iterator[Level]:
        """The coarsest overview that is fine enough, or the file itself."""
        with opened(self.address) as dataset:
            if dataset.shape != self.hw:
                raise ImageryError(f"{self.address} is not the file it was; build the gallery again.")
            levels = [i for i, f in enumerate(dataset.overviews(1)) if f <= factor * 1.001]
            if not levels:
                yield self._level(dataset)
                return
        with opened(self.address, overview_level=levels[-1]) as dataset:
            yield self._level(dataset)

    def _level(self, dataset: DatasetReader) -> Level:
        return Level(dataset.transform, dataset.shape, partial(self._rgba, dataset))

    def _rgba(
        self, dataset: DatasetReader, window: Window, hw: Hw | None = None
    ) -> UInt8[np.ndarray, "4 h w"]:
        hw = hw or (window.height, window.width)
        read = partial(dataset.read, window=window)
        colours = read(self.rgb, out_shape=(3, *hw), resampling=Resampling.average)
        if self.alpha is not None:
            alpha = read(self.alpha, out_shape=hw)
            valid = alpha > np.iinfo(alpha.dtype).max // 2
        elif MaskFlags.alpha in dataset.mask_flag_enums[0]:  # an alpha band that is none
            valid = np.ones(hw, bool)
        else:
            valid = dataset.dataset_mask(window=window, out_shape=hw) > 0
        rgba = np.empty((4, *hw), np.uint8)
        rgba[:3] = self._to_8_bit(colours)
        np.multiply(valid, 255, out=rgba[3], casting="unsafe")
        return rgba

    def _to_8_bit(self, values: np.ndarray) -> UInt8[np.ndarray, "3 h w"]:
        if values.dtype == np.uint8:
            return np.asarray(values)
        scaled = (values.astype(np.float32) - self.black) * (255 / (self.white - self.black))
        return np.asarray(np.clip(np.rint(scaled), 0, 255), np.uint8)


def open_geotiff(address: str) -> Imagery:
    """Look at a GeoTIFF's header, and at a sample of its pixels where the header does not suffice.

    Raises ImageryError, one sentence of cause and one of remedy, for anything that cannot be placed
    on the earth or shown as RGB.
    """
    state = remote(address).state if is_url(address) else file_state(Path(address))
    with opened(address) as dataset:
        _refuse_oversize(address, dataset)
        crs, transform = _georeference(address, dataset)
        rgb, notes = _rgb_bands(address, dataset)
        alpha, doubts = _alpha_band(dataset)
        black, white, stretch = _stretch(dataset, rgb, alpha)
        reader = GeoTiff(address, dataset.shape, rgb, alpha, black, white)
        state = _dated(state, dataset.tags().get("TIFFTAG_DATETIME", ""))
    imagery = place(address, crs, transform, reader.hw, reader, state)
    return replace(imagery, notes=tuple(f"{imagery.label}: {note}" for note in (*notes, *doubts, *stretch)))


def _dated(state: State, tag: str) -> State:
    try:
        taken_at = datetime.strptime(tag, "%Y:%m:%d %H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        return state
    return replace(state, taken_at=taken_at, dated_by="its TIFFTAG_DATETIME")


@contextmanager
def opened(address: str, **options: int) -> Iterator[DatasetReader]:
    """The dataset, read as GeoTIFF or not at all: a VRT named .tif may point to any file or host."""
    file = remote(address) if is_url(address) else None
    if file is None:
        file_state(Path(address))
        name, opener = str(Path(address).resolve()), None
    else:
        name, opener = address, partial(RangeReader, file)
    with rasterio.Env(**SELF_CONTAINED):
        try:
            dataset = rasterio.open(name, driver="GTiff", opener=opener, **options)
        except UnicodeEncodeError as cause:
            raise ImageryError(f"{address} has a name that GDAL cannot read; rename it.") from cause
        except RasterioError as cause:
            raise (file and file.failure) or ImageryError(
                f"{address} is not a GeoTIFF; convert it with gdal_translate -of GTiff."
            ) from cause
        with dataset:
            try:
                yield dataset
            except RasterioIOError as cause:
                raise (file and file.failure) or ImageryError(
                    f"{address} is damaged and cannot be read; get the file again."
                ) from cause


def _refuse_oversize(name: str, dataset: DatasetReader) -> None:
    if max(dataset.shape) > _LARGEST_SIDE_PX or dataset.count > 64:
        raise ImageryError(
            f"{name} declares {dataset.width} x {dataset.height} px in {dataset.count} bands; split it."
        )
    if max(h * w for h, w in dataset.block_shapes) > _LARGEST_BLOCK_PX:
        raise ImageryError(
            f"{name} is stored in blocks too large to read; rewrite it with gdal_translate -of COG."
        )
    if any("OVERVIEW_FILE" in dataset.tags(ns=domain) for domain in ("OVERVIEWS", "")):
        raise ImageryError(
            f"{name} points to overviews in another file; rewrite it with gdal_translate -of COG."
        )


def _georeference(name: str, dataset: DatasetReader) -> tuple[str, Affine]:
    """The horizontal CRS and the geotransform, or ImageryError."""
    transform = dataset.transform
    if dataset.crs is None:
        raise ImageryError(
            f"{name} has no coordinate reference system; set it with gdal_edit -a_srs EPSG:...."
        )
    if transform.is_identity or transform.is_degenerate or not all(map(math.isfinite, transform)):
        raise ImageryError(
            f"{name} has no geotransform, so its place is unknown; georeference it with gdalwarp."
        )
    try:
        crs = pyproj.CRS.from_wkt(dataset.crs.to_wkt())
    except CRSError as cause:
        raise ImageryError(
            f"{name} has a CRS that PROJ does not know; set it with gdal_edit -a_srs."
        ) from cause
    crs = (crs.sub_crs_list[0] if crs.is_compound else crs).to_2d()
    if crs.is_geocentric:
        raise ImageryError(f"{name} is in a geocentric CRS, which no map has; reproject it with gdalwarp.")
    authority = crs.to_authority(min_confidence=100)
    return (":".join(authority) if authority else crs.to_wkt()), transform


def _rgb_bands(name: str, dataset: DatasetReader) -> tuple[tuple[int, int, int], tuple[str, ...]]:
    """Which bands to show, and what to say about it."""
    dtypes, roles = set(dataset.dtypes), list(dataset.colorinterp)
    if not dtypes <= {"uint8", "uint16"} or len(dtypes) != 1:
        raise ImageryError(
            f"{name} holds {', '.join(sorted(dtypes))} in {dataset.count} band(s), no colours; "
            "convert it to 8-bit RGB with gdal_translate -ot Byte -scale."
        )
    if ColorInterp.palette in roles:
        raise ImageryError(f"{name} is a palette image; convert it with gdal_translate -expand rgb.")
    colours = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    if all(colour in roles for colour in colours):
        red, green, blue = (roles.index(colour) + 1 for colour in colours)
        return (red, green, blue), ()
    if dataset.count < 3:
        return (1, 1, 1), ("one band only, read as grey; a model trained on colour finds less in it.",)
    return (1, 2, 3), ("its bands are not named, the first three are taken as red, green, blue.",)


def _alpha_band(dataset: DatasetReader) -> tuple[int | None, tuple[str, ...]]:
    """The alpha band, unless its values vary like a picture's: tools mark NAIP's infrared as alpha."""
    roles = list(dataset.colorinterp)
    if ColorInterp.alpha not in roles:
        return None, ()
    band = roles.index(ColorInterp.alpha) + 1
    values = _sample(dataset, [band])
    extreme = np.isin(values, (0, 1, np.iinfo(values.dtype).max)).mean()
    if extreme >= 0.9:
        return band, ()
    return None, (f"band {band} is marked alpha but varies like a picture; taken as infrared, not used.",)


def _stretch(
    dataset: DatasetReader, rgb: tuple[int, int, int], alpha: int | None
) -> tuple[float, float, tuple[str, ...]]:
    """8-bit as it is; 16-bit from the 1st to the 99th percentile of a sample of its valid pixels."""
    if dataset.dtypes[0] == "uint8":
        return 0, 255, ()
    bands = sorted({*rgb, alpha or rgb[0]})
    values = _sample(dataset, bands)
    seen = values[bands.index(alpha)] >= 32768 if alpha else (values != (dataset.nodata or 0)).any(axis=0)
    shown = values[[bands.index(band) for band in rgb]][:, seen]
    black, white = np.percentile(shown, (1, 99)).tolist() if shown.size else (0, 65535)
    white = max(white, black + 1)
    return black, white, (f"16-bit, its values {black:.0f} to {white:.0f} are spread over 0 to 255.",)


def _sample(dataset: DatasetReader, bands: list[int]) -> np.ndarray:
    """(band, n, 1): up to 8 x 8 windows of 64 x 64 px spread evenly, so that a huge file costs no more."""
    (h, w), steps = dataset.shape, [max(64, math.ceil(side / 8)) for side in dataset.shape]
    windows = [
        Window(left, top, min(64, w - left), min(64, h - top))
        for top in range(0, h, steps[0])
        for left in range(0, w, steps[1])
    ]
    parts = [dataset.read(bands, window=window).reshape(len(bands), -1, 1) for window in windows]
    return np.concatenate(parts, axis=1)
