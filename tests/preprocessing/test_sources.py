"""Every kind of source gives the pixels that rasterio warps out of the same image, or one sentence."""

import json
import os
import pickle
from datetime import UTC, datetime

import numpy as np
import pyproj
import pytest
import rasterio
from range_server import serving
from rasterio.enums import Resampling
from rasterio.transform import from_bounds
from rasterio.warp import reproject
from tiny_imagery import LEFT, TOP, UTM, flat, write
from tiny_pyramid import Pyramid, encode, make_pyramid, to_folder, to_mbtiles, to_pmtiles

from geoloc.errors import ImageryError
from preprocessing.imagery import read_overview, read_square
from preprocessing.remote import remote
from preprocessing.sources import find_imagery, open_all, open_imagery

KINDS = (
    "tif", "url", "xyz", "tms", "mbtiles", "mbtiles view", "pmtiles", "pmtiles leaves", "pmtiles url", "webp",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _forget_servers():
    remote.cache_clear()


@pytest.fixture(scope="module")
def pyramid(tmp_path_factory):
    return make_pyramid(tmp_path_factory.mktemp("pyramid"))


@pytest.fixture(scope="module")
def addresses(pyramid, tmp_path_factory):
    """The same image in every kind of source."""
    folder = tmp_path_factory.mktemp("sources")
    webp = make_pyramid(tmp_path_factory.mktemp("webp"), "WEBP")
    to_pmtiles(pyramid, pyramid.ortho.parent / "c.pmtiles", leaves=True)
    with serving(pyramid.ortho.parent) as served:
        yield {
            "tif": pyramid.ortho,
            "url": f"{served.url}/ortho.tif",
            "xyz": f"xyz:{to_folder(pyramid, folder / 'xyz')}",
            "tms": f"tms:{to_folder(pyramid, folder / 'tms', tms=True)}",
            "mbtiles": to_mbtiles(pyramid, folder / "a.mbtiles"),
            "mbtiles view": to_mbtiles(pyramid, folder / "b.mbtiles", view=True),
            "pmtiles": to_pmtiles(pyramid, folder / "a.pmtiles"),
            "pmtiles leaves": to_pmtiles(pyramid, folder / "b.pmtiles", leaves=True, zipped=False),
            "pmtiles url": f"{served.url}/c.pmtiles?sig=a%20b",
            "webp": f"xyz:{to_folder(webp, folder / 'webp', suffix='webp')}",
        }


def opened(word):
    (one,) = open_all([word], (), "listed", 64.0)
    return one


def middle(one, side_m=64.0):
    """A square around the imagery's middle, off its grid, in its UTM zone."""
    h, w = one.hw
    x, y = one.transform @ (w / 2, h / 2)
    east, north = pyproj.Transformer.from_crs(one.crs, one.utm, always_xy=True).transform(x, y)
    return (
        east - side_m / 2 + 0.3,
        north - side_m / 2 + 0.1,
        east + side_m / 2 + 0.3,
        north + side_m / 2 + 0.1,
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("px", [256, 128])
def test_pixels_are_those_of_rasterio_warp(pyramid, addresses, kind, px):
    one = opened(addresses[kind])
    bounds = middle(one)
    rgb, owner = read_square([one], one.utm, bounds, (px, px))
    wanted = np.zeros((3, px, px), np.uint8)
    with rasterio.open(pyramid.ortho) as dataset:
        reproject(
            rasterio.band(dataset, [1, 2, 3]),
            wanted,
            dst_transform=from_bounds(*bounds, px, px),
            dst_crs=one.utm,
            resampling=Resampling.bilinear,
        )
    assert one.utm == "EPSG:32632" and (owner == 0).all()
    assert np.abs(rgb.transpose(2, 0, 1).astype(int) - wanted).mean() < 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_lies_in_the_same_place_and_says_so_again(pyramid, addresses, kind):
    one, ortho = opened(addresses[kind]), open_imagery(pyramid.ortho)
    assert one.hw == ortho.hw and one.gsd_m == pytest.approx(ortho.gsd_m, rel=1e-6)
    np.testing.assert_allclose(one.bounds_lonlat, ortho.bounds_lonlat, atol=1e-7)
    again = open_imagery(one.address, {one.address.split("/")[2]} if "url" in kind else ())
    assert again == one and pickle.loads(pickle.dumps(one)) == one  # noqa: S301 - our own bytes


@pytest.mark.parametrize("kind", KINDS)
def test_beyond_the_edge_nothing_is_valid(pyramid, addresses, kind):
    one, ortho = opened(addresses[kind]), open_imagery(pyramid.ortho)
    left, bottom, right, top = middle(one, 400.0)
    bounds = left - 250, bottom, right - 250, top
    got, wanted = (read_square([source], one.utm, bounds, (200, 200)) for source in (one, ortho))
    assert (wanted[1] < 0).any() and (wanted[1] == 0).any()
    assert (got[1] != wanted[1]).mean() < 0.005


@pytest.mark.parametrize("kind", KINDS)
def test_a_backdrop_is_the_whole_image(pyramid, addresses, kind):
    rgba, corners = read_overview(opened(addresses[kind]), 128)
    wanted, places = read_overview(open_imagery(pyramid.ortho), 128)
    assert rgba.shape == wanted.shape and (rgba[..., 3] == 255).all()
    assert np.abs(rgba.astype(int) - wanted).mean() < 3
    assert all(a.distance_m(b) < 1 for a, b in zip(corners, places, strict=True))


def test_the_coarsest_zoom_that_is_fine_enough_is_read(pyramid, tmp_path):
    one = opened(f"xyz:{to_folder(pyramid, tmp_path / 'xyz')}")
    for factor, w in ((0.5, 1024), (1.0, 1024), (1.9, 1024), (2.0, 512), (9.0, 512)):
        with one.reader.level(factor) as level:
            assert level.hw[1] == w


def test_tiles_that_are_absent_or_transparent_are_not_valid(pyramid, tmp_path):
    folder = to_folder(pyramid, tmp_path / "xyz")
    for path in sorted((folder / "18" / "137001").iterdir()):
        path.unlink()
    one = opened(f"xyz:{folder}")
    _, owner = read_square([one], "EPSG:3857", middle_3857(one), (1024, 1024))
    assert (owner[:, :255] == 0).all() and (owner[:, 258:510] == -1).all() and (owner[:, 514:] == 0).all()


def middle_3857(one):
    (left, top), (right, bottom) = one.transform @ (0, 0), one.transform @ (one.hw[1], one.hw[0])
    return left, bottom, right, top


def test_alpha_of_a_png_is_what_is_valid(tmp_path):
    rgba = np.full((256, 256, 4), 255, np.uint8)
    rgba[:, :128, 3] = 0
    one = opened(f"xyz:{to_folder(Pyramid(tmp_path, {(18, 137000, 90000): encode(rgba)}), tmp_path / 'x')}")
    _, owner = read_square([one], "EPSG:3857", middle_3857(one), (256, 256))
    assert (owner[:, :127] == -1).all() and (owner[:, 129:] == 0).all()


@pytest.mark.parametrize("tms", [False, True])
def test_a_folder_says_itself_how_rows_are_counted(pyramid, tmp_path, tms):
    folder = to_folder(pyramid, tmp_path / "t", tms=tms)
    with pytest.raises(ImageryError, match=rf"xyz:{folder}.*tms:{folder}"):
        find_imagery([folder])
    (folder / "metadata.json").write_text(json.dumps({"scheme": "tms" if tms else "xyz"}))
    assert find_imagery([folder]) == [(f"{'tms' if tms else 'xyz'}:{folder}", None)]
    np.testing.assert_allclose(opened(folder).bounds_lonlat, open_imagery(pyramid.ortho).bounds_lonlat)


def test_a_folder_of_gdal2tiles_is_tms_and_tilejson_is_xyz(pyramid, tmp_path):
    one = to_folder(pyramid, tmp_path / "a", tms=True)
    (one / "tilemapresource.xml").write_text("<TileMap/>")
    other = to_folder(pyramid, tmp_path / "b")
    (other / "tilejson.json").write_text("{}")
    assert [address[:4] for address, _ in find_imagery([one, other])] == ["tms:", "xyz:"]


def test_a_folder_of_files_holds_every_kind(pyramid, tmp_path):
    b, c = to_mbtiles(pyramid, tmp_path / "b.mbtiles"), to_pmtiles(pyramid, tmp_path / "c.pmtiles")
    a = write(tmp_path / "a.tif", flat((1, 2, 3)))
    assert find_imagery([c, tmp_path]) == [(str(c), None), (str(a), None), (str(b), None)]


def dated(path, colour, tag=None):
    write(path, flat(colour))
    if tag:
        with rasterio.open(path, "r+") as dataset:
            dataset.update_tags(TIFFTAG_DATETIME=tag)
    return path


def test_the_newest_wins_by_tag_or_file_date(tmp_path):
    old = dated(tmp_path / "old.tif", (1, 1, 1), "2019:05:04 10:00:00")
    new = dated(tmp_path / "new.tif", (2, 2, 2), "2024:05:04 10:00:00")
    middling = dated(tmp_path / "middling.tif", (3, 3, 3))
    os.utime(middling, (1_600_000_000,) * 2)  # 2020
    words = [old, middling, new]
    listed = open_all(words, (), "listed", 64.0)
    newest = open_all(words, (), "newest", 64.0)
    assert [one.label for one in listed] == ["old.tif", "middling.tif", "new.tif"]
    assert [one.label for one in newest] == ["new.tif", "middling.tif", "old.tif"]
    assert newest[0].notes[-1] == "new.tif: 2024-05-04, by its TIFFTAG_DATETIME."
    assert newest[1].notes[-1] == "middling.tif: 2020-09-13, by the file's own date."
    rgb, _ = read_square(newest, UTM, (LEFT, TOP - 100, LEFT + 100, TOP), (20, 20))
    assert (rgb == 2).all()


def item(id, href, when, **assets):
    asset = {"href": href, "type": "image/tiff; application=geotiff; profile=cloud-optimized"}
    return {
        "type": "Feature",
        "id": id,
        "properties": {"datetime": when},
        "assets": {"visual": asset, "preview": asset | {"roles": ["thumbnail"]}, **assets},
    }


def collection(path, *items, **more):
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items, **more}))
    return path


