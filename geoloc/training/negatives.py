"""Which tiles are negatives of which street views: not those of its own place, nor any too near to it."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from geoloc.embed import CPU
from geoloc.pairs import PairTable
from geoloc.places import M_PER_DEG, lonlat_rows

Rows = Int64[np.ndarray, " _"]


@dataclass(frozen=True)
class Negatives:
    """What of a table of n pairs says so.

    lonlats: where each pair's camera stood, NaN where that is not known. apart_m: tiles of pairs nearer
    than that are no negatives (SAFA's 25 m). tile: a number for each pair's tile file. right: those of all
    tiles that are right for its street view, or neither right nor wrong (VIGOR's semi-positives), -1 pads.
    place: pairs that share a street view or a tile, directly or through others, are of one place, numbered
    from 0.
    """

    lonlats: Float[np.ndarray, "n 2"]
    apart_m: float
    tile: Int64[np.ndarray, " n"]
    right: Int64[np.ndarray, "n r"]
    place: Int64[np.ndarray, " n"]

    @classmethod
    def of(cls, table: PairTable, apart_m: float) -> "Negatives":
        """What the table says of its pairs."""
        pairs = table.pairs
        tile = _numbered(pair.satellite for pair in pairs)
        street = _numbered(pair.street for pair in pairs)
        number = {pair.satellite: int(at) for pair, at in zip(pairs, tile, strict=True)}
        excused = [[number.get(path, -1) for path in (*pair.also, *pair.semi)] for pair in pairs]
        right = np.full((len(pairs), 1 + max(map(len, excused), default=0)), -1)
        right[:, 0] = tile
        for row, tiles in enumerate(excused):
            right[row, 1 : 1 + len(tiles)] = tiles
        links = coo_array((np.ones(len(pairs)), (street, len(pairs) + tile)), shape=(2 * len(pairs),) * 2)
        place = _numbered(connected_components(links, directed=False)[1][street].tolist())
        return cls(lonlats_of(table), apart_m, tile, right, place)

    @property
    def places(self) -> int:
        """How many there are."""
        return int(self.place.max()) + 1

    def close(self, views: Rows, tiles: Rows, device: torch.device = CPU) -> Bool[Tensor, "v t"]:
        """Which of the pairs `tiles` have a tile that is no negative of the street views of `views`."""
        found = near(self.lonlats[views], self.lonlats[tiles], self.apart_m, device)
        place, tile = (torch.from_numpy(column[tiles]).to(device) for column in (self.place, self.tile))
        found |= torch.from_numpy(self.place[views]).to(device)[:, None] == place
        for right in torch.from_numpy(self.right[views]).to(device).T:
            found |= right[:, None] == tile
        return found

    def close_places(self, views: Rows) -> Bool[Tensor, "v p"]:
        """Which places have such a tile."""
        close = self.close(views, np.arange(len(self.place))).float()
        blank = torch.zeros(len(close), self.places)
        return blank.index_add(1, torch.from_numpy(self.place), close) > 0


def near(
    these: Float[np.ndarray, "m 2"],
    those: Float[np.ndarray, "n 2"],
    apart_m: float,
    device: torch.device = CPU,
) -> Bool[Tensor, "m n"]:
    """Which of two lists of lonlats are nearer to each other than apart_m; unknown places (NaN) are far."""
    here, there = (torch.from_numpy(places).to(device) for places in (these, those))
    east, north = (here[:, axis, None] - there[:, axis] for axis in (0, 1))
    east = ((east + 180) % 360 - 180) * torch.deg2rad(here[:, 1:]).cos()
    return torch.hypot(east, north) * M_PER_DEG < apart_m


def lonlats_of(table: PairTable) -> Float[np.ndarray, "n 2"]:
    """Where each pair's camera stood, NaN where that is not known."""
    return lonlat_rows(pair.lonlat for pair in table.pairs)


def tile_lonlats_of(table: PairTable) -> Float[np.ndarray, "n 2"]:
    """Where each pair's tile has its centre, else where its camera stood, NaN where neither is known."""
    return lonlat_rows(pair.tile_lonlat or pair.lonlat for pair in table.pairs)


def _numbered(things: Iterable[Path | int]) -> Int64[np.ndarray, " n"]:
    """The same number for equals, from 0 in order of appearance."""
    numbers: dict[Path | int, int] = {}
    return np.array([numbers.setdefault(thing, len(numbers)) for thing in things], np.int64)
