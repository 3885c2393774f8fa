"""A gallery of any kind of source: built, read again, and refused where the source is not what it was."""

import numpy as np
import pytest
import rasterio
from fake_encoder import FakeEncoder
from range_server import serving
from tiny_imagery import LEFT, TOP, flat, noise, write
from tiny_pyramid import make_pyramid, to_folder, to_mbtiles, to_pmtiles

from geoloc.errors import ImageryError
from indexing.build import build_gallery, plan_build
from indexing.embed import embed_blocks
from indexing.gallery import Gallery
from indexing.manifest import live_folder
from indexing.verify import verify
from preprocessing.remote import remote

STRIDE_M = 32.0


@pytest.fixture(autouse=True)
def _forget_servers():
    remote.cache_clear()
    yield
    remote.cache_clear()


@pytest.fixture(scope="module")
def pyramid(tmp_path_factory):
    return make_pyramid(tmp_path_factory.mktemp("pyramid"))


def build(words, model, out, **options):
    build_gallery(words, model, out, stride_m=STRIDE_M, encoder=FakeEncoder(), **options)
    verify(out)
    return out


@pytest.fixture(scope="module")
def of_the_ortho(pyramid, model, tmp_path_factory):
    """Ids and pixels of the gallery of the GeoTIFF."""
    with Gallery.open(build([pyramid.ortho], model, tmp_path_factory.mktemp("ortho") / "g")) as gallery:
        return {id: gallery.read_tile(id) for id in gallery.tiles["id"].tolist()}


def made(kind, pyramid, folder):
    return {
        "xyz": lambda: f"xyz:{to_folder(pyramid, folder / 'xyz')}",
        "tms": lambda: f"tms:{to_folder(pyramid, folder / 'tms', tms=True)}",
        "mbtiles": lambda: to_mbtiles(pyramid, folder / "a.mbtiles"),
        "pmtiles": lambda: to_pmtiles(pyramid, folder / "a.pmtiles", leaves=True),
    }[kind]()


@pytest.mark.parametrize("kind", ["xyz", "tms", "mbtiles", "pmtiles"])
def test_the_gallery_is_that_of_the_same_image_as_a_geotiff(pyramid, of_the_ortho, model, tmp_path, kind):
    source = made(kind, pyramid, tmp_path)
    with Gallery.open(build([source], model, tmp_path / "g")) as gallery:
        assert gallery.tiles["id"].tolist() == list(of_the_ortho)
        assert gallery.source(next(iter(of_the_ortho))) == str(source)
        for id, wanted in of_the_ortho.items():
            assert np.abs(gallery.read_tile(id).astype(int) - wanted).mean() < 1
    for path in sorted(tmp_path.glob("xyz/18/*/*")) + sorted(tmp_path.glob("tms/18/*/*")):
        path.write_bytes(path.read_bytes() + b"\0")
    for path in tmp_path.glob("a.*"):
        path.write_bytes(path.read_bytes() + b"\0")
    with Gallery.open(tmp_path / "g") as gallery, pytest.raises(ImageryError, match="not the file it was"):
        gallery.read_tile(next(iter(of_the_ortho)))


def test_a_url_is_read_at_query_only_from_hosts_that_are_named(
    pyramid, of_the_ortho, model, tmp_path, monkeypatch
):
    with serving(pyramid.ortho.parent) as served:
        build([f"{served.url}/ortho.tif"], model, tmp_path / "g")
        asked, id = len(served.requests), next(iter(of_the_ortho))
        remote.cache_clear()
        with Gallery.open(tmp_path / "g") as gallery:
            with pytest.raises(ImageryError, match="GEOLOC_ALLOW_HOSTS"):
                gallery.read_tile(id)
            assert len(served.requests) == asked
            monkeypatch.setenv("GEOLOC_ALLOW_HOSTS", f"example.org {served.host}")
            assert (gallery.read_tile(id) == of_the_ortho[id]).all()


def test_a_failing_server_leaves_the_live_version_and_a_build_that_goes_on(
    pyramid, model, tmp_path, monkeypatch
):
    monkeypatch.setattr("preprocessing.remote.time.sleep", lambda _: None)
    out = build([pyramid.ortho], model, tmp_path / "g")
    before = live_folder(out)
    with serving(pyramid.ortho.parent) as served:
        url = f"{served.url}/ortho.tif"

        def broken(*arguments):
            served.says["/ortho.tif"] = 500, {}
            remote.cache_clear()
            embed_blocks(*arguments)

        with pytest.raises(ImageryError, match="answers 500"):
            build([url], model, out, engine=broken)
        assert live_folder(out) == before
        served.says.clear()
        build([url], model, out)
    assert live_folder(out) != before


def test_a_changed_source_is_another_build(pyramid, model, tmp_path):
    folder = to_folder(pyramid, tmp_path / "xyz")

    def key():
        return plan_build([f"xyz:{folder}"], model, FakeEncoder(), STRIDE_M, None).key

    before = key()
    assert key() == before
    path = next(folder.glob("18/*/*"))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert key() != before


def test_the_order_that_wins_is_kept_for_reading(model, tmp_path):
    for name, colour, year in (("old.tif", (9, 9, 9), 2019), ("new.tif", (200, 99, 9), 2024)):
        with rasterio.open(write(tmp_path / name, flat(colour)), "r+") as dataset:
            dataset.update_tags(TIFFTAG_DATETIME=f"{year}:01:01 00:00:00")
    words, notes = [tmp_path / "old.tif", tmp_path / "new.tif"], []
    build(words, model, tmp_path / "g", overlap="newest", note=notes.append)
    with Gallery.open(tmp_path / "g") as gallery:
        assert (gallery.read_tile(int(gallery.tiles["id"].iat[0])) == (200, 99, 9)).all()
    assert "new.tif: 2024-01-01, by its TIFFTAG_DATETIME." in notes
    build(words, model, tmp_path / "g")
    with Gallery.open(tmp_path / "g") as gallery:
        assert (gallery.read_tile(int(gallery.tiles["id"].iat[0])) == (9, 9, 9)).all()


def test_kinds_mix(pyramid, model, tmp_path):
    tif = write(tmp_path / "a.tif", noise(100, 100))
    build([tif, to_mbtiles(pyramid, tmp_path / "b.mbtiles")], model, tmp_path / "g")
    with Gallery.open(tmp_path / "g") as gallery:
        assert set(gallery.tiles["source"]) == {str(tif), str(tmp_path / "b.mbtiles")}
        assert LEFT == 500_000 and TOP == 5_300_000  # the ortho lies elsewhere in the same zone
