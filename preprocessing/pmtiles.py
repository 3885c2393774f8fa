"""PMTiles, version 3 (https://github.com/protomaps/PMTiles): map tiles in one file along a Hilbert curve.

The file may be on a web server: only its directories and the tiles wanted are read.
"""

import struct
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from geoloc.errors import ImageryError
from preprocessing.pyramid import (
    LARGEST_TILE_BYTES,
    MAX_ZOOM,
    GetTile,
    bounds_to_mercator,
    open_pyramid,
)
from preprocessing.remote import is_url, remote
from preprocessing.source import Imagery, State, file_state

HEADER = struct.Struct("<7sB11QBBBBBBiiiiBii")
_LARGEST_DIRECTORY = 1 << 26
_DEEPEST_DIRECTORY = 4
_NONE, _GZIP = 1, 2
_IMAGES = (2, 3, 4)  # PNG, JPEG, WebP


@dataclass(frozen=True)
class Header:
    """What the first 127 bytes say. Pairs are (offset, length) in the file; degrees are times 10^7."""

    root: tuple[int, int]
    leaves: tuple[int, int]
    tiles: tuple[int, int]
    directories_zipped: bool
    tiles_zipped: bool
    zooms: tuple[int, int]
    bounds_e7: tuple[int, int, int, int]


@dataclass(frozen=True)
class Directory:
    """Entries in the order of their first tile's id. run: how many tiles in a row, 0 for a leaf directory."""

    ids: list[int]
    runs: list[int]
    lengths: list[int]
    offsets: list[int]


@dataclass(frozen=True)
class PmTiles:
    """A PMTiles archive, a path or a URL."""

    address: str

    @contextmanager
    def opened(self) -> Iterator[GetTile]:
        """Get tiles by walking down from the root directory; what was walked is kept while open."""
        with _opened(self.address) as (archive, _):
            yield archive.get


def open_pmtiles(address: str) -> Imagery:
    """The image tiles of an archive, within the bounds of its header. Raises ImageryError."""
    with _opened(address) as (archive, state):
        header, sample = archive.header, archive.deepest_tile()
    try:
        west, south, east, north = (degrees / 1e7 for degrees in header.bounds_e7)
        bounds = bounds_to_mercator((west, south, east, north))
    except ImageryError as cause:
        raise ImageryError(f"{address} states no bounds in its header; make it again.") from cause
    zooms = tuple(range(header.zooms[0], header.zooms[1] + 1))
    return open_pyramid(address, PmTiles(address), zooms, bounds, sample, state)


@contextmanager
def _opened(address: str) -> Iterator[tuple["_Archive", State]]:
    if is_url(address):
        there = remote(address)
        yield _Archive(address, there.read, there.size), there.state
        return
    state = file_state(Path(address))
    with Path(address).open("rb") as file:
        yield _Archive(address, partial(_read_at, file), state.bytes), state


def _read_at(file: BinaryIO, offset: int, length: int) -> bytes:
    file.seek(offset)
    return file.read(length)


