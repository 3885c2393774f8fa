"""What every kind of imagery has in common: where it lies on the earth, and how its pixels are asked for."""

import math
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import pyproj
import rasterio
import shapely
from affine import Affine
from jaxtyping import Float64, UInt8
from pyproj.exceptions import CRSError
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError
from rasterio.warp import transform as reproject_points
from rasterio.windows import Window

from geoloc.errors import GeolocError, ImageryError
from geoloc.places import M_PER_DEG, LonLat, to_lonlat

SELF_CONTAINED = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_GEOREF_SOURCES": "INTERNAL",
    "PROJ_NETWORK": "OFF",
}
PLAIN_UTM = re.compile(r"(\d{1,2})([NS])")
"""What PROJ calls a UTM zone, but for those whose eastings begin with the zone, as EPSG:4647's."""
LARGEST_READ_PX = 1 << 25
ZONE_DEG = 6
BEYOND_DEG = 0.005
"""How far beyond its border a zone's tiles go, so that those of two meet."""
Bounds = tuple[float, float, float, float]
Hw = tuple[int, int]


@dataclass(frozen=True)
class Level:
    """One stored resolution of imagery, open for reading.

    transform: (column, row) of a pixel's corner to (x, y) in the imagery's CRS. hw: its size. read: the
    pixels of a window inside it, averaged down to a size where one is given: 8-bit colours, and 255 for
    what is valid, else 0. Raises ImageryError for a source that moved or is damaged.
    """

    transform: Affine
    hw: Hw
    read: Callable[[Window, Hw | None], UInt8[np.ndarray, "4 h w"]]


class Reader(Protocol):
    """How one kind of source gives its pixels. Plain data, so that it can be sent to another process.

    A reader opens its source anew each time, reads nothing but it, holds memory in proportion to the
    window asked for, and refuses with ImageryError what is no longer what it was when it was opened.
    """

    def level(self, factor: float) -> AbstractContextManager[Level]:
        """The coarsest stored resolution whose pixels are at most `factor` times as wide as the finest's."""


@dataclass(frozen=True)
class State:
    """What a source was like when it was opened. bytes: its size. stamp: another text once it has changed.

    taken_at: when the picture was taken, as well as is known. dated_by: what says so.
    """

    bytes: int
    stamp: str
    taken_at: datetime
    dated_by: str


@dataclass(frozen=True)
class Imagery:
    """One piece of imagery that can be tiled.

    address: an absolute path, xyz:FOLDER, tms:FOLDER or a URL; it opens the same imagery again. crs:
    horizontal, as PROJ reads it. transform: (column, row) of a pixel's corner to (x, y) in crs. gsd_m: on
    the ground, at the centre. utm, zone: the UTM CRS that its centre is gridded in, and its number, 1..60
    north and 61..120 south. notes: what a user should know.
    """

    address: str
    crs: str
    transform: Affine
    hw: Hw
    gsd_m: float
    utm: str
    zone: int
    reader: Reader
    state: State
    notes: tuple[str, ...] = ()

    @property
    def bounds_lonlat(self) -> Bounds:
        """(west, south, east, north), in degrees."""
        west, south, east, north = outline(self, "EPSG:4326").bounds
        return west, south, east, north

    @property
    def zones(self) -> tuple[tuple[int, str], ...]:
        """Where it is gridded: its own zone, or all that it meets if it is wider than one; (zone, CRS)."""
        west, south, east, north = self.bounds_lonlat
        zone_m = ZONE_DEG * M_PER_DEG * math.cos(math.radians((south + north) / 2))
        if self.crs == self.utm or east - west <= ZONE_DEG or max(self.hw) * self.gsd_m < zone_m:
            return ((self.zone, self.utm),)  # the last is for what crosses the antimeridian
        far = 60 if self.zone > 60 else 0
        numbers = range(zone_at(west), zone_at(east) + 1)
        return tuple((number + far, _utm_crs(number + far)) for number in numbers)

    @property
    def label(self) -> str:
        """The last part of the address."""
        return self.address.rstrip("/").rsplit("/", 1)[-1]


