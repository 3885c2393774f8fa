"""A file on a web server: few bytes, no redirects, nobody's password, one sentence for what is wrong."""

import numpy as np
import pytest
import rasterio
from range_server import serving
from rasterio.enums import Resampling
from tiny_imagery import LEFT, TOP, UTM, flat, write
from tiny_pyramid import make_pyramid, to_mbtiles, to_pmtiles

from geoloc.errors import ImageryError
from preprocessing import remote as fetching
from preprocessing.imagery import read_square
from preprocessing.remote import CHUNK, RangeReader, host_of, refuse_foreign, remote
from preprocessing.sources import open_imagery


@pytest.fixture(autouse=True)
def _forget_servers(monkeypatch):
    remote.cache_clear()
    monkeypatch.setattr(fetching.time, "sleep", lambda _: None)
    yield
    remote.cache_clear()


@pytest.fixture
def big(tmp_path):
    """12 MB of noise, tiled, with overviews."""
    values = np.random.default_rng(0).integers(0, 255, (3, 2048, 2048), np.uint8)
    path = write(tmp_path / "big.tif", values, tiled=True, blockxsize=256, blockysize=256)
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2, 4, 8], Resampling.average)
    return path


@pytest.mark.parametrize(("side_m", "most"), [(200, 0.15), (1600, 0.15)])
def test_a_window_costs_a_small_part_of_the_file(tmp_path, big, side_m, most):
    bounds = (LEFT + 300, TOP - 300 - side_m, LEFT + 300 + side_m, TOP - 300)
    with serving(tmp_path) as served:
        one = open_imagery(f"{served.url}/big.tif", {served.host})
        rgb, owner = read_square([one], UTM, bounds, (200, 200))
        assert 0 < served.bytes < most * big.stat().st_size
        assert all("Range" in headers for _, headers in served.requests)
        again, _ = read_square([one], UTM, bounds, (200, 200))
    local, _ = read_square([open_imagery(big)], UTM, bounds, (200, 200))
    assert (owner == 0).all() and (rgb == local).all() and (again == local).all()


def test_of_pmtiles_on_a_server_only_what_is_wanted_is_read(tmp_path):
    """4 x 4 tiles of 150 kB: of one of them, its neighbours in the same piece, and the directories."""
    pyramid = make_pyramid(tmp_path)
    path = to_pmtiles(pyramid, tmp_path / "a.pmtiles", leaves=True)
    with serving(tmp_path) as served:
        one = open_imagery(f"{served.url}/a.pmtiles", {served.host})
        (left, top), gsd = one.transform @ (300, 300), one.transform.a
        bounds = (left, top - 60 * gsd, left + 60 * gsd, top)
        rgb, owner = read_square([one], "EPSG:3857", bounds, (60, 60))
        assert 0 < served.bytes < path.stat().st_size / 3
        assert all("Range" in headers for _, headers in served.requests)
        local, _ = read_square([open_imagery(path)], "EPSG:3857", bounds, (60, 60))
        assert (owner == 0).all() and (rgb == local).all()
        with pytest.raises(ImageryError, match="--allow-host"):
            open_imagery(f"{served.url}/a.pmtiles", {"example.org"})


def test_what_a_server_calls_pmtiles_is_one_sentence(tmp_path):
    pyramid = make_pyramid(tmp_path)
    (tmp_path / "text.pmtiles").write_text("<html>" * 99)
    (tmp_path / "short.pmtiles").write_bytes(to_pmtiles(pyramid, tmp_path / "a.pmtiles").read_bytes()[:300])
    to_pmtiles(pyramid, tmp_path / "far.pmtiles", root=1 << 60)
    to_pmtiles(pyramid, tmp_path / "long.pmtiles", root_n=1 << 60)
    with serving(tmp_path) as served, serving(tmp_path) as other:
        served.says["/moved.pmtiles"] = 302, {"Location": f"{other.url}/a.pmtiles"}
        for name, said in (
            ("text", "no PMTiles archive"), ("short", "beyond its end"), ("far", "beyond its end"),
            ("long", "beyond its end"), ("gone", "answers 404"), ("moved", "redirects to"),
        ):  # fmt: skip
            with pytest.raises(ImageryError, match=said) as caught:
                open_imagery(f"{served.url}/{name}.pmtiles", {served.host})
            assert "\n" not in str(caught.value)
        assert other.requests == []


