"""A table of the user's own photos and tiles, CSV or (Geo)Parquet."""

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import pandas as pd

from geoloc.errors import DataError, GeolocError, ImageError
from geoloc.lineup import View
from geoloc.pairs import Pair, PairTable
from geoloc.places import LonLat
from geoloc.street_view import stated_heading_deg

NAMES = {
    "street": ("street", "photo", "panorama", "image"),
    "satellite": ("satellite", "tile"),
    "heading_deg": ("heading_deg", "heading", "compass_angle"),
    "hfov_deg": ("hfov_deg", "hfov"),
    "lon": ("lon", "longitude"),
    "lat": ("lat", "latitude"),
    "tile_lon": ("tile_lon",),
    "tile_lat": ("tile_lat",),
    "footprint_m": ("footprint_m",),
    "split": ("split",),
}
RANGES = {
    "heading_deg": (-360, 360), "hfov_deg": (1, 360), "lon": (-180, 180), "lat": (-90, 90),
    "tile_lon": (-180, 180), "tile_lat": (-90, 90), "footprint_m": (1, 10_000),
}  # fmt: skip
CVH3D_TILE_M = 200.0
MAX_BYTES = 2**30


def read_table(path: Path, split: str | None = None) -> PairTable:
    """Pairs from a table with a row each, its columns found by name in any case:

    street (or photo, panorama, image) and satellite (or tile): files, relative to the table's folder;
    heading_deg (heading, compass_angle) of the image's centre, hfov_deg (hfov), footprint_m of the tile; lon
    and lat (longitude, latitude, or a GeoParquet's points) of the camera, tile_lon and tile_lat of the tile's
    centre; split. All but the files may be absent or empty; a heading is then what the photo itself states.
    CVH3D's own `pairs.csv` is known by its Grd_ID: 200 m tiles around each photo. Raises DataError for a
    table that cannot be read, a value that cannot be, and a split without rows.
    """
    pairs, missing, dropped = [], [], 0
    for row in _rows(path, split, ("street", "satellite")):
        absent = [file for file in row.files if not file.is_file()]
        missing += absent
        dropped += bool(absent)
        if not absent:
            street, satellite = row.files
            pairs.append(
                Pair(
                    street=street,
                    satellite=satellite,
                    heading_deg=_stated(street) if row.heading_deg is None else row.heading_deg,
                    hfov_deg=row.hfov_deg,
                    lonlat=row.lonlat,
                    tile_lonlat=row.tile_lonlat,
                    footprint_m=row.footprint_m,
                )
            )
    return PairTable("table", split or "all", pairs, missing, dropped)


def read_photos(path: Path, split: str | None = None) -> list[View]:
    """The photos of such a table that say where they were taken; it needs no tiles. Raises DataError."""
    photos = [
        View(row.files[0], row.lonlat, row.heading_deg, row.hfov_deg)
        for row in _rows(path, split, ("street",))
    ]
    if not (placed := [photo for photo in photos if photo.lonlat]):
        raise DataError(f"{path}: not one photo has lon and lat; there is nothing to measure against.")
    return placed


@dataclass(frozen=True)
class _Row:
    """A row of a table: the files asked for, in order; None for what is not there."""

    files: tuple[Path, ...]
    heading_deg: float | None
    hfov_deg: float | None
    lonlat: LonLat | None
    tile_lonlat: LonLat | None
    footprint_m: float | None


def _rows(path: Path, split: str | None, files: Sequence[str]) -> Iterator[_Row]:
    """The rows of a split."""
    rows = _read(path)
    if "grd_id" in rows.columns:
        ids = rows["grd_id"].astype(str)
        rows = rows.assign(street=ids + ".jpg", satellite=ids + "_sat.jpg", footprint_m=CVH3D_TILE_M)
        rows = rows.assign(tile_lon=rows.get("longitude"), tile_lat=rows.get("latitude"))
    columns = {
        name: next((rows[alias] for alias in aliases if alias in rows.columns), None)
        for name, aliases in NAMES.items()
    }
    if any(columns[name] is None for name in files):
        raise DataError(f"{path} lacks a column {' or '.join(files)}; it has {', '.join(rows.columns)}.")
    splits = columns["split"].astype(str) if columns["split"] is not None else None
    if split is not None and (splits is None or split not in set(splits)):
        there = ", ".join(sorted(set(splits))) if splits is not None else "no column split"
        raise DataError(f"{path} has no rows of the split {split!r}; it has {there}.")
    for number in range(len(rows)):
        if split is not None and splits is not None and splits.iloc[number] != split:
            continue
        here = f"{path}, row {number + 1}"
        row = {name: column.iloc[number] for name, column in columns.items() if column is not None}
        known = {name: _number(row.get(name), *limits, f"{here}: {name}") for name, limits in RANGES.items()}
        yield _Row(
            tuple(_file(path.parent, row[name], f"{here}: {name}") for name in files),
            known["heading_deg"],
            known["hfov_deg"],
            _place(known["lon"], known["lat"]),
            _place(known["tile_lon"], known["tile_lat"]),
            known["footprint_m"],
        )


def _read(path: Path) -> pd.DataFrame:
    """The rows, their columns in lower case; a GeoParquet's points as lon and lat."""
    try:
        if not path.is_file():
            raise DataError(f"{path} is no file; a table is a CSV or Parquet.")
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path} is over {MAX_BYTES >> 30} GiB; that is no table of photos.")
        if path.suffix.lower() == ".csv":
            rows = pd.read_csv(path, dtype=str, index_col=False)
        else:
            try:
                places = geopandas.read_parquet(path).to_crs(4326)
                rows = pd.DataFrame(places.drop(columns=places.geometry.name))
                rows = rows.drop(
                    columns=[name for name in rows if _plain(name) in NAMES["lon"] + NAMES["lat"]]
                )
                rows = rows.assign(lon=places.geometry.x, lat=places.geometry.y)
            except ValueError:  # a Parquet without geometry
                rows = pd.read_parquet(path)
    except GeolocError:
        raise
    except Exception as cause:  # pandas and pyarrow raise what they like for a broken file
        raise DataError(f"{path} is no CSV or Parquet that can be read ({cause}).") from cause
    rows = rows.rename(columns=_plain)
    if rows.columns.has_duplicates:
        twice = ", ".join(sorted(set(rows.columns[rows.columns.duplicated()])))
        raise DataError(f"{path} has more than one column {twice}; leave the right one.")
    return rows


def _plain(name: Any) -> str:
    return str(name).strip().lower()


def _file(folder: Path, name: Any, here: str) -> Path:
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise DataError(f"{here} is {name!r}, not the name of a file.")
    return folder / name.strip()


def _number(value: Any, low: float, high: float, here: str) -> float | None:
    """The number, None for an empty cell."""
    if value is None or value is pd.NA or value != value or value == "":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not low <= number <= high:
        raise DataError(f"{here} is {value!r}; want a number from {low:g} to {high:g}, or nothing.")
    return number


def _stated(photo: Path) -> float | None:
    """A photo's own heading; of a file that is no image none."""
    with suppress(ImageError):
        return stated_heading_deg(photo)
    return None


def _place(lon: float | None, lat: float | None) -> LonLat | None:
    return None if lon is None or lat is None else LonLat(lon, lat)
