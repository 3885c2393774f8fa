import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from box_town import GSD_M, NOON, meadow, middle, panorama, with_tower, with_tree
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy._core import _multiarray_umath

from preprocessing.towns.lens import Camera, lens_of
from preprocessing.towns.march import Ground, arctangent, march, ranges_m
from preprocessing.towns.ortho import orthophoto
from preprocessing.towns.painted import paint
from preprocessing.towns.scene import Scene, Surface
from preprocessing.towns.street import render

EYE_M = 2.5


def classes(scene: Scene, camera: Camera) -> np.ndarray:
    return render(paint(scene, NOON), camera, np.random.default_rng(0))[1]


def test_arctangent_is_one() -> None:
    slopes = np.linspace(-50, 50, 20_001).astype(np.float32)
    assert np.abs(arctangent(slopes) - np.arctan(slopes.astype(np.float64))).max() < 3e-5


@pytest.mark.parametrize("is_panorama", [True, False])
def test_every_ray_agrees_with_a_walk_along_it(is_panorama: bool) -> None:
    rng = np.random.default_rng(3)
    height_m = np.kron(rng.choice([0, 0, 0, 0, 1, 4, 12], (40, 40)), np.ones((10, 10))).astype(np.float32)
    height_m[190:210, 190:210] = 0
    hfov_deg = 360.0 if is_panorama else 100.0
    camera = Camera(0, 0, EYE_M, 37.0, hfov_deg, 0.7, -1.1, (64, 256), is_panorama)
    lens, ground = lens_of(camera, 0.0), Ground(height_m.shape, GSD_M, 200.3, 199.8)
    step, _ = march(height_m.ravel(), ground, lens, EYE_M)
    agree = []
    for column, row in rng.integers(0, (256, 64), (400, 2)):
        walked = len(ranges_m())
        for number, range_m in enumerate(ranges_m().astype(float)):
            x = 200.3 + range_m / GSD_M * float(lens.east[column])
            y = 199.8 - range_m / GSD_M * float(lens.north[column])
            x, y = (int(min(v % 800, 799.999 - v % 800)) for v in (x, y))
            if height_m[y, x] >= EYE_M + range_m * float(lens.tangent[column, row]):
                walked = number
                break
        agree.append(walked == step[column, row])
    assert np.mean(agree) > 0.98  # the rest graze an edge, where single precision may differ


@settings(max_examples=8, deadline=None)
@given(bearing_deg=st.floats(0, 360), away_m=st.floats(12, 40), heading_deg=st.floats(0, 360))
def test_lone_tower_stands_at_its_bearing_and_height(
    bearing_deg: float, away_m: float, heading_deg: float
) -> None:
    turn = np.radians(bearing_deg)
    scene = with_tower(
        meadow(), away_m * np.sin(turn), away_m * np.cos(turn), 3, 8, axis_deg=bearing_deg % 180
    )
    seen = classes(scene, panorama(scene, heading_deg)) == Surface.FACADE
    azimuth = (np.arange(512) + 0.5 - 256) * 360 / 512 + heading_deg - bearing_deg
    azimuth = np.radians(azimuth[seen.any(axis=0)])
    assert np.degrees(np.angle(np.exp(1j * azimuth).mean())) == pytest.approx(0, abs=1.0)
    top_deg = (64 - np.flatnonzero(seen.any(axis=1))[0]) * 360 / 512
    nearest_m = away_m - 1.5
    assert top_deg == pytest.approx(np.degrees(np.arctan((8 - EYE_M) / nearest_m)), abs=1.2)
    foot_deg = (np.flatnonzero(seen.any(axis=1))[-1] + 1 - 64) * 360 / 512
    assert foot_deg == pytest.approx(np.degrees(np.arctan(EYE_M / nearest_m)), abs=1.2)


@pytest.mark.parametrize("hfov_deg", [60.0, 90.0, 130.0])
@pytest.mark.parametrize("aside_deg", [-25.0, 0.0, 20.0])
def test_pinhole_photo_of_a_tower(hfov_deg: float, aside_deg: float) -> None:
    turn = np.radians(aside_deg + 70)
    scene = with_tower(meadow(), 20 * np.sin(turn), 20 * np.cos(turn), 2, 7, axis_deg=aside_deg + 70)
    camera = Camera(*middle(scene), EYE_M, 70.0, hfov_deg, 0, 0, (240, 320), is_panorama=False)
    seen = classes(scene, camera) == Surface.FACADE
    focal_px = 160 / np.tan(np.radians(hfov_deg / 2))
    column = np.flatnonzero(seen.any(axis=0)).mean() + 0.5
    assert column == pytest.approx(160 + focal_px * np.tan(np.radians(aside_deg)), abs=0.02 * focal_px)
    rows = np.flatnonzero(seen[:, int(column)])
    scale = focal_px / np.cos(np.radians(aside_deg)) / 19
    assert rows[0] == pytest.approx(120 - 4.5 * scale, abs=2.5)
    assert rows[-1] + 1 == pytest.approx(120 + EYE_M * scale, abs=2.5)


