import numpy as np
import pyproj
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from geoloc.hits import ProbabilityMap
from geoloc.locate import Refined
from geoloc.places import LonLat
from geoloc.posterior import Posterior, Scatter
from indexing.likely import likely_ground
from preprocessing.tiles import Grid

ZONES = {32: "EPSG:32632", 33: "EPSG:32633"}
GRID = Grid(64.0, 128, 16, tuple(ZONES.items()))
STRIDE_M = 8.0
COLUMN, ROW = 62_500, 660_000


def listed(cells: list[tuple[int, int, int]], tiles: list[float], absent: float = 0.2) -> ProbabilityMap:
    ids = np.array([int(GRID.ids(zone, np.array(COLUMN + x), np.array(ROW + y))) for zone, x, y in cells])
    lonlats = np.array([[place.lon, place.lat] for place in (GRID.tile(int(id)).center for id in ids)])
    shares = np.array(tiles) / sum(tiles) * (1 - absent)
    return ProbabilityMap(ids, lonlats, Posterior(shares, 0.0, absent))


def middle(map: ProbabilityMap, at: int) -> tuple[float, float]:
    left, bottom, right, top = GRID.tile(int(map.ids[at])).bounds
    return (left + right) / 2, (bottom + top) / 2


def refined(map: ProbabilityMap, at: int, off: tuple[float, float]) -> Refined:
    crs = GRID.tile(int(map.ids[at])).crs
    x, y = middle(map, at)
    to_degrees = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    return Refined(int(map.ids[at]), LonLat(*to_degrees.transform(x + off[0], y + off[1])), 0.9, 0.0)


def in_metres(ground: shapely.Geometry, zone: int = 32) -> shapely.Geometry:
    to_metres = pyproj.Transformer.from_crs("EPSG:4326", ZONES[zone], always_xy=True)
    return shapely.transform(ground, lambda lonlat: np.stack(to_metres.transform(*lonlat.T), axis=1))


ROWS = [(32, x, y) for x in range(7) for y in range(7)]


@settings(deadline=None, max_examples=25)
@given(st.lists(st.floats(0.001, 1), min_size=49, max_size=49), st.floats(0, 0.9))
def test_without_refined_hits_it_is_the_fewest_whole_cells(tiles: list[float], absent: float) -> None:
    map = listed(ROWS, tiles, absent)
    likely = likely_ground(GRID, map, (), Scatter(2.0, 5.0))
    best_first = np.sort(tiles)[::-1] / sum(tiles)
    fewest = int((np.cumsum(best_first) < 0.9 - 1e-6).sum()) + 1
    assert in_metres(likely.ground).area == pytest.approx(fewest * STRIDE_M**2, rel=1e-4, abs=65)
    assert 0.9 - 1e-6 <= likely.holds <= 0.9 + best_first[fewest - 1] + 1e-6
    away_m = np.array([LonLat(*map.lonlats[0]).distance_m(LonLat(*place)) for place in map.lonlats])
    held = np.cumsum(np.array(tiles)[np.argsort(away_m)]) / sum(tiles)
    farthest = np.sort(away_m)[np.searchsorted(held, 0.9 - 1e-9)]
    assert likely.radius_m == pytest.approx(farthest + STRIDE_M / 2**0.5)
    unfitted = likely_ground(GRID, map, [refined(map, 24, (1.0, 2.0))], None)
    assert (unfitted.ground, unfitted.holds) == (likely.ground, likely.holds)


