"""The table of street views: one row each, with its exact place, heading and field of view."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from geoloc.atomic import atomic_path
from geoloc.errors import DataError
from geoloc.places import LonLat
from preprocessing.towns.town import Shot

SCHEMA = pa.schema(
    [
        ("id", pa.int64()), ("town_seed", pa.int64()), ("split", pa.string()),
        ("street", pa.string()), ("satellite", pa.string()), ("ortho", pa.string()),
        ("lon", pa.float64()), ("lat", pa.float64()), ("heading_deg", pa.float64()),
        ("hfov_deg", pa.float64()), ("is_panorama", pa.bool_()), ("elevation_deg", pa.float64()),
        ("camera_height_m", pa.float64()), ("roll_deg", pa.float64()), ("pitch_deg", pa.float64()),
        ("tile_lon", pa.float64()), ("tile_lat", pa.float64()), ("footprint_m", pa.float64()),
    ]
)  # fmt: skip

TABLE = "street_views.parquet"
RANGES = {"lon": (-180, 180), "lat": (-90, 90), "heading_deg": (-360, 360), "hfov_deg": (1, 360)}
TILE_RANGES = {"tile_lon": (-180, 180), "tile_lat": (-90, 90), "footprint_m": (1, 10_000)}

Row = dict[str, Any]


def view_row(shot: Shot, id: int, town_seed: int, split: str, street: str, ortho: str) -> Row:
    """The row of a street view that has no tile. Paths are relative to the folder of the table."""
    camera = shot.camera
    return {
        "id": id, "town_seed": town_seed, "split": split, "street": street, "ortho": ortho,
        "lon": shot.lonlat.lon, "lat": shot.lonlat.lat, "heading_deg": camera.heading_deg,
        "hfov_deg": camera.hfov_deg, "is_panorama": camera.is_panorama, "elevation_deg": camera.pitch_deg,
        "camera_height_m": camera.height_m, "roll_deg": camera.roll_deg, "pitch_deg": camera.pitch_deg,
    }  # fmt: skip


def tile_row(row: Row, satellite: str, center: LonLat, footprint_m: float) -> Row:
    """`row` with its tile."""
    return row | {
        "satellite": satellite, "tile_lon": center.lon, "tile_lat": center.lat, "footprint_m": footprint_m,
    }  # fmt: skip


def write_table(path: Path, rows: Iterable[Row]) -> None:
    """Write rows in the order of their ids, atomically; what a row lacks is null."""
    table = pa.Table.from_pylist(sorted(rows, key=lambda row: int(row["id"])), SCHEMA)
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary)


def read_rows(path: Path) -> list[Row]:
    """The rows of a table that `write_table` wrote. Raises DataError."""
    try:
        rows: list[Row] = pq.read_table(path, schema=SCHEMA).to_pylist()
    except (OSError, ValueError, pa.ArrowException) as cause:
        raise DataError(f"{path} is no table of street views that `geoloc synth` made.") from cause
    return rows


def town_rows(root: Path, *files: str) -> list[Row]:
    """The rows of a set of towns that `geoloc synth` finished and that have all of these files, as columns.

    Raises DataError where one has a value that no town has, or names a file outside the set.
    """
    path = root / TABLE
    rows = [row for row in read_rows(path) if "satellite" not in files or row["satellite"] is not None]
    for row in rows:
        if wrong := _wrong(row, files):
            raise DataError(f"{path} has a row that no town has ({', '.join(wrong)}); make the towns again.")
    return rows


def _wrong(row: Row, files: Sequence[str]) -> list[str]:
    """The columns whose value is missing, out of range, or leads out of the folder."""
    ranges = RANGES | (TILE_RANGES if "satellite" in files else {})
    return [
        *(name for name in ("town_seed", "split") if row[name] is None),
        *(f"{name} {row[name]!r}" for name in files if row[name] is None or _leaves(row[name])),
        *(name for name, (low, high) in ranges.items() if row[name] is None or not low <= row[name] <= high),
    ]


def _leaves(name: str) -> bool:
    return "\0" in name or Path(name).is_absolute() or ".." in Path(name).parts
