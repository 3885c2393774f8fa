"""tiles.parquet: one row per tile, in the embeddings' order, as any GIS reads it (GeoParquet)."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyarrow as pa
import shapely
from jaxtyping import Float64, Int64
from pyarrow.parquet import ParquetFile, ParquetWriter

from geoloc.places import to_lonlat
from indexing.blocks import CheckedFile, has_blocks
from indexing.rows import Ranges, ranges_of
from preprocessing.source import Bounds
from preprocessing.tiles import Grid

_GROUP = 8192
_AT_ONCE = 16 * _GROUP


@dataclass(frozen=True)
class Origins:
    """Tiles by id, and what most of each was cut from: the imagery's path and its gsd on the ground."""

    ids: Int64[np.ndarray, "n"]
    sources: np.ndarray
    gsd_m: Float64[np.ndarray, "n"]

    def part(self, rows: slice | Int64[np.ndarray, "m"]) -> "Origins":
        """Some of them."""
        return Origins(self.ids[rows], self.sources[rows], self.gsd_m[rows])


def make_table(grid: Grid, tiles: Origins) -> geopandas.GeoDataFrame:
    """id, source, gsd_m of that source, lon and lat of the centre, crs, bounds in it, and the footprint.

    The footprint is the tile's four corners in EPSG:4326.
    """
    ids = tiles.ids
    zones, columns, rows = grid.cells(ids)
    bounds = grid.bounds(columns, rows)
    lon, lat = np.empty(len(ids)), np.empty(len(ids))
    corners = np.empty((len(ids), 4, 2))
    for zone, crs in grid.crs_of_zone:
        here = zones == zone
        if here.any():
            lon[here], lat[here], corners[here] = _to_degrees(crs, bounds[here])
    return geopandas.GeoDataFrame(
        {
            "id": ids,
            "source": tiles.sources,
            "gsd_m": tiles.gsd_m,
            "lon": lon,
            "lat": lat,
            "crs": [grid.crs(int(zone)) for zone in zones],
            **dict(zip(("left", "bottom", "right", "top"), bounds.T, strict=True)),
        },
        geometry=shapely.polygons(corners),
        crs="EPSG:4326",
    )


def _to_degrees(
    crs: str, bounds: Float64[np.ndarray, "n 4"]
) -> tuple[Float64[np.ndarray, "n"], Float64[np.ndarray, "n"], Float64[np.ndarray, "n 4 2"]]:
    to_degrees = to_lonlat(crs).transform
    left, bottom, right, top = bounds.T
    lon, lat = to_degrees((left + right) / 2, (bottom + top) / 2)
    corners = np.stack(to_degrees(bounds[:, [0, 2, 2, 0]], bounds[:, [1, 1, 3, 3]]), axis=-1)
    return lon, lat, corners


def write_table(grid: Grid, tiles: Origins, path: Path) -> Bounds:
    """Write the table of tiles, a part of it in memory at a time: their (west, south, east, north)."""
    parts = (slice(start, start + _AT_ONCE) for start in range(0, len(tiles.ids), _AT_ONCE))
    return write_frames((make_table(grid, tiles.part(rows)) for rows in parts), path)


def write_frames(frames: Iterable[geopandas.GeoDataFrame], path: Path) -> Bounds:
    """As one GeoParquet, in groups of rows so small that a region is a few of them (see `rows_inside`)."""
    bounds, writer = [], None
    for frame in frames:
        rows = pa.table(frame.to_arrow(index=False))
        writer = writer or ParquetWriter(path, rows.schema)
        writer.write_table(rows, row_group_size=_GROUP)
        bounds.append(frame.total_bounds)
    assert writer is not None, "a segment has at least one tile"
    low, high = np.min(bounds, axis=0), np.max(bounds, axis=0)
    writer.add_key_value_metadata({"geo": _geoparquet(frame, [*low[:2].tolist(), *high[2:].tolist()])})
    writer.close()
    return float(low[0]), float(low[1]), float(high[2]), float(high[3])