def place(
    address: str,
    crs: str,
    transform: Affine,
    hw: Hw,
    reader: Reader,
    state: State,
    notes: tuple[str, ...] = (),
) -> Imagery:
    """Imagery with its UTM zone and resolution. Raises ImageryError where it lies on no map."""
    utm, zone = _utm(address, crs, apply(transform, hw[1] / 2, hw[0] / 2))
    gsd_m = _gsd_m(crs, utm, transform, hw)
    return Imagery(address, crs, transform, hw, gsd_m, utm, zone, reader, state, notes)


def file_state(path: Path) -> State:
    """Of a local file, dated by its modification time. Raises ImageryError where it is gone."""
    if not path.is_file():
        raise ImageryError(f"{path} is not there any more; put it back or build the gallery again.")
    stat = path.stat()
    return State(stat.st_size, str(stat.st_mtime_ns), posix_time(stat.st_mtime), "the file's own date")


def posix_time(seconds: float) -> datetime:
    """A moment in UTC; the beginning of time where a file system says nonsense."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.min.replace(tzinfo=UTC)


Points = TypeVar("Points", float, Float64[np.ndarray, "n"])


def apply(transform: Affine, columns: Points, rows: Points) -> tuple[Points, Points]:
    """Pixel corners (column, row) to (x, y); affine's own operators change between its versions."""
    a, b, c, d, e, f = transform[:6]
    return a * columns + b * rows + c, d * columns + e * rows + f


def _utm(address: str, crs: str, centre: tuple[float, float]) -> tuple[str, int]:
    """The imagery's own CRS if that is a UTM zone in metres, else the zone its centre lies in."""
    own = pyproj.CRS(crs)
    plain = PLAIN_UTM.fullmatch(own.utm_zone or "")
    if plain and own.axis_info[0].unit_conversion_factor == 1:
        return crs, int(plain[1]) + (60 if plain[2] == "S" else 0)
    try:
        middle = LonLat(*to_lonlat(crs).transform(*centre, errcheck=True))
    except (GeolocError, pyproj.exceptions.ProjError) as cause:
        raise ImageryError(
            f"{address} lies nowhere on the earth by its own CRS; mend its geotransform or CRS."
        ) from cause
    if not -80 <= middle.lat <= 84:
        raise ImageryError(
            f"{address} lies at latitude {middle.lat:.1f}, beyond the UTM grid (-80 to 84); leave it out."
        )
    zone = zone_at(middle.lon) + (0 if middle.lat >= 0 else 60)
    return _utm_crs(zone), zone


def zone_at(lon: float) -> int:
    """The number of the UTM zone at a longitude, 1..60."""
    return min(60, int((lon + 180) // ZONE_DEG) + 1)


def _utm_crs(zone: int) -> str:
    return f"EPSG:{32600 + zone if zone <= 60 else 32640 + zone}"


def _gsd_m(crs: str, utm: str, transform: Affine, hw: Hw) -> float:
    """Side of the square as large as the centre pixel, in the UTM grid's metres."""
    row, column = hw[0] / 2, hw[1] / 2
    xs, ys = apply(transform, column + np.array([0, 1, 0]), row + np.array([0, 0, 1]))
    (x, right, down), (y, right_y, down_y) = project(crs, utm, xs, ys)
    return math.sqrt(abs((right - x) * (down_y - y) - (right_y - y) * (down - x)))


@lru_cache(maxsize=1 << 16)
def outline(imagery: Imagery, crs: str) -> shapely.Polygon:
    """The imagery's edge in another CRS, 16 points a side; empty where that CRS cannot hold it.

    In a UTM zone, of imagery that is gridded in several, only what lies in that one and just beyond.
    """
    if (own := PLAIN_UTM.fullmatch(pyproj.CRS(crs).utm_zone or "")) and len(imagery.zones) > 1:
        east = ZONE_DEG * int(own[1]) - 180
        band = shapely.box(east - ZONE_DEG - BEYOND_DEG, -90, east + BEYOND_DEG, 90)
        here = shapely.segmentize(outline(imagery, "EPSG:4326").intersection(band), 10 * BEYOND_DEG)
        return shapely.transform(here, lambda xy: np.stack(project("EPSG:4326", crs, *xy.T), axis=1))
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
        except (RasterioError, CRSError, CPLE_BaseError):
            return np.full_like(xs, np.inf), np.full_like(ys, np.inf)
    return np.array(projected[0]), np.array(projected[1])
