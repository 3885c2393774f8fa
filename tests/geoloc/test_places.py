import math

import numpy as np
import pyproj
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoloc.errors import GeolocError, ImageryError
from geoloc.places import LonLat, Tile, turned_deg, wrapped_deg


@given(st.floats(-180, 180), st.floats(-90, 90), st.floats(-180, 180), st.floats(-90, 90))
def test_distance_is_a_geodesic(lon: float, lat: float, lon2: float, lat2: float) -> None:
    here, there = LonLat(lon, lat), LonLat(lon2, lat2)
    line = pyproj.Geod(ellps="WGS84").inv(lon, lat, lon2, lat2)[2]
    assert here.distance_m(there) == pytest.approx(line, abs=1e-6)
    assert here.distance_m(there) == pytest.approx(there.distance_m(here), abs=1e-3)


@pytest.mark.parametrize("lonlat", [(181, 0), (0, 91), (math.nan, 0), (0, math.inf)])
def test_no_place_off_the_earth(lonlat: tuple[float, float]) -> None:
    with pytest.raises(GeolocError):
        LonLat(*lonlat)


def test_tile_center_and_corners_agree_with_proj() -> None:
    tile = Tile(7, "EPSG:32633", (500_000, 5_000_000, 500_064, 5_000_064), 128)
    assert tile.gsd_m == 0.5
    back = pyproj.Transformer.from_crs(4326, 32633, always_xy=True)
    assert back.transform(tile.center.lon, tile.center.lat) == pytest.approx((500_032, 5_000_032), abs=1e-4)
    corners = [back.transform(corner.lon, corner.lat) for corner in tile.corners]
    want = [(500_000, 5_000_000), (500_000, 5_000_064), (500_064, 5_000_064), (500_064, 5_000_000)]
    for corner, expected in zip(corners, want, strict=True):
        assert corner == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    "bounds",
    [(0, 0, 0, 1), (0, 1, 1, 0), (0, 0, 1, 2), (math.nan, 0, 1, 1)],
    ids=["flat", "upside", "oblong", "nan"],
)
def test_tile_refuses_nonsense(bounds: tuple[float, float, float, float]) -> None:
    with pytest.raises(ImageryError):
        Tile(0, "EPSG:32633", bounds, 10)


def test_tile_of_an_unknown_crs_names_it() -> None:
    with pytest.raises(ImageryError, match="EPSG:0"):
        _ = Tile(0, "EPSG:0", (0, 0, 1, 1), 10).center


@given(st.floats(-1e4, 1e4))
def test_a_direction_is_less_than_a_full_circle(azimuth_deg: float) -> None:
    turned = wrapped_deg(azimuth_deg)
    assert 0 <= turned < 360
    assert math.cos(math.radians(turned - azimuth_deg)) == pytest.approx(1)


def test_what_is_hardly_west_of_north_is_north() -> None:
    assert wrapped_deg(-1e-20) == 0


@given(st.floats(-180, 180), st.floats(-180, 180))
def test_east_is_the_shorter_way(lon: float, of: float) -> None:
    (east,) = turned_deg(np.array([lon]), of)
    assert -180 <= east < 180
    assert math.cos(math.radians(of + east - lon)) == pytest.approx(1)