@pytest.mark.parametrize(("spread_m", "off"), [(1.5, (0.7, -2.1)), (4.0, (7.0, 3.0)), (12.0, (0.0, 0.0))])
def test_about_refined_hits_it_equals_a_naive_raster(spread_m: float, off: tuple[float, float]) -> None:
    """Two hits, one with a fifth of the probability, and a far corner that is around neither."""
    rng = np.random.default_rng(0)
    wide = [(32, x, y) for x in range(14) for y in range(7)]
    map = listed(wide, list(rng.uniform(0.5, 1, len(wide)) * [5 if x < 6 else 1 for _, x, _ in wide]))
    hits = [refined(map, wide.index((32, 3, 3)), off), refined(map, wide.index((32, 9, 3)), (-1.0, 1.0))]
    likely = likely_ground(GRID, map, hits, Scatter(spread_m, 3.0))
    share = map.posterior.tiles / map.posterior.in_gallery
    places = [
        np.add(middle(map, wide.index((32, 3, 3))), off),
        np.add(middle(map, wide.index((32, 9, 3))), (-1, 1)),
    ]
    squares, held = [], [0.0, 0.0]
    for (_, x, y), p, at in zip(wide, share, range(len(wide)), strict=True):
        here = np.array(middle(map, at))
        around = [n for n, column in enumerate((3, 9)) if abs(x - column) <= 2 and abs(y - 3) <= 2]
        if not around:
            squares.append([p / 64, p, *here, 4.0, None, p])
            continue
        mine = min(around, key=lambda n: np.hypot(*(here - places[n])))
        held[mine] += p
        for east in np.arange(-3.5, 4):
            for north in np.arange(-3.5, 4):
                weight = 0.0
                for right in (-0.375, -0.125, 0.125, 0.375):
                    for up in (-0.375, -0.125, 0.125, 0.375):
                        away_m = np.hypot(*(here - places[mine] + [east + right, north + up]))
                        weight += (1 + (away_m / spread_m) ** 2 / 3) ** -2.5
                squares.append([0.0, weight, here[0] + east, here[1] + north, 0.5, mine, 0.0])
    for one in squares:
        if one[5] is not None:
            total = sum(other[1] for other in squares if other[5] == one[5])
            one[6] = held[one[5]] * one[1] / total
            one[0] = one[6]
    chosen, sum_of = [], 0.0
    for one in sorted(squares, key=lambda one: -one[0]):
        if sum_of >= 0.9:
            break
        chosen.append(shapely.box(one[2] - one[4], one[3] - one[4], one[2] + one[4], one[3] + one[4]))
        sum_of += one[6]
    assert likely.holds == pytest.approx(sum_of, abs=1e-9)
    wanted = shapely.union_all(chosen)
    assert in_metres(likely.ground).symmetric_difference(wanted).area < 1e-3 * wanted.area + 5
    away, of = np.array(
        sorted([np.hypot(*(one[2:4] - places[0])) + one[4] * 2**0.5, one[6]] for one in squares)
    ).T
    assert likely.radius_m == pytest.approx(away[np.cumsum(of) >= 0.9 - 1e-9][0], abs=0.1)


@pytest.mark.parametrize(
    ("spread_m", "off", "most", "widest"),
    [
        (2.0, (1.0, 2.0), 0.92, 0.96),
        (0.9, (0.0, 0.0), 0.95, 0.99),
        (0.6, (0.3, 0.4), 0.99, 0.99),
    ],
)
def test_it_holds_its_share_of_places_drawn_about_a_refined_hit(
    spread_m: float, off: tuple[float, float], most: float, widest: float
) -> None:
    """The fewer squares, the more they hold beyond 90 %; the circle has them wholly inside."""
    rng = np.random.default_rng(1)
    map = listed(ROWS, [1.0] * len(ROWS), 0.0)
    hit = refined(map, ROWS.index((32, 3, 3)), off)
    map = listed(ROWS, [1.0 if max(abs(x - 3), abs(y - 3)) <= 2 else 0.0 for _, x, y in ROWS], 0.5)
    likely = likely_ground(GRID, map, [hit], Scatter(spread_m, 5.0))
    assert 0.9 <= likely.holds <= most
    assert shapely.intersects_xy(likely.ground, hit.lonlat.lon, hit.lonlat.lat)
    away_m = spread_m * np.sqrt(5 * ((1 - rng.uniform(size=20_000)) ** (-2 / 5) - 1))
    turn = rng.uniform(0, 2 * np.pi, len(away_m))
    east, north = off[0] + away_m * np.sin(turn), off[1] + away_m * np.cos(turn)
    inside = (abs(east) < 20) & (abs(north) < 20)
    x, y = middle(map, ROWS.index((32, 3, 3)))
    found = shapely.intersects_xy(in_metres(likely.ground), x + east[inside], y + north[inside])
    assert found.mean() == pytest.approx(likely.holds, abs=0.01)
    assert 0.9 <= (away_m[inside] <= likely.radius_m).mean() <= widest


