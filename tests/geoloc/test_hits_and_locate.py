import numpy as np
import pytest

from geoloc.errors import GeolocError
from geoloc.hits import Hits
from geoloc.locate import locate
from geoloc.places import Tile


def tile(id: int) -> Tile:
    """Tiles 20 m apart to the east."""
    west = 500_000 + 20.0 * id
    return Tile(id, "EPSG:32633", (west, 5_000_000, west + 64, 5_000_064), 128)


def hits(ids: list[int], scores: list[float], headings: list[float]) -> Hits:
    return Hits(np.array([ids]), np.array([scores], np.float32), np.array([headings], np.float32))


def test_the_best_tile_is_the_fix() -> None:
    fix = locate(hits([4, 9, -1], [0.9, 0.5, -np.inf], [45.0, np.nan, np.nan]), tile, stride_m=20.0)
    assert (fix.tile_id, fix.lonlat, fix.heading_deg) == (4, tile(4).center, 45.0)
    assert fix.score == pytest.approx(0.9)
    assert fix.radius_m == pytest.approx(20 / 2**0.5)
    assert fix.in_gallery is None
    assert [(other.rank, other.tile_id, other.heading_deg) for other in fix.alternatives] == [
        (1, 4, 45),
        (2, 9, None),
    ]


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
