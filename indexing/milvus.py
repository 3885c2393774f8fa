"""Embeddings served by Milvus: past one machine's memory, searched and scored as a local gallery's are.

A collection holds the vectors of one version, the gallery's folder everything else: manifest, model and
tiles. Its embeddings.h5 and index.faiss are not read, and may be missing where it is queried.
"""

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from geoloc.errors import GalleryError
from geoloc.report import Report
from geoloc.spec import EncoderSpec
from indexing.gallery import Gallery
from indexing.manifest import TABLE, Manifest
from indexing.opened import OpenSegment
from indexing.rows import Ranges, count, rows_of
from indexing.segment import SearchedRows
from indexing.table import read_origins

SCHEME = "milvus:"
_LIST = "geoloc"
_SEGMENT_BITS = 40
_AT_ONCE = 1000
_DEEPEST = 16_384


def export_to_milvus(gallery: Gallery, uri: str, report: Report) -> None:
    """Put the embeddings of a gallery's tiles into a collection of its version, listed once it is whole.

    What an unfinished export of the version left is dropped first, older versions of the gallery last.
    Raises GalleryError where Milvus is not installed or does not do it.
    """
    version, folder = gallery.manifest.version, str(gallery.path.resolve())
    with _client(uri) as client:
        listed = _listed(client)
        if version not in listed:
            _fill(client, _collection(version), gallery, report)
            _list(client, version, folder)
        for other, place in listed.items():
            if place == folder and other != version:
                client.delete(_LIST, ids=[other])
                client.drop_collection(_collection(other))
    report(len(gallery), len(gallery))


def _fill(client: Any, name: str, gallery: Gallery, report: Report) -> None:
    from pymilvus import DataType

    if client.has_collection(name):
        client.drop_collection(name)
    _create(client, name, gallery.spec.dim, row={"datatype": DataType.INT64})
    done = 0
    for number, opened in enumerate(gallery.segments):
        kept = rows_of(opened.kept)
        for start in range(0, len(kept), _AT_ONCE):
            rows = kept[start : start + _AT_ONCE]
            keys = (rows + (number << _SEGMENT_BITS)).tolist()
            vectors = opened.segment.read(rows)
            client.insert(name, [{"row": k, "vector": v} for k, v in zip(keys, vectors, strict=True)])
            done += len(rows)
            report(done, len(gallery))
    client.flush(name)


def _create(client: Any, name: str, dim: int, **fields: dict[str, Any]) -> None:
    """A collection of vectors, searched exactly, and these fields, the first of them the key."""
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    for number, (field, options) in enumerate(fields.items()):
        schema.add_field(field, is_primary=number == 0, **options)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dim)
    index = client.prepare_index_params()
    index.add_index("vector", index_type="FLAT", metric_type="IP")
    client.create_collection(name, schema=schema, index_params=index)


def _collection(version: str) -> str:
    return f"{_LIST}_{version}"


def _listed(client: Any) -> dict[str, str]:
    """The folder of each version that is whole."""
    if not client.has_collection(_LIST):
        return {}
    client.load_collection(_LIST)
    found = client.query(_LIST, filter='version != ""', output_fields=["version", "folder"], limit=1000)
    return {str(one["version"]): str(one["folder"]) for one in found}


def _list(client: Any, version: str, folder: str) -> None:
    """List a version; every collection wants a vector, so this has one that says nothing."""
    from pymilvus import DataType

    if not client.has_collection(_LIST):
        text = {"datatype": DataType.VARCHAR, "max_length": 8192}
        _create(client, _LIST, 2, version=text, folder=text)
    client.insert(_LIST, [{"version": version, "folder": folder, "vector": [0.0, 0.0]}])
    client.flush(_LIST)


