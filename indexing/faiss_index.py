"""index.faiss: how an index is made of a factory string, and how its rows are searched.

Besides FAISS's own factories there is `Scan64`, for embeddings searched at every heading and through
narrow windows: the 64 bytes a tile that are looked through from end to end. PCA whose eigenvectors are
dealt out evenly, then a product quantiser of 4 bits (`PQ128x4fs`), which FAISS compares 32 tiles at a
time. An inverted file cannot do that: a window of 90 degrees is a quarter of a vector, and its nearest
lists are not those of the whole. Its lists here are runs of neighbouring rows instead, so that a region,
which is a few ranges of rows, is a few lists.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from jaxtyping import Float16, Float32, Int64

from geoloc.errors import GalleryError
from indexing.rows import Ranges, count, every_row, mask_of

RUN = 1 << 16
"""Rows to a list of a scan."""

_SCAN = re.compile(r"Scan(8|16|32|64|128)")
_KEPT = 256
_HNSW_EF = 128
_MOST_TRAINING = 200_000
_SCAN_TRAINING = 20_000

_swig: Any = faiss  # its stubs know neither selectors nor keyword parameters


def make_index(factory: str, dim: int, rows: int = 1) -> faiss.Index:
    """An empty inner-product index of a factory string, a scan one of lists for `rows`.

    Raises GalleryError where it is of no use here.
    """
    try:
        scan = _SCAN.fullmatch(factory)
        if scan:
            return _make_scan(2 * int(scan[1]), dim, rows)
        index = faiss.index_factory(dim, factory, faiss.METRIC_INNER_PRODUCT)
        _parameters(index, every_row(1))
        _refuse_degenerate(index)
    except Exception as cause:  # FAISS raises RuntimeError, TypeError and more, with C++ in their text
        raise GalleryError(
            f"{factory!r} is no FAISS factory for {dim} dimensions that can be searched by region; "
            "try 'Flat', 'Scan64', 'IVF1024,SQ8' or 'HNSW32'."
        ) from cause
    return index


def _make_scan(parts: int, dim: int, rows: int) -> faiss.Index:
    """PCA to 256 numbers, or a multiple of `parts`, in parts of equal variance; each becomes 4 bits."""
    kept = min(dim, max(_KEPT, parts)) // parts * parts
    if not kept:
        raise ValueError("more parts than numbers")
    lists = faiss.IndexFlatL2(kept)
    lists.add(np.zeros((-(-rows // RUN), kept), np.float32))
    codes = _swig.IndexIVFPQFastScan(lists, kept, lists.ntotal, parts, 4, faiss.METRIC_INNER_PRODUCT)
    codes.by_residual = False
    codes.nprobe = lists.ntotal
    rotate = _swig.PCAMatrix(dim, kept)
    rotate.balanced_bins = parts
    index: faiss.Index = _swig.IndexPreTransform(rotate, codes)
    return index


def _refuse_degenerate(index: faiss.Index) -> None:
    """FAISS takes an inverted file of no lists, and graphs of no links; it falls over them later."""
    inner = _innermost(index)
    if isinstance(inner, faiss.IndexIVF) and inner.nlist < 1:
        raise ValueError("no lists")
    if isinstance(inner, _swig.IndexHNSW) and not 2 <= inner.hnsw.nb_neighbors(1) <= 1024:
        raise ValueError("too few or too many links")


def refuse_few(factory: str, dim: int, rows: int) -> None:
    """Raise GalleryError where an index has more lists or codes than tiles to learn them from."""
    owner = make_index(factory, dim)  # must outlive what it is downcast to
    inner: Any = _innermost(owner)
    lists = int(inner.nlist) if isinstance(inner, faiss.IndexIVF) else 1
    codes = int(inner.pq.ksub) if hasattr(inner, "pq") else 1
    if max(lists, codes) > -(-rows // _step(owner, rows)):
        raise _too_few(factory, rows)


def _too_few(factory: str, rows: int) -> GalleryError:
    return GalleryError(
        f"FAISS cannot make {factory!r} of {rows:,} tiles: it wants more of them to learn from, and takes "
        f"{_MOST_TRAINING:,} at most; leave --index out, or choose fewer lists or 'Flat'."
    )


def _step(index: faiss.Index, rows: int) -> int:
    """From one row that is learnt from to the next."""
    return 1 + rows // (_SCAN_TRAINING if _is_scan(index) else _MOST_TRAINING)


def fill_index(
    factory: str, dim: int, rows: int, chunks: Callable[[], Iterator[Float16[np.ndarray, "n d"]]]
) -> faiss.Index:
    """Train on rows spread evenly where the index wants it, then add every row in order."""
    index = make_index(factory, dim, rows)
    try:
        if not index.is_trained:
            step = _step(index, rows)
            _train(index, np.concatenate([chunk[::step].astype(np.float32) for chunk in chunks()]))
        for chunk in chunks():
            _add(index, chunk.astype(np.float32))
    except RuntimeError as cause:
        raise _too_few(factory, rows) from cause
    _probe_enough(index)
    return index


def _train(index: faiss.Index, vectors: Float32[np.ndarray, "n d"]) -> None:
    """Train; a scan's PCA only turns: were the mean taken off, inner products would not be compared.

    Its hundred k-means of 16 points are too small to share between threads, which would wait for each other.
    """
    if not _is_scan(index):
        index.train(vectors)
        return
    rotate: Any = faiss.downcast_VectorTransform(_swig.downcast_index(index).chain.at(0))
    rotate.train(vectors)
    rotate.have_bias = False
    threads = _swig.omp_get_max_threads()
    _swig.omp_set_num_threads(1)
    try:
        index.train(vectors)
    finally:
        _swig.omp_set_num_threads(threads)


def _add(index: faiss.Index, vectors: Float32[np.ndarray, "n d"]) -> None:
    """Add vectors; to a scan each to the list of its run, by putting that list's centre nearest."""
    if not _is_scan(index):
        index.add(vectors)
        return
    lists: Any = faiss.downcast_index(_swig.extract_index_ivf(index).quantizer)
    while len(vectors):
        run, filled = divmod(index.ntotal, RUN)
        far = np.full((lists.ntotal, lists.d), 100, np.float32)
        far[run] = 0
        lists.reset()
        lists.add(far)
        index.add(vectors[: RUN - filled])
        vectors = vectors[RUN - filled :]


