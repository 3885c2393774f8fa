import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from rasterio.transform import from_origin
from small_world import CRS, GSD_M, NORTH_M, WEST_M, noise

from geoloc.embed import embed_views
from geoloc.encoder import TwinEncoder
from geoloc.errors import ModelError
from geoloc.heads import MAX_CELLS, pooling
from geoloc.lineup import View
from geoloc.model import load_encoder, save_encoder
from geoloc.pairs import Pair
from geoloc.spec import MAP_HEADS, EncoderSpec
from indexing.build import build_gallery
from indexing.gallery import Gallery

HW = (6, 5)


def naive(head: str, maps: np.ndarray, state: dict[str, np.ndarray]) -> np.ndarray:
    """Loops over images, channels and cells, in float64."""
    c, h, w = maps.shape[1:]
    cells = [(y, x) for y in range(h) for x in range(w)]
    rows = []
    for image in maps:
        mean = [sum(image[k, y, x] for y, x in cells) / len(cells) for k in range(c)]
        top = [max(image[k, y, x] for y, x in cells) for k in range(c)]
        if head in ("average", "max"):
            rows.append(mean if head == "average" else top)
        elif head == "mixed":
            share = 1 / (1 + math.exp(-state["logit"]))
            rows.append([share * top[k] + (1 - share) * mean[k] for k in range(c)])
        elif head == "gem":
            p = float(state["p"])
            powers = [sum(max(image[k, y, x], 1e-6) ** p for y, x in cells) / len(cells) for k in range(c)]
            rows.append([power ** (1 / p) for power in powers])
        elif head == "safa":
            row = []
            flat = [max(image[k, y, x] for k in range(c)) for y, x in cells]
            for n in range(8):
                inner = flat @ state["inner"][:, :, n] + state["inner_bias"][:, n]
                mask = inner @ state["outer"][:, :, n] + state["outer_bias"][:, n]
                row += [sum(image[k, y, x] * mask[i] for i, (y, x) in enumerate(cells)) for k in range(c)]
            rows.append(row)
        else:
            row = []
            for part in range(4):
                strip = range(part * h // 4, -(-(part + 1) * h // 4))
                here = [np.mean([image[k, y, x] for y in strip for x in range(w)]) for k in range(c)]
                quarter = slice(part * 2, part * 2 + 2)
                row += list(state["strips.weight"][quarter, :, 0] @ here + state["strips.bias"][quarter])
            rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("head", MAP_HEADS)
def test_each_equals_a_naive_loop(head: str) -> None:
    torch.manual_seed(0)
    pool = pooling(head, 3, HW, 8)
    for value in pool.parameters():
        value.data += 0.2 * torch.randn_like(value)
    maps = torch.randn(4, 3, *HW)
    state = {name: value.double().numpy() for name, value in pool.state_dict().items()}
    with torch.inference_mode():
        ours = pool(maps)
    assert ours.shape == (4, pool.out)
    assert np.allclose(ours.numpy(), naive(head, maps.double().numpy(), state), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("head", MAP_HEADS)
def test_gradients_by_finite_differences(head: str) -> None:
    torch.manual_seed(0)
    pool = pooling(head, 2, (4, 2), 4).double()
    maps = torch.rand(2, 2, 4, 2, dtype=torch.float64).add(0.1).requires_grad_()
    if head != "gem":  # which computes in float32
        assert torch.autograd.gradcheck(pool, (maps,))
    pool(maps).sum().backward()
    assert all(value.grad is not None and value.grad.any() for value in pool.parameters())


def spec_of(tiny_spec: EncoderSpec, head: str) -> EncoderSpec:
    plain = dataclasses.replace(tiny_spec, head=head, azimuth_bins=1, channels=12, polar=False)
    return dataclasses.replace(plain, backbone="test_vit") if head == "token" else plain


@pytest.mark.parametrize("head", [*MAP_HEADS, "pooled", "token"])
def test_models_round_trip_and_embed(
    tiny_spec: EncoderSpec, head: str, places: list[Pair], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    encoder = TwinEncoder(spec_of(tiny_spec, head)).eval()
    save_encoder(encoder, tmp_path / "model", "card")
    back = load_encoder(tmp_path / "model")
    assert back.spec.head == head
    views = [View(pair.street, hfov_deg=360.0, heading_deg=0.0) for pair in places[:3]]
    tiles = [View(pair.satellite, footprint_m=48.0) for pair in places[:3]]
    for side, these in (("street", views), ("satellite", tiles)):
        (first,), _ = embed_views(encoder, these, side)
        (again,), _ = embed_views(back, these, side)
        assert first.shape == (3, 12)
        assert np.allclose(np.linalg.norm(first, axis=1), 1, atol=1e-5)
        assert (np.sum(first * again, axis=1) > 0.999).all()  # weights are stored in float16


@pytest.mark.parametrize("head", ["safa", "gem", "token"])
def test_galleries_are_built_with_them(tiny_spec: EncoderSpec, head: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_encoder(TwinEncoder(spec_of(tiny_spec, head)), tmp_path / "model", "card")
    shape = {"count": 3, "height": 200, "width": 200, "dtype": "uint8"}
    where = from_origin(WEST_M, NORTH_M, GSD_M, GSD_M)
    with rasterio.open(tmp_path / "o.tif", "w", driver="GTiff", crs=CRS, transform=where, **shape) as dataset:
        dataset.write(noise(200, 200, 1).transpose(2, 0, 1))
    build_gallery([tmp_path / "o.tif"], tmp_path / "model", tmp_path / "gallery", stride_m=16)
    with Gallery.open(tmp_path / "gallery") as gallery:
        assert gallery.spec.head == head
        assert gallery.spec.dim == 12


@pytest.mark.parametrize("head", MAP_HEADS)
def test_heads_of_maps_pool_the_polar_form_too(tiny_spec: EncoderSpec, head: str) -> None:
    """As SAFA does, with weights for each view or shared ones; but to it a turned panorama is the same."""
    torch.manual_seed(0)
    for shared in (False, True):
        spec = dataclasses.replace(tiny_spec, head=head, azimuth_bins=1, channels=8, shared=shared)
        encoder = TwinEncoder(spec).eval()
        canvas = torch.cat([torch.rand(2, 3, 32, 128), torch.ones(2, 1, 32, 128)], 1)
        with torch.inference_mode():
            assert encoder.embed_satellite(torch.rand(2, 3, 48, 48)).shape == (2, 8)
            street, turned = (encoder.street_bins(torch.roll(canvas, turn, dims=3)) for turn in (0, 32))
        assert head == "safa" or torch.allclose(street, turned, atol=1e-4)
        assert head != "safa" or not torch.allclose(street, turned, atol=1e-4)


def test_what_pools_to_the_channels_needs_no_linear_layer(tiny_spec: EncoderSpec) -> None:
    """SAFA's own length: eight times the backbone's channels."""
    spec = dataclasses.replace(tiny_spec, head="safa", azimuth_bins=1)
    channels = TwinEncoder(spec).street.pool.out
    whole = TwinEncoder(dataclasses.replace(spec, channels=channels))
    assert not list(whole.street.head.parameters())
    assert TwinEncoder(spec).street.head.weight.shape == (4, channels, 1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"head": "average", "azimuth_bins": 8, "polar": True},
        {"head": "token", "azimuth_bins": 1},
        {"head": "gem", "azimuth_bins": 1, "street_layout": "whole"},
    ],
    ids=str,
)
def test_impossible_specs(tiny_spec: EncoderSpec, wrong: dict[str, object]) -> None:
    with pytest.raises(ModelError, match="impossible"):
        dataclasses.replace(tiny_spec, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"head": "token"}, "no backbone"),
        ({"head": "token", "backbone": "test_vit2"}, "class token"),
        ({"head": "safa", "street_hw": (4096, 4096)}, f"2 to {MAX_CELLS:,} cells"),
        ({"head": "safa", "shared": True}, "knows its map's size"),
        ({"head": "parts", "street_hw": (24, 128)}, "4 rows"),
        ({"head": "parts", "channels": 6}, "4 divides"),
        ({"head": "gem", "stage": 9}, "no feature maps"),
    ],
    ids=str,
)
def test_impossible_encoders(tiny_spec: EncoderSpec, wrong: dict[str, object], why: str) -> None:
    spec = dataclasses.replace(tiny_spec, azimuth_bins=1, polar=False)
    with pytest.raises(ModelError, match=why):
        TwinEncoder(dataclasses.replace(spec, **wrong))  # type: ignore[arg-type]
