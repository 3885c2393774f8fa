"""Which rows lie in a region: the same whatever groups the table is stored in, and few of them read."""

import geopandas
import numpy as np
import pytest
import shapely
from pyarrow.parquet import ParquetFile

from indexing import table
from indexing.curve import curve_position
from indexing.rows import rows_of
from indexing.table import rows_from, rows_inside, source_at

RNG = np.random.default_rng(0)
LON, LAT = RNG.uniform(24, 25, 20_000), RNG.uniform(60, 61, 20_000)
ORDER = np.argsort(curve_position(LON, LAT), kind="stable")
LON, LAT = LON[ORDER], LAT[ORDER]
SHAPES = [
    shapely.box(24.2, 60.2, 24.3, 60.9),
    shapely.Point(24.5, 60.5).buffer(0.4) - shapely.Point(24.5, 60.5).buffer(0.1),
    shapely.MultiPolygon([shapely.box(24, 60, 24.1, 60.1), shapely.box(24.9, 60.9, 30, 70)]),
    shapely.box(-180, -90, 180, 90),
    shapely.box(0, 0, 1, 1),
]


@pytest.mark.parametrize("group", [64, 1024, 1 << 20])
@pytest.mark.parametrize("region", SHAPES)
def test_against_every_centre(tmp_path, monkeypatch, group, region):
    monkeypatch.setattr(table, "_GROUP", group)
    points = geopandas.GeoDataFrame({"lon": LON, "lat": LAT}, geometry=shapely.points(LON, LAT))
    table.write_frames([points[:9000], points[9000:]], tmp_path / "t.parquet")
    wanted = np.flatnonzero(shapely.contains_xy(region, LON, LAT))
    assert np.array_equal(rows_of(rows_inside(tmp_path / "t.parquet", region)), wanted)


def test_of_a_small_region_little_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "_GROUP", 64)
    points = geopandas.GeoDataFrame({"lon": LON, "lat": LAT}, geometry=shapely.points(LON, LAT))
    table.write_frames([points[:9000], points[9000:]], tmp_path / "t.parquet")
    read = []

    class Watched(ParquetFile):
        def read_row_group(self, number, **how):
            read.append(number)
            return super().read_row_group(number, **how)

    monkeypatch.setattr(table, "ParquetFile", Watched)
    rows_inside(tmp_path / "t.parquet", shapely.box(24.2, 60.2, 24.3, 60.3))
    assert 0 < len(read) < len(LON) / 64 / 10


def test_source_of_a_row_in_any_group(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "_GROUP", 7)
    sources = [f"{number % 3}.tif" for number in range(20)]
    points = geopandas.GeoDataFrame({"source": sources}, geometry=shapely.points(LON[:20], LAT[:20]))
    table.write_frames([points], tmp_path / "t.parquet")
    assert [source_at(tmp_path / "t.parquet", row) for row in range(20)] == sources
    assert rows_of(rows_from(tmp_path / "t.parquet", "[12].tif")).tolist() == [
        row for row in range(20) if row % 3
    ]
