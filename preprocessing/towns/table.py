"""The table of street views: one row each, with its exact place, heading and field of view."""

from collections.abc import Iterable
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
    except (OSError, ValueError) as cause:  # pyarrow's own errors are ValueErrors
        raise DataError(f"{path} is no table of street views; remove it and run `geoloc synth`.") from cause
    return rows