def test_of_a_stac_collection_the_newest_wins(tmp_path):
    (tmp_path / "cogs").mkdir()
    for name, colour in (("a", (1, 1, 1)), ("b", (2, 2, 2)), ("c", (3, 3, 3))):
        write(tmp_path / "cogs" / f"{name}.tif", flat(colour))
    path = collection(
        tmp_path / "items.json",
        item("a", "cogs/a.tif", "2021-01-01T00:00:00Z"),
        item("b", "./cogs/b.tif", "2023-01-01T00:00:00Z"),
        item("c", "cogs/c.tif", None),
    )
    found = open_all([path], (), "listed", 64.0)
    assert [one.label for one in found] == ["b.tif", "a.tif", "c.tif"]
    assert found[0].state.taken_at == datetime(2023, 1, 1, tzinfo=UTC)
    rgb, _ = read_square(found, UTM, (LEFT, TOP - 100, LEFT + 100, TOP), (20, 20))
    assert (rgb == 2).all()


def test_a_stac_collection_on_the_web_may_list_its_own_host_and_those_named(tmp_path):
    write(tmp_path / "a.tif", flat((9, 9, 9)))
    with serving(tmp_path) as served, serving(tmp_path) as other:
        collection(tmp_path / "own.json", item("a", "a.tif", "2021-01-01T00:00:00Z"))
        collection(tmp_path / "far.json", item("a", f"{other.url}/a.tif", "2021-01-01T00:00:00Z"))
        (one,) = open_all([f"{served.url}/own.json"], (), "listed", 64.0)
        assert one.address == f"{served.url}/a.tif"
        with pytest.raises(ImageryError, match=f"--allow-host {other.host}"):
            open_all([f"{served.url}/far.json"], (), "listed", 64.0)
        with pytest.raises(ImageryError, match="--allow-host"):
            open_all([tmp_path / "far.json"], (), "listed", 64.0)
        assert other.requests == []
        (one,) = open_all([tmp_path / "far.json"], [other.host], "listed", 64.0)
        assert one.address == f"{other.url}/a.tif"


