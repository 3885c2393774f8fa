"""Imagery is read where it lies, or refused with a sentence. The oracles are pyproj and rasterio.warp."""

import http.server
import os
import threading

import numpy as np
import pyproj
import pytest
import rasterio
from affine import Affine
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import from_bounds, from_origin
from rasterio.warp import reproject
from tiny_imagery import LEFT, TOP, UTM, flat, write

from geoloc.errors import ImageryError
from preprocessing import imagery as reading
from preprocessing.imagery import read_overview, read_square
from preprocessing.sources import find_imagery, open_imagery

LON, LAT = pyproj.Transformer.from_crs(UTM, "EPSG:4326", always_xy=True).transform(LEFT, TOP)


def square(path, bounds=(LEFT, TOP - 100, LEFT + 100, TOP), hw=(50, 50)):
    paths = path if isinstance(path, list) else [path]
    return read_square([open_imagery(one) for one in paths], UTM, bounds, hw)


PLACES = {
    "utm": (UTM, from_origin(LEFT, TOP, 0.5, 0.5)),
    "web mercator": ("EPSG:3857", "3857"),
    "world mercator": ("EPSG:3395", "3395"),
    "degrees": ("EPSG:4326", from_origin(LON, LAT, 7e-6, 5e-6)),
    "Gauss-Krueger": ("EPSG:31467", "31467"),
    "south up and turned": (
        UTM,
        Affine.translation(LEFT, TOP) @ Affine.rotation(30) @ Affine.scale(0.5, 0.5),
    ),
}


def placed(name):
    crs, transform = PLACES[name]
    if isinstance(transform, str):
        x, y = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(LON, LAT)
        transform = from_origin(x, y, 0.6, 0.6)
    return crs, transform


@pytest.mark.parametrize("name", PLACES)
def test_a_dot_is_read_where_its_own_geotransform_puts_it(tmp_path, name):
    crs, transform = placed(name)
    values = flat((40, 40, 40), 400, 400)
    column, row = 203, 187  # the dot is 6 px wide, this is its middle
    values[:, row - 3 : row + 3, column - 3 : column + 3] = 240
    path = write(tmp_path / "dot.tif", values, crs, transform)
    x, y = transform @ (column, row)
    east, north = pyproj.Transformer.from_crs(crs, UTM, always_xy=True).transform(x, y)
    bounds = (east - 17.3, north - 22.7, east + 14.7, north + 9.3)
    rgb, _ = read_square([open_imagery(path)], UTM, bounds, (128, 128))
    weight = rgb[..., 0].astype(float) - 40
    down, across = (np.arange(128) + 0.5) @ weight / weight.sum(1).sum(), None
    rows, columns = np.indices((128, 128)) + 0.5
    down, across = (rows * weight).sum() / weight.sum(), (columns * weight).sum() / weight.sum()
    assert abs(bounds[0] + across * 0.25 - east) < 0.125
    assert abs(bounds[3] - down * 0.25 - north) < 0.125


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("gsd", [0.2, 0.5, 1.7])
def test_pixels_are_those_of_rasterio_warp(tmp_path, name, gsd):
    crs, transform = placed(name)
    rng = np.random.default_rng(0)
    values = np.kron(rng.integers(0, 255, (3, 50, 50)), np.ones((1, 8, 8))).astype(np.uint8)
    path = write(tmp_path / "a.tif", values, crs, transform)
    x, y = transform @ (200, 200)
    east, north = pyproj.Transformer.from_crs(crs, UTM, always_xy=True).transform(x, y)
    bounds = (east - 16, north - 16, east + 16, north + 16)
    hw = (round(32 / gsd),) * 2
    rgb, owner = read_square([open_imagery(path)], UTM, bounds, hw)
    wanted = np.zeros((3, *hw), np.uint8)
    with rasterio.open(path) as dataset:
        reproject(
            rasterio.band(dataset, [1, 2, 3]),
            wanted,
            dst_transform=from_bounds(*bounds, *hw),
            dst_crs=UTM,
            resampling=Resampling.bilinear,
        )
    assert (owner == 0).all()
    difference = np.abs(rgb.transpose(2, 0, 1).astype(int) - wanted)
    assert difference.mean() < 1.0


