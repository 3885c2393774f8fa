"""embeddings.h5: the tiles' embeddings and ids, checksummed, and read as if from a stranger.

A search scores some hundred rows from all over the file again. In chunks of 1,024 rows that would read 2 MB
for each 2 kB wanted; so embeddings lie in one piece, a row is read where it is, and its CRC-32 in `checks`
takes the place of a chunk's fletcher32.
"""

import io
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Float16, Int64, UInt32

from geoloc.errors import GalleryError, ModelError
from geoloc.spec import EncoderSpec

CHUNK = 1024
SCHEMA = 2
_BLOCK = 8 * CHUNK
_SMALL = 64

Chunk = tuple[Int64[np.ndarray, "n"], Float16[np.ndarray, "n d"]]


class _Patient(io.FileIO):
    """A file that keeps the first failed write to itself, to be raised when HDF5 is done with it.

    Told of a full disk while it closes a file, HDF5 1.14 brings the whole process down.
    """

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        left = memoryview(data).cast("B")
        size = len(left)
        try:
            while left and self.failure is None:
                left = left[super().write(left) :]
        except OSError as cause:
            self.failure = cause
        return size

    def raise_failure(self) -> None:
        if self.failure is not None:
            raise self.failure


def write_embeddings(path: Path, spec: EncoderSpec, rows: int, chunks: Iterable[Chunk]) -> None:
    """Write `rows` ids and embeddings, in the order of the chunks, with the spec that made them.

    Raises OSError where the disk is full.
    """
    with _Patient(path, "w+") as raw:
        try:
            _write(raw, spec, rows, chunks)
        finally:
            raw.raise_failure()


def _write(raw: _Patient, spec: EncoderSpec, rows: int, chunks: Iterable[Chunk]) -> None:
    with h5py.File(raw, "w") as file:
        file.attrs.update({"schema": SCHEMA, "spec": spec.to_json(), "azimuth_bins": spec.azimuth_bins})
        embeddings = file.create_dataset("embeddings", (rows, spec.dim), np.float16)
        checks = file.create_dataset("checks", (rows,), np.uint32)
        ids = file.create_dataset(
            "ids", (rows,), np.int64, maxshape=(None,), chunks=(CHUNK,), fletcher32=True
        )
        start = 0
        for some_ids, some in chunks:
            stop = start + len(some_ids)
            ids[start:stop], embeddings[start:stop], checks[start:stop] = some_ids, some, _checks(some)
            start = stop
            raw.raise_failure()


def _checks(rows: Float16[np.ndarray, "n d"]) -> UInt32[np.ndarray, "n"]:
    return np.fromiter((zlib.crc32(row) for row in np.ascontiguousarray(rows)), np.uint32, len(rows))


def read_ids(path: Path, spec: EncoderSpec, rows: int) -> Int64[np.ndarray, "n"]:
    """The ids, by row. Raises GalleryError where the file is not what `write_embeddings` writes."""
    with _opened(path, spec, rows) as file:
        return np.asarray(file["ids"][:])


def read_embeddings(path: Path, spec: EncoderSpec, rows: int) -> Iterator[Chunk]:
    """Ids and embeddings, some thousand rows at a time. Raises GalleryError."""
    with _opened(path, spec, rows) as file:
        for start in range(0, rows, _BLOCK):
            stop = min(rows, start + _BLOCK)
            some = file["embeddings"][start:stop]
            _refuse_changed(path, some, file["checks"][start:stop])
            yield file["ids"][start:stop], some


def read_rows(
    path: Path, spec: EncoderSpec, rows: int, wanted: Int64[np.ndarray, "m"]
) -> Float16[np.ndarray, "m d"]:
    """The embeddings of some rows, in the order asked, neighbours read together. Raises GalleryError."""
    row, place = np.unique(wanted, return_inverse=True)
    with _opened(path, spec, rows) as file:
        if len(row) and (row[0] < 0 or row[-1] >= rows):
            raise GalleryError(f"{path} has no row {row[0]} or {row[-1]}; build the gallery again.")
        edges = np.flatnonzero(np.diff(row, prepend=-2) != 1)
        runs = list(zip(row[edges].tolist(), np.diff(edges, append=len(row)).tolist(), strict=True))
        some = _read_runs(path, file["embeddings"], runs).reshape(len(row), spec.dim)
        _refuse_changed(path, some, _read_runs(path, file["checks"], runs))
    return some[place]


