"""embeddings.h5: the tiles' embeddings and ids, checksummed, and read as if from a stranger."""

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Float16, Int64

from geoloc.errors import GalleryError, ModelError
from geoloc.spec import EncoderSpec

CHUNK = 1024
SCHEMA = 1

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
        embeddings = _empty(file, "embeddings", (rows, spec.dim), np.float16)
        ids = _empty(file, "ids", (rows,), np.int64)
        start = 0
        for some_ids, some_embeddings in chunks:
            stop = start + len(some_ids)
            ids[start:stop], embeddings[start:stop] = some_ids, some_embeddings
            start = stop
            raw.raise_failure()


def _empty(file: h5py.File, name: str, shape: tuple[int, ...], dtype: type) -> h5py.Dataset:
    """A checksummed dataset in chunks of 1,024 rows; without an upper bound, so few rows make a chunk too."""
    bounds, chunks = (None, *shape[1:]), (CHUNK, *shape[1:])
    return file.create_dataset(name, shape, dtype, maxshape=bounds, chunks=chunks, fletcher32=True)


def read_ids(path: Path, spec: EncoderSpec, rows: int) -> Int64[np.ndarray, "n"]:
    """The ids, by row. Raises GalleryError where the file is not what `write_embeddings` writes."""
    with _opened(path, spec, rows) as file:
        return np.asarray(file["ids"][:])


def read_embeddings(path: Path, spec: EncoderSpec, rows: int) -> Iterator[Chunk]:
    """Ids and embeddings, some thousand rows at a time. Raises GalleryError."""
    with _opened(path, spec, rows) as file:
        for start in range(0, rows, 8 * CHUNK):
            stop = min(rows, start + 8 * CHUNK)
            yield file["ids"][start:stop], file["embeddings"][start:stop]


def read_rows(
    path: Path, spec: EncoderSpec, rows: int, wanted: Int64[np.ndarray, "m"]
) -> Float16[np.ndarray, "m d"]:
    """The embeddings of some rows, in the order asked, each stored chunk read once. Raises GalleryError."""
    found = np.empty((len(wanted), spec.dim), np.float16)
    with _opened(path, spec, rows) as file:
        for chunk in np.unique(wanted // CHUNK).tolist():
            here = np.flatnonzero(wanted // CHUNK == chunk)
            found[here] = file["embeddings"][chunk * CHUNK : (chunk + 1) * CHUNK][wanted[here] % CHUNK]
    return found


@contextmanager
def _opened(path: Path, spec: EncoderSpec, rows: int) -> Iterator[h5py.File]:
    try:
        with h5py.File(path, "r") as file:
            _refuse_hostile(path, file, spec, rows)
            yield file
    except (OSError, KeyError, RuntimeError, ValueError) as cause:
        raise GalleryError(
            f"{path} is damaged or no HDF5 file; take the gallery again from its source."
        ) from cause


def _refuse_hostile(path: Path, file: h5py.File, spec: EncoderSpec, rows: int) -> None:
    """HDF5 can point into any other file and declare any size: look before reading."""
    wanted = {"embeddings": (np.float16, (rows, spec.dim)), "ids": (np.int64, (rows,))}
    links = {name: file.get(name, getlink=True) for name in file}
    if set(links) != set(wanted) or not all(type(link) is h5py.HardLink for link in links.values()):
        raise GalleryError(f"{path} holds other things than embeddings and ids, or links; do not use it.")
    for name, (dtype, shape) in wanted.items():
        data = file[name]
        if not isinstance(data, h5py.Dataset) or data.external or data.is_virtual:
            raise GalleryError(f"{path}: {name} is stored in another file; do not use it.")
        chunks = (CHUNK, *shape[1:])
        filtered = data.compression or data.scaleoffset or data.shuffle or not data.fletcher32
        if (data.dtype, data.shape, data.chunks) != (dtype, shape, chunks) or filtered:
            raise GalleryError(f"{path}: {name} is {data.dtype} {data.shape}, not {dtype.__name__} {shape}.")
    if not _says(file.attrs.get("spec"), spec):
        raise GalleryError(
            f"{path} was made by another model than the manifest says; build the gallery again."
        )


def _says(text: object, spec: EncoderSpec) -> bool:
    """Whether a file's attribute is this spec, written by this version or an older one."""
    try:
        return isinstance(text, str) and EncoderSpec.from_json(text) == spec
    except ModelError:
        return False
