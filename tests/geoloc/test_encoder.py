import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from geoloc.encoder import WRAP, Encoder, TwinEncoder, seen_bins
from geoloc.errors import ModelError
from geoloc.model import load_encoder, read_spec, save_encoder, trained_towns
from geoloc.posterior import CALIBRATION
from geoloc.spec import EncoderSpec


def test_embeddings_are_unit_vectors_and_a_tiles_bins_equal(tiny_encoder: TwinEncoder) -> None:
    spec = tiny_encoder.spec
    with torch.inference_mode():
        street = tiny_encoder.embed_street(
            torch.cat([torch.rand(3, 3, 32, 128), torch.ones(3, 1, 32, 128)], 1)
        )
        satellite = tiny_encoder.embed_satellite(torch.rand(3, 3, 48, 48))
    for vectors in (street, satellite):
        assert vectors.shape == (3, spec.dim)
        assert torch.allclose(vectors.norm(dim=1), torch.ones(3), atol=1e-5)
    bins = satellite.reshape(3, spec.azimuth_bins, spec.channels)
    assert torch.allclose(bins.norm(dim=2), torch.full((3, 8), 8**-0.5), atol=1e-5)


def whole(count: int, hw: tuple[int, int]) -> torch.Tensor:
    """Canvases of noise, seen all over."""
    return torch.cat([torch.rand(count, 3, *hw), torch.ones(count, 1, *hw)], 1)


