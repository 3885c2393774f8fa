from pathlib import Path

import pyproj
import pytest
import rasterio

from geoloc.street_view import read_street_view
from preprocessing.towns.sample import write_sample
from preprocessing.towns.table import read_rows


@pytest.mark.slow
def test_the_sample_is_small_whole_and_away_from_the_edge(tmp_path: Path) -> None:
    write_sample(tmp_path, 780)
    rows = read_rows(tmp_path / "street_views.parquet")
    assert [row["is_panorama"] for row in rows] == [True] * 40 + [False] * 10
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 12e6
    with rasterio.open(tmp_path / "ortho.tif") as ortho:
        bounds, to_crs = ortho.bounds, pyproj.Transformer.from_crs(4326, ortho.crs, always_xy=True)
    assert ((bounds.right - bounds.left - 64) // 20 + 1) ** 2 > 1300
    for row in rows:
        assert read_street_view(tmp_path / row["street"]).is_panorama == row["is_panorama"]
        x, y = to_crs.transform(row["lon"], row["lat"])
        assert min(x - bounds.left, bounds.right - x, y - bounds.bottom, bounds.top - y) > 45
    assert len({round(row["heading_deg"]) for row in rows}) > 25