def open_served(address: str) -> Gallery:
    """The gallery whose embeddings Milvus serves at milvus:URI, to be closed by the caller.

    Raises GalleryError where it serves none or several, or another version than the folder's live one.
    """
    uri = address.removeprefix(SCHEME)
    if "://" not in uri and not Path(uri).exists():
        raise GalleryError(f"{uri} is no address of a server and no file; check it.")
    client = _connect(uri)
    try:
        with _answering(uri):
            version, folder = _only_one(uri, _listed(client))
            client.load_collection(_collection(version))

        def served(path: Path, manifest: Manifest) -> list[OpenSegment]:
            if version != manifest.version:
                raise GalleryError(f"{uri} serves another version of {path}; export it again.")
            opened = []
            for number, one in enumerate(manifest.segments):
                rows = Served(client, uri, _collection(version), number, manifest.spec, one.rows, one.depth)
                table = path / one.folder / TABLE
                opened.append(OpenSegment(rows, table, read_origins(table).ids, one.kept))
            return opened

        return Gallery.open(Path(folder), served)
    except BaseException:
        client.close()
        raise


def _only_one(uri: str, listed: dict[str, str]) -> tuple[str, str]:
    """The version that is served, and its gallery's folder."""
    if len(listed) != 1:
        raise GalleryError(
            f"{uri} serves {len(listed)} galleries, not one; put one into a database of its own with "
            "geoloc index export GALLERY URI --to milvus."
        )
    ((version, folder),) = listed.items()
    return version, folder


@dataclass(frozen=True)
class Served(SearchedRows):
    """The embeddings of segment `number` in a loaded collection of Milvus; a row's key holds both numbers.

    client: one for all segments of a gallery, connected until they are closed.
    """

    client: Any
    uri: str
    collection: str
    number: int
    spec: EncoderSpec
    rows: int
    depth: int

    def nearest(
        self, copies: Float32[np.ndarray, "t d"], depth: int, only: Ranges
    ) -> tuple[Float32[np.ndarray, "t k"], Int64[np.ndarray, "t k"]]:
        """What Milvus proposes."""
        first = self.number << _SEGMENT_BITS
        inside = " or ".join(f"(row >= {start} and row < {stop})" for start, stop in (only + first).tolist())
        limit = min(depth, count(only), _DEEPEST)
        scores = np.full((len(copies), limit), -np.inf, np.float32)
        rows = np.full((len(copies), limit), -1, np.int64)
        with _answering(self.uri):
            found = self.client.search(self.collection, data=list(copies), limit=limit, filter=inside)
        for copy, hits in enumerate(found):
            scores[copy, : len(hits)] = [hit["distance"] for hit in hits]
            rows[copy, : len(hits)] = [hit["row"] - first for hit in hits]
        return scores, rows

    def read(self, rows: Int64[np.ndarray, "m"]) -> Float32[np.ndarray, "m d"]:
        """The stored embeddings of some rows. Raises GalleryError."""
        vectors = np.empty((len(rows), self.spec.dim), np.float32)
        with _answering(self.uri):
            for start in range(0, len(rows), _AT_ONCE):
                keys = (rows[start : start + _AT_ONCE] + (self.number << _SEGMENT_BITS)).tolist()
                found = self.client.get(self.collection, ids=keys, output_fields=["row", "vector"])
                by_key = {one["row"]: one["vector"] for one in found}
                if len(by_key) < len(set(keys)):
                    raise GalleryError(f"{self.uri} has lost rows of {self.collection}; export it again.")
                vectors[start : start + len(keys)] = [by_key[key] for key in keys]
        return vectors

    def close(self) -> None:
        """Hang up; once for all segments is enough."""
        self.client.close()


@contextmanager
def _client(uri: str) -> Iterator[Any]:
    """Milvus at a URI, connected while this is open. Raises GalleryError for what a user can mend."""
    with closing(_connect(uri)) as client, _answering(uri):
        yield client


def _connect(uri: str) -> Any:
    with _answering(uri):
        from pymilvus import MilvusClient

        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
        return MilvusClient(uri)


@contextmanager
def _answering(uri: str) -> Iterator[None]:
    """Turn what Milvus says into a GalleryError."""
    try:
        from pymilvus import MilvusException
    except ImportError as cause:
        raise GalleryError('Milvus wants its client: pip install "geoloc-crossview[milvus]".') from cause
    try:
        yield
    except MilvusException as cause:
        raise GalleryError(f"Milvus at {uri} did not do it: {cause.message}; check the address.") from cause