def _is_scan(index: faiss.Index) -> bool:
    inner = _innermost(index)
    return isinstance(inner, _swig.IndexIVFPQFastScan) and inner.quantizer.metric_type != inner.metric_type


def _probe_enough(index: faiss.Index) -> None:
    inner = _innermost(index)
    if isinstance(inner, faiss.IndexIVF) and not _is_scan(index):
        inner.nprobe = min(inner.nlist, max(16, inner.nlist // 64))
    if isinstance(inner, faiss.IndexHNSW):
        inner.hnsw.efSearch = _HNSW_EF


def _innermost(index: faiss.Index) -> faiss.Index:
    index = faiss.downcast_index(index)
    return _innermost(index.index) if isinstance(index, faiss.IndexPreTransform) else index


def read_index(path: Path, dim: int, rows: int) -> faiss.Index:
    """Open an index whose hash has been checked, mapped where its kind can be.

    Raises GalleryError where it is not of this gallery.
    """
    try:
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except Exception as cause:
        raise GalleryError(
            f"{path} is no FAISS index that this FAISS reads; build the gallery again."
        ) from cause
    if index.ntotal != rows or index.d != dim or index.metric_type != faiss.METRIC_INNER_PRODUCT:
        raise GalleryError(f"{path} is an index of another gallery; build the gallery again.")
    return index


def search_rows(
    index: faiss.Index, queries: Float32[np.ndarray, "q d"], k: int, only: Ranges | None = None
) -> tuple[Float32[np.ndarray, "q k"], Int64[np.ndarray, "q k"]]:
    """Scores and rows of the k best, of `only` some ranges of rows; row -1 and score -inf pad.

    Of a scan the lists beside those ranges are not looked at.
    """
    params = None if only is None or count(only) == index.ntotal else _parameters(index, only)
    scores, rows = index.search(np.ascontiguousarray(queries), k, params=params)
    scores[rows < 0] = -np.inf
    return scores, rows


def _parameters(index: faiss.Index, only: Ranges) -> Any:
    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexPreTransform):
        return _swig.SearchParametersPreTransform(index_params=_parameters(index.index, only))
    selector = _selector(only, index.ntotal)
    if _is_scan(index):
        runs = np.unique(np.concatenate([np.arange(a // RUN, -(-b // RUN)) for a, b in only.tolist()]))
        lists = _swig.SearchParameters(sel=_swig.IDSelectorBatch(runs))
        return _swig.SearchParametersIVF(sel=selector, nprobe=len(runs), quantizer_params=lists)
    if isinstance(index, faiss.IndexIVF):
        return _swig.SearchParametersIVF(sel=selector, nprobe=index.nprobe)
    if isinstance(index, faiss.IndexHNSW):
        return _swig.SearchParametersHNSW(sel=selector, efSearch=index.hnsw.efSearch)
    if isinstance(index, faiss.IndexFlat | faiss.IndexScalarQuantizer):
        return _swig.SearchParameters(sel=selector)
    raise TypeError(f"{type(index).__name__} cannot be searched by region")


def _selector(only: Ranges, rows: int) -> Any:
    if len(only) == 1:
        return _swig.IDSelectorRange(*only[0].tolist())
    return _swig.IDSelectorBitmap(np.packbits(mask_of(only, rows), bitorder="little"))
