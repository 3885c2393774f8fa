"""Which rows of a segment count: a few runs of them, since rows lie along a curve over the ground."""

from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Int64

Ranges: TypeAlias = Int64[np.ndarray, "r 2"]
"""Rows from (first, one past the last) of each range: ascending, apart from each other, none empty."""


def every_row(rows: int) -> Ranges:
    """The one range of all rows."""
    return np.array([[0, rows]], np.int64)[: min(rows, 1)]


def ranges_of(mask: Bool[np.ndarray, "n"]) -> Ranges:
    """The ranges of the rows that are set."""
    edges = np.flatnonzero(np.diff(np.r_[False, mask, False].astype(np.int8)))
    return edges.reshape(-1, 2).astype(np.int64)


def both(some: Ranges, others: Ranges) -> Ranges:
    """The rows that lie in both."""
    edges = np.unique(np.r_[some.ravel(), others.ravel()])
    if not len(edges):
        return some[:0]
    inside = holds(some, edges[:-1]) & holds(others, edges[:-1])
    runs = ranges_of(inside)
    return np.stack([edges[runs[:, 0]], edges[runs[:, 1]]], axis=1)


def holds(ranges: Ranges, rows: Int64[np.ndarray, "*m"] | int) -> Bool[np.ndarray, "*m"]:
    """Whether each of these rows is among them."""
    if not len(ranges):
        return np.zeros(np.shape(rows), bool)
    at = np.searchsorted(ranges[:, 0], rows, side="right") - 1
    return np.asarray((at >= 0) & (rows < ranges[at, 1]))


def count(ranges: Ranges) -> int:
    """How many rows they hold."""
    return int((ranges[:, 1] - ranges[:, 0]).sum())


def rows_of(ranges: Ranges) -> Int64[np.ndarray, "m"]:
    """The rows themselves, ascending."""
    sizes = ranges[:, 1] - ranges[:, 0]
    ends = np.cumsum(sizes)
    return np.asarray(np.arange(count(ranges)) + np.repeat(ranges[:, 1] - ends, sizes))


def nth(ranges: Ranges, places: Int64[np.ndarray, "m"]) -> Int64[np.ndarray, "m"]:
    """The rows at these places of `rows_of`, which is not made for it."""
    ends = np.cumsum(ranges[:, 1] - ranges[:, 0])
    return np.asarray(places + (ranges[:, 1] - ends)[np.searchsorted(ends, places, side="right")])


def mask_of(ranges: Ranges, rows: int) -> Bool[np.ndarray, "n"]:
    """One flag for each of `rows` rows."""
    change = np.zeros(rows + 1, np.int8)
    change[ranges[:, 0]] = 1
    change[ranges[:, 1]] -= 1
    return np.asarray(np.cumsum(change[:rows], dtype=np.int8) > 0)
