import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geoloc.spec import EncoderSpec
from geoloc.street_view import StreetView
from geoloc.tensors import street_tensor, tile_tensor


def red(canvas: torch.Tensor, spec: EncoderSpec) -> np.ndarray:
    """The canvas's red channel as 0..255 again."""
    return ((canvas[0] * spec.std[0] + spec.mean[0] * canvas[3]) * 255).numpy()


def coded(hfov_deg: float, hw: tuple[int, int], is_panorama: bool, heading_deg: float | None) -> StreetView:
    """A view whose red says the azimuth from its centre: 0..255 for -180..180 degrees."""
    x = (np.arange(hw[1]) + 0.5) / hw[1] - 0.5
    from_pinhole = np.degrees(np.arctan(x * 2 * np.tan(np.radians(min(hfov_deg, 179) / 2))))
    azimuth = x * hfov_deg if is_panorama else from_pinhole
    rgb = np.zeros((*hw, 3), np.uint8)
    rgb[..., 0] = np.round((azimuth + 180) / 360 * 255)[None, :]
    return StreetView(rgb, "coded", None, heading_deg, hfov_deg, is_panorama)


@settings(deadline=None, max_examples=40)
@given(st.floats(50, 170), st.floats(0, 359.9), st.booleans())
def test_azimuth_lands_where_it_looks(hfov_deg: float, heading_deg: float, is_panorama: bool) -> None:
    spec = EncoderSpec("test_resnet", 2, False, 8, 4, (32, 128), (-45, 45), 48, True, 48)
    view = coded(hfov_deg, (400, 600), is_panorama, heading_deg)
    canvas = street_tensor(view, spec)
    seen = canvas[3, 15] > 0
    azimuth = (np.arange(128) + 0.5) / 128 * 360 - 180
    across = (azimuth - heading_deg + 180) % 360 - 180
    assert (seen.numpy() == (np.abs(across) <= hfov_deg / 2)).mean() > 0.98
    found = red(canvas, spec)[15] / 255 * 360 - 180
    inner = np.abs(across) < hfov_deg / 2 - 5
    assert np.abs(found[inner] - across[inner]).max() < 2


def test_panorama_is_whole_and_wraps(panorama: StreetView, tiny_spec: EncoderSpec) -> None:
    canvas = street_tensor(panorama, tiny_spec)
    assert canvas.shape == (4, 32, 128)
    assert (canvas[3] == 1).all()
    turned = street_tensor(dataclasses.replace(panorama, heading_deg=90.0), tiny_spec)
    assert torch.allclose(turned, torch.roll(canvas, 32, dims=2), atol=1e-5)


def test_unknown_heading_lies_as_north(panorama: StreetView, tiny_spec: EncoderSpec) -> None:
    unknown = street_tensor(dataclasses.replace(panorama, heading_deg=None), tiny_spec)
    assert torch.equal(unknown, street_tensor(panorama, tiny_spec))


def test_rows_are_elevations(panorama: StreetView, tiny_spec: EncoderSpec) -> None:
    green = street_tensor(panorama, tiny_spec)[1] * tiny_spec.std[1] + tiny_spec.mean[1]
    want = 1 - (np.arange(32) + 0.5) / 32
    assert np.abs(green[:, 60].numpy() - want).max() < 0.02


def test_short_panorama_leaves_sky_unseen(tiny_spec: EncoderSpec) -> None:
    view = StreetView(np.full((64, 512, 3), 99, np.uint8), "short", None, 0.0, 360.0, True)  # 45 degrees high
    seen = street_tensor(view, tiny_spec)[3]
    assert (seen[8:24] == 1).all()
    assert not seen[:8].any()
    assert not seen[24:].any()


def test_photo_agrees_with_py360convert(tiny_spec: EncoderSpec) -> None:
    py360convert = pytest.importorskip("py360convert")
    rng = np.random.default_rng(0)
    coarse = rng.uniform(0, 255, (16, 32, 3)).astype(np.uint8)
    pano = np.asarray(
        __import__("PIL.Image").Image.fromarray(coarse).resize((1024, 512), resample=3), dtype=np.float64
    )
    photo = py360convert.e2p(pano, fov_deg=(90, 73.74), u_deg=40, v_deg=0, out_hw=(300, 400))
    spec = dataclasses.replace(tiny_spec, street_hw=(64, 256))
    from_photo = street_tensor(
        StreetView(np.clip(photo, 0, 255).astype(np.uint8), "photo", None, 40.0, 90.0, False), spec
    )
    from_pano = street_tensor(StreetView(pano.astype(np.uint8), "pano", None, 0.0, 360.0, True), spec)
    inner = torch.nn.functional.avg_pool2d(from_photo[3:], 3, 1, 1)[0] == 1
    assert inner.sum() > 1500
    assert (from_photo[:3] - from_pano[:3])[:, inner].abs().mean() < 0.05


def test_tile_is_resized_and_normalised(tiny_spec: EncoderSpec) -> None:
    rgb = np.full((100, 100, 3), 128, np.uint8)
    tile = tile_tensor(rgb, tiny_spec)
    assert tile.shape == (3, 48, 48)
    want = (128 / 255 - torch.tensor(tiny_spec.mean)) / torch.tensor(tiny_spec.std)
    assert torch.allclose(tile.mean(dim=(1, 2)), want, atol=1e-6)
