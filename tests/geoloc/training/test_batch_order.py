import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoloc.errors import DataError
from geoloc.pairs import Pair, PairTable
from geoloc.places import LonLat
from geoloc.training.batch_order import batch_order
from geoloc.training.negatives import Negatives
from geoloc.training.recipe import TrainConfig


def of(table: PairTable) -> Negatives:
    return Negatives.of(table, 25.0)


def test_an_epoch_holds_every_pair_once_at_most(places: list[Pair]) -> None:
    """32 pairs in batches of 8, mixed or by fours of one neighbourhood; another epoch, another order."""
    towns = [
        dataclasses.replace(pair, lonlat=LonLat(10 + town, 50 + number / 1e4))
        for town in range(4)
        for number, pair in enumerate(places[:8])
    ]
    table = PairTable("made", "train", towns)
    for neighbours in (0, 4):
        told = TrainConfig(batch=8, neighbours=neighbours)
        order = batch_order(told, of(table), 0)
        assert sorted(order.ravel().tolist()) == list(range(32))
        assert (
            order.tolist()
            == batch_order(told, of(table), 0).tolist()
            != batch_order(told, of(table), 1).tolist()
        )
    groups = order.reshape(-1, 4) // 8
    assert (groups == groups[:, :1]).all()
    assert len({tuple(sorted(set(row // 8))) for row in order}) > 1


@given(cells=st.lists(st.integers(0, 9), min_size=32, max_size=32), size=st.sampled_from([2, 4, 8]))
@settings(max_examples=40, deadline=None)
def test_thin_neighbourhoods_are_learnt_from_too(places: list[Pair], cells: list[int], size: int) -> None:
    """Every pair once, and of each cell as many whole groups as it has pairs for."""
    spread = [
        dataclasses.replace(pair, lonlat=LonLat(cell, 50 + number / 1e4))
        for number, (pair, cell) in enumerate(zip(places[:32], cells, strict=True))
    ]
    config = TrainConfig(batch=8, neighbours=size)
    order = batch_order(config, of(PairTable("x", "train", spread)), 0)
    assert sorted(order.ravel().tolist()) == list(range(32))
    groups = np.array(cells)[order.reshape(-1, size)]
    alike = groups[(groups == groups[:, :1]).all(axis=1), 0]
    assert all((alike == cell).sum() >= cells.count(cell) // size for cell in set(cells))


def test_the_confused_share_a_batch(places: list[Pair]) -> None:
    """32 pairs that are taken for those of the same remainder by 8, the nearest number first."""
    table = PairTable("made", "train", places[:32])
    confused = np.array([[j for j in range(32) if j != i and (i - j) % 8 == 0] for i in range(32)])
    order = batch_order(TrainConfig(batch=8, neighbours=4), of(table), 0, confused)
    assert sorted(order.ravel().tolist()) == list(range(32))
    assert all(len(set((group % 8).tolist())) == 1 for group in order.reshape(-1, 4))


@given(seed=st.integers(0, 2**32 - 1), k=st.integers(0, 12), size=st.sampled_from([2, 4, 8]))
@settings(max_examples=60, deadline=None)
def test_whatever_is_confused_no_pair_is_lost(places: list[Pair], seed: int, k: int, size: int) -> None:
    table = PairTable("made", "train", places[:32])
    rng = np.random.default_rng(seed)
    confused = np.array([rng.permutation(np.delete(np.arange(32), i))[:k] for i in range(32)])
    order = batch_order(TrainConfig(batch=8, neighbours=size), of(table), seed % 7, confused)
    assert sorted(order.ravel().tolist()) == list(range(32))


@given(seed=st.integers(0, 2**31), b=st.sampled_from([2, 4, 8]), size=st.sampled_from([0, 2]))
@settings(max_examples=40, deadline=None)
def test_no_batch_holds_two_pairs_of_one_place(places: list[Pair], seed: int, b: int, size: int) -> None:
    """Of 32 pairs some share a tile or a street view, up to most of them; as many batches as ever."""
    rng = np.random.default_rng(seed)
    spot = np.where(rng.uniform(size=32) < rng.uniform(0, 0.9), rng.integers(0, 3, 32), np.arange(32))
    street = rng.uniform(size=32) < 0.5
    here = LonLat(10, 50)
    pairs = [
        dataclasses.replace(pair, lonlat=here, street=places[at].street)
        if by_street
        else dataclasses.replace(pair, lonlat=here, satellite=places[at].satellite)
        for pair, at, by_street in zip(places[:32], spot, street, strict=True)
    ]
    config, table = TrainConfig(batch=b, neighbours=size), PairTable("made", "train", pairs)
    place = Negatives.of(table, 25.0).place
    if len(set(place)) < b:
        with pytest.raises(DataError, match="set batch lower"):
            batch_order(config, of(table), 0)
        return
    order = batch_order(config, of(table), seed % 5)
    assert order.shape == (32 // b, b)
    assert all(len(set(place[batch])) == b for batch in order)
    most = max(np.bincount(place))
    if most <= 32 // b // 2:
        assert len(set(order.ravel())) >= 24


def test_position_first_then_likeness(places: list[Pair]) -> None:
    """Sample4Geo's schedule, of two towns: groups of a town, later of whatever is given as alike."""
    towns = [
        dataclasses.replace(pair, lonlat=LonLat(10 + number % 2, 50))
        for number, pair in enumerate(places[:32])
    ]
    table, config = PairTable("made", "train", towns), TrainConfig(batch=8, neighbours=4, mine_every=2)
    first = batch_order(config, of(table), 0).reshape(-1, 4)
    assert (first % 2 == first[:, :1] % 2).all()
    twins = np.array([[i ^ 1, i ^ 2, i ^ 3] for i in range(32)])
    later = batch_order(config, of(table), 2, twins).reshape(-1, 4)
    assert (later // 4 == later[:, :1] // 4).all()
