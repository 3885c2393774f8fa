import io
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from geoloc.errors import GeolocError
from geoloc.places import LonLat
from geoloc.street_view import read_street_view
from preprocessing.towns.metadata import write_street_view

NOON = datetime(2026, 6, 1, 12, 0, 0, tzinfo=UTC)
RGB = np.random.default_rng(0).integers(0, 255, (64, 256, 3), np.uint8)


def write(path: Path, **changes: object) -> Path:
    facts = {
        "lonlat": LonLat(9.5, 47.25),
        "heading_deg": 12.5,
        "hfov_deg": 360.0,
        "is_panorama": True,
        "taken_at": NOON,
    }
    write_street_view(path, RGB, **{**facts, **changes})  # type: ignore[arg-type]
    return path


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lon=st.floats(-180, 180), lat=st.floats(-90, 90), heading=st.floats(0, 359.99))
def test_exif_reads_back(tmp_path: Path, lon: float, lat: float, heading: float) -> None:
    path = write(tmp_path / "a.jpg", lonlat=LonLat(lon, lat), heading_deg=heading)
    with Image.open(path) as image:
        gps = image.getexif().get_ifd(ExifTags.IFD.GPSInfo)
    for axis, want in ((ExifTags.GPS.GPSLongitude, lon), (ExifTags.GPS.GPSLatitude, lat)):
        d, m, s = map(float, gps[axis])
        assert m < 60 and s < 60
        sign = -1 if gps[axis - 1] in "SW" else 1
        assert sign * (d + m / 60 + s / 3600) == pytest.approx(want, abs=1e-7)
    assert gps[ExifTags.GPS.GPSImgDirectionRef] == "T"
    assert float(gps[ExifTags.GPS.GPSImgDirection]) == pytest.approx(heading, abs=1e-3)


def test_panorama_carries_gpano(tmp_path: Path) -> None:
    with Image.open(write(tmp_path / "a.jpg")) as image:
        gpano = image.getxmp()["xmpmeta"]["RDF"]["Description"]
    assert gpano["ProjectionType"] == "equirectangular"
    assert gpano["UsePanoramaViewer"] == "True"
    assert float(gpano["PoseHeadingDegrees"]) == 12.5
    sizes = {key: int(value) for key, value in gpano.items() if key.endswith("Pixels")}
    assert sizes == {
        "FullPanoWidthPixels": 256, "FullPanoHeightPixels": 128,
        "CroppedAreaImageWidthPixels": 256, "CroppedAreaImageHeightPixels": 64,
        "CroppedAreaLeftPixels": 0, "CroppedAreaTopPixels": 32,
    }  # fmt: skip


@pytest.mark.parametrize("heading_deg", [0.0, 12.5, 359.9996])
def test_geoloc_reads_the_panorama(tmp_path: Path, heading_deg: float) -> None:
    view = read_street_view(write(tmp_path / "a.jpg", heading_deg=heading_deg))
    assert view.is_panorama and view.hfov_deg == 360 and view.elevation_deg == 0
    assert view.heading_deg == pytest.approx(heading_deg % 359.9996, abs=1e-3)
    assert view.lonlat is not None and view.lonlat.distance_m(LonLat(9.5, 47.25)) < 0.02


@pytest.mark.parametrize("hfov_deg", [60.0, 75.3, 90.0, 110.0])
def test_geoloc_reads_the_photo(tmp_path: Path, hfov_deg: float) -> None:
    path = write(tmp_path / "a.jpg", hfov_deg=hfov_deg, is_panorama=False)
    view = read_street_view(path)
    assert not view.is_panorama and view.hfov_deg == pytest.approx(hfov_deg)
    with Image.open(path) as image:
        assert float(image.getxmp()["xmpmeta"]["RDF"]["Description"]["HorizontalFOV"]) == pytest.approx(
            hfov_deg
        )


def test_same_arguments_same_bytes(tmp_path: Path) -> None:
    assert write(tmp_path / "a.jpg").read_bytes() == write(tmp_path / "b.jpg").read_bytes()


def test_pixels_survive(tmp_path: Path) -> None:
    smooth = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None], (64, 256, 3)).copy()
    write_street_view(
        tmp_path / "a.jpg",
        smooth,
        lonlat=LonLat(0, 0),
        heading_deg=0,
        hfov_deg=360,
        is_panorama=True,
        taken_at=NOON,
    )
    with Image.open(io.BytesIO((tmp_path / "a.jpg").read_bytes())) as image:
        assert np.abs(np.asarray(image).astype(int) - smooth).mean() < 2


def test_a_place_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").mkdir()
    with pytest.raises(GeolocError, match=r"a\.jpg"):
        write(tmp_path / "a.jpg")
    assert [path.name for path in tmp_path.iterdir()] == ["a.jpg"]
