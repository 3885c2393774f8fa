"""Imported models against what the published wrappers compute, rebuilt here from timm and naive loops."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn

from geoloc.embed import embed_views
from geoloc.errors import ModelError
from geoloc.lineup import View
from geoloc.model import load_encoder, save_encoder
from geoloc.published import import_sample4geo, import_transgeo, read_checkpoint
from geoloc.recall import ranks

CONVNEXT, DEIT = "test_convnext", "deit_tiny_distilled_patch16_224"
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def naive_resize(rgb: np.ndarray, hw: tuple[int, int]) -> np.ndarray:
    """Bilinear between the four nearest pixels, pixel centres at halves, rounded to 8 bits."""
    out = rgb.astype(np.float64)
    for axis, side in enumerate(hw):
        at = (np.arange(side) + 0.5) * out.shape[axis] / side - 0.5
        low = np.floor(at).astype(int)
        share = (at - low).reshape([-1 if a == axis else 1 for a in range(3)])
        take = [np.take(out, np.clip(low + step, 0, out.shape[axis] - 1), axis) for step in (0, 1)]
        out = take[0] * (1 - share) + take[1] * share
    return np.floor(out + 0.5)


def pictures(folder: Path, n: int, wh: tuple[int, int], seed: int) -> list[Path]:
    rng = np.random.default_rng(seed)
    paths = [folder / f"{seed}-{number}.png" for number in range(n)]
    for path in paths:
        coarse = Image.fromarray(rng.integers(0, 256, (6, 12, 3), dtype=np.uint8))
        coarse.resize(wh, Image.Resampling.BICUBIC).save(path)
    return paths


def oracle(net: nn.Module, paths: list[Path], hw: tuple[int, int]) -> np.ndarray:
    images = [(naive_resize(np.asarray(Image.open(path)), hw) / 255 - MEAN) / STD for path in paths]
    with torch.no_grad():
        out = net(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()).numpy()
    return out / np.linalg.norm(out, axis=1, keepdims=True)


def convnext(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    net = timm.create_model(CONVNEXT, num_classes=0).eval()
    with torch.no_grad():
        for name, value in net.named_parameters():
            if name.endswith("gamma"):
                value.fill_(0.5)
    return net


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    state = {f"module.model.{name}": value for name, value in convnext().state_dict().items()}
    torch.save(state | {"module.logit_scale": torch.tensor(3.5)}, tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


@pytest.mark.parametrize(
    ("dataset", "street_hw"), [("cvusa", (140, 768)), ("cvact", (140, 768)), ("vigor", (384, 768))]
)
def test_sample4geo_embeds_as_published(checkpoint: Path, tmp_path: Path, dataset, street_hw) -> None:
    imported = import_sample4geo(checkpoint, dataset, CONVNEXT)
    assert "3.5000" in imported.card and "Sample4Geo" in imported.card
    save_encoder(imported.encoder, tmp_path / "model", imported.card, dtype=torch.float32)
    encoder = load_encoder(tmp_path / "model")
    tiles, streets = pictures(tmp_path, 5, (500, 500), 1), pictures(tmp_path, 5, (1000, 500), 2)
    (street,), _ = embed_views(encoder, [View(path) for path in streets], "street")
    (satellite,), _ = embed_views(encoder, [View(path, footprint_m=60.0) for path in tiles], "satellite")
    theirs = [oracle(convnext(), streets, street_hw), oracle(convnext(), tiles, (384, 384))]
    for ours, peer in zip((street, satellite), theirs, strict=True):
        assert (1 - (ours.astype(np.float64) * peer).sum(axis=1)).max() < 1e-4
    truth = np.arange(5)
    assert ranks(street, satellite, truth)[0].tolist() == ranks(*theirs, truth)[0].tolist()


@pytest.mark.parametrize("prefix", ["model.", "module.model."])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("nested", [False, True])
def test_weights_as_trainings_leave_them(tmp_path: Path, prefix: str, dtype, nested: bool) -> None:
    state = {f"{prefix}{name}": value.to(dtype) for name, value in convnext().state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3} if nested else state, tmp_path / "w.pth")
    found = import_sample4geo(tmp_path / "w.pth", "cvusa", CONVNEXT).encoder.state_dict()
    for name, value in state.items():
        torch.testing.assert_close(found[f"street.backbone.{name.removeprefix(prefix)}"], value.float())


def test_transgeo_embeds_as_published(tmp_path: Path) -> None:
    torch.manual_seed(0)
    nets = {
        net: timm.create_model(DEIT, num_classes=12, img_size=hw).eval()
        for net, hw in (("query_net", (112, 616)), ("reference_net", (256, 256)))
    }
    state = {f"module.{net}.{k}": v for net, one in nets.items() for k, v in one.state_dict().items()}
    beside = {"epoch": 3, "best_acc1": np.float64(84.9), "optimizer": {"lr": 0.1}}  # as its train.py does
    torch.save({**beside, "state_dict": state}, tmp_path / "t.pth.tar")
    encoder = import_transgeo(tmp_path / "t.pth.tar", "cvact", DEIT).encoder
    assert (encoder.spec.dim, encoder.spec.street_layout) == (12, "centre")
    (path,) = pictures(tmp_path, 1, (1232, 448), 3)
    (found,), _ = embed_views(encoder, [View(path)], "street")
    whole = Image.open(path)
    half = whole.crop((0, 112, 1232, 336)).resize((616, 112), Image.Resampling.BILINEAR)
    image = torch.from_numpy((np.asarray(half) / 255 - MEAN) / STD).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        features = nets["query_net"].forward_features(image)
        mean = (nets["query_net"].head(features[:, 0]) + nets["query_net"].head_dist(features[:, 1])) / 2
    peer = (mean / mean.norm()).numpy()[0]
    assert 1 - float(found[0] @ peer) < 1e-5


def test_transgeos_second_stage_is_refused(tmp_path: Path) -> None:
    sizes = {"query_net": (112, 616), "reference_net": (320, 320)}
    state = {
        f"{net}.{name}": value
        for net, hw in sizes.items()
        for name, value in timm.create_model(DEIT, num_classes=12, img_size=hw).state_dict().items()
    }
    torch.save(state, tmp_path / "t.pth")
    with pytest.raises(ModelError, match="another shape of pos_embed"):
        import_transgeo(tmp_path / "t.pth", "cvusa", DEIT)


def test_numbers_of_eight_bits_are_read(tmp_path: Path) -> None:
    torch.save({"x": torch.ones(4).to(torch.float8_e4m3fn)}, tmp_path / "w.pth")
    assert read_checkpoint(tmp_path / "w.pth")["x"].float().tolist() == [1, 1, 1, 1]


class Hostile:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.mark}",)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"model.a": Hostile(tmp_path / "ran")}, tmp_path / "hostile.pth")
    with pytest.raises(ModelError, match="no state dict"):
        read_checkpoint(tmp_path / "hostile.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("blob", [b"", b"PK\x03\x04 no zip", b"\x80\x02}q\x00.", os.urandom(500)])
def test_no_checkpoint(tmp_path: Path, blob: bytes) -> None:
    (tmp_path / "w.pth").write_bytes(blob)
    with pytest.raises(ModelError, match=r"w\.pth"):
        import_sample4geo(tmp_path / "w.pth", "cvusa", CONVNEXT)
    with pytest.raises(ModelError, match="cannot be read"):
        read_checkpoint(tmp_path / "nowhere.pth")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model.extra": torch.zeros(1)}, "has besides extra"),
        ({"model.head.norm.weight": torch.zeros(3)}, "another shape of head.norm.weight"),
        ({"model.head.norm.weight": torch.full((64,), math.nan)}, "no numbers"),
        ({"model.head.norm.weight": "text"}, "other things than tensors"),
        ({"model.head.norm.weight": torch.zeros(64).to_sparse()}, "other things than tensors"),
        ({"model.head.norm.weight": torch.zeros(64, device="meta")}, "other things than tensors"),
        ({"model.head.norm.weight": torch.zeros(64, dtype=torch.complex64)}, "other things than tensors"),
        ({"model.head.norm.weight": torch.zeros(1).expand(10**12)}, "other things than tensors"),
        ({"model.head.norm.weight": None}, "lacks head.norm.weight"),
    ],
)
def test_weights_that_do_not_fit(tmp_path: Path, change: dict[str, object], says: str) -> None:
    state = {f"model.{name}": value for name, value in convnext().state_dict().items()} | change
    torch.save({name: value for name, value in state.items() if value is not None}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=says):
        import_sample4geo(tmp_path / "w.pth", "cvusa", CONVNEXT)


def test_an_unknown_backbone(checkpoint: Path) -> None:
    with pytest.raises(ModelError, match="no_such_net"):
        import_sample4geo(checkpoint, "cvusa", "no_such_net")
