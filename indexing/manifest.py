"""What a gallery says about itself, and the chain of hashes that proves it.

A version is named by the SHA-256 of its manifest, and the manifest holds the SHA-256 of every other
file: CURRENT -> manifest.json -> files. A changed byte anywhere breaks the chain.
"""

import dataclasses
import hashlib
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geoloc.errors import GalleryError, GeolocError
from geoloc.model import SPEC, WEIGHTS
from geoloc.spec import EncoderSpec
from indexing.durable import sha256_of
from preprocessing.tiles import Grid

SCHEMA = 1
NAME = "manifest.json"
_PARTS = {"embeddings.h5", "tiles.parquet", "index.faiss", f"model/{WEIGHTS}", f"model/{SPEC}"}
_LARGEST_MANIFEST = 1 << 26
_VERSION = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class StoredFile:
    """A file of a version: its name relative to the version's folder, its size and its hash."""

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
    bounds_lonlat: tuple[float, float, float, float]


@dataclass(frozen=True)
class Manifest:
    """A gallery version. index: its FAISS factory string. sources: in the order that wins overlaps."""

    version: str
    spec: EncoderSpec
    grid: Grid
    rows: int
    index: str
    bounds_lonlat: tuple[float, float, float, float]
    sources: tuple[Source, ...]
    files: tuple[StoredFile, ...]

    @property
    def stride_m(self) -> float:
        """Distance between the centres of neighbouring tiles."""
        return self.grid.stride_m

    @property
    def crs(self) -> list[str]:
        """The CRS of the tiles, one per UTM zone."""
        return [crs for _, crs in self.grid.crs_of_zone]


def to_bytes(manifest: Manifest) -> bytes:
    """The manifest.json of a version; its name is no part of it, but follows from it."""
    fields = dataclasses.asdict(manifest)
    del fields["version"]
    fields["spec"] = json.loads(manifest.spec.to_json())
    return (json.dumps({"schema": SCHEMA, **fields}, indent=1) + "\n").encode()


def version_of(content: bytes) -> str:
    """The name of the version that has this manifest.json."""
    return hashlib.sha256(content).hexdigest()[:16]


def stored_file(folder: Path, path: Path) -> StoredFile:
    """Describe a file that was written below a version's folder."""
    return StoredFile(path.relative_to(folder).as_posix(), path.stat().st_size, sha256_of(path))


def live_folder(gallery: Path) -> Path:
    """The folder of the version that CURRENT names. Raises GalleryError."""
    current = gallery / "CURRENT"
    if not current.is_file():
        raise GalleryError(f"{gallery} is no gallery: it has no CURRENT; build one with geoloc index build.")
    with current.open("rb") as file:
        name = file.read(65).decode("ascii", "replace").strip()
    folder = gallery / name
    if not _VERSION.fullmatch(name) or folder.is_symlink() or not folder.is_dir():
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
                f"{path} is not of schema {SCHEMA}, the one this geoloc reads; build the gallery again."
            )
        return _from_json(raw, folder.name)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as cause:
        raise GalleryError(f"{path} is no manifest of a gallery; {_REMEDY}") from cause
    except GalleryError:
        raise
    except GeolocError as cause:
        raise GalleryError(f"{path}: {cause}") from cause


def _from_json(raw: dict[str, Any], version: str) -> Manifest:
    zones = tuple((int(zone), str(crs)) for zone, crs in raw["grid"].pop("crs_of_zone"))
    files = tuple(StoredFile(**file) for file in raw["files"])
    if not all(re.fullmatch(r"(model/)?[A-Za-z0-9_][A-Za-z0-9_.-]*", file.name) for file in files):
        raise ValueError("a file's name leads out of the version's folder")
    if not {file.name for file in files} >= _PARTS:
        raise ValueError("a part of the gallery is not listed")
    return Manifest(
        version=version,
        spec=EncoderSpec.from_json(json.dumps(raw["spec"])),
        grid=Grid(**raw["grid"], crs_of_zone=zones),
        rows=int(raw["rows"]),
        index=str(raw["index"]),
        bounds_lonlat=_bounds(raw["bounds_lonlat"]),
        sources=tuple(map(_source, raw["sources"])),
        files=files,
    )


def _source(raw: dict[str, Any]) -> Source:
    return Source(str(raw["path"]), int(raw["bytes"]), _bounds(raw["bounds_lonlat"]))


def _bounds(raw: list[float]) -> tuple[float, float, float, float]:
    west, south, east, north = map(float, raw)
    if not all(map(math.isfinite, raw)):
        raise ValueError("bounds that are no numbers")
    return west, south, east, north


_REMEDY = "take the gallery again from its source or build it again."


def check_file(folder: Path, file: StoredFile) -> None:
    """Raise GalleryError where a file is not, byte for byte, the one that was published."""
    path = folder / file.name
    if not path.is_file() or path.is_symlink():
        raise GalleryError(f"{path} is missing; {_REMEDY}")
    if path.stat().st_size != file.bytes or sha256_of(path) != file.sha256:
        raise GalleryError(f"{path} is damaged: its bytes are not those published; {_REMEDY}")
