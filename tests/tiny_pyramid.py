"""A pyramid of map tiles of known content, and everything that can hold it."""

import gzip
import io
import json
import math
import sqlite3
import struct
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image
from rasterio.transform import from_origin
from tiny_imagery import noise, write

from preprocessing.pmtiles import tile_id

ZOOM, COLUMNS, ROWS, SIDE = 18, (137_000, 137_004), (90_000, 90_003), 256
WORLD_M = 2 * math.pi * 6378137


@dataclass(frozen=True)
class Pyramid:
    """The tiles of two zooms as PNG, and the same pixels as a GeoTIFF in EPSG:3857."""

    ortho: Path
    tiles: dict[tuple[int, int, int], bytes]


def encode(rgb: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return buffer.getvalue()


def halved(rgb: np.ndarray) -> np.ndarray:
    h, w, c = rgb.shape
    return rgb.reshape(h // 2, 2, w // 2, 2, c).mean(axis=(1, 3)).round().astype(np.uint8)


def make_pyramid(folder: Path, kind: str = "PNG") -> Pyramid:
    """4 x 4 tiles of 0.4 m at 49 degrees north, and 2 x 2 of the zoom above."""
    gsd = WORLD_M / (SIDE << ZOOM)
    h, w = (ROWS[1] + 1 - ROWS[0]) * SIDE, (COLUMNS[1] - COLUMNS[0]) * SIDE
    rgb = noise(h, w).transpose(1, 2, 0)
    place = from_origin(COLUMNS[0] * SIDE * gsd - WORLD_M / 2, WORLD_M / 2 - ROWS[0] * SIDE * gsd, gsd, gsd)
    ortho = write(folder / "ortho.tif", rgb.transpose(2, 0, 1), "EPSG:3857", place, tiled=True)
    tiles = {}
    for zoom, pixels in ((ZOOM, rgb), (ZOOM - 1, halved(rgb))):
        first = COLUMNS[0] >> ZOOM - zoom, ROWS[0] >> ZOOM - zoom
        for row in range(pixels.shape[0] // SIDE):
            for column in range(pixels.shape[1] // SIDE):
                cut = pixels[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE]
                tiles[zoom, first[0] + column, first[1] + row] = encode(cut, kind)
    return Pyramid(ortho, tiles)


def lonlat_bounds() -> tuple[float, float, float, float]:
    """(west, south, east, north) of the deepest tiles, in degrees."""

    def lat(row: float) -> float:
        return math.degrees(math.atan(math.sinh(math.pi * (1 - 2 * row / 2**ZOOM))))

    west, east = (column / 2**ZOOM * 360 - 180 for column in COLUMNS)
    return west, lat(ROWS[1] + 1), east, lat(ROWS[0])


def to_folder(pyramid: Pyramid, folder: Path, tms: bool = False, suffix: str = "png", **said: object) -> Path:
    for (zoom, column, row), blob in pyramid.tiles.items():
        stored = 2**zoom - 1 - row if tms else row
        path = folder / str(zoom) / str(column) / f"{stored}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(blob)
    if said:
        (folder / "metadata.json").write_text(json.dumps(said))
    return folder


def to_mbtiles(pyramid: Pyramid, path: Path, view: bool = False, **metadata: str) -> Path:
    """By the specification; with `view` as many tools write it, tiles a view over images and their places."""
    said = {"name": "t", "format": "png", "bounds": ",".join(map(str, lonlat_bounds())), **metadata}
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE metadata (name text, value text)")
        db.executemany("INSERT INTO metadata VALUES (?, ?)", said.items())
        rows = [(z, x, 2**z - 1 - y, blob) for (z, x, y), blob in pyramid.tiles.items()]
        if view:
            db.execute("CREATE TABLE map (zoom_level int, tile_column int, tile_row int, tile_id text)")
            db.execute("CREATE TABLE images (tile_data blob, tile_id text)")
            db.executemany("INSERT INTO map VALUES (?, ?, ?, ?)", [(*row[:3], str(row[:3])) for row in rows])
            db.executemany("INSERT INTO images VALUES (?, ?)", [(row[3], str(row[:3])) for row in rows])
            db.execute(
                "CREATE VIEW tiles AS SELECT zoom_level, tile_column, tile_row, tile_data"
                " FROM map JOIN images ON images.tile_id = map.tile_id"
            )
        else:
            db.execute(
                "CREATE TABLE tiles (zoom_level int, tile_column int, tile_row int, tile_data blob,"
                " PRIMARY KEY (zoom_level, tile_column, tile_row))"
            )
            db.executemany("INSERT INTO tiles VALUES (?, ?, ?, ?)", rows)
    db.close()
    return path


def varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def directory(entries: list[tuple[int, int, int, int]]) -> bytes:
    """Of (id, run, length, offset) as the specification packs them."""
    ids = [0, *(entry[0] for entry in entries)]
    steps = [after - before for before, after in pairwise(ids)]
    columns = [
        steps,
        *([entry[at] for entry in entries] for at in (1, 2)),
        [entry[3] + 1 for entry in entries],
    ]
    return varint(len(entries)) + b"".join(varint(n) for column in columns for n in column)


def to_pmtiles(
    pyramid: Pyramid, path: Path, leaves: bool = False, zipped: bool = True, **changes: int
) -> Path:
    """`leaves`: every three tiles in a leaf directory. `changes`: header fields by name, to break it."""
    pack = gzip.compress if zipped else bytes
    data, entries = b"", []
    for number, blob in sorted((tile_id(*tile), blob) for tile, blob in pyramid.tiles.items()):
        entries.append((number, 1, len(blob), len(data)))
        data += blob
    leaf_bytes, root_entries = b"", entries
    if leaves:
        root_entries = []
        for start in range(0, len(entries), 3):
            leaf = pack(directory(entries[start : start + 3]))
            root_entries.append((entries[start][0], 0, len(leaf), len(leaf_bytes)))
            leaf_bytes += leaf
    root = pack(directory(root_entries))
    at = 127 + len(root)
    zooms = [tile[0] for tile in pyramid.tiles]
    bounds = [round(degrees * 1e7) for degrees in lonlat_bounds()]
    header = {
        "magic": b"PMTiles", "version": 3, "root": 127, "root_n": len(root), "meta": at, "meta_n": 0,
        "leaf": at, "leaf_n": len(leaf_bytes), "data": at + len(leaf_bytes), "data_n": len(data),
        "addressed": len(entries), "entries": len(entries), "contents": len(entries), "clustered": 1,
        "inner": 2 if zipped else 1, "outer": 1, "kind": 2, "min_zoom": min(zooms), "max_zoom": max(zooms),
        "west": bounds[0], "south": bounds[1], "east": bounds[2], "north": bounds[3],
        "centre_zoom": 0, "centre_lon": 0, "centre_lat": 0,
    } | changes  # fmt: skip
    path.write_bytes(struct.pack("<7sB11Q6B4iB2i", *header.values()) + root + leaf_bytes + data)
    return path