def test_turning_the_camera_rolls_the_panorama() -> None:
    scene = with_tree(with_tower(meadow(), 14, 9, 6, 9, axis_deg=20), -10, 6, 3, 3, 8)
    painted = paint(scene, NOON)
    north, east = (
        render(painted, panorama(scene, heading), np.random.default_rng(0)) for heading in (0.0, 90.0)
    )
    assert (np.roll(north[1], -128, axis=1) == east[1]).mean() > 0.99  # twigs may fall elsewhere
    assert np.abs(np.roll(north[0], -128, axis=1).astype(int) - east[0]).mean() < 1.5


def test_heading_is_from_true_north() -> None:
    """Three degrees off the zone's meridian, grid north is not true north."""
    scene = with_tower(replace(meadow(), west_m=720_000.0), 0, 30, 2, 12)
    painted = paint(scene, NOON)
    assert abs(painted.convergence_deg) > 1.5
    seen = render(painted, panorama(scene, hw=(256, 1024)), np.random.default_rng(0))[1] == Surface.FACADE
    column = np.flatnonzero(seen.any(axis=0)).mean() + 0.5
    assert (column - 512) * 360 / 1024 == pytest.approx(painted.convergence_deg, abs=0.4)


@pytest.mark.parametrize("is_panorama", [True, False])
def test_pitch_and_roll_tilt_the_horizon(is_panorama: bool) -> None:
    scene = meadow()
    level = replace(panorama(scene), hfov_deg=360.0 if is_panorama else 90.0, is_panorama=is_panorama)

    painted = paint(scene, NOON)

    def horizon(camera: Camera) -> np.ndarray:
        return (render(painted, camera, np.random.default_rng(0))[1] == Surface.SKY).sum(axis=0)

    scale = 512 / (2 * np.pi) if is_panorama else 256
    up = horizon(replace(level, pitch_deg=3.0)) - horizon(level)
    assert up[255] == pytest.approx(scale * np.radians(3), abs=1.5)
    right = horizon(replace(level, roll_deg=3.0)) - horizon(level)
    assert right[384] < -1 < 1 < right[128]


def test_crowns_float_between_sky_and_grass() -> None:
    scene = with_tree(meadow(), 0, 15, 4, 3.5, 9)
    column = classes(scene, panorama(scene))[:, 250:262]
    leaves = np.flatnonzero((column == Surface.CROWN).any(axis=1))
    assert 64 - leaves[0] == pytest.approx(np.degrees(np.arctan(6.5 / 14)) * 512 / 360, abs=4)
    assert (column[:20] == Surface.SKY).all()
    assert (column[66:] == Surface.GRASS).all()


def test_a_tower_hides_the_tree_behind_it() -> None:
    scene = with_tower(with_tree(meadow(), 0, 25, 2, 3, 6), 0, 12, 8, 12)
    assert not (classes(scene, panorama(scene)) == Surface.CROWN).any()


def test_vehicles_pass_only_where_there_is_traffic() -> None:
    scene = meadow(surface=Surface.ASPHALT)
    seen = {}
    for traffic in (0.0, 1.0):
        painted = paint(scene, replace(NOON, traffic=traffic))
        seen[traffic] = render(painted, panorama(scene), np.random.default_rng(5))[1] == Surface.CAR
    assert not seen[0.0].any()
    assert 100 < seen[1.0].sum() < 40_000
    rows = np.flatnonzero(seen[1.0].any(axis=1))
    assert rows[-1] > 70  # it stands on the road, below the horizon


def fingerprint() -> str:
    """A day of every kind of pixel, hashed."""
    scene = with_tree(with_tower(meadow(300, Surface.ASPHALT), 14, 9, 6, 9, axis_deg=20), -10, 6, 3, 3, 8)
    painted = paint(scene, replace(NOON, overcast=0.4, traffic=1.0, noise=0.01, visibility_m=150.0))
    digest = hashlib.sha256(orthophoto(painted, np.random.default_rng(1)).tobytes())
    for heading in (0.0, 111.0):
        for image in render(painted, panorama(scene, heading), np.random.default_rng(2)):
            digest.update(image.tobytes())
    photo = replace(panorama(scene, 55.0, (96, 128)), hfov_deg=80.0, is_panorama=False, roll_deg=1.0)
    digest.update(render(painted, photo, np.random.default_rng(3))[0].tobytes())
    return digest.hexdigest()


def test_an_older_processor_draws_the_same_pixels() -> None:
    fast = [name for name in _multiarray_umath.__cpu_dispatch__ if _multiarray_umath.__cpu_features__[name]]
    here = Path(__file__).parent
    paths = os.pathsep.join(map(str, (here, here.parents[1], here.parents[2])))
    plain = subprocess.run(
        [sys.executable, "-c", "import test_street; print(test_street.fingerprint())"],
        env={**os.environ, "PYTHONPATH": paths, "NPY_DISABLE_CPU_FEATURES": " ".join(fast)},
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert plain.stdout.strip() == fingerprint()