REFUSED_STAC = {
    "no JSON": ("[", "no JSON"),
    "nested": ("[" * 100_000, "no JSON"),
    "other": ('{"type": "Catalog"}', "no STAC item collection"),
    "empty": ('{"type": "FeatureCollection", "features": []}', "without items"),
}


@pytest.mark.parametrize("name", REFUSED_STAC)
def test_a_bad_stac_collection_is_one_sentence(tmp_path, name):
    text, said = REFUSED_STAC[name]
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ImageryError, match=said):
        find_imagery([tmp_path / "a.json"])


def test_bad_stac_items_are_one_sentence(tmp_path):
    for bad, said in (
        (item("a", "/etc/passwd", None), "only relative"),
        (item("a", "file:///etc/passwd", None), "only relative"),
        (item("a", "a\0.tif", None), "only relative"),
        (item("a", "a\ud800.tif", None), "only relative"),
        (item("a", "s3://bucket/a.tif", None), "only relative"),
        (item("a", "ftp://host/a.tif", None), "only relative"),
        ({"type": "Feature", "id": "x", "assets": {"b1": {"type": "image/png"}}}, "0 images"),
        ({"type": "Feature", "assets": {c: {"type": "image/tiff", "href": c} for c in "rgb"}}, "3 images"),
        ({"type": "Feature", "assets": {"a": {"type": "image/tiff", "href": 3}}}, "1 images"),
    ):
        with pytest.raises(ImageryError, match=said):
            find_imagery([collection(tmp_path / "a.json", bad)])
    pages = collection(tmp_path / "a.json", item("a", "a.tif", None), links=[{"rel": "next", "href": "x"}])
    with pytest.raises(ImageryError, match="one page of several"):
        find_imagery([pages])
    odd = collection(tmp_path / "a.json", item("a", "/etc/passwd", None), links=5)
    with pytest.raises(ImageryError, match="only relative"):
        find_imagery([odd])
