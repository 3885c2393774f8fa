"""Where things are: a point on the earth, and a square of imagery."""

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TypeVar

import numpy as np
import pyproj
from jaxtyping import Float, Float64
from pyproj.exceptions import CRSError

from geoloc.errors import GeolocError, ImageryError

WGS84 = pyproj.Geod(ellps="WGS84")
M_PER_DEG = 111_320.0
"""Metres to a degree of latitude, near enough over a few kilometres."""

EQUATOR_M = 2 * math.pi * 6_378_137.0


@dataclass(frozen=True, slots=True)
class LonLat:
    """A point in degrees, WGS 84 (EPSG:4326). Longitude first, always."""

    lon: float
    lat: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.lon) and math.isfinite(self.lat)):
            raise GeolocError(f"A position must be finite, got {self.lon}, {self.lat}.")
        if not (-180 <= self.lon <= 180 and -90 <= self.lat <= 90):
            raise GeolocError(
                f"{self.lon}, {self.lat} is no longitude, latitude in degrees; longitude comes first."
            )

    def distance_m(self, other: "LonLat") -> float:
        """Geodesic distance in metres (Karney 2013)."""
        return float(WGS84.inv(self.lon, self.lat, other.lon, other.lat)[2])


def wrapped_deg(azimuth_deg: float) -> float:
    """The same azimuth in 0 <= a < 360; what is hardly below 0 comes to 360 in one division."""
    return azimuth_deg % 360 % 360


Angles = TypeVar("Angles", float, Float[np.ndarray, " n"])


def turned_deg(angle: Angles, of: Angles | float) -> Angles:
    """How far an azimuth lies clockwise of another, or a longitude east of it, -180 <= d < 180."""
    return (angle - of + 180) % 360 - 180


def flat_m(lonlats: Float64[np.ndarray, "n 2"], of: LonLat) -> Float64[np.ndarray, " n"]:
    """Metres from a place on a plane, good over a few kilometres; NaN where a place is."""
    east = turned_deg(lonlats[:, 0], of.lon) * math.cos(math.radians(of.lat))
    return np.asarray(np.hypot(east, lonlats[:, 1] - of.lat) * M_PER_DEG)


def mercator_m(px: float, zoom: int, lat_deg: float) -> float:
    """Metres on the ground along so many pixels of web mercator's 256 px tiles, at a latitude."""
    return px * EQUATOR_M * math.cos(math.radians(lat_deg)) / (256 * 2.0**zoom)


def lonlat_rows(places: Iterable[LonLat | None]) -> Float64[np.ndarray, "n 2"]:
    """Longitude and latitude of each place, NaN where it is not known."""
    rows = [(place.lon, place.lat) if place else (np.nan, np.nan) for place in places]
    return np.array(rows, np.float64).reshape(-1, 2)


@lru_cache(maxsize=64)
def to_lonlat(crs: str) -> pyproj.Transformer:
    """The transformer from `crs` (x, y) to (lon, lat) in degrees. Raises ImageryError."""
    try:
        return pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    except CRSError as cause:
        raise ImageryError(f"{crs!r} is no coordinate reference system that PROJ knows.") from cause


@dataclass(frozen=True)
class Tile:
    """A north-up square of satellite imagery.

    id: the key in the gallery, >= 0. crs: a projected CRS in metres, as PROJ reads it.
    bounds: (left, bottom, right, top) in CRS units. size_px: side in pixels.
    Raises ImageryError where these are nonsense.
    """

    id: int
    crs: str
    bounds: tuple[float, float, float, float]
    size_px: int

    def __post_init__(self) -> None:
        left, bottom, right, top = self.bounds
        if not all(map(math.isfinite, self.bounds)) or left >= right or bottom >= top:
            raise ImageryError(f"Tile {self.id} has bounds {self.bounds}: want left < right, bottom < top.")
        if not math.isclose(right - left, top - bottom, rel_tol=1e-6):
            raise ImageryError(f"Tile {self.id} is no square: {self.bounds}.")
        if self.id < 0 or self.size_px < 1:
            raise ImageryError(f"Tile id {self.id} and size {self.size_px} px must not be negative or empty.")

    def moved_to(self, place: LonLat) -> "Tile":
        """A tile like it, its centre elsewhere."""
        x, y = to_lonlat(self.crs).transform(place.lon, place.lat, direction="INVERSE")
        half = (self.bounds[2] - self.bounds[0]) / 2
        return dataclasses.replace(self, bounds=(x - half, y - half, x + half, y + half))

    @property
    def gsd_m(self) -> float:
        """Ground sampling distance, metres per pixel."""
        return (self.bounds[2] - self.bounds[0]) / self.size_px

    @cached_property
    def center(self) -> LonLat:
        """The middle of the tile."""
        left, bottom, right, top = self.bounds
        return LonLat(*to_lonlat(self.crs).transform((left + right) / 2, (bottom + top) / 2))

    @cached_property
    def north_deg(self) -> float:
        """The true azimuth of grid north at the centre, to be added to a heading against the grid."""
        left, bottom, right, top = self.bounds
        x, y = (left + right) / 2, (bottom + top) / 2
        lon, lat = to_lonlat(self.crs).transform((x, x), (y, y + 100))
        return float(WGS84.inv(lon[0], lat[0], lon[1], lat[1])[0])

    @cached_property
    def corners(self) -> tuple[LonLat, LonLat, LonLat, LonLat]:
        """Bottom left, top left, top right, bottom right."""
        left, bottom, right, top = self.bounds
        xs, ys = (left, left, right, right), (bottom, top, top, bottom)
        lon, lat = to_lonlat(self.crs).transform(xs, ys)
        return tuple(map(LonLat, lon, lat))  # type: ignore[return-value]