def turned_and_rolled(spec: EncoderSpec, *, wrap: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """The bins of turned canvases, and the rolled bins of the canvases as they were."""
    torch.manual_seed(1)
    encoder = TwinEncoder(spec).eval()
    if not wrap:
        encoder.street.spare = 0
    canvas = whole(2, spec.street_hw)
    turn_px = 3 * spec.street_hw[1] // spec.azimuth_bins
    with torch.inference_mode():
        still = encoder.street_bins(canvas)
        return encoder.street_bins(torch.roll(canvas, turn_px, dims=3)), torch.roll(still, 3, dims=1)


@pytest.mark.parametrize("backbone", ["test_resnet", "test_convnext", "mobilenetv4_conv_small_050"])
@pytest.mark.parametrize(("stage", "hw"), [(1, (32, 256)), (2, (32, 128)), (2, (32, 512))])
def test_a_turn_is_a_roll(tiny_spec: EncoderSpec, backbone: str, stage: int, hw: tuple[int, int]) -> None:
    """To a float's rounding, where an 8th of the ring is more than what a bin sees beside itself."""
    spec = dataclasses.replace(tiny_spec, backbone=backbone, stage=stage, street_hw=hw)
    turned, rolled = turned_and_rolled(spec)
    assert torch.allclose(turned, rolled, atol=1e-4)


@pytest.mark.parametrize("backbone", ["test_resnet", "mobilenetv4_conv_small_050"])
def test_without_the_wrap_a_turn_is_no_roll(tiny_spec: EncoderSpec, backbone: str) -> None:
    turned, rolled = turned_and_rolled(dataclasses.replace(tiny_spec, backbone=backbone), wrap=False)
    assert (turned - rolled).abs().max() > 0.05 * rolled.abs().max()


@pytest.mark.parametrize(
    "deep",
    [
        {"stage": 4, "street_hw": (64, 256)},
        {"stage": 4, "output_stride": 8, "street_hw": (64, 256)},
        {"backbone": "resnet18", "stage": 3, "street_hw": (32, 128)},
    ],
    ids=str,
)
def test_a_turn_is_nearly_a_roll_of_deep_features(tiny_spec: EncoderSpec, deep: dict[str, object]) -> None:
    """What a bin sees reaches beyond the wrap here, and still hardly anything depends on it."""
    spec = dataclasses.replace(tiny_spec, **deep)  # type: ignore[arg-type]
    turned, rolled = turned_and_rolled(spec)
    assert torch.cosine_similarity(turned, rolled, dim=2).min() > 0.98


def test_the_wrap_is_an_eighth_of_the_image_beside_either_end(tiny_spec: EncoderSpec) -> None:
    """Against the same backbone fed with three images in a row, of which the middle is kept."""
    torch.manual_seed(0)
    spec = dataclasses.replace(tiny_spec, stage=1, street_hw=(32, 256))
    encoder = Encoder(spec, ring=True).eval()
    assert encoder.spare_px == 256 // WRAP
    image = torch.rand(1, 3, 32, 256)
    with torch.inference_mode():
        middle = encoder.backbone(image.repeat(1, 1, 1, 3))[-1].chunk(3, dim=3)[1]
        pooled = torch.nn.functional.adaptive_avg_pool2d(middle, encoder.out_hw)
        assert torch.allclose(encoder(image), encoder.head(pooled.flatten(1, 2)), atol=1e-5)


@pytest.mark.parametrize("backbone", ["test_resnet", "tf_efficientnet_lite0", "mobilenetv4_conv_small_050"])
@pytest.mark.parametrize("stage", [0, 2])
def test_a_backbone_has_no_layer_past_its_stage(tiny_spec: EncoderSpec, backbone: str, stage: int) -> None:
    """One that has pays for it at every photo, and its gradient is nothing."""
    spec = dataclasses.replace(tiny_spec, backbone=backbone, stage=stage, azimuth_bins=4)
    encoder = TwinEncoder(spec)
    encoder.street_bins(torch.rand(2, 4, *spec.street_hw)).sum().backward()
    assert [name for name, value in encoder.street.named_parameters() if value.grad is None] == []


def test_a_dilated_backbone_has_the_columns_of_its_stride(tiny_spec: EncoderSpec) -> None:
    with pytest.raises(ModelError, match="azimuth bins do not divide"):
        TwinEncoder(dataclasses.replace(tiny_spec, stage=3, azimuth_bins=16))
    spec = dataclasses.replace(tiny_spec, stage=3, azimuth_bins=16, output_stride=8)
    with torch.inference_mode():
        assert TwinEncoder(spec).eval().street_bins(whole(1, (32, 128))).shape == (1, 16, 4)
    with pytest.raises(ModelError, match="timm has no feature maps"):
        TwinEncoder(dataclasses.replace(tiny_spec, backbone="test_vit", output_stride=8))


def test_a_resnet_is_as_wide_and_deep_as_asked(tiny_spec: EncoderSpec) -> None:
    spec = dataclasses.replace(tiny_spec, widths=(16, 24, 32, 48), depths=(2, 3, 1, 1))
    street = TwinEncoder(spec).street
    assert [len(street.backbone.layer1), len(street.backbone.layer2)] == [2, 3]  # type: ignore[arg-type, union-attr]
    assert street.head.in_channels == 24 * 4  # type: ignore[union-attr]
    with pytest.raises(ModelError, match="with channels"):
        TwinEncoder(dataclasses.replace(spec, backbone="test_convnext", depths=()))


def test_embeddings_are_the_seen_bins_at_unit_norm(tiny_encoder: TwinEncoder) -> None:
    canvas, tiles = whole(2, (32, 128)), torch.rand(2, 3, 48, 48)
    canvas[1, :, :, :80] = 0
    with torch.inference_mode():
        higher, lower = torch.zeros_like(canvas), torch.zeros_like(canvas)
        higher[:, :, :-1], lower[:, :, 1:] = canvas[:, :, 1:], canvas[:, :, :-1]
        turned = [torch.roll(canvas, turn, dims=3) for turn in (-6, 0, 6)]  # of 16 px to a bin
        bins = sum(tiny_encoder.street_bins(one).numpy().astype(float) for one in (*turned, higher, lower))
        bins[1, :5] = 0
        street = bins.reshape(2, 32) / np.linalg.norm(bins.reshape(2, 32), axis=1, keepdims=True)
        assert np.allclose(tiny_encoder.embed_street(canvas), street, atol=1e-5)
        satellite = tiny_encoder.satellite_bins(tiles).numpy().reshape(2, 32) / 8**0.5
        assert np.allclose(tiny_encoder.embed_satellite(tiles), satellite, atol=1e-5)


def test_only_a_street_encoder_of_its_own_sees_the_mask(tiny_spec: EncoderSpec) -> None:
    torch.manual_seed(0)
    seen, hidden = whole(1, (32, 128)), whole(1, (32, 128))
    hidden[:, :3] = seen[:, :3]
    hidden[:, 3, :8] = 0
    with torch.inference_mode():
        for shared in (False, True):
            encoder = TwinEncoder(dataclasses.replace(tiny_spec, shared=shared)).eval()
            same = torch.equal(encoder.street_bins(seen), encoder.street_bins(hidden))
            assert same == shared


@settings(deadline=None, max_examples=50)
@given(
    st.integers(0, 63),
    st.integers(1, 64),
    st.sampled_from([1, 2, 4, 8, 16]),
    st.integers(0, 2**31),
    st.sampled_from([0.5, 0.25]),
)
def test_seen_bins_equal_a_naive_count(start: int, width: int, bins: int, seed: int, least: float) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros((6, 64), np.float32)
    for column in range(start, start + width):
        mask[rng.integers(6), column % 64] = 1  # one pixel of a column is enough
    shown = [sum(mask[:, column].any() for column in range(b * 64 // bins, (b + 1) * 64 // bins))
             for b in range(bins)]  # fmt: skip
    want = [float(count >= max(shown) * least) for count in shown]
    assert seen_bins(torch.from_numpy(mask)[None], bins, least)[0].tolist() == want


def test_nothing_seen_is_no_bin() -> None:
    assert not seen_bins(torch.zeros(1, 4, 16), 4).any()


def test_unseen_bins_are_zero(tiny_encoder: TwinEncoder) -> None:
    canvas = torch.zeros(1, 4, 32, 128)
    canvas[:, :, 8:24, 48:80] = 1.0
    with torch.inference_mode():
        bins = tiny_encoder.embed_street(canvas).reshape(8, 4)
    assert (bins.norm(dim=1) > 0).tolist() == [False] * 3 + [True] * 2 + [False] * 3
    assert float(bins.norm()) == pytest.approx(1, abs=1e-5)


def test_pooled_panorama_is_a_ring_and_its_tile_is_not(tiny_spec: EncoderSpec) -> None:
    spec = dataclasses.replace(tiny_spec, polar=False, azimuth_bins=1)
    turned, rolled = turned_and_rolled(spec)
    assert torch.allclose(turned, rolled, atol=1e-4)
    encoder = TwinEncoder(spec)
    assert encoder.street.spare_px == 16
    assert encoder.satellite.spare_px == 0


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


def test_what_float16_does_not_hold_is_kept_and_what_is_no_number_is_not(
    tiny_encoder: TwinEncoder, tmp_path: Path
) -> None:
    """The variance that a norm has seen can be beyond 65,504."""
    norm = next(one for one in tiny_encoder.modules() if isinstance(one, nn.BatchNorm2d))
    norm.running_var[0] = 1e6
    save_encoder(tiny_encoder, tmp_path / "model", "card")
    again = load_encoder(tmp_path / "model").state_dict()
    assert max(float(value.max()) for name, value in again.items() if name.endswith("running_var")) == 1e6
    norm.running_var[0] = torch.nan
    with pytest.raises(ModelError, match="running_var are no numbers"):
        save_encoder(tiny_encoder, tmp_path / "other", "card")
    assert not (tmp_path / "other").exists()


def test_damaged_model_folders(tiny_encoder: TwinEncoder, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    save_encoder(tiny_encoder, folder, "card")
    (folder / CALIBRATION).write_text("of these weights")
    save_encoder(tiny_encoder, folder, "card")
    assert not (folder / CALIBRATION).exists()
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


@pytest.mark.parametrize("seeds", ['[1, "a"]', "[[1]]", "[1.5]", "[true]", "{}", "5", "[NaN]", "nonsense"])
def test_town_seeds_that_are_none(tiny_encoder: TwinEncoder, tmp_path: Path, seeds: str) -> None:
    save_encoder(tiny_encoder, tmp_path, "card")
    save_file(
        load_file(tmp_path / "weights.safetensors"), tmp_path / "weights.safetensors", {"town_seeds": seeds}
    )
    with pytest.raises(ModelError, match="cannot be read"):
        trained_towns(tmp_path)
