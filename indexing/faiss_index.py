"""index.faiss: which index suits how many tiles, how it is made, and how its rows are searched."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from jaxtyping import Bool, Float16, Float32, Int64

from geoloc.errors import GalleryError

FLAT_BELOW = 100_000
"""Fewer rows than this are searched exactly."""

_HNSW_EF = 128
_MOST_TRAINING = 500_000

_swig: Any = faiss  # its stubs know neither selectors nor keyword parameters


def choose_factory(rows: int) -> str:
    """Flat for a small gallery; else an inverted file of about 4 sqrt(rows) lists (FAISS's guideline)."""
    return "Flat" if rows < FLAT_BELOW else f"IVF{2 ** round(math.log2(4 * math.sqrt(rows)))},Flat"


def make_index(factory: str, dim: int) -> faiss.Index:
    """An empty inner-product index of a factory string. Raises GalleryError where it is of no use here."""
    try:
        index = faiss.index_factory(dim, factory, faiss.METRIC_INNER_PRODUCT)
        _parameters(index, np.ones(1, bool))
        _refuse_degenerate(index)
    except Exception as cause:  # FAISS raises RuntimeError, TypeError and more, with C++ in their text
        raise GalleryError(
            f"{factory!r} is no FAISS factory for {dim} dimensions that can be searched by region; "
            "try 'Flat', 'IVF1024,Flat' or 'HNSW32'."
        ) from cause
    return index


def _refuse_degenerate(index: faiss.Index) -> None:
    """FAISS takes an inverted file of no lists, and graphs of no links; it falls over them later."""
    inner = _innermost(index)
    if isinstance(inner, faiss.IndexIVF) and inner.nlist < 1:
        raise ValueError("no lists")
    if isinstance(inner, _swig.IndexHNSW) and not 2 <= inner.hnsw.nb_neighbors(1) <= 1024:
        raise ValueError("too few or too many links")


def fill_index(
    factory: str, dim: int, rows: int, chunks: Callable[[], Iterator[Float16[np.ndarray, "n d"]]]
) -> faiss.Index:
    """Train on rows spread evenly where the index wants it, then add every row in order."""
    index = make_index(factory, dim)
    try:
        if not index.is_trained:
            step = 1 + rows // _MOST_TRAINING
            index.train(np.concatenate([chunk[::step] for chunk in chunks()]).astype(np.float32))
        for chunk in chunks():
            index.add(chunk.astype(np.float32))
    except RuntimeError as cause:
        raise GalleryError(
            f"FAISS cannot make {factory!r} of {rows} tiles: it wants more of them to learn from; "
            "leave --index out, or choose fewer lists or 'Flat'."
        ) from cause
    _probe_enough(index)
    return index


def _probe_enough(index: faiss.Index) -> None:
    inner = _innermost(index)
    if isinstance(inner, faiss.IndexIVF):
        inner.nprobe = min(inner.nlist, max(16, inner.nlist // 64))
    if isinstance(inner, faiss.IndexHNSW):
        inner.hnsw.efSearch = _HNSW_EF


def _innermost(index: faiss.Index) -> faiss.Index:
    index = faiss.downcast_index(index)
    return _innermost(index.index) if isinstance(index, faiss.IndexPreTransform) else index


def read_index(path: Path, dim: int, rows: int) -> faiss.Index:
    """Load an index whose hash has been checked. Raises GalleryError where it is not of this gallery."""
    try:
        index = faiss.read_index(str(path))
    except Exception as cause:
        raise GalleryError(
            f"{path} is no FAISS index that this FAISS reads; build the gallery again."
        ) from cause
    if index.ntotal != rows or index.d != dim or index.metric_type != faiss.METRIC_INNER_PRODUCT:
        raise GalleryError(f"{path} is an index of another gallery; build the gallery again.")
    return index


def search_rows(
    index: faiss.Index, queries: Float32[np.ndarray, "q d"], k: int, only: Bool[np.ndarray, "n"] | None = None
) -> tuple[Float32[np.ndarray, "q k"], Int64[np.ndarray, "q k"]]:
    """Scores and rows of the k best, of `only` the rows that are set; row -1 and score -inf pad."""
    params = None if only is None else _parameters(index, only)
    scores, rows = index.search(np.ascontiguousarray(queries), k, params=params)
    scores[rows < 0] = -np.inf
    return scores, rows


def _parameters(index: faiss.Index, only: Bool[np.ndarray, "n"]) -> Any:
    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexPreTransform):
        return _swig.SearchParametersPreTransform(index_params=_parameters(index.index, only))
    selector = _swig.IDSelectorBitmap(np.packbits(only, bitorder="little"))
    if isinstance(index, faiss.IndexIVF):
        return _swig.SearchParametersIVF(sel=selector, nprobe=index.nprobe)
    if isinstance(index, faiss.IndexHNSW):
        return _swig.SearchParametersHNSW(sel=selector, efSearch=index.hnsw.efSearch)
    if isinstance(index, faiss.IndexFlat | faiss.IndexScalarQuantizer):
        return _swig.SearchParameters(sel=selector)
    raise TypeError(f"{type(index).__name__} cannot be searched by region")
