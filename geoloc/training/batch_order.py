"""Which pairs make which batch: mixed, from one neighbourhood, or those that the encoder confuses."""

import numpy as np
from jaxtyping import Float, Int64

from geoloc.errors import DataError
from geoloc.training.negatives import Negatives
from geoloc.training.recipe import TrainConfig

CELL_DEG = 0.01

Batches = Int64[np.ndarray, "steps b"]
Alike = Int64[np.ndarray, "n k"]


def batch_order(
    config: TrainConfig, negatives: Negatives, epoch: int, confused: Alike | None = None
) -> Batches:
    """The batches of an epoch: each pair in one at most, no two of one place in any.

    Over the pairs that `negatives` are of. Shuffled; with `neighbours` in groups of so many, from one
    neighbourhood of about a kilometre, or, where `confused` is given (see `alike`), a pair and those it is
    taken for: Sample4Geo's schedule is the one until `mine_every` epochs are done, then the other. What is
    left of neighbourhoods makes groups with what is left of others. Raises DataError for too few places.
    """
    rng = np.random.default_rng([config.seed, epoch])
    shuffled = rng.permutation(len(negatives.place))
    if config.neighbours and confused is not None:
        groups = _confused(shuffled, confused, config.neighbours)
    elif config.neighbours:
        groups = _neighbours(shuffled, negatives.lonlats, config.neighbours)
    else:
        groups = [shuffled]
    mixed = [groups[i] for i in rng.permutation(len(groups))]
    short_last = sorted(mixed, key=lambda group: len(group) < config.neighbours)
    return _without_twins(np.concatenate(short_last), negatives.place, config.batch)


def _without_twins(order: Int64[np.ndarray, " n"], place: Int64[np.ndarray, " m"], b: int) -> Batches:
    """n // b batches in this order; a pair whose place is in the batch already waits for the next.

    What waits still when all are dealt misses the epoch, and pairs of other places come again in its stead.
    """
    if (places := len(np.unique(place[order]))) < b:
        raise DataError(f"{places} different places do not fill a batch of {b}; set batch lower.")
    batches, coming = [], iter(order.tolist())
    waiting: dict[int, list[int]] = {}
    for _ in range(len(order) // b):
        batch: dict[int, int] = {}
        for spot in list(waiting)[:b]:
            batch[spot] = waiting[spot].pop(0)
            if not waiting[spot]:
                del waiting[spot]
        while len(batch) < b and (pair := next(coming, None)) is not None:
            if place[pair] in batch:
                waiting.setdefault(place[pair], []).append(pair)
            batch.setdefault(place[pair], pair)
        for pair in order.tolist() if len(batch) < b else ():
            if len(batch) < b:
                batch.setdefault(place[pair], pair)
        batches.append(list(batch.values()))
    return np.array(batches)


def _neighbours(
    shuffled: Int64[np.ndarray, " n"], places: Float[np.ndarray, "n 2"], size: int
) -> list[Int64[np.ndarray, " _"]]:
    cells = np.floor(np.where(np.isnan(places), 0, places) / CELL_DEG) @ [1.0, 1e6]
    by_cell = shuffled[np.argsort(cells[shuffled], kind="stable")]
    in_cell = np.split(by_cell, np.flatnonzero(np.diff(cells[by_cell])) + 1)
    return _short_joined([group for pairs in in_cell for group in _cut(pairs, size)], size)


def _confused(shuffled: Int64[np.ndarray, " n"], confused: Alike, size: int) -> list[Int64[np.ndarray, " _"]]:
    """Each pair not yet taken with the likest that are not."""
    free = np.ones(len(shuffled), bool)
    groups = []
    for first in shuffled:
        if free[first]:
            likest = confused[first][free[confused[first]]]
            group = np.concatenate([[first], likest[: size - 1]])
            free[group] = False
            groups.append(group)
    return _short_joined(groups, size)


def _short_joined(groups: list[Int64[np.ndarray, " _"]], size: int) -> list[Int64[np.ndarray, " _"]]:
    """Whole groups as they are, and what is in shorter ones in groups together."""
    short = [group for group in groups if len(group) < size]
    whole = [group for group in groups if len(group) == size]
    return whole + (_cut(np.concatenate(short), size) if short else [])


def _cut(pairs: Int64[np.ndarray, " n"], size: int) -> list[Int64[np.ndarray, " _"]]:
    return [pairs[start : start + size] for start in range(0, len(pairs), size)]
