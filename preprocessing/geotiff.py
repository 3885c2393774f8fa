"""GeoTIFF and COG files: found, opened with care, and understood: where they lie, what to show of them."""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyproj
import rasterio
import shapely
from affine import Affine
from jaxtyping import Float64
from pyproj.exceptions import CRSError
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError, RasterioIOError
from rasterio.io import DatasetReader
from rasterio.warp import transform as reproject_points
from rasterio.windows import Window

from geoloc.errors import GeolocError, ImageryError
from geoloc.places import LonLat, to_lonlat

MIN_TILE_PX = 32
"""A tile whose footprint has fewer pixels than this in the imagery shows too little to be found."""

_LARGEST_SIDE_PX = 2_000_000
_LARGEST_BLOCK_PX = 1 << 28
_SUFFIXES = (".tif", ".tiff")
SELF_CONTAINED = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_GEOREF_SOURCES": "INTERNAL",
    "PROJ_NETWORK": "OFF",
}
_Bounds = tuple[float, float, float, float]


@dataclass(frozen=True)
class Imagery:
    """One GeoTIFF that can be tiled. Nothing but the file itself is read: no sidecar, no network.

    crs: horizontal, as PROJ reads it. transform: (column, row) of a pixel's corner to (x, y) in crs.
    rgb: the three bands, from 1. alpha: the band that says what is valid, or None. black, white: the
    values that become 0 and 255. gsd_m: on the ground, at the centre. utm, zone: the UTM CRS it is
    gridded in, and its number, 1..60 north and 61..120 south. notes: what a user should know.
    """

    path: Path
    crs: str
    transform: Affine
    hw: tuple[int, int]
    rgb: tuple[int, int, int]
    alpha: int | None
    black: float
    white: float
    gsd_m: float
    utm: str
    zone: int
    notes: tuple[str, ...] = ()

    @property
    def bounds_lonlat(self) -> _Bounds:
        """(west, south, east, north), in degrees."""
        west, south, east, north = outline(self, "EPSG:4326").bounds
        return west, south, east, north