class _Archive:
    """An open archive. read: bytes from an offset, of a length."""

    def __init__(self, address: str, read: Callable[[int, int], bytes], size: int) -> None:
        self._address, self._read_file, self._size = address, read, size
        self._directories: dict[tuple[int, int], Directory] = {}
        self.header = self._header()

    def get(self, zoom: int, column: int, row: int) -> bytes | None:
        """The image of a tile, None where there is none."""
        wanted, where = tile_id(zoom, column, row), self.header.root
        for _ in range(_DEEPEST_DIRECTORY):
            directory = self._directory(where)
            at = bisect_right(directory.ids, wanted) - 1
            if at < 0:
                return None
            offset, length = directory.offsets[at], directory.lengths[at]
            if directory.runs[at] > 0:
                inside = wanted < directory.ids[at] + directory.runs[at]
                return self._tile(offset, length) if inside else None
            where = self._inside(self.header.leaves, offset, length)
        raise self._refusal("its directories are nested without end")

    def deepest_tile(self) -> tuple[int, int, int]:
        """The last tile along the curve, so one of the deepest zoom: (zoom, column, row)."""
        where = self.header.root
        for _ in range(_DEEPEST_DIRECTORY):
            directory = self._directory(where)
            if not directory.ids:
                raise self._refusal("it holds no tiles")
            if directory.runs[-1] > 0:
                return tile_of_id(directory.ids[-1] + directory.runs[-1] - 1)
            where = self._inside(self.header.leaves, directory.offsets[-1], directory.lengths[-1])
        raise self._refusal("its directories are nested without end")

    def _header(self) -> Header:
        raw = self._read(0, HEADER.size)
        magic, version, *numbers = HEADER.unpack(raw)
        if magic != b"PMTiles" or version != 3:
            raise self._refusal("it is no PMTiles archive of version 3")
        root, _, leaves, tiles = ((numbers[i], numbers[i + 1]) for i in (0, 2, 4, 6))
        _, inner, outer, kind, shallowest, deepest, west, south, east, north = numbers[11:21]
        if kind not in _IMAGES:
            raise self._refusal("its tiles are no PNG, JPEG or WebP images")
        if not {inner, outer} <= {_NONE, _GZIP}:
            raise self._refusal("it is compressed in a way that is neither gzip nor none")
        if not shallowest <= deepest <= MAX_ZOOM:
            raise self._refusal(f"its zooms {shallowest} to {deepest} are none")
        bounds = west, south, east, north
        return Header(root, leaves, tiles, inner == _GZIP, outer == _GZIP, (shallowest, deepest), bounds)

    def _directory(self, where: tuple[int, int]) -> Directory:
        if where not in self._directories:
            raw = self._read(*where)
            if self.header.directories_zipped:
                raw = self._unzip(raw, _LARGEST_DIRECTORY)
            try:
                self._directories[where] = read_directory(raw)
            except (IndexError, ValueError) as cause:
                raise self._refusal("a directory is cut short") from cause
        return self._directories[where]

    def _tile(self, offset: int, length: int) -> bytes:
        if length > LARGEST_TILE_BYTES:
            raise self._refusal(f"a tile is over {LARGEST_TILE_BYTES >> 20} MiB")
        blob = self._read(*self._inside(self.header.tiles, offset, length))
        return self._unzip(blob, LARGEST_TILE_BYTES) if self.header.tiles_zipped else blob

    def _inside(self, section: tuple[int, int], offset: int, length: int) -> tuple[int, int]:
        if offset + length > section[1]:
            raise self._refusal("an entry points out of its section")
        return section[0] + offset, length

    def _read(self, offset: int, length: int) -> bytes:
        if length > _LARGEST_DIRECTORY or offset + length > self._size:
            raise self._refusal("it is cut short, or points beyond its end")
        return self._read_file(offset, length)

    def _unzip(self, raw: bytes, most: int) -> bytes:
        unzip = zlib.decompressobj(wbits=31)
        try:
            plain = unzip.decompress(raw, most)
        except zlib.error as cause:
            raise self._refusal("what it compressed is damaged") from cause
        if unzip.unconsumed_tail or not unzip.eof:
            raise self._refusal("a compressed part is cut short or far too large")
        return plain

    def _refusal(self, cause: str) -> ImageryError:
        return ImageryError(f"{self._address} cannot be read: {cause}; get the file again.")


def read_directory(raw: bytes) -> Directory:
    """Columns of varints: how many, ids as steps, runs, lengths, offsets (0: right after the one before).

    Raises ValueError or IndexError for what is no directory.
    """
    count, at = _varint(raw, 0)
    if count > len(raw) // 4:
        raise ValueError("more entries than bytes")
    columns: list[list[int]] = []
    for _ in range(4):
        column = []
        for _ in range(count):
            number, at = _varint(raw, at)
            column.append(number)
        columns.append(column)
    steps, runs, lengths, stored = columns
    ids: list[int] = []
    offsets: list[int] = []
    id = 0
    for row in range(count):
        id += steps[row]
        ids.append(id)
        follows = stored[row] == 0 and row > 0
        offsets.append(offsets[-1] + lengths[row - 1] if follows else stored[row] - 1)
    if min(offsets, default=0) < 0 or min(lengths, default=1) == 0:
        raise ValueError("an entry without a place")
    return Directory(ids, runs, lengths, offsets)


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, least first, and where the next one begins."""
    number = shift = 0
    while True:
        byte = raw[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
        if shift > 63:
            raise ValueError("a number without end")


def tile_id(zoom: int, column: int, row: int) -> int:
    """The place of a tile on the Hilbert curves of all zooms, one after another."""
    id, x, y = ((1 << 2 * zoom) - 1) // 3, column, row
    for bit in reversed(range(zoom)):
        side = 1 << bit
        right, low = int(x & side > 0), int(y & side > 0)
        id += (3 * right ^ low) * side * side
        x, y = _turn(side, x & side - 1, y & side - 1, right, low)
    return id


def tile_of_id(id: int) -> tuple[int, int, int]:
    """The inverse of `tile_id`: (zoom, column, row)."""
    zoom = 0
    while id >= 1 << 2 * zoom:
        id -= 1 << 2 * zoom
        zoom += 1
    x = y = 0
    for bit in range(zoom):
        side = 1 << bit
        right = 1 & id >> 1
        low = 1 & (id ^ right)
        x, y = _turn(side, x, y, right, low)
        x, y, id = x + side * right, y + side * low, id >> 2
    return zoom, x, y


def _turn(side: int, x: int, y: int, right: int, low: int) -> tuple[int, int]:
    """A quarter of the curve as it lies in its place."""
    if low:
        return x, y
    if right:
        x, y = side - 1 - x, side - 1 - y
    return y, x
