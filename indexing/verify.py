"""Whether a gallery is, to the last byte and in every part, the one that was built."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64

from geoloc.errors import GalleryError, GeolocError
from geoloc.model import SPEC, read_spec
from geoloc.spec import EncoderSpec
from indexing.embeddings import read_embeddings
from indexing.faiss_index import read_index, search_rows
from indexing.manifest import EMBEDDINGS, INDEX, NAME, TABLE, Manifest, StoredSegment, check_file
from indexing.rows import rows_of
from indexing.table import read_origins
from indexing.versions import hold_live

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
    those hold: the same ids in embeddings and table, none twice, one spec everywhere, and indexes that
    find a sample of the stored embeddings.
    """
    manifest, held = hold_live(path)
    try:
        problems = _file_problems(path, manifest) or _content_problems(path, manifest)
    finally:
        os.close(held)
    size = sum(file.bytes for file in manifest.files)
    return Report(manifest.version, manifest.rows, len(manifest.files), size, tuple(problems))


def _file_problems(path: Path, manifest: Manifest) -> list[str]:
    problems = []
    for file in manifest.files:
        try:
            check_file(path, file)
        except GalleryError as cause:
            problems.append(str(cause))
    listed = {f"{manifest.version}/{NAME}", *(file.name for file in manifest.files)}
    folders = (path / folder for folder in (manifest.version, *manifest.folders))
    there = {one.relative_to(path).as_posix() for folder in folders for one in folder.rglob("*")}
    return problems + [
        f"{path / name} is no part of the gallery; remove it." for name in sorted(there - listed)
    ]


def _content_problems(path: Path, manifest: Manifest) -> list[str]:
    try:
        ids, problems = [], []
        for segment in manifest.segments:
            some_ids, said = _examine_segment(path / segment.folder, segment, manifest.spec)
            ids.append(some_ids[rows_of(segment.kept)])
            problems += said
        if len(np.unique(np.concatenate(ids))) != manifest.rows:
            problems.append(f"{path} has tiles of the same id; build the gallery again.")
        if read_spec(path / manifest.model) != manifest.spec:
            problems.append(
                f"{path}: {manifest.model}/{SPEC} is not the manifest's; build the gallery again."
            )
    except GeolocError as cause:
        return [str(cause)]
    except (OSError, ValueError, KeyError) as cause:
        return [f"{path} cannot be read ({cause}); build the gallery again."]
    return problems


def _examine_segment(
    folder: Path, segment: StoredSegment, spec: EncoderSpec
) -> tuple[Int64[np.ndarray, "n"], list[str]]:
    """Every id, removed or not, and what is wrong."""
    ids, rows, vectors = _read_sample(folder / EMBEDDINGS, segment.rows, spec)
    problems = []
    if not np.array_equal(ids, read_origins(folder / TABLE).ids):
        problems.append(
            f"{folder}: {TABLE} and {EMBEDDINGS} are of different tiles; build the gallery again."
        )
    if not _finds(folder / INDEX, segment, rows, vectors):
        problems.append(f"{folder}: {INDEX} does not find the stored embeddings; build the gallery again.")
    return ids, problems


def _read_sample(
    path: Path, count: int, spec: EncoderSpec
) -> tuple[Int64[np.ndarray, "n"], Int64[np.ndarray, "s"], Float32[np.ndarray, "s d"]]:
    """Every id, and some rows spread evenly with their embeddings; reads, so checks, all of the HDF5."""
    rows = np.unique(np.linspace(0, count - 1, _SAMPLES).astype(np.int64))
    ids, vectors, start = [], [], 0
    for some_ids, embeddings in read_embeddings(path, spec, count):
        here = rows[(rows >= start) & (rows < start + len(some_ids))]
        vectors.append(embeddings[here - start].astype(np.float32))
        ids.append(some_ids)
        start += len(some_ids)
    return np.concatenate(ids), rows, np.concatenate(vectors)


def _finds(
    path: Path, segment: StoredSegment, rows: Int64[np.ndarray, "s"], vectors: Float32[np.ndarray, "s d"]
) -> bool:
    """Whether each embedding finds itself, or one as like it (open water looks the same everywhere).

    An exact index must do so for all, one that is not (any but Flat) for nine in ten, among as many as
    are scored again.
    """
    index = read_index(path, vectors.shape[1], segment.rows)
    exact = segment.index == "Flat"
    scores, found = search_rows(index, vectors, min(10 if exact else segment.depth, segment.rows))
    own = (vectors**2).sum(axis=1)
    is_found = (found == rows[:, None]).any(axis=1) | (scores[:, 0] >= own - 1e-3)
    return bool(is_found.mean() >= (1 if exact else 1 - _INEXACT))
