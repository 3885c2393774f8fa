from dataclasses import replace
from pathlib import Path

import numpy as np
import pyproj
import pytest
import rasterio
from box_town import CRS, GSD_M, NOON, NORTH_M, WEST_M, meadow, offsets_m, with_tower, with_tree

from geoloc.errors import GeolocError
from preprocessing.towns.ortho import orthophoto, write_labels, write_orthophoto
from preprocessing.towns.painted import paint
from preprocessing.towns.scene import Surface


def test_corners_lie_where_proj_says(tmp_path: Path) -> None:
    scene = meadow(300)
    write_orthophoto(tmp_path / "a.tif", np.zeros((300, 300, 3), np.uint8), scene)
    to_lonlat = pyproj.Transformer.from_crs(CRS, "EPSG:4326", always_xy=True)
    with rasterio.open(tmp_path / "a.tif") as tiff:
        for column, row in ((0, 0), (300, 0), (300, 300), (0, 300)):
            want = to_lonlat.transform(WEST_M + column * GSD_M, NORTH_M - row * GSD_M)
            assert to_lonlat.transform(*(tiff.transform @ (column, row))) == pytest.approx(want, abs=1e-9)
        assert tiff.crs == CRS


def test_file_is_tiled_with_overviews_and_close_to_the_pixels(tmp_path: Path) -> None:
    scene = with_tower(meadow(600), 10, -20, 30, 9)
    photo = orthophoto(paint(scene, NOON), np.random.default_rng(0))
    write_orthophoto(tmp_path / "a.tif", photo, scene)
    with rasterio.open(tmp_path / "a.tif") as tiff:
        assert tiff.block_shapes == [(256, 256)] * 3
        assert tiff.overviews(1) == [2, 4]
        assert np.abs(tiff.read().transpose(1, 2, 0).astype(int) - photo).mean() < 3
    write_orthophoto(tmp_path / "b.tif", photo, scene)
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()


def test_labels_say_what_stands_where_and_how_high(tmp_path: Path) -> None:
    scene = with_tree(with_tower(meadow(300), 12, 12, 8, 9), -12, -12, 4, 2, 7.5)
    write_labels(tmp_path, "a", scene)
    east, north = offsets_m(scene)
    with (
        rasterio.open(tmp_path / "a-surface.tif") as surface,
        rasterio.open(tmp_path / "a-height.tif") as height,
    ):
        assert surface.transform == height.transform and surface.crs == height.crs == CRS
        assert surface.tags()[str(int(Surface.CROWN))] == "crown"
        kinds, top_cm = surface.read(1), height.read(1)
    tree = (np.abs(east + 12) < 1.5) & (np.abs(north + 12) < 1.5)
    tower = (np.abs(east - 12) < 3) & (np.abs(north - 12) < 3)
    assert (kinds[tree] == Surface.CROWN).all() and 600 < top_cm[tree].max() <= 750
    assert np.isin(kinds[tower], (Surface.ROOF_FLAT, Surface.ROOF_TILE, Surface.ROOF_METAL)).all()
    assert (top_cm[tower] == 900).all()
    rest = ~((np.abs(east + 12) < 9) & (np.abs(north + 12) < 9)) & (np.hypot(east - 12, north - 12) > 16)
    assert (kinds[rest] == Surface.GRASS).all() and (top_cm[rest] == 0).all()


def test_a_place_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "a.tif").mkdir()
    with pytest.raises(GeolocError, match=r"a\.tif"):
        write_orthophoto(tmp_path / "a.tif", np.zeros((32, 32, 3), np.uint8), meadow(32))
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


def test_towers_and_crowns_show_where_they_stand() -> None:
    scene = with_tree(with_tower(meadow(200), 12, 12, 8, 9), -12, -12, 4, 2, 9)
    photo = orthophoto(paint(scene, replace(NOON, sun_elevation_deg=85.0)), np.random.default_rng(0)).astype(
        int
    )
    east, north = offsets_m(scene)
    roof = photo[(np.abs(east - 12) < 3) & (np.abs(north - 12) < 3)]
    grass = photo[(np.abs(east + 12) < 3) & (np.abs(north - 12) < 3)]
    crown = photo[(np.abs(east + 12) < 2) & (np.abs(north + 12) < 2)]
    assert np.ptp(roof.mean(axis=0)) < 40  # a grey roof
    assert (grass[:, 1] > grass[:, 2] + 30).all()  # green
    assert crown[:, 1].mean() < grass[:, 1].mean() - 8
    assert crown.std() > 8


def test_bands_leave_no_seam() -> None:
    scene = meadow(1100)
    photo = orthophoto(paint(scene, NOON), np.random.default_rng(0)).astype(float)
    steps = np.abs(np.diff(photo, axis=0)).mean(axis=(1, 2))
    assert steps[[511, 1023]].max() < 1.5 * np.median(steps)