def find_imagery(paths: Sequence[Path]) -> list[Path]:
    """Files as listed, folders replaced by every *.tif and *.tiff below them, sorted; each file once."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in _SUFFIXES and p.is_file())
            if not inside:
                raise ImageryError(
                    f"{path} holds no *.tif or *.tiff file; give a folder or file of GeoTIFFs."
                )
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise ImageryError(f"{path} is no file or folder; check the path.")
    return list(dict.fromkeys(path.resolve() for path in found))


def open_imagery(path: Path) -> Imagery:
    """Look at a GeoTIFF's header, and at a sample of its pixels where the header does not suffice.

    Raises ImageryError, one sentence of cause and one of remedy, for anything that cannot be placed
    on the earth or shown as RGB.
    """
    with opened(path) as dataset:
        _refuse_oversize(dataset)
        crs, transform = _georeference(dataset)
        utm, zone = _utm(path, crs, apply(transform, dataset.width / 2, dataset.height / 2))
        rgb, notes = _rgb_bands(dataset)
        alpha, doubts = _alpha_band(dataset)
        black, white, stretch = _stretch(dataset, rgb, alpha)
        hw = (dataset.height, dataset.width)
    gsd_m = _gsd_m(crs, utm, transform, hw)
    all_notes = tuple(f"{path.name}: {note}" for note in (*notes, *doubts, *stretch))
    return Imagery(path, crs, transform, hw, rgb, alpha, black, white, gsd_m, utm, zone, all_notes)


@contextmanager
def opened(path: Path, **options: int) -> Iterator[DatasetReader]:
    """The dataset, read as GeoTIFF or not at all: a VRT named .tif may point to any file or host."""
    if not path.is_file():
        raise ImageryError(f"{path} is not there any more; put it back or build the gallery again.")
    with rasterio.Env(**SELF_CONTAINED):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                dataset = rasterio.open(path.resolve(), driver="GTiff", **options)
        except UnicodeEncodeError as cause:
            raise ImageryError(f"{path} has a name that GDAL cannot read; rename it.") from cause
        except RasterioError as cause:
            raise ImageryError(
                f"{path} is not a GeoTIFF; convert it with gdal_translate -of GTiff."
            ) from cause
        with dataset:
            try:
                yield dataset
            except RasterioIOError as cause:
                raise ImageryError(f"{path} is damaged and cannot be read; get the file again.") from cause


def _refuse_oversize(dataset: DatasetReader) -> None:
    name = dataset.name
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


def _georeference(dataset: DatasetReader) -> tuple[str, Affine]:
    """The horizontal CRS and the geotransform, or ImageryError."""
    name, transform = dataset.name, dataset.transform
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


Points = TypeVar("Points", float, Float64[np.ndarray, "n"])


def _utm(path: Path, crs: str, centre: tuple[float, float]) -> tuple[str, int]:
    """The imagery's own CRS if that is a UTM zone in metres, else the zone its centre lies in."""
    own = pyproj.CRS(crs)
    if own.utm_zone and own.axis_info[0].unit_conversion_factor == 1:
        return crs, int(own.utm_zone[:-1]) + (60 if own.utm_zone[-1] == "S" else 0)
    try:
        place = LonLat(*to_lonlat(crs).transform(*centre, errcheck=True))
    except (GeolocError, pyproj.exceptions.ProjError) as cause:
        raise ImageryError(
            f"{path} lies nowhere on the earth by its own CRS; mend its geotransform or CRS."
        ) from cause
    if not -80 <= place.lat <= 84:
        raise ImageryError(
            f"{path} lies at latitude {place.lat:.1f}, beyond the UTM grid (-80 to 84); leave it out."
        )
    zone = min(60, int((place.lon + 180) // 6) + 1)
    return (f"EPSG:{32600 + zone}", zone) if place.lat >= 0 else (f"EPSG:{32700 + zone}", zone + 60)


def apply(transform: Affine, columns: Points, rows: Points) -> tuple[Points, Points]:
    """Pixel corners (column, row) to (x, y); affine's own operators change between its versions."""
    a, b, c, d, e, f = transform[:6]
    return a * columns + b * rows + c, d * columns + e * rows + f


def _gsd_m(crs: str, utm: str, transform: Affine, hw: tuple[int, int]) -> float:
    """Side of the square as large as the centre pixel, in the UTM grid's metres."""
    row, column = hw[0] / 2, hw[1] / 2
    xs, ys = apply(transform, column + np.array([0, 1, 0]), row + np.array([0, 0, 1]))
    (x, right, down), (y, right_y, down_y) = project(crs, utm, xs, ys)
    return math.sqrt(abs((right - x) * (down_y - y) - (right_y - y) * (down - x)))


def _rgb_bands(dataset: DatasetReader) -> tuple[tuple[int, int, int], tuple[str, ...]]:
    """Which bands to show, and what to say about it."""
    dtypes, roles = set(dataset.dtypes), list(dataset.colorinterp)
    if not dtypes <= {"uint8", "uint16"} or len(dtypes) != 1:
        raise ImageryError(
            f"{dataset.name} holds {', '.join(sorted(dtypes))} in {dataset.count} band(s), no colours; "
            "convert it to 8-bit RGB with gdal_translate -ot Byte -scale."
        )
    if ColorInterp.palette in roles:
        raise ImageryError(f"{dataset.name} is a palette image; convert it with gdal_translate -expand rgb.")
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


@lru_cache(maxsize=4096)
def outline(imagery: Imagery, crs: str) -> shapely.Polygon:
    """The imagery's edge in another CRS, 16 points a side; empty where that CRS cannot hold it."""
    h, w = imagery.hw
    steps = np.linspace(0, 1, 17)[:-1]
    columns = np.concatenate([steps, np.ones(16), 1 - steps, np.zeros(16)]) * w
    rows = np.concatenate([np.zeros(16), steps, np.ones(16), 1 - steps]) * h
    xs, ys = project(imagery.crs, crs, *apply(imagery.transform, columns, rows))
    if not (np.isfinite(xs).all() and np.isfinite(ys).all()):
        return shapely.Polygon()
    return shapely.Polygon(np.stack([xs, ys], axis=1))


def project(
    source: str, target: str, xs: Float64[np.ndarray, "n"], ys: Float64[np.ndarray, "n"]
) -> tuple[Float64[np.ndarray, "n"], Float64[np.ndarray, "n"]]:
    """Points to another CRS by GDAL, as pixels are; infinite where that is not possible."""
    with rasterio.Env(**SELF_CONTAINED):
        try:
            projected = reproject_points(source, target, xs.tolist(), ys.tolist())
        except (RasterioError, CRSError):
            return np.full_like(xs, np.inf), np.full_like(ys, np.inf)
    return np.array(projected[0]), np.array(projected[1])
