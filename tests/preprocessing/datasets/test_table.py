import os
from pathlib import Path

import geopandas
import pandas as pd
import pytest
from PIL import Image
from shapely import Point

from geoloc.errors import DataError
from geoloc.places import LonLat
from preprocessing.datasets.open import open_pairs
from preprocessing.datasets.table import read_table


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.jpg", "b.jpg", "ta.png", "tb.png"):
        (tmp_path / name).write_bytes(b"not read here")
    return tmp_path


def write(folder: Path, *lines: str) -> Path:
    (folder / "t.csv").write_text("\n".join(lines) + "\n")
    return folder / "t.csv"


def test_columns_by_any_of_their_names(folder: Path) -> None:
    header = "Photo,TILE,Heading,hfov,Longitude, lat,tile_lon,tile_lat,footprint_m,split"
    full, bare = "a.jpg,ta.png,350.5,70,9.5,50,9.6,50.1,64,val", f"{folder}/b.jpg,tb.png,,,,,,,,train"
    path = write(folder, header, full, bare)
    first, second = read_table(path).pairs
    assert (first.street, first.satellite) == (folder / "a.jpg", folder / "ta.png")
    assert (first.heading_deg, first.hfov_deg, first.footprint_m) == (350.5, 70, 64)
    assert (first.lonlat, first.tile_lonlat) == (LonLat(9.5, 50.0), LonLat(9.6, 50.1))
    assert second.street == folder / "b.jpg"
    assert (second.heading_deg, second.hfov_deg, second.lonlat, second.footprint_m) == (None,) * 4
    assert [pair.street.name for pair in open_pairs(f"table:{path}", "val").pairs] == ["a.jpg"]
    with pytest.raises(DataError, match="it has train, val"):
        read_table(path, "test")


def test_a_photo_says_itself_where_it_looks_unless_the_table_does(folder: Path) -> None:
    tags = Image.Exif()
    tags.get_ifd(0x8825).update({16: "T", 17: 271.5})
    Image.new("RGB", (64, 48)).save(folder / "a.jpg", exif=tags)
    Image.new("RGB", (64, 48)).save(folder / "b.jpg")
    rows = ("a.jpg,ta.png,", "b.jpg,tb.png,", "a.jpg,tb.png,12")
    path = write(folder, "street,satellite,heading_deg", *rows)
    assert [pair.heading_deg for pair in read_table(path).pairs] == [271.5, None, 12]


def test_parquet_with_and_without_points(folder: Path) -> None:
    rows = {"street": ["a.jpg", "b.jpg"], "satellite": ["ta.png", "tb.png"], "heading_deg": [1.0, None]}
    pd.DataFrame(rows).to_parquet(folder / "plain.parquet")
    assert read_table(folder / "plain.parquet").pairs[0].lonlat is None
    points = geopandas.GeoDataFrame(rows, geometry=[Point(500_000, 5_500_000)] * 2, crs=32632)
    points.to_parquet(folder / "points.parquet")
    (pair, other) = read_table(folder / "points.parquet").pairs
    assert pair.lonlat is not None and pair.lonlat.lon == pytest.approx(9)
    assert pair.lonlat.lat == pytest.approx(49.65, abs=0.01)
    assert (pair.heading_deg, other.heading_deg) == (1, None)


def test_points_stand_above_columns_of_their_names(folder: Path) -> None:
    rows = {"street": ["a.jpg"], "satellite": ["ta.png"], "Lon": [1.0], "Latitude": [2.0]}
    points = geopandas.GeoDataFrame(rows, geometry=[Point(9, 50)], crs=4326)
    points.to_parquet(folder / "points.parquet")
    assert read_table(folder / "points.parquet").pairs[0].lonlat == LonLat(9, 50)
    with pytest.raises(DataError, match="more than one column lon"):
        read_table(write(folder, "street,satellite,Lon,lon", "a.jpg,ta.png,1,2"))


@pytest.mark.parametrize("dtype", ["Float64", "float32", "float64"])
def test_gaps_of_any_kind_are_empty_cells(folder: Path, dtype: str) -> None:
    rows = pd.DataFrame({"street": ["a.jpg", "b.jpg"], "satellite": ["ta.png", "tb.png"]})
    rows["heading_deg"] = pd.array([90.0, None], dtype=dtype)
    rows.to_parquet(folder / "t.parquet")
    assert [pair.heading_deg for pair in read_table(folder / "t.parquet").pairs] == [90, None]


def test_a_comma_too_many_moves_no_column(folder: Path) -> None:
    path = write(folder, "street,satellite,heading_deg", "a.jpg,ta.png,90,", "b.jpg,tb.png,180,")
    assert [pair.heading_deg for pair in read_table(path).pairs] == [90, 180]


def test_what_is_missing_is_counted_and_named(folder: Path) -> None:
    table = read_table(write(folder, "street,satellite", "a.jpg,ta.png", "gone.jpg,tb.png"))
    assert (len(table.pairs), table.missing_pairs, table.missing) == (1, 1, [folder / "gone.jpg"])


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["photo,heading", "a.jpg,1"], "lacks a column street or satellite; it has photo, heading"),
        (["street,satellite,heading_deg", "a.jpg,ta.png,north"], "row 1: heading_deg is 'north'"),
        (["street,satellite,lat", "a.jpg,ta.png,1", "b.jpg,tb.png,91"], "row 2: lat is '91'"),
        (["street,satellite,hfov_deg", "a.jpg,ta.png,inf"], "row 1: hfov_deg"),
        (["street,satellite", ",ta.png"], "row 1: street is nan"),
        (["street,satellite", "a.jpg,ta.png", "a.jpg,ta.png,1,2,3"], "no CSV"),
    ],
)
def test_values_that_cannot_be(folder: Path, lines: list[str], says: str) -> None:
    with pytest.raises(DataError, match=says):
        read_table(write(folder, *lines))


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_no_table(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"\xff\xfe\x00PAR1 no table")
    with pytest.raises(DataError, match=name):
        read_table(folder / name)
    with pytest.raises(DataError, match="no file"):
        open_pairs(f"table:{folder}")


@pytest.mark.skipif(
    "GEOLOC_REAL_DATA" not in os.environ, reason="GEOLOC_REAL_DATA is not set: no real photos"
)
def test_cvh3ds_own_table() -> None:
    pairs = read_table(Path(os.environ["GEOLOC_REAL_DATA"]) / "cvh3d/pairs.csv").pairs
    assert len(pairs) == 6
    first = pairs[0]
    assert (first.street.name, first.satellite.name) == ("111050484379850.jpg", "111050484379850_sat.jpg")
    assert (first.heading_deg, first.hfov_deg, first.footprint_m) == (62.51, None, 200)
    assert first.lonlat == first.tile_lonlat
    assert first.lonlat is not None and first.lonlat.lat == pytest.approx(60.2333, abs=1e-3)
