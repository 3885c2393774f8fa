"""tiles.parquet: one row per tile, in the embeddings' order, as any GIS reads it (GeoParquet)."""

from pathlib import Path

import geopandas
import numpy as np
import shapely
from jaxtyping import Float64, Int64

from geoloc.places import to_lonlat
from preprocessing.source import Imagery
from preprocessing.tiles import Grid


def make_table(
    grid: Grid, imagery: list[Imagery], ids: Int64[np.ndarray, "n"], sources: Int64[np.ndarray, "n"]
) -> geopandas.GeoDataFrame:
    """id, source, gsd_m of that source, lon and lat of the centre, crs, bounds in it, and the footprint.

    The footprint is the tile's four corners in EPSG:4326. sources: index into imagery, by tile.
    """
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
            "source": [imagery[i].address for i in sources],
            "gsd_m": [imagery[i].gsd_m for i in sources],
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
