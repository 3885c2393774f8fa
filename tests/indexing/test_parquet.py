"""A gallery as one GeoParquet file; the oracle is geopandas."""

import geopandas
import numpy as np
import pytest
import shapely

from geoloc.errors import GeolocError
from indexing import parquet
from indexing.gallery import Gallery
from indexing.remove import remove_region
from indexing.rows import rows_of
from ui.cli import main


def test_every_tile_is_a_row_with_its_embedding(tmp_path, gallery, monkeypatch):
    monkeypatch.setattr(parquet, "_AT_ONCE", 100)
    seen = []
    with Gallery.open(gallery) as opened:
        parquet.export_to_parquet(opened, tmp_path / "g.parquet", lambda *now: seen.append(now))
        wanted = np.concatenate([one.segment.read(rows_of(one.kept)) for one in opened.segments])
        table = geopandas.read_parquet(tmp_path / "g.parquet")
        assert table.crs == "EPSG:4326" and list(table["id"]) == list(opened.tiles["id"])
        for name in ("lon", "lat", "source"):
            assert (table[name].to_numpy() == opened.tiles[name].to_numpy()).all()
        assert shapely.equals(table.geometry.to_numpy(), opened.tiles.geometry.to_numpy()).all()
    stored = np.stack(table["embedding"].to_numpy())
    assert stored.dtype == np.float16
    np.testing.assert_array_equal(stored.astype(np.float32), wanted)
    assert seen[-1] == (len(table), len(table)) and len(seen) > 3


def test_what_was_removed_is_not_exported(tmp_path, gallery_copy):
    west, south, east, north = Gallery.open(gallery_copy).bounds_lonlat
    area = tmp_path / "a.geojson"
    area.write_text(shapely.to_geojson(shapely.box(west, south, (west + east) / 2, north)))
    remove_region(gallery_copy, area)
    with Gallery.open(gallery_copy) as opened:
        parquet.export_to_parquet(opened, tmp_path / "g.parquet", lambda *_: None)
        table = geopandas.read_parquet(tmp_path / "g.parquet")
        assert set(table["id"]) == set(opened.tiles["id"]) and len(table) == len(opened)


def test_a_failure_leaves_what_was_there(tmp_path, gallery, monkeypatch, capsys):
    out = tmp_path / "g.parquet"
    out.write_bytes(b"old")

    def fail(*_):
        raise GeolocError("no")

    with Gallery.open(gallery) as opened, pytest.raises(GeolocError):
        parquet.export_to_parquet(opened, out, fail)
    assert out.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1
    with pytest.raises(SystemExit) as exit:
        main(["index", "export", str(gallery), str(tmp_path), "--to", "parquet"])
    assert exit.value.code == 2 and "is no file" in capsys.readouterr().err