def test_mbtiles_on_a_server_are_to_be_downloaded(tmp_path):
    to_mbtiles(make_pyramid(tmp_path), tmp_path / "a.mbtiles")
    with serving(tmp_path) as served:
        with pytest.raises(ImageryError, match="download it first"):
            open_imagery(f"{served.url}/a.MBTiles?x=1", {served.host})
        assert served.requests == []


def test_nothing_but_the_file_is_asked_for(tmp_path, big):
    for name in ("big.tif.ovr", "big.tif.msk", "big.tif.aux.xml", "big.tfw"):
        (tmp_path / name).write_text("x")
    with serving(tmp_path) as served:
        one = open_imagery(f"{served.url}/big.tif?sig=a%20b", {served.host})
        read_square([one], UTM, (LEFT, TOP - 50, LEFT + 50, TOP), (50, 50))
        assert {path for path, _ in served.requests} == {"/big.tif?sig=a%20b"}


def test_neighbouring_pieces_come_in_one_request(tmp_path):
    content = np.random.default_rng(0).integers(0, 255, 5 * CHUNK + 77, np.uint8).tobytes()
    (tmp_path / "a.bin").write_bytes(content)
    with serving(tmp_path) as served:
        file = remote(f"{served.url}/a.bin")
        assert file.size == len(content)
        assert file.read(2 * CHUNK - 9, 2 * CHUNK) == content[2 * CHUNK - 9 : 4 * CHUNK - 9]
        assert len(served.requests) == 2
        assert file.read(0, len(content) + 5) == content and file.read(len(content), 9) == b""
        assert len(served.requests) == 3  # only the last pieces were missing
        reader = RangeReader(file, file.url)
        reader.seek(-7, 2)
        assert reader.read() == content[-7:] and reader.tell() == len(content)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(tmp_path, big, status):
    with serving(tmp_path) as served, serving(tmp_path) as other:
        served.says["/moved.tif"] = status, {"Location": f"{other.url}/big.tif"}
        with pytest.raises(ImageryError, match=f"redirects to '{other.url}/big.tif'"):
            open_imagery(f"{served.url}/moved.tif", {served.host})
        assert other.requests == []


def test_a_redirect_half_way_is_not_followed_either(tmp_path, big):
    with serving(tmp_path) as served, serving(tmp_path) as other:
        one = open_imagery(f"{served.url}/big.tif", {served.host})
        served.says["/big.tif"] = 302, {"Location": f"{other.url}/big.tif"}
        with pytest.raises(ImageryError, match="redirects to"):
            read_square([one], UTM, (LEFT + 1800, TOP - 2000, LEFT + 2000, TOP - 1800), (200, 200))
        assert other.requests == []


