"""Recall as it is measured, against every score by plain loops; the choice; a scan by runs and by ranges."""

import dataclasses

import faiss
import numpy as np
import pytest
from fake_encoder import SPEC as FAKE
from ring import vertex
from synthetic_tiles import SPEC, chunks

from indexing import faiss_index
from indexing.choose import choose_factory, index_rows
from indexing.embeddings import read_embeddings, write_embeddings
from indexing.faiss_index import fill_index, read_index, search_rows
from indexing.measure import exact_scores, make_questions, measure
from indexing.rows import ranges_of, rows_of
from indexing.segment import Segment

ROWS = 3000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """3,000 synthetic tiles and their scan, in lists of 1,000."""
    out = tmp_path_factory.mktemp("rows")
    write_embeddings(out / "embeddings.h5", SPEC, ROWS, chunks(ROWS))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(faiss_index, "RUN", 1000)
        faiss.write_index(scan(out), str(out / "index.faiss"))
    return out


def scan(out):
    path = out / "embeddings.h5"
    return fill_index("Scan64", SPEC.dim, ROWS, lambda: (e for _, e in read_embeddings(path, SPEC, ROWS)))


@pytest.fixture
def segment(folder, monkeypatch):
    monkeypatch.setattr(faiss_index, "RUN", 1000)
    return Segment(folder / "embeddings.h5", SPEC, ROWS, read_index(folder / "index.faiss", 1024, ROWS), 256)


def every_score(segment, one):
    vectors = segment.read(np.arange(ROWS)).astype(np.float64)
    bins = one.query.astype(np.float64).reshape(32, 32)
    seen = (bins != 0).any(axis=1).sum()
    rolled = np.stack([np.roll(bins, turn, axis=0).ravel() for turn in one.turns])
    scores = vectors @ rolled.T
    best = scores[:, 0] if len(one.turns) == 1 else np.array([vertex(ring)[0] for ring in scores])
    return best * np.sqrt(32 / seen)


def test_recall_is_what_plain_loops_say(segment):
    questions = make_questions(segment, 8)
    best = exact_scores(segment, questions)
    shares = {True: [], False: []}
    shallow = dataclasses.replace(segment, depth=1)
    for one, scores in zip(questions, best, strict=True):
        true = every_score(segment, one)
        np.testing.assert_allclose(scores, np.sort(true)[::-1][:10], atol=1e-5)
        found = shallow.search(one.query, one.turns, 10, segment.every)[0][:10]
        top = np.argsort(-true)[:10]
        shares[len(one.turns) == 1].append(len(set(found.tolist()) & set(top.tolist())) / 10)
    recall = measure(shallow, questions, best)
    assert recall.known_heading == pytest.approx(np.mean(shares[True]), abs=1e-3)
    assert recall.unknown_heading == pytest.approx(np.mean(shares[False]), abs=1e-3)
    assert 0.3 < recall.unknown_heading < 1 and recall.queries == 8


def test_a_scan_finds_what_exact_search_finds(segment):
    questions = make_questions(segment, 16, seed=3)
    recall = measure(dataclasses.replace(segment, depth=512), questions, exact_scores(segment, questions))
    assert recall.known_heading >= 0.98 and recall.unknown_heading >= 0.98


@pytest.mark.parametrize("edges", [[(990, 1010)], [(0, 1000)], [(5, 9), (2500, 3000)], [(0, 3000)]])
def test_a_scan_of_ranges_is_the_scan_of_everything_without_the_rest(segment, edges):
    """A list beside the ranges is not looked at, and no row inside them is missed."""
    only = np.array(edges)
    query = make_questions(segment, 2)[0].query[None]
    scores, rows = search_rows(segment.index, query, ROWS)
    inside = np.isin(rows[0], rows_of(only))
    some_scores, some = search_rows(segment.index, query, ROWS, only)
    assert set(some[0][some[0] >= 0]) == set(rows[0][inside]) == set(rows_of(only))
    np.testing.assert_allclose(some_scores[0][: inside.sum()], scores[0][inside], atol=1e-6)


def test_few_rows_are_all_scored_whatever_the_index_says(folder):
    blind = Segment(folder / "embeddings.h5", SPEC, ROWS, faiss.IndexFlatIP(1024), 256)
    one = make_questions(blind, 2)[1]
    true = every_score(blind, one)
    only = ranges_of(np.arange(ROWS) % 6 == 0)
    rows, scores, _ = blind.search(one.query, one.turns, 10, only)
    assert rows[:10].tolist() == rows_of(only)[np.argsort(-true[rows_of(only)], kind="stable")][:10].tolist()
    np.testing.assert_allclose(scores, true[rows], atol=1e-5)


def test_the_index_suits_the_size():
    assert choose_factory(19_999, 1024)[0] == "Flat" and choose_factory(20_000, 1024)[0] == "Scan64"
    assert (
        choose_factory(10_000_000, 1024)[0] == "Scan64" and "687 MiB" in choose_factory(10_000_000, 1024)[1]
    )
    assert choose_factory(50_000_000, 1024)[0] == "Scan32" and choose_factory(500_000_000, 1024)[0] == "Scan8"
    assert choose_factory(10_000_000, 24)[0] == "Scan8" and choose_factory(10_000_000, 8)[0] == "Flat"


def test_what_was_chosen_is_said(folder, tmp_path):
    (tmp_path / "embeddings.h5").symlink_to(folder / "embeddings.h5")
    chosen = index_rows(tmp_path, SPEC, ROWS, "auto")
    assert (chosen.factory, chosen.recall) == ("Flat", None) and "3,000 tiles" in str(chosen)
    asked = index_rows(tmp_path, SPEC, ROWS, "IVF8,SQ8")
    assert asked.recall.queries == 64 and f"{asked.recall.known_heading:.1%} at known" in str(asked)
    assert read_index(tmp_path / "index.faiss", SPEC.dim, ROWS).ntotal == ROWS


def test_a_scan_of_small_embeddings(tmp_path):
    """Of 24 numbers, as the fake encoder's."""
    vectors = np.random.default_rng(0).normal(size=(2000, FAKE.dim)).astype(np.float16)
    index = fill_index("Scan8", FAKE.dim, 2000, lambda: iter([vectors]))
    _, rows = search_rows(index, vectors[:20].astype(np.float32), 50)
    assert np.mean([row in found for row, found in enumerate(rows)]) >= 0.9
