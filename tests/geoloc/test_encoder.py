import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from geoloc.encoder import RingConv, TwinEncoder
from geoloc.errors import ModelError
from geoloc.model import load_encoder, read_spec, save_encoder, trained_towns
from geoloc.spec import EncoderSpec


def test_embeddings_are_unit_vectors_of_equal_bins(tiny_encoder: TwinEncoder) -> None:
    spec = tiny_encoder.spec
    with torch.inference_mode():
        street = tiny_encoder.embed_street(
            torch.cat([torch.rand(3, 3, 32, 128), torch.ones(3, 1, 32, 128)], 1)
        )
        satellite = tiny_encoder.embed_satellite(torch.rand(3, 3, 48, 48))
    for vectors in (street, satellite):
        assert vectors.shape == (3, spec.dim)
        bins = vectors.reshape(3, spec.azimuth_bins, spec.channels)
        assert torch.allclose(bins.norm(dim=2), torch.full((3, 8), 8**-0.5), atol=1e-5)


@pytest.mark.parametrize("backbone", ["test_resnet", "test_convnext", "mobilenetv4_conv_small_050"])
def test_a_turn_is_a_roll(tiny_spec: EncoderSpec, backbone: str) -> None:
    """Turning the camera by whole bins rolls the embedding: the ring is closed at every layer."""
    torch.manual_seed(1)
    encoder = TwinEncoder(dataclasses.replace(tiny_spec, backbone=backbone)).eval()
    canvas = torch.cat([torch.rand(2, 3, 32, 128), torch.ones(2, 1, 32, 128)], 1)
    with torch.inference_mode():
        still, turned = encoder.embed_street(canvas), encoder.embed_street(torch.roll(canvas, 48, dims=3))
    want = torch.roll(still.reshape(2, 8, 4), 3, dims=1).flatten(1)
    assert torch.allclose(turned, want, atol=1e-4)


def test_unseen_bins_are_zero(tiny_encoder: TwinEncoder) -> None:
    canvas = torch.zeros(1, 4, 32, 128)
    canvas[:, :, 8:24, 48:80] = 1.0
    with torch.inference_mode():
        bins = tiny_encoder.embed_street(canvas).reshape(8, 4)
    assert (bins.norm(dim=1) > 0).tolist() == [False] * 3 + [True] * 2 + [False] * 3
    assert float(bins.norm()) == pytest.approx(1, abs=1e-5)


def test_ring_convolution_equals_wrapping_by_hand() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 3, 3, padding=1)
    x = torch.rand(1, 2, 6, 8)
    wrapped = torch.cat([x[..., -1:], x, x[..., :1]], dim=3)
    want = nn.functional.conv2d(nn.functional.pad(wrapped, (0, 0, 1, 1)), layer.weight, layer.bias)
    assert torch.allclose(RingConv(layer)(x), want, atol=1e-6)


def test_pooled_panorama_is_a_ring_and_its_tile_is_not(tiny_spec: EncoderSpec) -> None:
    encoder = TwinEncoder(dataclasses.replace(tiny_spec, polar=False, azimuth_bins=1)).eval()
    canvas = torch.cat([torch.rand(1, 3, 32, 128), torch.ones(1, 1, 32, 128)], 1)
    with torch.inference_mode():
        still, turned = encoder.embed_street(canvas), encoder.embed_street(torch.roll(canvas, 48, dims=3))
    assert torch.allclose(still, turned, atol=1e-4)
    rings = [isinstance(module, RingConv) for module in encoder.satellite.modules()]
    assert not any(rings)


def test_pooled_and_shared(tiny_spec: EncoderSpec) -> None:
    spec = dataclasses.replace(tiny_spec, polar=False, azimuth_bins=1, shared=True)
    encoder = TwinEncoder(spec).eval()
    assert encoder.street is encoder.satellite
    with torch.inference_mode():
        assert encoder.embed_satellite(torch.rand(2, 3, 48, 48)).shape == (2, 4)


@pytest.mark.parametrize(
    "wrong", [{"backbone": "no_such_net"}, {"stage": 9}, {"polar": False}, {"azimuth_bins": 64}], ids=str
)
def test_impossible_encoders(tiny_spec: EncoderSpec, wrong: dict[str, object]) -> None:
    with pytest.raises(ModelError):
        TwinEncoder(dataclasses.replace(tiny_spec, **wrong))  # type: ignore[arg-type]


@pytest.mark.parametrize("shared", [False, True])
def test_model_folder_round_trip(tiny_spec: EncoderSpec, tmp_path: Path, shared: bool) -> None:
    encoder = TwinEncoder(dataclasses.replace(tiny_spec, shared=shared)).eval()
    spec = save_encoder(encoder, tmp_path / "model", "# card\n", frozenset({900, 3}))
    back = load_encoder(tmp_path / "model")
    assert trained_towns(tmp_path / "model") == {3, 900}
    assert back.spec == spec == read_spec(tmp_path / "model")
    tiles = torch.rand(2, 3, 48, 48)
    with torch.inference_mode():
        cosine = (back.embed_satellite(tiles) * encoder.embed_satellite(tiles)).sum(dim=1)
    assert (cosine > 0.9999).all()  # weights are stored in float16
    assert not [path for path in (tmp_path / "model").iterdir() if path.name.startswith(".")]


def test_damaged_model_folders(tiny_encoder: TwinEncoder, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    save_encoder(tiny_encoder, folder, "card")
    with pytest.raises(ModelError, match="no model"):
        load_encoder(tmp_path)
    weights = folder / "weights.safetensors"
    blob = bytearray(weights.read_bytes())
    blob[-1] ^= 1
    weights.write_bytes(blob)
    with pytest.raises(ModelError, match="not what"):
        load_encoder(folder)
    weights.unlink()
    with pytest.raises(ModelError, match="lacks"):
        load_encoder(folder)
