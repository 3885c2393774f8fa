import dataclasses
import shutil
import socket
from pathlib import Path

import pytest
from on_disk import file_of
from small_world import PLACE, World

from geoloc.errors import DataError, GeolocError
from geoloc.places import WGS84, LonLat
from geoloc.posterior import Calibration
from indexing.gallery import Gallery
from indexing.verify import verify
from ui import demo, samples, serve
from ui.cli import main
from ui.demo import Row, within_bounds
from ui.samples import Sample, read_sample, read_samples


@pytest.fixture
def sample_town(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small world in the place of data/; returns the folder of the demo's galleries."""
    for module in (demo, samples):
        monkeypatch.setattr(module, "ORTHO", world.ortho)
        monkeypatch.setattr(module, "STREET_VIEWS", world.table)
        monkeypatch.setattr(module, "MODEL", world.model)
    monkeypatch.setattr(demo, "CACHE", tmp_path / "cache")
    return tmp_path / "cache"


def row(error_m: float, is_panorama: bool = True) -> Row:
    sample = Sample(Path("view.jpg"), PLACE, 0.0, 360.0 if is_panorama else 80.0, is_panorama)
    return Row(sample, error_m, 0.5, 1, error_m, 2.0)


def test_bounds_are_90_percent_of_panoramas_and_1000_tiles() -> None:
    good, bad, photo = row(25.0), row(25.1), row(900.0, is_panorama=False)
    assert within_bounds([good] * 9 + [bad, photo, photo], 1000)
    assert not within_bounds([good] * 8 + [bad] * 2, 1000)
    assert not within_bounds([good] * 10, 999)
    assert not within_bounds([photo], 1000)


def test_summary_counts_what_the_table_shows() -> None:
    lines = demo.summary([row(5.0), row(7.0), row(100.0), row(3.0, is_panorama=False)], 1200)
    assert lines[0] == "Gallery: 1,200 tiles, 8 m apart (bound: at least 1,000)"
    assert lines[1].startswith(
        "Panoramas: 2 of 3 within 25 m = 67% (bound: at least 90%); median error 7.0 m"
    )
    assert lines[2].startswith("Photos: 1 of 1 within 25 m = 100%; median error 3.0 m")
    assert lines[3] == "OUT OF BOUNDS."


def test_gallery_is_built_once_and_again_when_damaged(sample_town: Path) -> None:
    path = demo.demo_gallery()
    assert path.is_relative_to(sample_town)
    version = verify(path).version
    stored = file_of(path, "embeddings.h5")
    built = stored.stat().st_mtime_ns
    assert demo.demo_gallery() == path
    assert stored.stat().st_mtime_ns == built
    damaged = bytearray(stored.read_bytes())
    damaged[-1] ^= 1
    stored.write_bytes(damaged)
    assert demo.demo_gallery() == path
    assert verify(path).version == version


def test_another_calibration_is_another_gallery(
    sample_town: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(demo.MODEL, tmp_path / "model")
    monkeypatch.setattr(demo, "MODEL", tmp_path / "model")
    before = demo.demo_gallery()
    none = (0.0, 0.0, 0.0, 0.0)
    (tmp_path / "model/calibration.json").write_text(
        Calibration(none, none, (none, none, none, none)).to_json()
    )
    after = demo.demo_gallery()
    assert after != before
    with Gallery.open(before) as old, Gallery.open(after) as new:
        assert old.calibration is None and new.calibration is not None


def test_check_prints_every_sample_and_exits_1_out_of_bounds(
    sample_town: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as done:
        main(["demo", "--check"])
    out = capsys.readouterr().out
    assert done.value.code == 1
    assert "Panorama 01" in out and "Photo 01" in out and "OUT OF BOUNDS." in out


def test_errors_are_against_the_truth(sample_town: Path, world: World) -> None:
    """With the truth moved to where the tiny model puts the panorama, its error is 0 m at rank 1."""
    (panorama, _) = read_samples(world.table)
    gallery, encoder = demo.open_gallery(world.gallery)
    with gallery:
        fix = demo.answer(read_sample(panorama), gallery, encoder, k=1).fix
        moved = dataclasses.replace(panorama, lonlat=fix.lonlat)
        there = demo.locate_sample(moved, gallery, encoder)
        lon, lat, _ = WGS84.fwd(fix.lonlat.lon, fix.lonlat.lat, 90, 70)
        off = demo.locate_sample(dataclasses.replace(panorama, lonlat=LonLat(lon, lat)), gallery, encoder)
    assert (there.error_m, there.rank, there.near) == (0, 1, True)
    assert off.error_m == pytest.approx(70, abs=1e-3)
    assert not off.near and off.rank != 1


def test_missing_data_is_named(sample_town: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(samples, "ORTHO", tmp_path / "ortho.tif")
    with pytest.raises(DataError, match=r"ortho\.tif"):
        demo.demo_gallery()


def test_samples_are_read_with_their_truth(world: World, tmp_path: Path) -> None:
    panorama, photo = read_samples(world.table)
    assert (panorama.name, photo.name) == ("Panorama 01", "Photo 01")
    view = read_sample(photo)
    assert (view.heading_deg, view.hfov_deg, view.is_panorama) == (120, 80, False)
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1 not")
    with pytest.raises(DataError, match=r"broken\.parquet"):
        read_samples(broken)


def test_a_port_in_use_is_refused_and_a_free_one_found(world: World) -> None:
    with socket.socket() as taken:
        taken.bind((serve.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(GeolocError, match="in use"):
            serve.serve(world.gallery, port)
        assert serve.free_port() != port


def test_ui_refuses_what_is_no_gallery(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(["ui", str(tmp_path)])
    assert done.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_gallery_of_the_demo_is_a_gallery(sample_town: Path) -> None:
    with Gallery.open(demo.demo_gallery()) as gallery:
        assert gallery.manifest.stride_m == pytest.approx(demo.STRIDE_M, rel=0.05)