def test_reading_in_parts_changes_nothing(tmp_path, monkeypatch):
    values = np.random.default_rng(1).integers(0, 255, (3, 300, 300), np.uint8)
    path = write(tmp_path / "a.tif", values)
    bounds = (LEFT + 10.5, TOP - 266.5, LEFT + 266.5, TOP - 10.5)
    whole, _ = square(path, bounds, (128, 128))
    monkeypatch.setattr(reading, "LARGEST_READ_PX", 10_000)
    parts, _ = square(path, bounds, (128, 128))
    assert np.abs(whole.astype(int) - parts).max() <= 1


def test_overviews_are_used_and_lie_right(tmp_path):
    values = np.kron(np.random.default_rng(2).integers(0, 255, (3, 20, 20)), np.ones((1, 32, 32))).astype(
        np.uint8
    )
    path = write(tmp_path / "a.tif", values, tiled=True)
    bounds = (LEFT, TOP - 640, LEFT + 640, TOP)
    without, _ = square(path, bounds, (80, 80))
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2, 4, 8], Resampling.average)
    with_them, _ = square(path, bounds, (80, 80))
    middles = np.ix_(np.arange(80) % 4 == 1, np.arange(80) % 4 == 1)  # a colour is 4 x 4 px there
    assert np.abs(without.astype(int) - with_them)[middles].max() <= 2


def test_the_first_listed_wins_and_later_ones_fill(tmp_path):
    hole = flat((200, 0, 0))
    hole[:, 40:60, 40:60] = 7
    first = write(tmp_path / "b.tif", hole, nodata=7)
    second = write(tmp_path / "a.tif", flat((0, 200, 0)))
    rgb, owner = square([first, second], hw=(100, 100))
    assert (rgb[45:55, 45:55] == (0, 200, 0)).all() and (owner[45:55, 45:55] == 1).all()
    assert (rgb[:35] == (200, 0, 0)).all() and (owner[:35] == 0).all()


def test_nodata_is_a_pixel_with_all_bands_nodata(tmp_path):
    values = flat((255, 90, 90))
    values[:, :50] = 255
    rgb, owner = square(write(tmp_path / "a.tif", values, nodata=255), hw=(100, 100))
    assert (owner[:49] == -1).all() and (rgb[:49] == 0).all()
    assert (owner[51:] == 0).all() and (rgb[51:] == (255, 90, 90)).all()


def test_alpha_is_honoured(tmp_path):
    values = flat((10, 20, 30, 255))
    values[3, :, :50] = 0
    path = write(tmp_path / "a.tif", values, alpha="YES")
    rgb, owner = square(path, hw=(100, 100))
    assert open_imagery(path).reader.alpha == 4 and (owner[:, :49] == -1).all() and (owner[:, 51:] == 0).all()
    assert (rgb[:, 51:] == (10, 20, 30)).all()


def test_infrared_marked_as_alpha_is_no_alpha(tmp_path):
    infrared = np.random.default_rng(0).integers(0, 255, (1, 100, 100), np.uint8)
    path = write(tmp_path / "naip.tif", np.concatenate([flat((10, 20, 30)), infrared]), alpha="YES")
    rgb, owner = square(path)
    assert (owner == 0).all() and (rgb == (10, 20, 30)).all()
    assert any("infrared" in note for note in open_imagery(path).notes)


def test_a_fourth_band_is_ignored(tmp_path):
    path = write(tmp_path / "a.tif", flat((10, 20, 30, 40)), alpha="NO")
    assert (square(path)[0] == (10, 20, 30)).all()


