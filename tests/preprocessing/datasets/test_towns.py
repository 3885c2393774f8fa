from pathlib import Path

import pandas as pd
import pytest

from geoloc.errors import DataError
from geoloc.places import LonLat
from preprocessing.datasets.towns import read_towns


@pytest.fixture
def towns(tmp_path: Path) -> Path:
    """Two pairs of two towns, and a photo without a tile."""
    rows = [
        {
            "town_seed": seed, "split": split, "street": f"s{seed}.jpg", "satellite": f"t{seed}.jpg",
            "lon": 9.0, "lat": 50.0, "heading_deg": 0.0, "hfov_deg": 360.0, "tile_lon": 9.001,
            "tile_lat": 50.0, "footprint_m": 64.0,
        }
        for seed, split in ((4, "train"), (5, "val"))
    ]  # fmt: skip
    rows.append({**rows[1], "street": "photo.jpg", "satellite": None, "hfov_deg": 80.0})
    pd.DataFrame(rows).to_parquet(tmp_path / "street_views.parquet")
    for name in ("s4.jpg", "t4.jpg", "s5.jpg", "t5.jpg", "photo.jpg"):
        (tmp_path / name).write_bytes(b"not read here")
    return tmp_path


def test_splits_and_seeds(towns: Path) -> None:
    assert read_towns(towns).seeds == {4, 5}
    train, val = read_towns(towns, "train"), read_towns(towns, "val")
    assert (train.seeds, val.seeds) == ({4}, {5})
    (pair,) = val.pairs
    assert pair.street == towns / "s5.jpg"
    assert pair.tile_lonlat == LonLat(9.001, 50.0)
    assert pair.footprint_m == 64.0


def test_missing_files_are_counted(towns: Path) -> None:
    (towns / "t4.jpg").unlink()
    table = read_towns(towns)
    assert (len(table.pairs), table.missing_pairs, list(table.missing)) == (1, 1, [towns / "t4.jpg"])


def test_tables_that_are_wrong(towns: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--split"):
        read_towns(towns, "test")
    path = towns / "street_views.parquet"
    good = pd.read_parquet(path)
    good.drop(columns=["lon", "split"]).to_parquet(path)
    with pytest.raises(DataError, match="street_views"):
        read_towns(towns)
    good.assign(street="/etc/passwd").to_parquet(path)
    with pytest.raises(DataError, match="no town has"):
        read_towns(towns)
    path.write_text("no parquet")
    with pytest.raises(DataError, match="geoloc synth"):
        read_towns(towns)


@pytest.mark.parametrize(
    ("column", "value"),
    [("lon", float("nan")), ("lat", 95.0), ("hfov_deg", 0.0), ("footprint_m", 0.0), ("footprint_m", -64.0)],
)
def test_positions_and_sizes_that_cannot_be(towns: Path, column: str, value: float) -> None:
    path = towns / "street_views.parquet"
    pd.read_parquet(path).assign(**{column: value}).to_parquet(path)
    with pytest.raises(DataError, match=rf"street_views\.parquet.*{column}"):
        read_towns(towns)


def test_what_is_wrong_with_a_table_is_said_in_one_line(towns: Path) -> None:
    path = towns / "street_views.parquet"
    pd.read_parquet(path).drop(columns="lon").to_parquet(path)
    with pytest.raises(DataError) as caught:
        read_towns(towns)
    assert len(str(caught.value).splitlines()) == 1
