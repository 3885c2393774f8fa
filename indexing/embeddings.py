"""embeddings.h5: the tiles' embeddings and ids, checksummed, and read as if from a stranger."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Float16, Int64

from geoloc.errors import GalleryError
from geoloc.spec import EncoderSpec

CHUNK = 1024
SCHEMA = 1

Chunk = tuple[Int64[np.ndarray, "n"], Float16[np.ndarray, "n d"]]


def write_embeddings(path: Path, spec: EncoderSpec, rows: int, chunks: Iterable[Chunk]) -> None:
    """Write `rows` ids and embeddings, in the order of the chunks, with the spec that made them."""
    with h5py.File(path, "w") as file:
        file.attrs.update({"schema": SCHEMA, "spec": spec.to_json(), "azimuth_bins": spec.azimuth_bins})
        embeddings = file.create_dataset(
            "embeddings",
            (rows, spec.dim),
            np.float16,
            maxshape=(None, spec.dim),
            chunks=(CHUNK, spec.dim),
            fletcher32=True,
        )
        ids = file.create_dataset(
            "ids", (rows,), np.int64, maxshape=(None,), chunks=(CHUNK,), fletcher32=True
        )
        start = 0
        for some_ids, some_embeddings in chunks:
            stop = start + len(some_ids)
            ids[start:stop], embeddings[start:stop] = some_ids, some_embeddings
            start = stop


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
    if file.attrs.get("spec") != spec.to_json():
        raise GalleryError(
            f"{path} was made by another model than the manifest says; build the gallery again."
        )