def test_bands_are_taken_by_their_names(tmp_path):
    roles = (ColorInterp.blue, ColorInterp.green, ColorInterp.red)
    path = write(tmp_path / "bgr.tif", flat((30, 20, 10)), roles=roles, photometric="MINISBLACK")
    assert (square(path)[0] == (10, 20, 30)).all()


def test_sixteen_bits_are_spread_over_eight(tmp_path):
    ramp = np.broadcast_to(np.linspace(1000, 5000, 100).astype(np.uint16), (3, 100, 100)).copy()
    ramp[:, :10] = 0
    path = write(tmp_path / "a.tif", ramp, nodata=0)
    imagery = open_imagery(path)
    rgb, owner = square(path, hw=(100, 100))
    assert 1000 < imagery.reader.black < 1100 and 4900 < imagery.reader.white <= 5000
    assert (
        (owner[:9] == -1).all()
        and rgb[50, 0, 0] == 0
        and rgb[50, -1, 0] == 255
        and 120 < rgb[50, 50, 0] < 135
    )
    assert any("16-bit" in note for note in imagery.notes)


def test_one_band_is_grey_and_says_so(tmp_path):
    path = write(tmp_path / "a.tif", flat((90,)))
    assert (square(path)[0] == 90).all() and "grey" in open_imagery(path).notes[0]


def test_feet_are_not_taken_for_metres(tmp_path):
    transform = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:2263", always_xy=True)
    x, y = transform.transform(-74.0, 40.7)
    path = write(tmp_path / "ny.tif", flat((1, 2, 3)), "EPSG:2263", from_origin(x, y, 1, 1))
    assert open_imagery(path).gsd_m == pytest.approx(0.3048, rel=1e-3)
    assert open_imagery(path).utm == "EPSG:32618"


def test_overview_of_the_whole_image(tmp_path):
    crs, transform = placed("south up and turned")
    values = flat((10, 20, 30), 200, 100)
    values[:, :100] = 0
    rgba, corners = read_overview(
        open_imagery(write(tmp_path / "a.tif", values, crs, transform, nodata=0)), 64
    )
    assert rgba.shape == (64, 32, 4) and rgba[:30, :, 3].max() == 0 and (rgba[34:] == (10, 20, 30, 255)).all()
    to_degrees = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    for corner, at in zip(corners, ((0, 200), (0, 0), (100, 0), (100, 200)), strict=True):
        assert (corner.lon, corner.lat) == pytest.approx(to_degrees.transform(*(transform @ at)), abs=1e-9)


