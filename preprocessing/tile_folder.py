"""Folders of map tiles, ZOOM/COLUMN/ROW.png: as XYZ (rows from the north) or TMS (rows from the south)."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from geoloc.errors import ImageryError
from preprocessing.pyramid import LARGEST_TILE_BYTES, MAX_ZOOM, GetTile, open_pyramid, tile_bounds
from preprocessing.source import Imagery, State, posix_time

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_LARGEST_JSON = 1 << 20


@dataclass(frozen=True)
class TileFolder:
    """A folder of map tiles. tms: whether rows count from the south. suffix: of every tile's name."""

    path: Path
    tms: bool
    suffix: str

    @contextmanager
    def opened(self) -> Iterator[GetTile]:
        """Get tiles by reading files; anything but a plain file of sound size is refused."""
        yield self._get

    def _get(self, zoom: int, column: int, row: int) -> bytes | None:
        stored_row = 2**zoom - 1 - row if self.tms else row
        path = self.path / str(zoom) / str(column) / f"{stored_row}{self.suffix}"
        if not path.exists():
            return None
        if not path.is_file() or path.stat().st_size > LARGEST_TILE_BYTES:
            raise ImageryError(f"{path} is no file, or over {LARGEST_TILE_BYTES >> 20} MiB; cut it again.")
        return path.read_bytes()


def scheme_of(folder: Path) -> str | None:
    """'xyz' or 'tms' where the folder itself says so, '' where it holds map tiles but does not; else None.

    tilejson.json and metadata.json say it as `scheme`; TileJSON without one is xyz by its specification;
    tilemapresource.xml is a TMS. Raises ImageryError for one of these that is no JSON.
    """
    if not _numbered(folder, MAX_ZOOM):
        return None
    for name, unsaid in (("tilejson.json", "xyz"), ("metadata.json", "")):
        path = folder / name
        if path.is_file() and path.stat().st_size <= _LARGEST_JSON:
            try:
                said = json.loads(path.read_bytes())
            except (ValueError, RecursionError) as cause:
                raise ImageryError(f"{path} is no JSON; mend or remove it.") from cause
            scheme = said.get("scheme", unsaid) if isinstance(said, dict) else unsaid
            if scheme in ("xyz", "tms"):
                return str(scheme)
    return "tms" if (folder / "tilemapresource.xml").is_file() else ""


def open_tile_folder(scheme: str, path: Path) -> Imagery:
    """The map tiles below a folder; the deepest zoom says how far they reach. Raises ImageryError."""
    if not path.is_dir():
        raise ImageryError(f"{path} is no folder of map tiles; check the path.")
    survey = _Survey()
    for zoom in _numbered(path, MAX_ZOOM):
        survey.take(path / str(zoom), zoom)
    if not survey.found or len(survey.suffixes) != 1:
        raise ImageryError(
            f"{path} holds {'several kinds of' if survey.found else 'no'} tiles ZOOM/COLUMN/ROW.png, "
            ".jpg or .webp; give a folder of one kind."
        )
    store = TileFolder(path, scheme == "tms", survey.suffixes.pop())
    deepest = max(survey.found)
    columns, stored_rows, (column, stored_row) = survey.found[deepest]
    last = 2**deepest - 1
    rows = (last - stored_rows[1], last - stored_rows[0]) if store.tms else stored_rows
    sample = deepest, column, last - stored_row if store.tms else stored_row
    state = State(survey.bytes, survey.digest.hexdigest(), posix_time(survey.newest), "its newest tile")
    bounds = tile_bounds(deepest, columns, rows)
    return open_pyramid(f"{scheme}:{path}", store, tuple(sorted(survey.found)), bounds, sample, state)


class _Survey:
    """What a walk over a tile folder finds, zoom by zoom: first and last column and row, and one tile."""

    def __init__(self) -> None:
        self.found: dict[int, tuple[tuple[int, int], tuple[int, int], tuple[int, int]]] = {}
        self.suffixes: set[str] = set()
        self.digest = hashlib.sha256()
        self.bytes, self.newest = 0, 0.0

    def take(self, folder: Path, zoom: int) -> None:
        """Walk over one zoom's columns."""
        for column in _numbered(folder, 2**zoom - 1):
            for entry in sorted(os.scandir(folder / str(column)), key=lambda entry: entry.name):
                name = Path(entry.name)
                row = _number(name.stem, 2**zoom - 1)
                if row is None or name.suffix not in SUFFIXES or not entry.is_file():
                    continue
                stat = entry.stat()
                self.digest.update(
                    f"{zoom}/{column}/{entry.name} {stat.st_size} {stat.st_mtime_ns}\n".encode()
                )
                self.suffixes.add(name.suffix)
                self.bytes += stat.st_size
                self.newest = max(self.newest, stat.st_mtime)
                columns, rows, one = self.found.get(zoom, ((column, column), (row, row), (column, row)))
                self.found[zoom] = (columns[0], column), (min(rows[0], row), max(rows[1], row)), one


def _numbered(folder: Path, largest: int) -> list[int]:
    """The folders below that are named by a number, ascending."""
    numbers = (_number(entry.name, largest) for entry in os.scandir(folder) if entry.is_dir())
    return sorted(number for number in numbers if number is not None)


def _number(text: str, largest: int) -> int | None:
    """A plain whole number up to `largest`, else None."""
    plain = text.isascii() and text.isdigit() and len(text) <= 9 and str(int(text)) == text
    return int(text) if plain and int(text) <= largest else None
