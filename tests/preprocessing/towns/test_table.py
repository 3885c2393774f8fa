"""The table of a set of towns: nothing that is wrong with it reaches those who read it."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from geoloc.errors import DataError
from preprocessing.towns.table import TABLE, town_rows, write_table

ROW = {
    "id": 0, "town_seed": 5, "split": "val", "street": "s.jpg", "ortho": "o.tif", "lon": 9.0, "lat": 47.0,
    "heading_deg": 90.0, "hfov_deg": 360.0,
}  # fmt: skip
TILE = {"satellite": "t.jpg", "tile_lon": 9.0, "tile_lat": 47.0, "footprint_m": 64.0}


def test_rows_that_have_the_files(tmp_path: Path) -> None:
    write_table(tmp_path / TABLE, [ROW, {**ROW, "id": 1, **TILE}])
    assert [row["id"] for row in town_rows(tmp_path, "street", "ortho")] == [0, 1]
    assert [row["id"] for row in town_rows(tmp_path, "street", "satellite")] == [1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"street": None}, {"ortho": None}, {"town_seed": None}, {"split": None}, {"lon": None},
        {"lat": np.nan}, {"lon": 999.0}, {"heading_deg": 1e9}, {"heading_deg": None}, {"hfov_deg": -4.0},
        {"street": "../s.jpg"}, {"ortho": "/o.tif"}, {"ortho": "o\0.tif"},
    ],
    ids=str,
)  # fmt: skip
def test_a_row_that_no_town_has(tmp_path: Path, wrong: dict[str, object]) -> None:
    write_table(tmp_path / TABLE, [ROW, {**ROW, "id": 1, **wrong}])
    with pytest.raises(DataError, match=f"no town has.*{next(iter(wrong))}"):
        town_rows(tmp_path, "street", "ortho")


def test_columns_of_another_type(tmp_path: Path) -> None:
    for values in (["east"], [[9.0]], [{"degrees": 9.0}]):
        pq.write_table(
            pa.table({**{name: [value] for name, value in ROW.items()}, "lon": values}), tmp_path / TABLE
        )
        with pytest.raises(DataError, match="geoloc synth"):
            town_rows(tmp_path, "street", "ortho")
