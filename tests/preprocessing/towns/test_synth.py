import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pyproj
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from geoloc.errors import DataError
from geoloc.places import LonLat
from geoloc.street_view import read_street_view
from preprocessing.towns.scene import Surface
from preprocessing.towns.synth import SynthConfig, synthesize
from preprocessing.towns.table import SCHEMA, read_rows
from preprocessing.towns.town import TownConfig

TOWN = TownConfig(pairs=5, photos=2, side_m=180.0, footprint_m=48.0, tile_px=128, panorama_wh=(256, 64))
CONFIG = SynthConfig(towns=2, seed=40, town=TOWN)
ELSEWHERE = """
from pathlib import Path
import sys
from preprocessing.towns.synth import SynthConfig, synthesize
from preprocessing.towns.town import TownConfig
if __name__ == "__main__":
    town = TownConfig(pairs=5, photos=2, side_m=180.0, footprint_m=48.0, tile_px=128, panorama_wh=(256, 64))
    synthesize(SynthConfig(towns=2, seed=40, town=town), Path(sys.argv[1]), workers=2)
"""


@pytest.fixture(scope="module")
def towns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesize(CONFIG, tmp_path_factory.mktemp("synth") / "towns")


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


def test_the_layout_is_cvusas(towns: Path) -> None:
    for split, ids in (("train", range(1, 6)), ("val", range(6, 11))):
        lines = (towns / "splits" / f"{split}-19zl.csv").read_text().splitlines()
        assert lines == [
            f"bingmap/19/{i:07d}.jpg,streetview/panos/{i:07d}.jpg,streetview/annotations/{i:07d}.png"
            for i in ids
        ]
        for satellite, street, annotation in (line.split(",") for line in lines):
            assert pixels(towns / satellite).shape == (128, 128, 3)
            assert pixels(towns / street).shape == (64, 256, 3)
            assert pixels(towns / annotation).shape == (64, 256)
    surfaces = pixels(towns / "streetview/annotations/0000001.png")
    assert set(np.unique(surfaces)) <= set(Surface) and surfaces[0].max() == Surface.SKY


def test_train_and_val_share_no_town(towns: Path) -> None:
    rows = read_rows(towns / "street_views.parquet")
    seeds = {split: {row["town_seed"] for row in rows if row["split"] == split} for split in ("train", "val")}
    assert seeds == {"train": {40}, "val": {41}}


