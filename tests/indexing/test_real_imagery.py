"""Every real GeoTIFF is indexed where it lies, or refused with one sentence."""

import os
from pathlib import Path

import numpy as np
import pyproj
import pytest
import rasterio
from fake_encoder import FakeEncoder
from rasterio.enums import Resampling
from rasterio.transform import from_bounds
from rasterio.warp import reproject

from geoloc.errors import ImageryError
from indexing.build import build_gallery
from indexing.gallery import Gallery
from indexing.verify import verify

REAL = os.environ.get("GEOLOC_REAL_DATA")
pytestmark = pytest.mark.skipif(not REAL, reason="GEOLOC_REAL_DATA does not name the folder of real data")
FOLDER = Path(REAL or ".") / "geotiff"

# file: tiles of 32 m at the default stride, at least; or words of the refusal
EXPECTED = {
    "drone_utm50s_alpha_0.35m.tif": 300,
    "naip_4band.tif": 40,
    "neon_osbs_0.1m.tif": 1,
    "ortho_3395_0.1m.tif": 200,
    "rd_28992_0.25m.tif": 300,
    "float_nan.tif": "float64 in 1 band",
    "mosaic_a.tif": "300 m per pixel",
    "mosaic_b.tif": "300 m per pixel",
    "webmercator_rgb.tif": "1.143 m per pixel",
}


def test_every_file_is_expected():
    assert {path.name for path in FOLDER.glob("*.tif")} == set(EXPECTED)


@pytest.mark.parametrize("name", [name for name, wanted in EXPECTED.items() if isinstance(wanted, str)])
def test_refused(name, tmp_path, model):
    with pytest.raises(ImageryError, match=EXPECTED[name]) as caught:
        build_gallery([FOLDER / name], model, tmp_path / "g", encoder=FakeEncoder())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [name for name, wanted in EXPECTED.items() if isinstance(wanted, int)])
def test_indexed_in_the_right_place(name, tmp_path, model):
    out = tmp_path / "g"
    build_gallery([FOLDER / name], model, out, encoder=FakeEncoder())
    verify(out)
    with Gallery.open(out) as gallery, rasterio.open(FOLDER / name) as source:
        assert len(gallery) >= EXPECTED[name]
        for id in gallery.tiles["id"].sample(5, random_state=0, replace=True):
            tile = gallery.tile(int(id))
            rgb = gallery.read_tile(int(id))
            _corner_is_true_to_half_a_pixel(tile, source)
            _content_is_rasterios(rgb, tile, source)


def _corner_is_true_to_half_a_pixel(tile, source):
    """Through PROJ from the source's own geotransform: the tile's corner, and back from its lonlat."""
    to_source = pyproj.Transformer.from_crs("EPSG:4326", source.crs.to_wkt(), always_xy=True)
    to_tile = pyproj.Transformer.from_crs(source.crs.to_wkt(), tile.crs, always_xy=True)
    left, bottom, right, top = tile.bounds
    wanted = ((left, bottom), (left, top), (right, top), (right, bottom))
    for corner, (x, y) in zip(tile.corners, wanted, strict=True):
        column, row = ~source.transform @ to_source.transform(corner.lon, corner.lat)
        east, north = to_tile.transform(*(source.transform @ (column, row)))
        half_px = 0.5 * min(abs(source.transform.a), tile.gsd_m)
        assert abs(east - x) < half_px and abs(north - y) < half_px


def _content_is_rasterios(rgb, tile, source):
    wanted = np.zeros((3, tile.size_px, tile.size_px), np.uint8)
    reproject(
        source.read([1, 2, 3]),
        wanted,
        src_transform=source.transform,
        src_crs=source.crs,
        dst_transform=from_bounds(*tile.bounds, tile.size_px, tile.size_px),
        dst_crs=tile.crs,
        resampling=Resampling.bilinear,
    )
    shown = rgb.any(axis=-1)  # where nodata and alpha leave a pixel
    assert (wanted.any(axis=0) | ~shown).mean() > 0.95
    difference = np.abs(rgb.transpose(2, 0, 1).astype(int) - wanted)[:, shown]
    assert np.median(difference) <= 1 and difference.mean() < 5