def _geoparquet(frame: geopandas.GeoDataFrame, bbox: list[float]) -> str:
    """What makes a Parquet file a GeoParquet (its specification 1.1)."""
    geometry = {"encoding": "WKB", "geometry_types": frame.geom_type.unique().tolist(), "bbox": bbox}
    geometry["crs"] = frame.crs.to_json_dict() if frame.crs else None
    return json.dumps({"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": geometry}})


@lru_cache(maxsize=16)
def rows_inside(path: Path, region: shapely.Geometry) -> Ranges:
    """The rows whose centre lies inside a region in lonlat, for a table that does not change any more.

    Read are only the centres, and of them only the groups of rows that the region's edge runs through.
    """
    shapely.prepare(region)
    with open_table(path) as table:
        groups = [table.metadata.row_group(number) for number in range(table.num_row_groups)]
        first = np.cumsum([0, *(group.num_rows for group in groups)])
        boxes = _boxes(groups, [table.schema_arrow.names.index(name) for name in ("lon", "lat")])
        within = np.zeros(int(first[-1]), bool)
        whole = shapely.contains_properly(region, boxes)
        for number in np.flatnonzero(shapely.intersects(region, boxes)).tolist():
            here = slice(int(first[number]), int(first[number + 1]))
            if whole[number]:
                within[here] = True
            else:
                centres = table.read_row_group(number, columns=["lon", "lat"])
                within[here] = shapely.contains_xy(region, centres["lon"], centres["lat"])
    return ranges_of(within)


@lru_cache(maxsize=16)
def rows_from(path: Path, source: str) -> Ranges:
    """The rows cut for the most part from imagery whose path matches a glob, as `*/2021/*.tif`."""
    with open_table(path) as table:
        column = table.read(columns=["source"])["source"].combine_chunks().dictionary_encode()
    names = [fnmatchcase(name, source) for name in column.dictionary.to_pylist()]
    return ranges_of(np.array(names, bool)[column.indices.to_numpy()])


def _boxes(groups: Sequence[Any], columns: Sequence[int]) -> np.ndarray:
    """A box around the centres of each group of rows; the world where the file says nothing of them."""
    edges = []
    for group in groups:
        lon, lat = (group.column(column).statistics for column in columns)
        said = all(one is not None and one.has_min_max for one in (lon, lat))
        edges.append((lon.min, lat.min, lon.max, lat.max) if said else (-180, -90, 180, 90))
    return np.asarray(shapely.box(*np.array(edges, float).reshape(-1, 4).T))


def read_table(path: Path) -> geopandas.GeoDataFrame:
    """The whole table. Raises GalleryError where it is damaged."""
    if not has_blocks(path):
        return geopandas.read_parquet(path)
    with CheckedFile(path) as checked:
        return geopandas.read_parquet(checked)


@contextmanager
def open_table(path: Path) -> Iterator[ParquetFile]:
    """The table, to be read in parts, each checked as it is read. Raises GalleryError where it is damaged.

    One without hashes beside it, as older galleries have, was hashed when the gallery was opened.
    """
    with CheckedFile(path) if has_blocks(path) else path.open("rb") as file, ParquetFile(file) as table:
        yield table


def source_at(path: Path, row: int) -> str:
    """What most of one tile was cut from; of the table only its group of rows is read."""
    with open_table(path) as table:
        for number in range(table.num_row_groups):
            if row < table.metadata.row_group(number).num_rows:
                return str(table.read_row_group(number, columns=["source"])["source"][row])
            row -= table.metadata.row_group(number).num_rows
    raise IndexError(row)


def read_origins(path: Path) -> Origins:
    """Of every row what `make_table` was given."""
    with open_table(path) as table:
        columns = table.read(columns=["id", "source", "gsd_m"])
    return Origins(*(columns[name].to_numpy() for name in ("id", "source", "gsd_m")))
