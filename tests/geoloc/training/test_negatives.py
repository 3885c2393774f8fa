import dataclasses

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geoloc.pairs import Pair, PairTable
from geoloc.places import WGS84, LonLat
from geoloc.training.negatives import Negatives, near


def test_near_is_what_geodesics_say() -> None:
    rng = np.random.default_rng(0)
    places = np.array([24.9, 60.2]) + rng.uniform(-1, 1, (40, 2)) * [0.002, 0.001]
    places[7] = np.nan
    matrix = near(places[:10], places, 60.0).numpy()
    for i in range(10):
        for j in range(40):
            metres = np.nan if 7 in (i, j) else WGS84.inv(*places[i], *places[j])[2]
            assert np.isnan(metres) or abs(metres - 60) < 0.5 or matrix[i, j] == (metres < 60)
    assert not matrix[7].any()
    assert not matrix[:, 7].any()


def test_near_over_the_antimeridian() -> None:
    matrix = near(np.array([[179.9999, 10.0]]), np.array([[-179.9999, 10.0], [-179.999, 10.0]]), 25.0)
    assert matrix.tolist() == [[True, False]]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31))
def test_who_is_no_negative_equals_a_naive_look(places: list[Pair], seed: int) -> None:
    """Pairs of few street views and tiles, with further right tiles and semi-positives, some not at hand."""
    rng = np.random.default_rng(seed)
    pool = [pair.satellite for pair in places[:9]]
    table = [
        dataclasses.replace(
            pair,
            street=places[rng.integers(9)].street,
            satellite=pool[rng.integers(7)],
            also=tuple(pool[i] for i in rng.choice(9, rng.integers(3), replace=False)),
            semi=tuple(pool[i] for i in rng.choice(9, rng.integers(4), replace=False)),
            lonlat=LonLat(10 + rng.integers(6) * 1e-3, 50) if rng.uniform() < 0.7 else None,
        )
        for pair in places[:10]
    ]
    known = Negatives.of(PairTable("made", "train", table), 25.0)
    place = list(range(10))
    for _ in table:  # whoever shares a file shares a place, until nothing changes
        for i, one in enumerate(table):
            for j, other in enumerate(table):
                if one.street == other.street or one.satellite == other.satellite:
                    place[i] = place[j] = min(place[i], place[j])
    assert known.places == len(set(place))
    rows = np.arange(10)
    close, spots = known.close(rows, rows), known.close_places(rows)
    for i, one in enumerate(table):
        for j, other in enumerate(table):
            assert (known.place[i] == known.place[j]) == (place[i] == place[j])
            excused = other.satellite in one.also + one.semi or place[i] == place[j]
            beside = one.lonlat is not None and one.lonlat == other.lonlat
            assert close[i, j] == (excused or beside)
        for spot in range(known.places):
            assert spots[i, spot] == any(close[i, j] for j in range(10) if known.place[j] == spot)
    assert torch.equal(known.close(rows[3:5], rows[:4]), close[3:5, :4])