def test_folders_are_searched_and_files_taken_once(tmp_path):
    (tmp_path / "deep").mkdir()
    b, a = write(tmp_path / "b.TIF", flat((1, 2, 3))), write(tmp_path / "deep" / "a.tiff", flat((1, 2, 3)))
    (tmp_path / "c.txt").write_text("no imagery")
    assert find_imagery([a, tmp_path]) == [(str(a), None), (str(b), None)]
    with pytest.raises(ImageryError, match="no file or folder"):
        find_imagery([tmp_path / "x.tif"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageryError, match="holds no"):
        find_imagery([tmp_path / "empty"])


VRT = """<VRTDataset rasterXSize="9" rasterYSize="9"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>
<SourceFilename>{source}</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"""


def broken(folder, name):
    path = folder / "a.tif"
    rgb = flat((1, 2, 3))
    if name == "text":
        path.write_text("hello")
    elif name == "empty":
        path.write_bytes(b"")
    elif name == "vrt":
        path.write_text(VRT.format(source=write(folder / "b.tif", rgb)))
    elif name == "no crs":
        write(path, rgb, crs=None)
    elif name == "no geotransform":
        with pytest.warns(NotGeoreferencedWarning):
            write(path, rgb, transform=Affine.identity())
    elif name == "float":
        write(path, flat((1, 2, 3), dtype=np.float32))
    elif name == "complex":
        write(path, flat((1,), dtype=np.complex64))
    elif name == "int16":
        write(path, flat((1, 2, 3), dtype=np.int16))
    elif name == "palette":
        write(path, flat((1,)), photometric="PALETTE")
    elif name == "nowhere":
        write(path, rgb, "EPSG:4326", from_origin(500, 300, 1, 1))
    elif name == "geocentric":
        write(path, rgb, "EPSG:4978")
    elif name == "polar":
        write(path, rgb, "EPSG:4326", from_origin(10, 89, 1e-5, 1e-5))
    elif name == "huge":
        write(path, flat((1,), 1, 1))
        with rasterio.open(
            path,
            "w",
            driver="GTiff",
            width=2_100_000,
            height=16,
            count=1,
            dtype="uint8",
            crs=UTM,
            transform=from_origin(LEFT, TOP, 1, 1),
            SPARSE_OK=True,
            BLOCKYSIZE=16,
        ):
            pass
    elif name == "truncated":
        write(path, np.random.default_rng(0).integers(0, 255, (3, 300, 300), np.uint8))
        path.write_bytes(path.read_bytes()[:20_000])
    return path


REFUSALS = {
    "text": "not a GeoTIFF",
    "empty": "not a GeoTIFF",
    "vrt": "not a GeoTIFF",
    "no crs": "no coordinate reference system",
    "no geotransform": "no geotransform",
    "float": "float32",
    "complex": "complex64",
    "int16": "int16",
    "palette": "palette",
    "nowhere": "nowhere on the earth",
    "geocentric": "geocentric CRS",
    "polar": "beyond the UTM grid",
    "huge": "2100000 x 16",
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refused_with_one_sentence(tmp_path, name):
    path = broken(tmp_path, name)
    with pytest.raises(ImageryError, match=REFUSALS[name]) as caught:
        open_imagery(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_truncated_file_is_refused_when_read(tmp_path):
    path = broken(tmp_path, "truncated")
    with pytest.raises(ImageryError, match=r"damaged|not a GeoTIFF"):
        square(path)


def test_files_beside_the_image_change_nothing(tmp_path):
    path = write(tmp_path / "a.tif", flat((9, 9, 9)))
    before = open_imagery(path)
    (tmp_path / "a.tfw").write_text("5\n0\n0\n-5\n1\n1\n")
    (tmp_path / "a.tif.aux.xml").write_text(
        "<PAMDataset><SRS>EPSG:4326</SRS><GeoTransform>1,2,0,3,0,-2</GeoTransform></PAMDataset>"
    )
    write(tmp_path / "other.tif", flat((200, 0, 0), 50, 50)).rename(tmp_path / "a.tif.ovr")
    write(tmp_path / "mask.tif", flat((0,)), photometric="MINISBLACK").rename(tmp_path / "a.tif.msk")
    assert open_imagery(path) == before
    rgb, owner = square(path, hw=(25, 25))
    assert (rgb == 9).all() and (owner == 0).all()


def test_overviews_in_another_file_are_not_followed(tmp_path):
    """GDAL honours a path in the TIFF's own metadata, even one that is a VRT on the network."""
    asked = []

    class Listener(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Listener) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        path = write(tmp_path / "a.tif", flat((9, 9, 9)))
        with rasterio.open(path, "r+") as dataset:
            where = f"/vsicurl/http://127.0.0.1:{server.server_port}/evil.tif"
            dataset.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=where)
        with pytest.raises(ImageryError, match="overviews in another file"):
            square(path, hw=(25, 25))
        server.shutdown()
    assert asked == []


def test_a_name_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / os.fsdecode(b"\xff.tif")
    path.write_bytes(write(tmp_path / "a.tif", flat((1, 2, 3))).read_bytes())
    with pytest.raises(ImageryError, match="rename"):
        open_imagery(path)
