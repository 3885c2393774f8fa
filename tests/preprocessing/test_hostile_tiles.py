"""Containers of map tiles made to harm: refused in one sentence, in little time and memory."""

import gzip
import io
import os
import sqlite3
import struct
import time
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pyproj import Transformer
from tiny_pyramid import (
    COLUMNS,
    ROWS,
    ZOOM,
    Pyramid,
    directory,
    encode,
    make_pyramid,
    to_folder,
    to_mbtiles,
    to_pmtiles,
    varint,
)

from geoloc.errors import ImageryError
from preprocessing.imagery import read_square
from preprocessing.pmtiles import HEADER, read_directory, tile_id, tile_of_id
from preprocessing.pyramid import HALF_M, bounds_to_mercator, tile_bounds
from preprocessing.sources import open_imagery

FIRST = (ZOOM, COLUMNS[0], ROWS[0])


@pytest.fixture(scope="module")
def pyramid(tmp_path_factory):
    return make_pyramid(tmp_path_factory.mktemp("pyramid"))


def read_all(address):
    """Open, and read every pixel of the deepest zoom."""
    one = open_imagery(address)
    (left, top), (right, bottom) = one.transform @ (0, 0), one.transform @ (one.hw[1], one.hw[0])
    return read_square([one], one.crs, (left, bottom, right, top), one.hw)


def refused(address, said):
    start = time.monotonic()
    with pytest.raises(ImageryError, match=said) as caught:
        read_all(address)
    assert "\n" not in str(caught.value) and time.monotonic() - start < 30


# MBTiles


def sql(path, *statements):
    with sqlite3.connect(path) as db:
        for statement in statements:
            db.execute(statement)
    db.close()
    return path


METADATA = "CREATE TABLE metadata (name text, value text)"
WHERE = f"{ZOOM} AS zoom_level, {COLUMNS[0]} AS tile_column, {2**ZOOM - 1 - ROWS[0]} AS tile_row"
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT"
VIEWS = {
    "an endless recursion": f"CREATE VIEW tiles AS {ENDLESS} {WHERE}, i AS tile_data FROM n",
    "a huge blob": f"CREATE VIEW tiles AS SELECT {WHERE}, zeroblob(2000000000) AS tile_data",
    "a function": f"CREATE VIEW tiles AS SELECT {WHERE}, readfile('/etc/passwd') AS tile_data",
    "an extension": f"CREATE VIEW tiles AS SELECT {WHERE}, load_extension('/tmp/x') AS tile_data",
}


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_may_only_select_from_tables(tmp_path, name):
    refused(sql(tmp_path / "a.mbtiles", METADATA, VIEWS[name]), "no MBTiles file")


def test_an_endless_join_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr("preprocessing.mbtiles._MOST_STEPS", 20)
    many = "INSERT INTO t " + " UNION ALL ".join(["SELECT 1"] * 400)
    join = ", ".join(f"t t{number}" for number in range(9))
    columns = "t0.a AS zoom_level, 0 AS tile_column, 0 AS tile_row, 0 AS tile_data"
    total = " + ".join(f"t{number}.a" for number in range(9))
    view = f"CREATE VIEW tiles AS SELECT {columns} FROM {join} WHERE {total} = 0"
    refused(sql(tmp_path / "a.mbtiles", METADATA, "CREATE TABLE t (a int)", many, view), "interrupted")


def test_mbtiles_that_contradict_themselves(pyramid, tmp_path):
    def made(**metadata):
        path = tmp_path / "a.mbtiles"
        path.unlink(missing_ok=True)
        return to_mbtiles(pyramid, path, **metadata)

    refused(made(format="pbf"), "'pbf' tiles")
    refused(made(bounds="1,2,3"), "which are none")
    refused(made(bounds="nan,0,1,1"), "which are none")
    refused(made(bounds="8,49,7,50"), "which are none")
    refused(made(bounds="-20,-20,-10,-10"), "no tiles inside")
    refused(sql(made(), "UPDATE tiles SET tile_column = -tile_column"), "beyond the map")
    refused(sql(made(), "UPDATE tiles SET tile_row = 'x' || tile_row"), "beyond the map")
    refused(sql(made(), "UPDATE tiles SET tile_data = 'text'"), "no image")
    refused(sql(made(), "UPDATE tiles SET tile_data = x'00'"), "no image that geoloc reads")
    refused(sql(made(), "UPDATE tiles SET zoom_level = 99"), "no tiles at zooms")
    refused(sql(made(), "DELETE FROM tiles"), "no tiles")
    refused(sql(made(), "DROP TABLE tiles"), "no MBTiles file")
    refused(sql(made(), "DROP TABLE metadata"), "no MBTiles file")
    made().write_bytes(b"text")
    refused(tmp_path / "a.mbtiles", "no MBTiles file")