def test_zones_lie_each_in_its_own_metres() -> None:
    map = listed([(32, 0, 0), (33, 0, 0), (33, 1, 0)], [1.0, 1.0, 1.0])
    likely = likely_ground(GRID, map, [refined(map, 1, (0.0, 0.0))], Scatter(100.0, 5.0))
    assert 0.9 <= likely.holds <= 0.93
    for at, zone in enumerate((32, 33)):
        place = GRID.tile(int(map.ids[at])).center
        assert shapely.intersects_xy(likely.ground, place.lon, place.lat)
        x, y = middle(map, at)
        near = shapely.clip_by_rect(in_metres(likely.ground, zone), x - 20, y - 20, x + 20, y + 20)
        assert near.area == pytest.approx((64, 1360)[at], abs=25)


def test_all_that_is_listed_where_that_holds_less() -> None:
    map = listed(ROWS, [1.0] * len(ROWS))
    less = ProbabilityMap(map.ids, map.lonlats, Posterior(map.posterior.tiles / 2, 0.4, 0.2))
    likely = likely_ground(GRID, less, (), Scatter(2.0, 5.0))
    assert likely.holds == pytest.approx(0.5)
    assert in_metres(likely.ground).area == pytest.approx(49 * 64, rel=1e-4)


def test_a_hit_at_the_edge_of_what_is_listed_lies_in_its_own_ground() -> None:
    """Of two cells alone, moved past the outer side of one; a weaker hit that came nearer takes nothing."""
    map = listed([(32, 0, 0), (32, 1, 0)], [9.0, 1.0])
    hit = refined(map, 0, (-9.0, 3.0))
    weaker = refined(map, 1, (-8.0, 0.0))
    likely = likely_ground(GRID, map, [hit, weaker], Scatter(1.5, 5.0))
    assert shapely.intersects_xy(likely.ground, hit.lonlat.lon, hit.lonlat.lat)
    assert not shapely.intersects_xy(likely.ground, weaker.lonlat.lon, weaker.lonlat.lat)
    assert 0.9 <= likely.holds < 0.93 and likely.radius_m < 6


def test_a_region_bounds_the_ground() -> None:
    """Its half of the cells around a hit has all the hit's probability, and other cells end at its edge."""
    map = listed(ROWS, [20.0 if (x, y) == (3, 3) else 0.2 for _, x, y in ROWS])
    hit = refined(map, ROWS.index((32, 3, 3)), (0.5, 0.0))
    (x, y), to_degrees = middle(map, 24), pyproj.Transformer.from_crs(ZONES[32], "EPSG:4326", always_xy=True)
    west = shapely.transform(
        shapely.box(x - 100, y - 100, x + 1.5, y + 100),
        lambda xy: np.stack(to_degrees.transform(*xy.T), axis=1),
    )
    bounded = likely_ground(GRID, map, [hit], Scatter(2.0, 5.0), west)
    free = likely_ground(GRID, map, [hit], Scatter(2.0, 5.0))
    assert west.buffer(1e-9).covers(bounded.ground) and not west.covers(free.ground)
    assert shapely.intersects_xy(bounded.ground, hit.lonlat.lon, hit.lonlat.lat)
    assert bounded.holds == pytest.approx(0.9, abs=0.02)


def test_a_coarse_grid_is_cut_into_no_more_squares() -> None:
    grid = Grid(64.0, 128, 800, tuple(ZONES.items()))
    ids = np.array([int(grid.ids(32, np.array(2000), np.array(14_000)))])
    place = grid.tile(int(ids[0])).center
    map = ProbabilityMap(ids, np.array([[place.lon, place.lat]]), Posterior(np.array([1.0]), 0.0, 0.0))
    likely = likely_ground(grid, map, [Refined(int(ids[0]), place, 0.9, 0.0)], Scatter(50.0, 5.0))
    assert 120 < likely.radius_m < 200 and likely.holds >= 0.9