def test_a_vrt_on_a_server_is_not_followed(tmp_path):
    write(tmp_path / "a.tif", flat((9, 9, 9)))
    (tmp_path / "evil.tif").write_text(
        f'<VRTDataset rasterXSize="9" rasterYSize="9"><VRTRasterBand band="1"><SimpleSource><SourceFilename>'
        f"{tmp_path}/a.tif</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    with serving(tmp_path) as served, pytest.raises(ImageryError, match="not a GeoTIFF"):
        open_imagery(f"{served.url}/evil.tif", {served.host})


def test_what_servers_do_wrong_is_one_sentence(tmp_path, big):
    with serving(tmp_path) as served:
        for name, answer, said in (
            ("gone", (404, {}), "answers 404"),
            ("closed", (401, {}), "wants a login"),
            ("busy", (503, {}), "answers 503"),
            ("big.tif", (206, {"Content-Range": "bytes 5-9/20"}), "another range"),
            ("big.tif", (206, {"Content-Range": "bytes 0-x/y"}), "how large"),
            ("big.tif", (206, {"Content-Encoding": "gzip"}), "compresses"),
            ("big.tif", (206, {"Content-Length": "9"}), "another length"),
        ):
            served.says = {f"/{name}": answer}
            with pytest.raises(ImageryError, match=said) as caught:
                open_imagery(f"{served.url}/{name}", {served.host})
            assert "\n" not in str(caught.value)
        served.says, served.ranges = {}, False
        with pytest.raises(ImageryError, match="does not serve parts"):
            open_imagery(f"{served.url}/big.tif", {served.host})
    with pytest.raises(ImageryError, match="could not be read"):
        open_imagery(f"{served.url}/big.tif", {served.host})


def test_a_server_that_stumbles_is_asked_again(tmp_path, big, monkeypatch):
    with serving(tmp_path) as served:
        served.says["/big.tif"] = 503, {}
        monkeypatch.setattr(fetching.time, "sleep", lambda _: served.says.clear())
        assert open_imagery(f"{served.url}/big.tif", {served.host}).hw == (2048, 2048)


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, big):
    with serving(tmp_path) as served:
        one = open_imagery(f"{served.url}/big.tif", {served.host})
        big.write_bytes(big.read_bytes()[:-1] + b"x")
        with pytest.raises(ImageryError, match="changed while it was read"):
            read_square([one], UTM, (LEFT + 1800, TOP - 2000, LEFT + 2000, TOP - 1800), (200, 200))


def test_a_server_that_drips_is_given_up(tmp_path, big, monkeypatch):
    monkeypatch.setattr(fetching, "_WHOLE_REQUEST_S", -1.0)
    with serving(tmp_path) as served, pytest.raises(ImageryError, match="too slow"):
        open_imagery(f"{served.url}/big.tif", {served.host})


def test_passwords_come_from_the_file_that_is_named_and_go_to_its_hosts_only(tmp_path, big, monkeypatch):
    (tmp_path / ".netrc").write_text(
        "machine 127.0.0.1 login me password secret\ndefault login x password y\n"
    )
    with serving(tmp_path) as served:
        monkeypatch.setenv("HOME", str(tmp_path))
        open_imagery(f"{served.url}/big.tif", {served.host})
        assert not any("Authorization" in headers for _, headers in served.requests)
        remote.cache_clear()
        monkeypatch.setenv("GEOLOC_NETRC", str(tmp_path / ".netrc"))
        open_imagery(f"{served.url}/big.tif", {served.host})
        assert served.requests[-1][1]["Authorization"] == "Basic bWU6c2VjcmV0"
        for elsewhere in ("https://example.org/a.tif", "http://example.org/a.tif"):
            assert fetching._credentials(fetching._split(elsewhere)) == {}
        remote.cache_clear()
        monkeypatch.setenv("GEOLOC_NETRC", str(tmp_path / "none"))
        with pytest.raises(ImageryError, match="no netrc file"):
            open_imagery(f"{served.url}/big.tif", {served.host})


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http://:80/a",
        "http://h:99999/a",
        "http://h/a b",
        "http://h/\r\nX: y",
        "http://[::1/a",
        "http://h/ä",
    ],
)
def test_addresses_that_are_none(url):
    with pytest.raises(ImageryError, match="no http or https address"):
        host_of(url)


def test_hosts():
    assert host_of("HTTPS://Example.org:8443/a.tif") == "example.org:8443"
    with pytest.raises(ImageryError, match="holds a password") as caught:
        host_of("https://me:secret@example.org/a.tif")
    assert "secret" not in str(caught.value)
    refuse_foreign("https://example.org/a", {"Example.ORG"})
    for url in ("https://evil.org/a", "https://example.org.evil.org/a", "https://example.org:8443/a"):
        with pytest.raises(ImageryError, match="--allow-host"):
            refuse_foreign(url, {"example.org"})