def test_bounds_of_mbtiles_cut_what_lies_beyond(pyramid, tmp_path):
    whole = open_imagery(pyramid.ortho)
    west, south, east, north = whole.bounds_lonlat
    cut = open_imagery(
        to_mbtiles(pyramid, tmp_path / "a.mbtiles", bounds=f"{west},{south},{(west + east) / 2},{north}")
    )
    assert cut.hw == (whole.hw[0], whole.hw[1] // 2)


def test_opening_mbtiles_writes_nothing_beside_it(pyramid, tmp_path):
    path = to_mbtiles(pyramid, tmp_path / "a.mbtiles")
    path.chmod(0o400)
    read_all(path)
    assert [found.name for found in tmp_path.iterdir()] == ["a.mbtiles"]


# PMTiles


@given(tile=st.integers(0, 24).flatmap(lambda z: st.tuples(st.just(z), *[st.integers(0, 2**z - 1)] * 2)))
def test_the_curve_is_its_own_inverse(tile):
    assert tile_of_id(tile_id(*tile)) == tile


def test_the_curve_is_the_specifications():
    known = [(0, 0, 0), (1, 0, 0), (1, 0, 1), (1, 1, 1), (1, 1, 0), (2, 0, 0)]
    assert [tile_id(*tile) for tile in known] == [0, 1, 2, 3, 4, 5]
    assert tile_id(12, 3423, 1763) == 19078479
    steps = np.array([tile_of_id(id) for id in range(tile_id(6, 0, 0), tile_id(7, 0, 0))])
    assert (np.abs(np.diff(steps[:, 1:], axis=0)).sum(axis=1) == 1).all()  # a curve never jumps


def test_a_directory_is_what_was_packed():
    entries = [(5, 1, 300, 0), (6, 4, 200, 300), (1 << 40, 0, 7, 1 << 40)]
    found = read_directory(directory(entries))
    assert list(zip(found.ids, found.runs, found.lengths, found.offsets, strict=True)) == entries
    follows = varint(2) + varint(1) * 2 + varint(1) * 2 + varint(10) * 2 + varint(1) + varint(0)
    assert read_directory(follows).offsets == [0, 10]


@given(raw=st.binary(max_size=60))
@settings(max_examples=300)
def test_no_bytes_bring_the_directory_reader_down(raw):
    try:
        found = read_directory(raw)
    except (ValueError, IndexError):
        return
    assert found.ids == sorted(found.ids)


def test_a_run_is_one_image_many_times(pyramid, tmp_path):
    sea = encode(np.full((256, 256, 3), 7, np.uint8))
    path = to_pmtiles(Pyramid(tmp_path, {FIRST: sea}), tmp_path / "a.pmtiles", zipped=False)
    root = directory([(tile_id(*FIRST), 4, len(sea), 0)])
    path.write_bytes(path.read_bytes()[:127] + root + sea)
    with open_imagery(path).reader.store.opened() as get:
        tiles = [tile_of_id(tile_id(*FIRST) + step) for step in range(-1, 5)]
        assert [get(*tile) == sea for tile in tiles] == [False, True, True, True, True, False]


HEADERS = {
    "magic": ({"magic": b"PMTILES"}, "no PMTiles archive"),
    "version": ({"version": 2}, "no PMTiles archive"),
    "vector tiles": ({"kind": 1}, "no PNG, JPEG or WebP"),
    "brotli": ({"inner": 3}, "neither gzip nor none"),
    "zooms": ({"min_zoom": 19}, "zooms 19 to 18"),
    "root beyond the end": ({"root": 1 << 60}, "beyond its end"),
    "root of a terabyte": ({"root_n": 1 << 40}, "beyond its end"),
    "no bounds": ({"west": 0, "east": 0}, "no bounds"),
    "bounds off the earth": ({"west": -2_000_000_000}, "no bounds"),
    "tiles beyond their section": ({"data_n": 10}, "out of its section"),
    "tiles zipped that are not": ({"outer": 2}, "compressed is damaged"),
    "directories that are not zipped": ({"inner": 1}, "cut short|no tile"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_lies(pyramid, tmp_path, name):
    changes, said = HEADERS[name]
    refused(to_pmtiles(pyramid, tmp_path / "a.pmtiles", **changes), said)


def with_root(pyramid, path, root, **changes):
    to_pmtiles(pyramid, path, root_n=len(root), leaf=127, leaf_n=len(root), **changes)
    path.write_bytes(path.read_bytes()[:127] + root + bytes(100))
    return path


def test_a_directory_that_bursts_or_turns_in_circles(pyramid, tmp_path):
    path = tmp_path / "a.pmtiles"
    refused(with_root(pyramid, path, gzip.compress(bytes(1 << 28))), "far too large")
    loop = directory([(tile_id(*FIRST), 0, 9, 0)])  # a leaf that is the root itself
    loop = directory([(tile_id(*FIRST), 0, len(loop), 0)])
    refused(with_root(pyramid, path, loop, inner=1), "nested without end")
    refused(with_root(pyramid, path, gzip.compress(varint(1 << 40))), "cut short")
    refused(with_root(pyramid, path, gzip.compress(b"")), "cut short")
    refused(with_root(pyramid, path, gzip.compress(directory([]))), "holds no tiles")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.5, 0.99])
def test_a_truncated_archive(pyramid, tmp_path, share):
    path = to_pmtiles(pyramid, tmp_path / "a.pmtiles")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    refused(path, "cannot be read")


def test_flipped_bytes_never_raise_anything_else(pyramid, tmp_path):
    path = to_pmtiles(pyramid, tmp_path / "a.pmtiles", leaves=True)
    whole = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    end = HEADER.size + 300
    for _ in range(150):
        broken = whole.copy()
        for at in rng.integers(0, end, 3):
            broken[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(broken)
        try:
            with open_imagery(path).reader.store.opened() as get:
                get(*FIRST)
        except ImageryError:
            pass


# Tiles


def test_tiles_that_are_no_images_of_one_size(pyramid, tmp_path):
    for number, (blob, said) in enumerate(
        (
            (b"text", "no image that geoloc reads"),
            (encode(np.zeros((128, 128, 3), np.uint8)), "not 256 x 256"),
            (pyramid.tiles[FIRST][:500], "damaged"),
            (bomb(), "over 100 megapixels"),
        )
    ):
        broken = Pyramid(pyramid.ortho, pyramid.tiles | {(ZOOM, COLUMNS[0] + 1, ROWS[0]): blob})
        refused(f"xyz:{to_folder(broken, tmp_path / str(number))}", said)


def bomb():
    """A PNG of 50,000 x 50,000 px in a few bytes."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"x") + chunk(b"IEND", b"")


def test_tiles_that_are_no_squares(tmp_path):
    buffer = io.BytesIO()
    Image.new("RGB", (256, 128)).save(buffer, "PNG")
    for number, blob in enumerate((buffer.getvalue(), bomb())):
        folder = to_folder(Pyramid(tmp_path, {FIRST: blob}), tmp_path / str(number))
        refused(f"xyz:{folder}", "map tiles are squares|megapixels")


def test_folders_that_are_none(pyramid, tmp_path):
    refused(f"xyz:{tmp_path / 'nowhere'}", "no folder of map tiles")
    (tmp_path / "18" / "abc").mkdir(parents=True)
    (tmp_path / "18" / "5").write_text("a file")
    (tmp_path / "25").mkdir()
    refused(f"xyz:{tmp_path}", "holds no tiles")
    both = to_folder(pyramid, tmp_path / "both")
    to_folder(pyramid, both, suffix="jpg")
    refused(f"xyz:{both}", "several kinds")
    pipe = to_folder(pyramid, tmp_path / "pipe")
    path = pipe / str(ZOOM) / str(COLUMNS[0]) / f"{ROWS[0] + 1}.png"
    path.unlink()
    os.mkfifo(path)
    refused(f"xyz:{pipe}", "is no file")


# Web mercator


@given(lon=st.floats(-179, 179), lat=st.floats(-84, 84))
def test_degrees_to_metres_are_those_of_pyproj(lon, lat):
    east, north = min(180.0, lon + 0.5), min(85.0, lat + 0.5)
    found = bounds_to_mercator((lon, lat, east, north))
    to = Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True).transform
    np.testing.assert_allclose(found, (*to(lon, lat), *to(east, north)), atol=1e-6)


def test_tiles_tessellate_the_square():
    assert tile_bounds(0, (0, 0), (0, 0)) == (-HALF_M, -HALF_M, HALF_M, HALF_M)
    west, south, east, north = tile_bounds(2, (1, 1), (0, 0))
    assert (west, south, east, north) == (-HALF_M / 2, HALF_M / 2, 0, HALF_M)


def test_an_archive_of_another_hand_is_read(pyramid, tmp_path):
    """Written by the reference implementation, where it is installed."""
    pmtiles = pytest.importorskip("pmtiles.writer")
    tile, convert = pytest.importorskip("pmtiles.tile"), open_imagery(pyramid.ortho).bounds_lonlat
    path = tmp_path / "a.pmtiles"
    west, south, east, north = (round(degrees * 1e7) for degrees in convert)
    with path.open("wb") as file:
        writer = pmtiles.Writer(file)
        for number, blob in sorted((tile.zxy_to_tileid(*zxy), blob) for zxy, blob in pyramid.tiles.items()):
            writer.write_tile(number, blob)
        header = {
            "tile_type": tile.TileType.PNG,
            "tile_compression": tile.Compression.NONE,
            "min_lon_e7": west,
            "min_lat_e7": south,
            "max_lon_e7": east,
            "max_lat_e7": north,
        }
        writer.finalize(header, {})
    found, wanted = read_all(path), read_all(pyramid.ortho)
    assert (found[0] == wanted[0]).all() and (found[1] == 0).all()
