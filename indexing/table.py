"""tiles.parquet: one row per tile, in the embeddings' order, as any GIS reads it (GeoParquet)."""

from dataclasses import dataclass
from pathlib import Path

import geopandas
import numpy as np
import pyarrow.parquet
import shapely
from jaxtyping import Float64, Int64

from geoloc.places import to_lonlat
from preprocessing.tiles import Grid


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


def read_table(path: Path) -> geopandas.GeoDataFrame:
    """The whole table."""
    return geopandas.read_parquet(path)


def read_origins(path: Path) -> Origins:
    """Of every row what `make_table` was given."""
    columns = pyarrow.parquet.read_table(path, columns=["id", "source", "gsd_m"])
    return Origins(*(columns[name].to_numpy() for name in ("id", "source", "gsd_m")))
