"""Our figures against the formula of each peer's code, written anew as loops over the full matrix.

`optimistic` must equal them. Where a peer sorts, ties fall as the sort happens to put them; the oracle then
puts the right answer first among equals.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from geoloc.figures import rank_figures
from geoloc.lineup import Lineup, Links, View
from geoloc.recall import Ties, stand

N, D = 400, 16
NOTHING = Links(np.zeros(0, np.int64), np.zeros(0, np.int64))
Oracle = Callable[[np.ndarray], dict[str, float]]


def embeddings(seed: int, ties: bool, queries: int = N, rows: int = N) -> tuple[np.ndarray, np.ndarray]:
    """Queries and a gallery that resemble each other; with ties a third of the gallery is copies."""
    rng = np.random.default_rng(seed)
    gallery = rng.normal(size=(rows, D))
    if ties:
        copied = rng.choice(rows, rows // 3, replace=False)
        gallery[copied] = gallery[rng.integers(0, rows, len(copied))]
    asked = gallery[np.arange(queries) % rows] + rng.normal(size=(queries, D)) * 1.2
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (asked, gallery)]
    return unit[0].astype(np.float32), unit[1].astype(np.float32)


def similarity(queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """The full matrix in float64, equal rows giving equal scores."""
    return np.round(queries.astype(np.float64) @ gallery.astype(np.float64).T, 12)


def ours(
    queries: np.ndarray,
    gallery: np.ndarray,
    right: Links,
    also: Links = NOTHING,
    semi: Links = NOTHING,
    ties: Ties = "optimistic",
) -> dict[str, float]:
    views = [
        [View(Path(f"{side}{row}")) for row in range(len(x))] for side, x in (("q", queries), ("g", gallery))
    ]
    lineup = Lineup(views[0], views[1], right, also, semi)
    standing = stand(queries, gallery, lineup, ties=ties)
    return rank_figures(standing, lineup, "<5m" if len(also.row) else "").values


def one_to_one(n: int = N) -> Links:
    return Links(np.arange(n), np.arange(n))


def sample4geo(scores: np.ndarray) -> dict[str, float]:
    """Also TransGeo's: strictly higher scores counted, cut at gallery // 100."""
    higher = [sum(scores[i, j] > scores[i, i] for j in range(N)) for i in range(N)]
    cuts = {"recall@1": 1, "recall@5": 5, "recall@10": 10, "recall@1%": N // 100}
    return {name: sum(rank < k for rank in higher) / N for name, k in cuts.items()}


def safa(scores: np.ndarray) -> dict[str, float]:
    """Squared distances; training cuts at int(0.01 N) + 1 as CVM-Net does, the test at int(0.01 N)."""
    distance = 2 - 2 * scores
    nearer = [sum(distance[i, j] < distance[i, i] for j in range(N)) for i in range(N)]
    shares = {k: sum(rank < k for rank in nearer) / N for k in (1, int(N * 0.01), int(N * 0.01) + 1)}
    return {
        "recall@1": shares[1],
        "recall@1%": shares[int(N * 0.01)],
        "recall@1%+": shares[int(N * 0.01) + 1],
    }


def cvm_net(scores: np.ndarray) -> dict[str, float]:
    distance = 2 - 2 * scores
    hits = [np.count_nonzero(distance[i] < distance[i, i]) < int(N * 0.01) + 1 for i in range(N)]
    return {"recall@1%+": sum(hits) / N}


def toker(scores: np.ndarray) -> dict[str, float]:
    """A float cut: 0.01 N."""
    distance = 2 - 2 * scores
    beaten_by = (np.diag(distance)[:, None] - distance > 0).sum(axis=1)
    return {"recall@1": (beaten_by < 1).mean(), "recall@1%": (beaten_by < 0.01 * N).mean()}


@pytest.mark.parametrize("ties", [False, True], ids=["no-ties", "ties"])
@pytest.mark.parametrize("oracle", [sample4geo, safa, cvm_net, toker])
def test_one_to_one(oracle: Oracle, ties: bool) -> None:
    queries, gallery = embeddings(1, ties)
    expected = oracle(similarity(queries, gallery))
    found = ours(queries, gallery, one_to_one())
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert 0 < found["recall@1"] < found["recall@10"] < 1


@pytest.mark.parametrize(("n", "k"), [(8884, 89), (150, 2), (199, 2)])
def test_tokers_cut_is_ours_with_the_plus_where_100_does_not_divide(n: int, k: int) -> None:
    assert [rank < 0.01 * n for rank in range(n)] == [rank < n // 100 + 1 for rank in range(n)]
    assert n // 100 + 1 == k


def test_ties_cost_us_what_they_give_the_peers() -> None:
    """A constant embedding: 100 % by every peer's formula, nothing by ours."""
    same = np.full((N, D), 1 / np.sqrt(D), np.float32)
    assert sample4geo(similarity(same, same))["recall@1"] == 1
    assert ours(same, same, one_to_one())["recall@1"] == 1
    assert ours(same, same, one_to_one(), ties="against")["recall@10"] == 0


@pytest.mark.parametrize("ties", [False, True], ids=["no-ties", "ties"])
def test_vigor_hit_rate(ties: bool) -> None:
    queries, gallery = embeddings(2, ties)
    scores = similarity(queries, gallery)
    others = np.where(np.eye(N, dtype=bool), -1, scores)
    semi = Links(np.repeat(np.arange(N), 3), np.argsort(-others, axis=1)[:, :3].ravel())
    hits = []
    for i in range(N):
        beating = {j for j in range(N) if scores[i, j] > scores[i, i]}
        hits.append(not beating - set(semi.row[semi.query == i].tolist()))
    found = ours(queries, gallery, one_to_one(), semi=semi)
    assert found["hit_rate"] == pytest.approx(np.mean(hits))
    assert found["hit_rate"] > found["recall@1"]


@pytest.mark.parametrize("ties", [False, True], ids=["no-ties", "ties"])
def test_cvact_within_5_m(ties: bool) -> None:
    """OriCNN's RecallGeo: a hit at k when one of the k nearest lies within 5 m."""
    queries, gallery = embeddings(3, ties)
    places = np.random.default_rng(0).uniform(0, 60, (N, 2))
    near = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1)) <= 5
    scores = similarity(queries, gallery)
    hits = {1: 0, 5: 0, 10: 0}
    for i in range(N):
        order = sorted(range(N), key=lambda j: (-scores[i, j], not near[i, j]))
        for k in hits:
            hits[k] += any(near[i, j] for j in order[:k])
    found = ours(queries, gallery, one_to_one(), also=Links(*np.nonzero(near)))
    assert {k: found[f"recall@{k}<5m"] for k in hits} == pytest.approx({k: n / N for k, n in hits.items()})
    assert found["recall@1<5m"] > found["recall@1"]


