"""MBTiles: map tiles in an SQLite file, its schema and its SQL those of a stranger."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geoloc.errors import ImageryError
from preprocessing.pyramid import (
    LARGEST_TILE_BYTES,
    MAX_ZOOM,
    GetTile,
    bounds_to_mercator,
    open_pyramid,
    tile_bounds,
)
from preprocessing.remote import is_url
from preprocessing.source import Bounds, Imagery, file_state

FORMATS = ("png", "jpg", "jpeg", "webp")
_STEPS_AT_ONCE = 1_000_000
_MOST_STEPS = 2_000
_READING = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ}
_COUNTING = {"min", "max"}

_Connection = sqlite3.Connection


@dataclass(frozen=True)
class MbTiles:
    """An MBTiles file. Rows count from the south, as its specification says."""

    path: Path

    @contextmanager
    def opened(self) -> Iterator[GetTile]:
        """Get tiles by their primary key."""
        with _connected(self.path) as connection:

            def get(zoom: int, column: int, row: int) -> bytes | None:
                where = (zoom, column, 2**zoom - 1 - row)
                found = _one(
                    connection,
                    "SELECT tile_data FROM tiles WHERE zoom_level = ? AND tile_column = ? AND tile_row = ?",
                    where,
                )
                if found is None or found[0] is None:
                    return None
                if not isinstance(found[0], bytes):
                    raise ImageryError(f"{self.path}: tile {zoom}/{column}/{row} is no image; cut it again.")
                return found[0]

            yield get


def open_mbtiles(address: str) -> Imagery:
    """The tiles of an MBTiles file, reaching as far as the deepest zoom's do and its `bounds` allow.

    Raises ImageryError for a file that is none, holds no images, or contradicts itself, and for a URL: what
    SQLite reads of a file lies all over it.
    """
    if is_url(address):
        raise ImageryError(
            f"{address} is an MBTiles file, which is not read over the web; download it first."
        )
    path = Path(address)
    state, store = file_state(path), MbTiles(path)
    with _connected(path) as connection:
        metadata = _metadata(path, connection)
        zooms = _zooms(connection)
        if not zooms:
            raise ImageryError(f"{path} holds no tiles at zooms 0 to {MAX_ZOOM}; make it again.")
        bounds, sample = _extent(path, connection, zooms[-1])
    bounds = _within(path, bounds, metadata.get("bounds"))
    return open_pyramid(str(path), store, zooms, bounds, sample, state)


@contextmanager
def _connected(path: Path) -> Iterator[_Connection]:
    """The file, read-only; its views may select from its tables and do nothing else, in bounded time."""
    file_state(path)
    steps = iter(range(_MOST_STEPS))
    try:
        address = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
        with closing(sqlite3.connect(address, uri=True, check_same_thread=False)) as connection:
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST_TILE_BYTES)
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA mmap_size = 0")
            connection.set_authorizer(_only_reading)
            connection.set_progress_handler(lambda: next(steps, None) is None, _STEPS_AT_ONCE)
            yield connection
    except (sqlite3.Error, OverflowError, UnicodeDecodeError) as cause:
        raise ImageryError(f"{path} is damaged or no MBTiles file ({cause}); get the file again.") from cause


def _only_reading(action: int, _: str | None, name: str | None, *__: object) -> int:
    allowed = action in _READING or (action == sqlite3.SQLITE_FUNCTION and name in _COUNTING)
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


def _one(connection: _Connection, query: str, values: tuple[int, ...] = ()) -> tuple[Any, ...] | None:
    with closing(connection.execute(query, values)) as cursor:
        row: tuple[Any, ...] | None = cursor.fetchone()
    return row


def _metadata(path: Path, connection: _Connection) -> dict[str, str]:
    with closing(connection.execute("SELECT name, value FROM metadata LIMIT 1000")) as cursor:
        found = {str(name): str(value) for name, value in cursor}
    kind = found.get("format", "png").lower()
    if kind not in FORMATS:
        raise ImageryError(f"{path} holds {kind[:20]!r} tiles; geoloc wants images: png, jpg or webp.")
    return found


def _zooms(connection: _Connection) -> tuple[int, ...]:
    """Those that have tiles, each looked for by itself, so that no table is read through."""
    query = "SELECT zoom_level FROM tiles WHERE zoom_level = ? LIMIT 1"
    return tuple(zoom for zoom in range(MAX_ZOOM + 1) if _one(connection, query, (zoom,)) == (zoom,))


def _extent(path: Path, connection: _Connection, zoom: int) -> tuple[Bounds, tuple[int, int, int]]:
    """What the tiles of a zoom cover, and the number of one of them, counted from the north."""
    span = _one(
        connection,
        "SELECT min(tile_column), max(tile_column), min(tile_row), max(tile_row) FROM tiles"
        " WHERE zoom_level = ?",
        (zoom,),
    )
    one = _one(connection, "SELECT tile_column, tile_row FROM tiles WHERE zoom_level = ? LIMIT 1", (zoom,))
    last = 2**zoom - 1
    if span is None or one is None or not all(isinstance(n, int) and 0 <= n <= last for n in (*span, *one)):
        raise ImageryError(f"{path} has tiles beyond the map at zoom {zoom}; make it again.")
    west, east, south, north = span
    bounds = tile_bounds(zoom, (west, east), (last - north, last - south))
    return bounds, (zoom, one[0], last - one[1])


def _within(path: Path, tiles: Bounds, said: str | None) -> Bounds:
    """The part of the tiles that `bounds` in the metadata leaves."""
    if said is None:
        return tiles
    try:
        west, south, east, north = map(float, said.split(","))
        stated = bounds_to_mercator((west, south, east, north))
    except (ValueError, ImageryError) as cause:
        raise ImageryError(f"{path} says bounds {said[:80]!r}, which are none; mend them.") from cause
    west, south = max(tiles[0], stated[0]), max(tiles[1], stated[1])
    east, north = min(tiles[2], stated[2]), min(tiles[3], stated[3])
    if west >= east or south >= north:
        raise ImageryError(f"{path} has no tiles inside its bounds, {said[:80]}; mend its metadata.")
    return west, south, east, north
