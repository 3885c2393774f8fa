import numpy as np
import pyproj
import pytest

from geoloc.errors import GeolocError
from geoloc.hits import Hits, ProbabilityMap
from geoloc.locate import Refined, locate
from geoloc.places import Tile
from geoloc.posterior import Posterior


def tile(id: int) -> Tile:
    """Tiles 20 m apart to the east."""
    west = 500_000 + 20.0 * id
    return Tile(id, "EPSG:32633", (west, 5_000_000, west + 64, 5_000_064), 128)


def hits(ids: list[int], scores: list[float], headings: list[float]) -> Hits:
    return Hits(np.array([ids]), np.array([scores], np.float32), np.array([headings], np.float32))


def test_the_best_tile_is_the_fix() -> None:
    fix = locate(hits([4, 9, -1], [0.9, 0.5, -np.inf], [45.0, np.nan, np.nan]), tile, stride_m=20.0)
    assert (fix.tile_id, fix.lonlat) == (4, tile(4).center)
    assert fix.heading_deg == pytest.approx(45.0 + tile(4).north_deg)
    assert fix.score == pytest.approx(0.9)
    assert fix.radius_m == pytest.approx(20 / 2**0.5)
    assert fix.in_gallery is None
    assert [(other.rank, other.tile_id) for other in fix.alternatives] == [(1, 4), (2, 9)]
    assert fix.alternatives[1].heading_deg is None


@pytest.mark.parametrize(
    ("lon", "lat", "zone"), [(3.2, 51.0, 32631), (9.9, 60.0, 32632), (148.0, -33.0, 32755)]
)
def test_headings_become_true_by_the_convergence_of_the_grid(lon: float, lat: float, zone: int) -> None:
    x, y = pyproj.Transformer.from_crs(4326, zone, always_xy=True).transform(lon, lat)
    place = Tile(1, f"EPSG:{zone}", (x - 32, y - 32, x + 32, y + 32), 128)
    convergence = pyproj.Proj(zone).get_factors(lon, lat).meridian_convergence
    assert place.north_deg == pytest.approx(convergence, abs=0.01)
    fix = locate(hits([1], [0.9], [350.0]), lambda _: place, stride_m=8.0)
    assert fix.heading_deg == pytest.approx((350.0 + convergence) % 360, abs=0.01)


def test_a_refined_hit_moves_the_fix_and_the_map_says_how_sure_it_is() -> None:
    found = hits([4, 9], [0.9, 0.8], [10.0, 20.0])
    ids = np.array([4, 5, 9])
    lonlats = np.array([(tile(id).center.lon, tile(id).center.lat) for id in ids.tolist()])
    posterior = Posterior(np.array([0.5, 0.2, 0.05]), 0.0, 0.25)
    refined = Refined(5, tile(5).center, 0.95, 12.0)
    map = ProbabilityMap(ids, lonlats, posterior)
    fix = locate(found, tile, stride_m=8.0, refined=[refined], map=map)
    assert (fix.tile_id, fix.lonlat, fix.score) == (5, tile(5).center, 0.95)
    assert [(one.rank, one.tile_id) for one in fix.alternatives] == [(1, 5), (2, 4)]
    assert fix.in_gallery == pytest.approx(0.75)
    assert map.within(tile(5).center, 25) == pytest.approx(0.7)


def test_near_equal_rivals_widen_the_radius() -> None:
    fix = locate(hits([4, 9], [0.9, 0.89], [0.0, 0.0]), tile, stride_m=20.0)
    assert fix.radius_m == pytest.approx(tile(4).center.distance_m(tile(9).center))
    assert fix.radius_m == pytest.approx(100, rel=1e-3)


def test_no_hit_is_said() -> None:
    with pytest.raises(GeolocError, match="widen"):
        locate(hits([-1], [-np.inf], [np.nan]), tile, stride_m=20.0)


def test_hits_refuse_nonsense() -> None:
    with pytest.raises(GeolocError, match="sorted"):
        hits([1, 2], [0.1, 0.2], [0.0, 0.0])
