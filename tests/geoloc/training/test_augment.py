"""What training varies, against signals whose azimuth, elevation and place are known."""

import dataclasses

import numpy as np
import pytest
import torch

from geoloc.encoder import seen_bins
from geoloc.spec import EncoderSpec
from geoloc.tensors import azimuths_deg, elevations_deg
from geoloc.training.augment import Augmentation, Varied, draw, vary, window_mask

STILL = Augmentation(shift_m=0.0, tilt_deg=0.0, layouts=(1.0, 0.0, 0.0, 0.0), photo=0.0, colour=0.0)


@pytest.fixture
def plain(tiny_spec: EncoderSpec) -> EncoderSpec:
    """A spec whose tensors are the pixels themselves."""
    return dataclasses.replace(tiny_spec, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def signals(spec: EncoderSpec, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Canvases of cos and sin of the azimuth and of the elevation; tiles of column, row and nothing."""
    h, w = spec.street_hw
    azimuth = np.radians(azimuths_deg(spec).numpy())
    tall = dataclasses.replace(spec, street_hw=(h * 3 // 2, w), street_elevation_deg=(-67.5, 67.5))
    up = elevations_deg(tall).numpy() / 90
    image = np.empty((n, 4, tall.street_hw[0], w), np.uint8)
    image[:, 0], image[:, 1] = np.rint(127.5 + 127 * np.cos(azimuth)), np.rint(127.5 + 127 * np.sin(azimuth))
    image[:, 2], image[:, 3] = np.rint(127.5 + 127 * up)[:, None], 255
    side = spec.satellite_px + 20
    tile = np.zeros((n, side, side, 3), np.uint8)
    tile[..., 0], tile[..., 1] = np.arange(side), np.arange(side)[:, None]
    return torch.from_numpy(image), torch.from_numpy(tile)


def varied(
    pairs: tuple[torch.Tensor, torch.Tensor], spec: EncoderSpec, how: Augmentation, seed: int
) -> Varied:
    return vary(*pairs, spec, draw(len(pairs[0]), spec, how, np.random.default_rng(seed)))


def azimuth_of(street: torch.Tensor) -> np.ndarray:
    """Degrees that each pixel of a varied canvas says it shows."""
    return np.degrees(np.arctan2(street[:, 1].numpy() - 0.5, street[:, 0].numpy() - 0.5))


def test_the_turn_undoes_what_was_turned(plain: EncoderSpec) -> None:
    batch = varied(signals(plain, 6), plain, STILL, 0)
    turned_deg = batch.turn.numpy()[:, None, None] * 360 / plain.azimuth_bins
    want = azimuths_deg(plain).numpy()[None, None] + turned_deg
    off = (azimuth_of(batch.street) - want + 180) % 360 - 180
    assert np.abs(off).max() < 1.5
    assert batch.turn.std() > 1
    assert (batch.street[:, 3] == 1).all()


@pytest.mark.parametrize("most_deg", [0.0, 30.0])
def test_a_canvas_is_turned_no_farther_than_told(plain: EncoderSpec, most_deg: float) -> None:
    batch = varied(signals(plain, 40), plain, dataclasses.replace(STILL, turn_deg=most_deg), 0)
    turned_deg = np.abs(batch.turn.numpy()) * 360 / plain.azimuth_bins
    assert turned_deg.max() <= most_deg and turned_deg.max() >= 0.8 * most_deg
    off = (
        azimuth_of(batch.street)
        - azimuths_deg(plain).numpy()
        - batch.turn.numpy()[:, None, None] * 360 / plain.azimuth_bins
        + 180
    ) % 360
    assert np.abs(off - 180).max() < 1.5


@pytest.mark.parametrize("turn_deg", [0.0, 180.0])
def test_both_views_are_mirrored_and_rotated_alike(plain: EncoderSpec, turn_deg: float) -> None:
    """The azimuth that a pixel of the tile comes from is the one that the canvas shows where it lies now."""
    how = dataclasses.replace(STILL, turn_deg=turn_deg, rotate=0.7, mirror=0.5)
    canvases, tiles = signals(plain, 40)
    batch = varied((canvases, tiles), plain, how, 0)
    middle = (tiles.shape[1] - 1) / 2
    east, south = (batch.satellite[:, axis].numpy() * 255 - middle for axis in (0, 1))
    side = plain.satellite_px
    found = set()
    for row in range(40):
        shown = {}
        for name, (x, y) in {"n": (side // 2, 0), "e": (side - 1, side // 2)}.items():
            shown[name] = np.degrees(np.arctan2(east[row, y, x], -south[row, y, x]))
        found.add(tuple(round(angle / 90) * 90 % 360 for angle in shown.values()))
        turned_deg = batch.turn[row].item() * 360 / plain.azimuth_bins
        for name, true_deg in (("n", 0.0), ("e", 90.0)):
            column = np.abs((azimuths_deg(plain).numpy() + turned_deg - true_deg + 180) % 360 - 180).argmin()
            off = (
                azimuth_of(batch.street)[row, plain.street_hw[0] // 2, column] - shown[name] + 180
            ) % 360 - 180
            assert abs(off) < 360 / plain.street_hw[1] + 5
    assert found == {(turn, (turn + way) % 360) for turn in (0, 90, 180, 270) for way in (90, -90)}


def test_the_tilt_is_a_rotation_of_the_sphere(plain: EncoderSpec) -> None:
    """The horizon's elevation follows a cosine of azimuth whose height is the lean, as on a sphere."""
    lean = dataclasses.replace(STILL, tilt_deg=20.0)
    batch = varied(signals(plain, 8), plain, lean, 1)
    up_deg = (batch.street[:, 2].numpy() * 255 - 127.5) / 127 * 90
    azimuth = np.radians(azimuths_deg(plain).numpy())
    rows = elevations_deg(plain).numpy()
    horizon = (up_deg[:, plain.street_hw[0] // 2 - 1] + up_deg[:, plain.street_hw[0] // 2]) / 2
    assert abs(rows[plain.street_hw[0] // 2 - 1] + rows[plain.street_hw[0] // 2]) < 1e-9
    for seen in horizon:
        wave = 2 * np.mean(np.sin(np.radians(seen)) * np.exp(-1j * azimuth))
        lean_rad, towards = abs(wave), np.angle(wave)
        want = np.degrees(np.arcsin(np.clip(lean_rad * np.cos(azimuth + towards), -1, 1)))
        assert np.abs(seen - want).max() < 1.5
    assert 1 < np.ptp(horizon, axis=1).max() / 2 <= 20.5


def test_tiles_move_by_up_to_the_shift(plain: EncoderSpec) -> None:
    moving = dataclasses.replace(STILL, shift_m=10.0)
    satellite = varied(signals(plain, 40), plain, moving, 2).satellite.numpy() * 255
    corners = satellite[:, :2, 0, 0]
    assert 0 <= corners.min() <= 3 and 17 <= corners.max() <= 20
    assert np.allclose(satellite[:, 0, 0, :] - corners[:, :1], np.arange(plain.satellite_px), atol=1e-3)
    still = varied(signals(plain, 3), plain, STILL, 2).satellite.numpy() * 255
    assert np.allclose(still[:, :2, 0, 0], 10)


@pytest.mark.parametrize(("layout", "queries"), [(0, 3), (1, 1), (2, 2), (3, 3)])
def test_every_window_is_a_query_of_its_own(plain: EncoderSpec, layout: int, queries: int) -> None:
    only = dataclasses.replace(STILL, layouts=tuple(float(i == layout) for i in range(4)))  # type: ignore[arg-type]
    batch = varied(signals(plain, 5), plain, only, 3)
    assert np.bincount(batch.owner.numpy()).tolist() == [queries] * 5
    seen = seen_bins(batch.street[:, 3], plain.azimuth_bins)
    assert (batch.windows.sum(dim=1) > 0).all()
    if layout < 3:  # three windows of 65 degrees fill bins of 45 too unevenly to say
        assert (batch.windows <= seen[batch.owner]).all()
    if layout == 2:
        together = torch.zeros_like(seen).index_add_(0, batch.owner, batch.windows)
        assert together.max() <= 2 and (together.clamp(max=1) == seen).float().mean() > 0.9


def test_no_query_asks_for_what_its_view_does_not_show(plain: EncoderSpec) -> None:
    """Photos of 90 degrees, whole and cut: every window lies in what is left of them and is not empty."""
    canvases, tiles = signals(plain, 8)
    canvases[..., : canvases.shape[3] * 3 // 8] = 0
    canvases[..., canvases.shape[3] * 5 // 8 :] = 0
    how = dataclasses.replace(STILL, layouts=(0.25, 0.25, 0.25, 0.25))
    for seed in range(20):
        batch = varied((canvases, tiles), plain, how, seed)
        shown = seen_bins(batch.street[:, 3], plain.azimuth_bins)[batch.owner]
        there = shown.any(dim=1)
        assert (batch.windows <= shown).all()
        assert batch.windows[there].any(dim=1).all()


def test_a_pooled_model_is_asked_one_window_at_a_time(plain: EncoderSpec) -> None:
    pooled = dataclasses.replace(plain, azimuth_bins=1, polar=False)
    batch = varied(signals(pooled, 12), pooled, Augmentation(), 4)
    assert batch.owner.tolist() == list(range(12))


def test_the_batch_is_a_function_of_the_seed(plain: EncoderSpec) -> None:
    first, same, other = (varied(signals(plain, 4), plain, Augmentation(), seed) for seed in (5, 5, 6))
    assert torch.equal(first.street, same.street) and torch.equal(first.satellite, same.satellite)
    assert not torch.equal(first.street, other.street)


def test_a_part_of_a_batch_is_varied_as_within_it(plain: EncoderSpec) -> None:
    canvases, tiles = signals(plain, 12)
    drawn = draw(12, plain, Augmentation(), np.random.default_rng(7))
    batch = vary(canvases, tiles, plain, drawn)
    rows = np.array([7, 2, 9, 4])
    part = vary(canvases[rows], tiles[rows], plain, drawn.of(rows))
    for name in ("street", "satellite", "turn"):
        assert torch.allclose(getattr(part, name), getattr(batch, name)[rows], atol=1e-6), name

    def asked(one: Varied, row: int) -> list[list[float]]:
        return one.windows[one.owner == row].tolist()

    assert [asked(part, i) for i in range(4)] == [asked(batch, row) for row in rows.tolist()]


def test_windows_against_a_loop_over_pixels(plain: EncoderSpec) -> None:
    hfov, centre, half, pitch = 80.0, 150.0, 25.0, 5.0
    mask = window_mask(plain, *torch.tensor([[hfov], [centre], [half], [pitch]], dtype=torch.float64))[0]
    for row, up in enumerate(elevations_deg(plain).tolist()):
        for column, azimuth in enumerate(azimuths_deg(plain).tolist()):
            across = (azimuth - centre + 180) % 360 - 180
            flat = np.degrees(np.arctan2(np.tan(np.radians(up)), np.cos(np.radians(across))))
            inside = abs(across) <= hfov / 2 and abs(flat - pitch) <= half
            assert bool(mask[row, column]) == inside


def test_a_style_is_each_view_s_own_and_moves_nothing(plain: EncoderSpec) -> None:
    """Drawn last, so that whoever asks for no style draws what was drawn before there were any."""
    pairs, styled = signals(plain, 4), dataclasses.replace(STILL, style=0.6)
    before, after = varied(pairs, plain, STILL, 5), varied(pairs, plain, styled, 5)
    assert torch.equal(before.turn, after.turn)
    assert torch.equal(before.street[:, 3], after.street[:, 3])
    assert (before.street - after.street).abs().mean() > 0.02
    assert (before.satellite - after.satellite).abs().mean() > 0.02
    drawn = draw(4, plain, styled, np.random.default_rng(5))
    part = vary(*(images[1:3] for images in pairs), plain, drawn.of(np.array([1, 2])))
    torch.testing.assert_close(part.street, after.street[1:3])
    torch.testing.assert_close(part.satellite, after.satellite[1:3])


def test_no_window_leaves_a_narrow_view_empty(plain: EncoderSpec) -> None:
    """Photos of 70 degrees, cut to windows that mostly lie beside them."""
    canvases, tiles = signals(plain, 64)
    canvases[:, 3, :, np.abs(azimuths_deg(plain).numpy()) > 35] = 0
    for layout in range(1, 4):
        only = dataclasses.replace(STILL, layouts=tuple(float(i == layout) for i in range(4)))  # type: ignore[arg-type]
        batch = varied((canvases, tiles), plain, only, 4)
        assert (batch.street[:, 3].sum(dim=(1, 2)) > 0).all()
        assert (batch.windows <= seen_bins(batch.street[:, 3], plain.azimuth_bins)[batch.owner]).all()
        assert (batch.windows.sum(dim=1) > 0).all()
