"""A table of pairs as a contest: who asks, who may be the answer, and which answers count."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from geoloc.pairs import Direction, Pair, PairTable
from geoloc.places import LonLat


@dataclass(frozen=True)
class View:
    """An image of either view; what is not known, or makes no sense for it, is None."""

    path: Path
    lonlat: LonLat | None = None
    heading_deg: float | None = None
    hfov_deg: float | None = None
    footprint_m: float | None = None


@dataclass(frozen=True)
class Links:
    """Gallery rows that belong to queries: two columns of equal length, in the order of the queries."""

    query: Int64[np.ndarray, " n"]
    row: Int64[np.ndarray, " n"]

    def __or__(self, other: "Links") -> "Links":
        both = np.stack([np.r_[self.query, other.query], np.r_[self.row, other.row]])
        return Links(*np.unique(both, axis=1))


@dataclass(frozen=True)
class Lineup:
    """queries and gallery hold every image once. right: the answers. also: those that a lenient protocol
    adds; semi: those that are neither right nor wrong. Each query has one right answer at least.
    """

    queries: list[View]
    gallery: list[View]
    right: Links
    also: Links
    semi: Links
    direction: Direction = "street->satellite"


def line_up(table: PairTable) -> Lineup:
    """The contest of a table: distinct images of the asked view, and of the other with the distractors.

    Lenient and semi-positive images that the gallery lacks are no answers and are left out.
    """
    sides = [_street, _tile] if table.direction == "street->satellite" else [_tile, _street]
    asking, answering = sides
    queries = _distinct(map(asking, table.pairs))
    gallery = _distinct(map(answering, table.pairs))
    for one in table.distractors:
        view = View(one.path, one.lonlat, footprint_m=one.footprint_m)
        gallery.setdefault(one.path, view)
    query_row = {path: row for row, path in enumerate(queries)}
    gallery_row = {path: row for row, path in enumerate(gallery)}

    def links(named: Callable[[Pair], Iterable[Path]]) -> Links:
        found = [
            (query_row[asking(pair).path], gallery_row[path])
            for pair in table.pairs
            for path in named(pair)
            if path in gallery_row
        ]
        return Links(*np.unique(np.array(found, np.int64).reshape(-1, 2).T, axis=1))

    return Lineup(
        queries=list(queries.values()),
        gallery=list(gallery.values()),
        right=links(lambda pair: [answering(pair).path]),
        also=links(lambda pair: pair.also),
        semi=links(lambda pair: pair.semi),
        direction=table.direction,
    )


def _street(pair: Pair) -> View:
    return View(pair.street, pair.lonlat, heading_deg=pair.heading_deg, hfov_deg=pair.hfov_deg)


def _tile(pair: Pair) -> View:
    return View(pair.satellite, pair.tile_lonlat, footprint_m=pair.footprint_m)


def _distinct(views: Iterable[View]) -> dict[Path, View]:
    first: dict[Path, View] = {}
    for view in views:
        first.setdefault(view.path, view)
    return first
