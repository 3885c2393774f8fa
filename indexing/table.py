"""tiles.parquet: one row per tile, in the embeddings' order, as any GIS reads it (GeoParquet)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import shapely
from jaxtyping import Float64, Int64
from pyarrow.parquet import ParquetFile

from geoloc.places import to_lonlat
from indexing.rows import Ranges, ranges_of
from preprocessing.tiles import Grid

_GROUP = 8192


@dataclass(frozen=True)
class Origins:
    """Tiles by id, and what most of each was cut from: the imagery's path and its gsd on the ground."""

    ids: Int64[np.ndarray, "n"]
    sources: np.ndarray
    gsd_m: Float64[np.ndarray, "n"]


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


def write_table(table: geopandas.GeoDataFrame, path: Path) -> None:
    """As GeoParquet, in groups of rows small enough that a region is a few of them (see `rows_inside`)."""
    table.to_parquet(path, index=False, row_group_size=_GROUP)


@lru_cache(maxsize=16)
def rows_inside(path: Path, region: shapely.Geometry) -> Ranges:
    """The rows whose centre lies inside a region in lonlat, for a table that does not change any more.

    Read are only the centres, and of them only the groups of rows that the region's edge runs through.
    """
    shapely.prepare(region)
    with ParquetFile(path) as table:
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


def _boxes(groups: Sequence[Any], columns: Sequence[int]) -> np.ndarray:
    """A box around the centres of each group of rows; the world where the file says nothing of them."""
    edges = []
    for group in groups:
        lon, lat = (group.column(column).statistics for column in columns)
        said = all(one is not None and one.has_min_max for one in (lon, lat))
        edges.append((lon.min, lat.min, lon.max, lat.max) if said else (-180, -90, 180, 90))
    return np.asarray(shapely.box(*np.array(edges, float).reshape(-1, 4).T))


def read_table(path: Path) -> geopandas.GeoDataFrame:
    """The whole table."""
    return geopandas.read_parquet(path)


def read_origins(path: Path) -> Origins:
    """Of every row what `make_table` was given."""
    with ParquetFile(path) as table:
        columns = table.read(columns=["id", "source", "gsd_m"])
    return Origins(*(columns[name].to_numpy() for name in ("id", "source", "gsd_m")))
