"""The ground that holds the place with 90 %, finer than the tiles' grid where hits were refined."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from jaxtyping import Bool, Float

from geoloc.hits import ProbabilityMap
from geoloc.locate import Refined
from geoloc.places import WGS84, LonLat, to_lonlat
from geoloc.posterior import REGION_SHARE, Scatter
from indexing.refine import AROUND, around, lattice
from indexing.region import areas_of, cut_at_180
from preprocessing.tiles import Grid

FINEST_M = 1.0
MOST_PARTS = 16
POINTS = 4
"""On a side of a square, its probability the mean over all of them: where places scatter by less than a metre
the middle alone says too much of the best squares."""


@dataclass(frozen=True)
class Likely:
    """Ground, polygons in lonlat, and what share of all that lies in the gallery it holds.

    radius_m: of the circle around the best place that holds 90 %, or all that is listed where that is less.
    """

    ground: shapely.Geometry
    holds: float
    radius_m: float


@dataclass(frozen=True)
class _Squares:
    """Squares of one zone, their middles in its metres, each with its probability."""

    zone: int
    middles: Float[np.ndarray, "n 2"]
    side_m: float
    probability: Float[np.ndarray, " n"]


def likely_ground(
    grid: Grid,
    map: ProbabilityMap,
    refined: Sequence[Refined],
    scatter: Scatter | None,
    region: shapely.Geometry | None = None,
) -> Likely:
    """The smallest ground that holds 90 % of what lies in the gallery; all that is listed where that is less.

    A listed tile's probability is spread evenly over the ground nearer to its centre than to any other. That
    of the tiles around a refined hit lies about its place instead, by `scatter`, in squares of about a
    metre, on all cells there, listed or not; a tile around several goes with the best. Where nothing says
    how far off places are, all the ground is of whole tiles. region: in lonlat, where the place is said to
    lie; none of the ground lies elsewhere.
    """
    best = refined[0].lonlat if refined else LonLat(*map.lonlats[0].tolist())
    zones, middles = grid.middles(map.ids)
    probability = map.posterior.tiles / max(map.posterior.in_gallery, 1e-12)
    alone, about = np.ones(len(map.ids), bool), []
    if scatter:
        for one in refined:
            mine = alone & around(grid, map.ids, one.tile_id)
            if mine.any():
                about.append(_about(grid, one, float(probability[mine].sum()), scatter, region))
            alone &= ~mine
    squares = about + [
        _Squares(zone, middles[here], grid.stride_m, probability[here])
        for zone in np.unique(zones).tolist()
        if (here := alone & (zones == zone)).any()
    ]
    likely = _smallest(grid, squares, best)
    if region is None:
        return likely
    return dataclasses.replace(likely, ground=areas_of(shapely.intersection(likely.ground, region)))


def _metres(grid: Grid, one: Refined) -> Float[np.ndarray, "2"]:
    """A refined place in the metres of its tile's zone."""
    to_degrees = to_lonlat(grid.tile(one.tile_id).crs)
    return np.array(to_degrees.transform(one.lonlat.lon, one.lonlat.lat, direction="INVERSE"))


def _about(
    grid: Grid, one: Refined, probability: float, scatter: Scatter, region: shapely.Geometry | None
) -> _Squares:
    """The cells around a refined hit, each cut into squares, with its probability about its place."""
    (zone,), middle = grid.middles(np.array([one.tile_id]))
    parts = min(MOST_PARTS, max(1, round(grid.stride_m / FINEST_M)))
    line = np.arange((2 * AROUND + 1) * parts) - ((2 * AROUND + 1) * parts - 1) / 2
    side_m = grid.stride_m / parts
    cut = middle + side_m * lattice(line)
    points = side_m * lattice((np.arange(POINTS) - (POINTS - 1) / 2) / POINTS)
    off = cut[:, None] + points - _metres(grid, one)
    weight = scatter.density(np.hypot(off[..., 0], off[..., 1])).mean(axis=1)
    if region is not None:
        inside = shapely.intersects_xy(region, *to_lonlat(grid.crs(int(zone))).transform(*cut.T))
        weight = np.where(inside, weight, 0.0) if inside.any() else weight
    return _Squares(int(zone), cut, side_m, probability * weight / weight.sum())


def _smallest(grid: Grid, squares: Sequence[_Squares], best: LonLat) -> Likely:
    density = np.concatenate([one.probability / one.side_m**2 for one in squares])
    probability = np.concatenate([one.probability for one in squares])
    order = np.argsort(-density, kind="stable")
    held = np.cumsum(probability[order])
    chosen = np.zeros(len(order), bool)
    chosen[order[: int(np.searchsorted(held, REGION_SHARE - 1e-9)) + 1]] = True
    ends = np.cumsum([len(one.probability) for one in squares])[:-1]
    grounds = [
        _ground(grid, one, some)
        for one, some in zip(squares, np.split(chosen, ends), strict=True)
        if some.any()
    ]
    return Likely(
        shapely.union_all(grounds),
        float(probability[chosen].sum()),
        _radius_m(grid, squares, probability, best),
    )


def _radius_m(
    grid: Grid, squares: Sequence[_Squares], probability: Float[np.ndarray, " n"], best: LonLat
) -> float:
    """Of the circle that has squares which hold 90 % wholly inside."""
    degrees = [to_lonlat(grid.crs(one.zone)).transform(*one.middles.T) for one in squares]
    lon, lat = np.concatenate(degrees, axis=1)
    away_m = WGS84.inv(np.full(len(lon), best.lon), np.full(len(lat), best.lat), lon, lat)[2]
    away_m += np.concatenate([np.full(len(one.middles), one.side_m / math.sqrt(2)) for one in squares])
    order = np.argsort(away_m)
    last = min(int(np.searchsorted(np.cumsum(probability[order]), REGION_SHARE - 1e-9)), len(order) - 1)
    return float(away_m[order[last]])


def _ground(grid: Grid, squares: _Squares, some: Bool[np.ndarray, " n"]) -> shapely.Geometry:
    half_m = squares.side_m / 2
    corners = np.hstack([squares.middles[some] - half_m, squares.middles[some] + half_m])
    joined = shapely.union_all(shapely.box(*corners.round(3).T))  # whole millimetres, so that sides meet
    to_degrees = to_lonlat(grid.crs(squares.zone)).transform
    return cut_at_180(shapely.transform(joined, lambda xy: np.stack(to_degrees(*xy.T), axis=1)))
