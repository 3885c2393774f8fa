"""What a gallery says about itself, and the chain of hashes that proves it.

A version is named by the SHA-256 of its manifest, and the manifest holds the SHA-256 of every other
file: CURRENT -> manifest.json -> files. A changed byte anywhere breaks the chain. The files lie in
folders that never change and that versions share: the segments of tiles, and the model. What is
particular to a version, which rows of a segment are removed, is in the manifest itself.
"""

import dataclasses
import hashlib
import itertools
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from geoloc.cores import cores
from geoloc.errors import GalleryError, GeolocError
from geoloc.model import SPEC, WEIGHTS
from geoloc.spec import EncoderSpec
from indexing.blocks import SUFFIX, check_span
from indexing.durable import sha256_of
from indexing.rows import Ranges, ranges_of
from preprocessing.source import Bounds
from preprocessing.tiles import Grid

SCHEMA = 2
NAME = "manifest.json"
EMBEDDINGS, TABLE, INDEX = "embeddings.h5", "tiles.parquet", "index.faiss"
_LARGEST_MANIFEST = 1 << 28
_MOST_RESCORED = 1 << 16
_HASHED_TO_OPEN = 1 << 28
_SPAN = 1 << 25
VERSION = re.compile(r"[0-9a-f]{16}")
_FILE = re.compile(r"(segments|models)/[0-9a-f]{16}/[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class StoredFile:
    """A file of a gallery: its name relative to the gallery's folder, its size and its hash."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Source:
    """Imagery that tiles were cut from. path: its address, see `Imagery`. bytes: of all its files.

    bounds_lonlat: (west, south, east, north) in degrees.
    """

    path: str
    bytes: int
    bounds_lonlat: Bounds


@dataclass(frozen=True)
class Recall:
    """recall@10 after scoring again, against exact search: of how many queries made from stored rows."""

    known_heading: float
    unknown_heading: float
    queries: int


@dataclass(frozen=True)
class StoredSegment:
    """Tiles that were stored together, in files that never change.

    folder: relative to the gallery's. rows: how many tiles were stored. index: the string that made their
    index. removed: the ranges of rows (first, one past the last) that are in the gallery no more; not all.
    depth: how many of the rows that the index proposes are scored again. recall: as measured when it was
    built, None for an exact index. Raises ValueError for ranges that are none, or a senseless depth.
    """

    folder: str
    rows: int
    index: str
    removed: tuple[tuple[int, int], ...] = ()
    depth: int = 256
    recall: Recall | None = None

    def __post_init__(self) -> None:
        ends = np.array(self.removed, np.int64).reshape(-1)
        if (np.diff(ends, prepend=-1) <= 0).any() or (ends > self.rows).any() or self.live < 1:
            raise ValueError(f"{self.folder}: the removed rows are no ranges of its {self.rows} rows")
        if not 1 <= self.depth <= _MOST_RESCORED:
            raise ValueError(f"{self.folder}: a depth that no search can have")

    @property
    def live(self) -> int:
        """How many of the tiles are in the gallery still."""
        return self.rows - sum(stop - start for start, stop in self.removed)

    @property
    def kept(self) -> Ranges:
        """The rows whose tiles are in the gallery still."""
        edges = np.array([0, *itertools.chain(*self.removed), self.rows]).reshape(-1, 2)
        return edges[edges[:, 0] < edges[:, 1]]

    def keeping(self, kept: Bool[np.ndarray, "n"]) -> "StoredSegment":
        """The same with only some of its rows in the gallery."""
        removed = ((start, stop) for start, stop in ranges_of(~kept).tolist())
        return dataclasses.replace(self, removed=tuple(removed))


@dataclass(frozen=True)
class Manifest:
    """A gallery version. sources: in the order that wins overlaps. model: its folder, as a segment's.

    wanted_index: the factory string that was asked for, or auto.
    """

    version: str
    spec: EncoderSpec
    grid: Grid
    bounds_lonlat: Bounds
    sources: tuple[Source, ...]
    wanted_index: str
    model: str
    segments: tuple[StoredSegment, ...]
    files: tuple[StoredFile, ...]

    @property
    def rows(self) -> int:
        """How many tiles there are."""
        return sum(segment.live for segment in self.segments)

    @property
    def index(self) -> str:
        """The FAISS factory string, or those of the segments where they differ."""
        return " + ".join(dict.fromkeys(segment.index for segment in self.segments))

    @property
    def stride_m(self) -> float:
        """Distance between the centres of neighbouring tiles."""
        return self.grid.stride_m

    @property
    def crs(self) -> list[str]:
        """The CRS of the tiles, one per UTM zone."""
        return [crs for _, crs in self.grid.crs_of_zone]

    @property
    def folders(self) -> tuple[str, ...]:
        """The model's folder and the segments'."""
        return self.model, *(segment.folder for segment in self.segments)

    def files_of(self, *folders: str) -> tuple[StoredFile, ...]:
        """The files in some of the folders."""
        return tuple(file for file in self.files if file.name.rpartition("/")[0] in folders)

    def changed(
        self, segments: tuple[StoredSegment, ...], new_files: tuple[StoredFile, ...] = (), **changes: Any
    ) -> "Manifest":
        """The manifest of the next version: of these segments, and what else changes."""
        files = tuple(dict.fromkeys(self.files + new_files))
        grown = dataclasses.replace(self, version="", segments=segments, files=files, **changes)
        return dataclasses.replace(grown, files=grown.files_of(*grown.folders))


def to_bytes(manifest: Manifest) -> bytes:
    """The manifest.json of a version; its name is no part of it, but follows from it."""
    fields = dataclasses.asdict(manifest)
    del fields["version"]
    fields["spec"] = json.loads(manifest.spec.to_json())
    return (json.dumps({"schema": SCHEMA, **fields}, indent=1) + "\n").encode()


def version_of(content: bytes) -> str:
    """The name of the version that has this manifest.json."""
    return hashlib.sha256(content).hexdigest()[:16]


def stored_files(folder: Path) -> tuple[StoredFile, ...]:
    """Describe the files of a folder, by their bare names."""
    return tuple(
        StoredFile(path.name, path.stat().st_size, sha256_of(path)) for path in sorted(folder.iterdir())
    )


def live_folder(gallery: Path) -> Path:
    """The folder of the version that CURRENT names. Raises GalleryError."""
    current = gallery / "CURRENT"
    if not current.is_file():
        raise GalleryError(f"{gallery} is no gallery: it has no CURRENT; build one with geoloc index build.")
    with current.open("rb") as file:
        name = file.read(65).decode("ascii", "replace").strip()
    folder = gallery / name
    if not VERSION.fullmatch(name) or folder.is_symlink() or not folder.is_dir():
        raise GalleryError(
            f"{current} names no version of this gallery; restore it or build the gallery again."
        )
    return folder


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a version's folder, proved by the folder's name. Raises GalleryError."""
    path = folder / NAME
    if not path.is_file() or path.stat().st_size > _LARGEST_MANIFEST:
        raise GalleryError(f"{path} is missing or far too large; {_REMEDY}")
    content = path.read_bytes()
    if version_of(content) != folder.name:
        raise GalleryError(f"{path} is not the manifest that was published; {_REMEDY}")
    try:
        raw: Any = json.loads(content)
        if raw.pop("schema") != SCHEMA:
            raise GalleryError(
                f"{path} is not of schema {SCHEMA}, the one this geoloc reads; build the gallery again, "
                "into the same folder if you like."
            )
        return _from_json(raw, folder.name)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as cause:
        raise GalleryError(f"{path} is no manifest of a gallery; {_REMEDY}") from cause
    except GalleryError:
        raise
    except GeolocError as cause:
        raise GalleryError(f"{path}: {cause}") from cause


def _from_json(raw: dict[str, Any], version: str) -> Manifest:
    zones = tuple((int(zone), str(crs)) for zone, crs in raw["grid"].pop("crs_of_zone"))
    files = tuple(StoredFile(**file) for file in raw["files"])
    if not all(_FILE.fullmatch(file.name) for file in files):
        raise ValueError("a file's name leads out of the gallery's folder")
    segments = tuple(map(_segment, raw["segments"]))
    parts = {f"{raw['model']}/{name}" for name in (WEIGHTS, SPEC)}
    parts |= {f"{one.folder}/{name}" for one in segments for name in (EMBEDDINGS, TABLE, INDEX)}
    if not segments or not {file.name for file in files} >= parts:
        raise ValueError("a part of the gallery is not listed")
    return Manifest(
        version=version,
        spec=EncoderSpec.from_json(json.dumps(raw["spec"])),
        grid=Grid(**raw["grid"], crs_of_zone=zones),
        bounds_lonlat=_bounds(raw["bounds_lonlat"]),
        sources=tuple(map(_source, raw["sources"])),
        wanted_index=str(raw["wanted_index"]),
        model=str(raw["model"]),
        segments=segments,
        files=files,
    )


def _segment(raw: dict[str, Any]) -> StoredSegment:
    return StoredSegment(
        folder=str(raw["folder"]),
        rows=int(raw["rows"]),
        index=str(raw["index"]),
        removed=tuple((int(start), int(stop)) for start, stop in raw["removed"]),
        depth=int(raw["depth"]),
        recall=Recall(**raw["recall"]) if raw["recall"] else None,
    )


def _source(raw: dict[str, Any]) -> Source:
    return Source(str(raw["path"]), int(raw["bytes"]), _bounds(raw["bounds_lonlat"]))


def _bounds(raw: list[float]) -> Bounds:
    west, south, east, north = map(float, raw)
    if not all(map(math.isfinite, raw)):
        raise ValueError("bounds that are no numbers")
    return west, south, east, north


_REMEDY = "take the gallery again from its source or build it again."


def check_to_open(gallery: Path, files: Sequence[StoredFile]) -> None:
    """`check_file` of each, but of what is large and checked as it is read the size alone.

    That is a table with the hashes of its blocks, and embeddings whose rows have a checksum each: a search
    reads some hundred of them, and hashing the 20 GB of ten million tiles would keep the first answer
    waiting. An index is hashed by its blocks, on every core. `verify` hashes all. Raises GalleryError.
    """
    names = {file.name for file in files}
    checks = (check for file in files for check in _checks(gallery, file, file.name + SUFFIX in names))
    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(lambda check: check(), checks))