@pytest.mark.parametrize("ties", [False, True], ids=["no-ties", "ties"])
@pytest.mark.parametrize("several", [1, 5])
def test_university_1652(several: int, ties: bool) -> None:
    """Person re-identification's CMC and average precision by the trapezoid; `several` right answers each."""
    queries, gallery = embeddings(4, ties, queries=60, rows=60 * several)
    label = np.arange(len(gallery)) % 60
    scores = similarity(queries, gallery)
    cmc, precisions = np.zeros(len(gallery)), []
    for i in range(60):
        order = sorted(range(len(gallery)), key=lambda j: (-scores[i, j], label[j] != i))
        places = [place for place, j in enumerate(order) if label[j] == i]
        cmc[places[0] :] += 1 / 60
        area = 0.0
        for number, place in enumerate(places):
            before = number / place if place else 1.0
            area += ((number + 1) / (place + 1) + before) / 2 / len(places)
        precisions.append(area)
    right = Links(
        np.repeat(np.arange(60), several), np.stack([np.flatnonzero(label == i) for i in range(60)]).ravel()
    )
    found = ours(queries, gallery, right)
    assert [found[f"recall@{k}"] for k in (1, 5, 10)] == pytest.approx(cmc[[0, 4, 9]].tolist())
    assert found["mAP"] == pytest.approx(np.mean(precisions))
    assert found["mAP"] < 1
