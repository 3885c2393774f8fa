"""A sample of ground: the pixels that are there, spread over all of it, the same twice."""

from pathlib import Path

import numpy as np
import pyproj
import pytest
import rasterio
from tiny_imagery import LEFT, TOP, UTM, flat, noise, write

from geoloc.errors import ImageryError
from preprocessing.ground import sample_ground
from preprocessing.sources import open_imagery


def test_tiles_show_the_ground_around_their_centres(tmp_path: Path) -> None:
    path = write(tmp_path / "ortho.tif", noise(300, 400))
    tiles, lonlats = sample_ground([open_imagery(path)], 40.0, 40, 20)
    assert tiles.shape == (20, 40, 40, 3)
    assert lonlats.shape == (20, 2)
    x, y = pyproj.Transformer.from_crs(4326, UTM, always_xy=True).transform(*lonlats.T)
    with rasterio.open(path) as file:
        pixels = file.read().transpose(1, 2, 0)
    for tile, column, row in zip(tiles, np.rint(x - LEFT - 20), np.rint(TOP - y - 20), strict=True):
        top, left = max(0, int(row)), max(0, int(column))
        here = pixels[top : int(row) + 40, left : int(column) + 40]
        seen = tile[top - int(row) :, left - int(column) :][: here.shape[0], : here.shape[1]]
        assert np.abs(seen.astype(int) - here).mean() < 1
    assert len(np.unique(lonlats, axis=0)) == 20
    assert np.ptp(x) > 200
    assert np.ptp(y) > 150


def test_all_of_it_where_it_is_small_and_the_same_twice(tmp_path: Path) -> None:
    imagery = [open_imagery(write(tmp_path / "ortho.tif", noise(90, 90)))]
    one, two = (sample_ground(imagery, 40.0, 20, 1000) for _ in range(2))
    assert 4 <= len(one[0]) < 30
    assert np.array_equal(one[0], two[0])
    assert np.array_equal(one[1], two[1])


def test_imagery_without_pixels_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "blank.tif", flat((0, 0, 0), 120, 120), nodata=0)
    with pytest.raises(ImageryError, match="pixels enough"):
        sample_ground([open_imagery(path)], 40.0, 40, 20)