def _checks(gallery: Path, file: StoredFile, has_blocks: bool) -> Iterator[Callable[[], None]]:
    path = gallery / file.name
    large_rows = path.name == EMBEDDINGS and file.bytes > _HASHED_TO_OPEN
    if not (has_blocks or large_rows):
        yield partial(check_file, gallery, file)
        return
    _check_size(gallery, file)
    if path.name == INDEX:
        for start in range(0, file.bytes, _SPAN):
            yield partial(check_span, path, start, min(file.bytes, start + _SPAN))


def _check_size(gallery: Path, file: StoredFile) -> None:
    """Raise GalleryError where a file is not there, or of another size than was published."""
    path = gallery / file.name
    if not path.is_file() or path.is_symlink() or path.parent.is_symlink():
        raise GalleryError(f"{path} is missing; {_REMEDY}")
    if path.stat().st_size != file.bytes:
        raise GalleryError(f"{path} is damaged: it is of another size than was published; {_REMEDY}")


def check_file(gallery: Path, file: StoredFile) -> None:
    """Raise GalleryError where a file is not, byte for byte, the one that was published."""
    _check_size(gallery, file)
    if sha256_of(gallery / file.name) != file.sha256:
        raise GalleryError(f"{gallery / file.name} is damaged: its bytes are not those published; {_REMEDY}")