def _read_runs(path: Path, data: h5py.Dataset, runs: list[tuple[int, int]]) -> np.ndarray:
    """The numbers of runs of rows: (first, how many). The system is told of all before the first is read."""
    start, width = data.id.get_offset(), data.nbytes // len(data)
    with path.open("rb", buffering=0) as raw:
        file = raw.fileno()
        for row, size in runs if width > _SMALL else ():
            os.posix_fadvise(file, start + width * row, width * size, os.POSIX_FADV_WILLNEED)
        parts = [os.pread(file, width * size, start + width * row) for row, size in runs]
    return np.frombuffer(b"".join(parts), data.dtype)


def _refuse_changed(path: Path, some: Float16[np.ndarray, "n d"], checks: UInt32[np.ndarray, "n"]) -> None:
    if not np.array_equal(_checks(some), checks):
        raise GalleryError(f"{path} is damaged: rows do not have their checksum; {_REMEDY}")


_REMEDY = "take the gallery again from its source."


@contextmanager
def _opened(path: Path, spec: EncoderSpec, rows: int) -> Iterator[h5py.File]:
    try:
        with h5py.File(path, "r") as file:
            _refuse_hostile(path, file, spec, rows)
            yield file
    except (OSError, KeyError, RuntimeError, ValueError) as cause:
        raise GalleryError(f"{path} is damaged or no HDF5 file; {_REMEDY}") from cause


def _refuse_hostile(path: Path, file: h5py.File, spec: EncoderSpec, rows: int) -> None:
    """HDF5 can point into any other file and declare any size: look before reading."""
    wanted = {
        "embeddings": (np.float16, (rows, spec.dim)),
        "checks": (np.uint32, (rows,)),
        "ids": (np.int64, (rows,)),
    }
    links = {name: file.get(name, getlink=True) for name in file}
    if set(links) != set(wanted) or not all(type(link) is h5py.HardLink for link in links.values()):
        raise GalleryError(
            f"{path} holds other things than embeddings, checks and ids, or links; build the gallery again."
        )
    for name, (dtype, shape) in wanted.items():
        data = file[name]
        if not isinstance(data, h5py.Dataset) or data.external or data.is_virtual:
            raise GalleryError(f"{path}: {name} is stored in another file; do not use it.")
        laid_out = _in_chunks(data) if name == "ids" else _in_one_piece(path, data)
        if (data.dtype, data.shape) != (dtype, shape) or not laid_out:
            raise GalleryError(f"{path}: {name} is {data.dtype} {data.shape}, not {dtype.__name__} {shape}.")
    if not _says(file.attrs.get("spec"), spec):
        raise GalleryError(
            f"{path} was made by another model than the manifest says; build the gallery again."
        )


def _in_one_piece(path: Path, data: h5py.Dataset) -> bool:
    """Whether the bytes of a dataset lie in the file, one after another."""
    start = data.id.get_offset()
    return data.chunks is None and start is not None and start + data.nbytes <= path.stat().st_size


def _in_chunks(data: h5py.Dataset) -> bool:
    """Whether a dataset is stored in chunks of 1,024 rows, checksummed and not otherwise filtered."""
    filtered = data.compression or data.scaleoffset or data.shuffle or not data.fletcher32
    return data.chunks == (CHUNK, *data.shape[1:]) and not filtered


def _says(text: object, spec: EncoderSpec) -> bool:
    """Whether a file's attribute is this spec, written by this version or an older one."""
    try:
        return isinstance(text, str) and EncoderSpec.from_json(text) == spec
    except ModelError:
        return False
