"""Every index finds what exact search finds, within a region too."""

import numpy as np
import pytest

from geoloc.errors import GalleryError
from indexing.faiss_index import fill_index, make_index, refuse_few, search_rows
from indexing.rows import ranges_of

DIM, ROWS = 32, 3000
RNG = np.random.default_rng(0)
CENTRES = RNG.normal(size=(40, DIM))
VECTORS = CENTRES[RNG.integers(0, 40, ROWS)] + 0.3 * RNG.normal(size=(ROWS, DIM))
VECTORS = (VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)).astype(np.float16)
QUERIES = VECTORS[::300].astype(np.float32)


def filled(factory):
    return fill_index(factory, DIM, ROWS, lambda: (VECTORS[a : a + 1024] for a in range(0, ROWS, 1024)))


@pytest.mark.parametrize(
    ("factory", "least"),
    [
        ("Flat", 1.0),
        ("IVF32,Flat", 0.9),
        ("SQ8", 0.9),
        ("HNSW16", 0.9),
        ("PCA28,Flat", 0.6),
        ("IVF16,SQ8", 0.9),
    ],
)
def test_recall_against_exact_search(factory, least):
    only = RNG.random(ROWS) < 0.3
    for mask in (None, only):
        allowed = np.flatnonzero(np.ones(ROWS, bool) if mask is None else mask)
        exact = allowed[
            np.argsort(-(VECTORS[allowed].astype(float) @ QUERIES.T.astype(float)), axis=0)[:10].T
        ]
        ranges = None if mask is None else ranges_of(mask)
        scores, rows = search_rows(filled(factory), QUERIES, 10, ranges)
        recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(rows, exact, strict=True)])
        assert recall >= least
        assert set(rows[rows >= 0]) <= set(allowed) and (np.diff(scores, axis=1) <= 0).all()


def test_a_region_smaller_than_k_is_padded():
    only = np.zeros(ROWS, bool)
    only[[5, 2999]] = True
    scores, rows = search_rows(filled("Flat"), QUERIES[:1], 4, ranges_of(only))
    assert set(rows[0, :2]) == {5, 2999} and (rows[0, 2:] == -1).all() and np.isneginf(scores[0, 2:]).all()


@pytest.mark.parametrize("factory", ["nonsense", "", "IVF,Flat", "LSH", "IDMap,Flat", "PQ7"])
def test_factories_of_no_use_are_refused(factory):
    with pytest.raises(GalleryError, match="FAISS factory"):
        make_index(factory, DIM)


def test_too_few_tiles_to_learn_from():
    with pytest.raises(GalleryError, match="wants more of them"):
        fill_index("IVF4096,Flat", DIM, ROWS, lambda: iter([VECTORS]))


@pytest.mark.parametrize(
    ("factory", "least"),
    [("IVF100,Flat", 100), ("IVF8,PQ4x4", 16), ("PCA8,IVF64,SQ8", 64), ("IVF300000,Flat", None), ("Flat", 1)],
)
def test_too_few_tiles_are_known_beforehand(factory, least):
    wanted = least or 10_000_000
    if least is None or least > 1:
        with pytest.raises(GalleryError, match="wants more of them"):
            refuse_few(factory, DIM, wanted - 1)
    if least is not None:
        refuse_few(factory, DIM, least)
        assert fill_index(factory, DIM, least, lambda: iter([VECTORS[:least]])).ntotal == least


def test_an_inverted_file_is_the_same_every_time():
    import faiss

    assert (faiss.serialize_index(filled("IVF32,Flat")) == faiss.serialize_index(filled("IVF32,Flat"))).all()


@pytest.mark.parametrize("factory", ["HNSW0", "HNSW999999999", "IVF0,Flat", "PCA8,HNSW1"])
def test_indexes_that_faiss_takes_and_falls_over(factory):
    with pytest.raises(GalleryError, match="factory"):
        make_index(factory, DIM)
