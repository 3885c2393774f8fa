"""Whether a gallery is, to the last byte and in every part, the one that was built."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64

from geoloc.errors import GalleryError, GeolocError
from geoloc.model import SPEC, read_spec
from indexing.embeddings import read_embeddings
from indexing.faiss_index import read_index, search_rows
from indexing.manifest import NAME, Manifest, check_file, live_folder, read_manifest
from indexing.table import read_table

_SAMPLES = 64
_INEXACT = 0.1


@dataclass(frozen=True)
class Report:
    """What was looked at, and what is wrong with it, a sentence each. bytes: of all files together."""

    version: str
    tiles: int
    files: int
    bytes: int
    problems: tuple[str, ...]


def verify(path: Path) -> Report:
    """Check everything about the live version. Raises GalleryError that names every problem."""
    report = examine(path)
    if report.problems:
        raise GalleryError("\n".join(report.problems))
    return report


def examine(path: Path) -> Report:
    """The same, with the problems in the report. Raises GalleryError only where there is no version.

    First every file's bytes against the manifest, and the manifest's against its version's name. If
    those hold: the same ids in embeddings and table, one spec everywhere, and an index that finds a
    sample of the stored embeddings.
    """
    folder = live_folder(path)
    manifest = read_manifest(folder)
    problems = _file_problems(folder, manifest) or _content_problems(folder, manifest)
    size = sum(file.bytes for file in manifest.files)
    return Report(manifest.version, manifest.rows, len(manifest.files), size, tuple(problems))


def _file_problems(folder: Path, manifest: Manifest) -> list[str]:
    problems = []
    for file in manifest.files:
        try:
            check_file(folder, file)
        except GalleryError as cause:
            problems.append(str(cause))
    listed = {NAME, *(file.name for file in manifest.files)}
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    return problems + [
        f"{folder / name} is no part of the gallery; remove it." for name in sorted(there - listed)
    ]


def _content_problems(folder: Path, manifest: Manifest) -> list[str]:
    try:
        ids, rows, vectors = _read_sample(folder, manifest)
        problems = []
        if len(np.unique(ids)) != manifest.rows:
            problems.append(f"{folder} has tiles of the same id; build the gallery again.")
        if not np.array_equal(ids, read_table(folder / "tiles.parquet")["id"].to_numpy()):
            problems.append(
                f"{folder}: tiles.parquet and embeddings.h5 are of different tiles; build it again."
            )
        if read_spec(folder / "model") != manifest.spec:
            problems.append(f"{folder}: model/{SPEC} is not the manifest's; build the gallery again.")
        if not _finds(folder, manifest, rows, vectors):
            problems.append(
                f"{folder}: index.faiss does not find the stored embeddings; build the gallery again."
            )
    except GeolocError as cause:
        return [str(cause)]
    except (OSError, ValueError, KeyError) as cause:
        return [f"{folder} cannot be read ({cause}); build the gallery again."]
    return problems


def _read_sample(
    folder: Path, manifest: Manifest
) -> tuple[Int64[np.ndarray, "n"], Int64[np.ndarray, "s"], Float32[np.ndarray, "s d"]]:
    """Every id, and some rows spread evenly with their embeddings; reads, so checks, all of the HDF5."""
    rows = np.unique(np.linspace(0, manifest.rows - 1, _SAMPLES).astype(np.int64))
    ids, vectors, start = [], [], 0
    for some_ids, embeddings in read_embeddings(folder / "embeddings.h5", manifest.spec, manifest.rows):
        here = rows[(rows >= start) & (rows < start + len(some_ids))]
        vectors.append(embeddings[here - start].astype(np.float32))
        ids.append(some_ids)
        start += len(some_ids)
    return np.concatenate(ids), rows, np.concatenate(vectors)


def _finds(
    folder: Path, manifest: Manifest, rows: Int64[np.ndarray, "s"], vectors: Float32[np.ndarray, "s d"]
) -> bool:
    """Whether each embedding finds itself, or one as like it (open water looks the same everywhere).

    An exact index must do so for all, one that is not (any but Flat) for nine in ten, among as many as
    are scored again.
    """
    index = read_index(folder / "index.faiss", manifest.spec.dim, manifest.rows)
    exact = manifest.index == "Flat"
    scores, found = search_rows(index, vectors, min(10 if exact else manifest.depth, manifest.rows))
    own = (vectors**2).sum(axis=1)
    is_found = (found == rows[:, None]).any(axis=1) | (scores[:, 0] >= own - 1e-3)
    return bool(is_found.mean() >= (1 if exact else 1 - _INEXACT))
