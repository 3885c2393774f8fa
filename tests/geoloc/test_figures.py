from pathlib import Path

import numpy as np
import pytest

from geoloc.figures import one_percent, position_figures, rank_figures, recall
from geoloc.lineup import Lineup, Links, View
from geoloc.recall import Standing

NOTHING = Links(np.zeros(0, np.int64), np.zeros(0, np.int64))


def standing(rank: np.ndarray) -> Standing:
    return Standing(rank, rank // 2, rank, 1 / (rank + 1), np.zeros(len(rank), np.int64))


def lineup(queries: int, gallery: int) -> Lineup:
    views = [[View(Path(f"{side}{row}")) for row in range(n)] for side, n in (("q", queries), ("g", gallery))]
    return Lineup(views[0], views[1], Links(np.arange(queries), np.arange(queries)), NOTHING, NOTHING)


@pytest.mark.parametrize(("gallery", "k"), [(8884, 88), (18, 1), (1, 1), (100, 1), (250, 2)])
def test_one_percent_is_sample4geos_cut(gallery: int, k: int) -> None:
    assert one_percent(gallery) == k


def test_rank_figures() -> None:
    rank = np.array([0, 0, 4, 7, 20])
    found = rank_figures(standing(rank), lineup(5, 400), "<5m").values
    assert (found["n"], found["gallery"]) == (5, 400)
    assert (found["recall@1"], found["recall@5"], found["recall@10"]) == (0.4, 0.6, 0.8)
    assert (found["recall@1%"], found["recall@1%_k"]) == (recall(rank, 4), 4) == (0.4, 4)
    assert (found["recall@1%+"], found["recall@1%+_k"]) == (0.6, 5)
    assert found["recall@5<5m"] == 0.8
    assert found["median_rank"] == 5
    assert found["mAP"] == pytest.approx(np.mean(1 / (rank + 1)))
    assert "hit_rate" not in found


def test_position_figures() -> None:
    metres = position_figures(np.array([3.0, 30.0, 60.0])).values
    assert metres == {"recall@1<25m": 1 / 3, "recall@1<50m": 2 / 3, "median_error_m": 30.0}


def test_intervals_are_those_of_a_proportion() -> None:
    """1,000 queries at 30 %: the bootstrap's interval is the normal approximation's to half a point."""
    rank = np.where(np.arange(1000) < 300, 0, 50)
    low, high = rank_figures(standing(rank), lineup(1000, 1000)).intervals["recall@1"]
    half = 1.96 * np.sqrt(0.3 * 0.7 / 1000)
    assert (low, high) == pytest.approx((0.3 - half, 0.3 + half), abs=0.005)
    assert rank_figures(standing(rank * 0), lineup(1000, 1000)).intervals["recall@1"] == (1, 1)