@given(st.integers(1, 200))
def test_the_last_towns_are_for_validation(towns: int) -> None:
    splits = [SynthConfig(towns, 0).split_of(number) for number in range(towns)]
    assert splits.count("val") == max(1, towns // 6)
    assert splits == sorted(splits)


def test_the_table_says_what_the_files_say(towns: Path) -> None:
    table = pq.read_table(towns / "street_views.parquet")
    assert table.schema.equals(SCHEMA)
    rows = table.to_pylist()
    assert [row["id"] for row in rows] == list(range(1, 15))
    for row in rows:
        view = read_street_view(towns / row["street"])
        assert view.is_panorama == row["is_panorama"] == (row["satellite"] is not None)
        assert view.lonlat is not None and view.lonlat.distance_m(LonLat(row["lon"], row["lat"])) < 0.01
        assert view.heading_deg == pytest.approx(row["heading_deg"], abs=0.01)
        assert view.hfov_deg == pytest.approx(row["hfov_deg"], abs=0.01)
        assert row["heading_deg"] == 0 or not row["is_panorama"]


def test_a_tile_shows_the_orthophoto_around_its_centre(towns: Path) -> None:
    for row in read_rows(towns / "street_views.parquet"):
        if row["satellite"] is None:
            continue
        tile = pixels(towns / row["satellite"]).astype(float)
        with rasterio.open(towns / row["ortho"]) as ortho:
            to_crs = pyproj.Transformer.from_crs(4326, ortho.crs, always_xy=True)
            x, y = to_crs.transform(row["tile_lon"], row["tile_lat"])
            east, north = np.array(to_crs.transform(row["lon"], row["lat"])) - (x, y)
            assert max(abs(east), abs(north)) <= TOWN.jitter_m + 1e-6
            errors = [_difference(ortho, tile, x + dx, y) for dx in (-1.5, 0.0, 1.5)]
        assert np.argmin(errors) == 1 and errors[1] < 12


def test_the_ground_has_the_resolution_asked_for(tmp_path: Path) -> None:
    sharp = SynthConfig(towns=1, seed=40, town=replace(TOWN, pairs=2, photos=0, gsd_m=0.15))
    test_a_tile_shows_the_orthophoto_around_its_centre(synthesize(sharp, tmp_path / "towns"))
    with rasterio.open(tmp_path / "towns" / "ortho" / "town-40.tif") as ortho:
        assert ortho.res == pytest.approx((0.15, 0.15)) and ortho.width == 1200
    with pytest.raises(DataError, match="other towns"):
        synthesize(replace(sharp, town=replace(sharp.town, gsd_m=0.3)), tmp_path / "towns")


def _difference(ortho: rasterio.DatasetReader, tile: np.ndarray, x: float, y: float) -> float:
    step = TOWN.footprint_m / TOWN.tile_px
    along = (np.arange(TOWN.tile_px) + 0.5) * step - TOWN.footprint_m / 2
    points = [(x + e, y - s) for s in along[::4] for e in along[::4]]
    nearest = np.array(list(ortho.sample(points))).reshape(32, 32, 3).astype(float)
    return float(np.abs(nearest - tile[::4, ::4]).mean())


def test_the_bytes_depend_on_neither_workers_nor_processor(towns: Path, tmp_path: Path) -> None:
    script = tmp_path / "elsewhere.py"
    script.write_text(ELSEWHERE)
    root = Path(__file__).parents[3]
    old = "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR AVX2 FMA3"
    environment = os.environ | {"PYTHONPATH": str(root), "NPY_DISABLE_CPU_FEATURES": old}
    command = [sys.executable, "-W", "ignore", str(script), str(tmp_path / "towns")]
    subprocess.run(command, env=environment, check=True)
    assert hashes(tmp_path / "towns") == hashes(towns)


def test_a_killed_run_goes_on_where_it_stopped(towns: Path, tmp_path: Path) -> None:
    def kill(done: int) -> None:
        if done == 10:
            raise KeyboardInterrupt

    out = tmp_path / "towns"
    with pytest.raises(KeyboardInterrupt):
        synthesize(CONFIG, out, kill)
    assert [p.name for p in (out / "towns").iterdir()] == ["40.parquet"]
    assert not (out / "street_views.parquet").exists()
    first = (out / "streetview/panos/0000001.jpg").stat().st_mtime_ns
    done: list[int] = []
    synthesize(CONFIG, out, done.append)
    assert done == list(range(7, 15))
    assert (out / "streetview/panos/0000001.jpg").stat().st_mtime_ns == first
    assert hashes(out) == hashes(towns)


def test_another_set_in_the_folder_is_left_alone(towns: Path) -> None:
    before = hashes(towns)
    with pytest.raises(DataError, match="other towns"):
        synthesize(replace(CONFIG, seed=41), towns)
    assert hashes(towns) == before


def test_a_folder_or_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    for out in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(DataError, match="give a new folder"):
            synthesize(CONFIG, out)
    assert hashes(tmp_path).keys() == {"thesis.txt"}


def test_a_town_without_room_leaves_no_part(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Town 40 has room for"):
        synthesize(replace(CONFIG, town=replace(TOWN, pairs=4000)), tmp_path / "towns")
    assert not (tmp_path / "towns" / "towns").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"pairs": 0, "photos": 0}, {"pairs": -1}, {"difficulty": "absurd"}, {"side_m": 20.0},
        {"jitter_m": -1.0}, {"jitter_m": 40.0}, {"footprint_m": 900.0},
        {"footprint_m": float("nan")}, {"tile_px": 1},
        {"gsd_m": 0.05}, {"gsd_m": float("nan")},
        {"panorama_wh": (10, 10)}, {"panorama_wh": (128, 512)},
    ],
)  # fmt: skip
def test_a_nonsense_town_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(DataError):
        replace(TOWN, **wrong)


@pytest.mark.parametrize("wrong", [{"towns": 0}, {"seed": -1}, {"towns": 10_000_000}])
def test_a_nonsense_set_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(DataError):
        replace(CONFIG, **wrong)


def test_a_damaged_table_of_a_town_is_named(tmp_path: Path) -> None:
    path = tmp_path / "40.parquet"
    for content in (b"", b"no parquet"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"40\.parquet"):
            read_rows(path)


def test_a_mark_that_is_no_text_is_anothers(tmp_path: Path) -> None:
    (tmp_path / "synth.json").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="other towns"):
        synthesize(SynthConfig(1, 40), tmp_path)
