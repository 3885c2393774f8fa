import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ring import vertex

from geoloc.recall import best_scores, ranks


def unit(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    rows = rng.normal(size=(n, d))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def naive_ranks(queries: np.ndarray, gallery: np.ndarray, truth: np.ndarray, against: bool) -> list[int]:
    """The full matrix, in float64, one query at a time."""
    result = []
    for query, match in zip(queries.astype(np.float64), truth, strict=True):
        scores = gallery.astype(np.float64) @ query
        others = np.delete(scores, match)
        result.append(
            int((others >= scores[match] - 1e-6).sum() if against else (others > scores[match]).sum())
        )
    return result


@pytest.mark.parametrize("device", ["cpu"] + ["cuda"] * torch.cuda.is_available())
@settings(deadline=None, max_examples=25)
@given(st.integers(1, 700), st.integers(1, 40), st.integers(0, 2**31))
def test_equals_the_full_matrix(device: str, q: int, g: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    queries, gallery, truth = unit(rng, q, 8), unit(rng, g, 8), rng.integers(0, g, q)
    rank, best = ranks(queries, gallery, truth, device=torch.device(device))
    assert rank.tolist() == naive_ranks(queries, gallery, truth, against=True)
    assert (best == (queries @ gallery.T).argmax(axis=1)).all()


def test_ties_count_against_us_by_default() -> None:
    same = np.ones((5, 4), np.float32) / 2
    truth = np.arange(5)
    assert ranks(same, same, truth)[0].tolist() == [4] * 5
    assert ranks(same, same, truth, ties="optimistic")[0].tolist() == [0] * 5


def test_what_is_no_number_counts_against_us() -> None:
    broken = np.full((5, 4), np.nan, np.float32)
    assert ranks(broken, broken, np.arange(5))[0].tolist() == [4] * 5


def test_duplicates_of_the_match_tie() -> None:
    rng = np.random.default_rng(0)
    gallery = unit(rng, 300, 64)
    gallery[200] = gallery[3]
    rank, _ = ranks(gallery[[3]], gallery, np.array([3]))
    assert rank.tolist() == [1]


def test_rolls_find_the_heading() -> None:
    rng = np.random.default_rng(1)
    gallery = unit(rng, 50, 32)
    turned = np.roll(gallery.reshape(50, 8, 4), -3, axis=1).reshape(50, 32)
    rank, best = ranks(turned, gallery, np.arange(50), rolls=8)
    assert rank.tolist() == [0] * 50
    assert best.tolist() == list(range(50))


def test_best_scores_are_the_vertices_over_explicit_rolls() -> None:
    rng = np.random.default_rng(2)
    queries, gallery = unit(rng, 300, 24), unit(rng, 7, 24)
    bins = queries.astype(np.float64).reshape(300, 6, 4)
    turned = np.stack([np.roll(bins, roll, axis=1).reshape(300, 24) @ gallery.T for roll in range(6)])
    want = np.apply_along_axis(lambda ring: vertex(ring)[0], 0, turned)
    parts = list(best_scores(queries, gallery, 6))
    assert [(rows.start, len(scores)) for rows, scores in parts] == [(0, 256), (256, 44)]
    assert np.allclose(np.concatenate([scores for _, scores in parts]), want, atol=1e-6)
