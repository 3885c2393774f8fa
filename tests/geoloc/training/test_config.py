from pathlib import Path

import pytest

from geoloc.errors import DataError, GeolocError
from geoloc.training.config import read_config
from geoloc.training.recipe import TrainConfig


def test_file_then_settings(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('epochs = 3\nlearning_rate = 1\n[model]\nbackbone = "resnet18"\nstreet_hw = [64, 128]\n')
    settings = [
        "epochs=5",
        "model.channels=48",
        "start_from=runs/a",
        "precision=float32",
        "augmentation.layouts=[1, 0, 0.5, 0]",
        "loss=triplet",
    ]
    config = read_config(TrainConfig(), file, settings)
    assert (config.epochs, config.learning_rate) == (5, 1.0)
    assert (config.model.backbone, config.model.channels, config.model.street_hw) == (
        "resnet18",
        48,
        (64, 128),
    )
    assert config.start_from == Path("runs/a")
    assert config.precision == "float32"
    assert config.augmentation.layouts == (1.0, 0.0, 0.5, 0.0)
    assert config.augmentation.tilt_deg == TrainConfig().augmentation.tilt_deg
    assert config.loss == "triplet"
    assert config.batch == TrainConfig().batch


@pytest.mark.parametrize(
    ("setting", "names"),
    [
        ("epoch=5", "'epoch'"),
        ("model.depth=5", "'model.depth'"),
        ("epochs=many", "epochs should be int"),
        ("epochs=true", "epochs should be int"),
        ("epochs", "lacks '='"),
        ("model=3", "model is a table"),
        ("model.street_hw=[1]", "model.street_hw"),
        ("precision=float8", "precision"),
        ("epochs=0", "epochs >= 1"),
        ("temperature=0", "temperature"),
        ("temperature=0.005", "temperature in 0.01"),
        ("loss_weight=inf", "loss_weight"),
        ("augmentation.layouts=[nan, 1, 1, 1]", "layouts"),
        ("augmentation.layouts=[inf, 1, 1, 1]", "layouts"),
        ("apart_m=-1", "apart_m"),
        ("neighbours=7", "neighbours=7 does not divide"),
        ("neighbours=-2", "neighbours"),
        ("loss=hinge", "loss"),
        ("chunk=7", "chunk=7 does not divide"),
        ("chunk=-8", "chunk=-8"),
        ("ema=1.0", "ema"),
        ("layer_decay=0.0", "layer_decay"),
        ("frozen=-1", "frozen"),
        ("log_every=0", "log_every"),
        ("model.output_stride=12", "output_stride"),
        ("model.stage=-1", "stage must be 0 or more"),
        ("weight_decay=nan", "weight_decay"),
        ("seed=-1", "seed"),
        ("workers=100000", "workers"),
        ("augmentation.shift_m=nan", "augmentation"),
        ("augmentation.tilt_deg=60", "tilt_deg in 0..45"),
        ("augmentation.photo=1.5", "photo, colour, style, rotate and mirror in 0..1"),
        ("augmentation.mirror=-0.1", "mirror in 0..1"),
        ("augmentation.turn_deg=181", "turn_deg in 0..180"),
        ("augmentation.photo_half_deg=[40.0, 20.0]", "photo_half_deg"),
        ("augmentation.layouts=[0, 0, 0, 0]", "layouts"),
        ("augmentation.layouts=[1, -1, 0, 0]", "layouts"),
        ("augmentation.layouts=[1, 0]", "layouts"),
    ],
)
def test_what_is_wrong_is_named(setting: str, names: str) -> None:
    with pytest.raises(GeolocError, match=names):
        read_config(TrainConfig(), None, [setting])


def test_settings_that_want_each_other_may_come_in_any_order(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('loss = "triplet"\nhardest = [1.0, 0.5]\n', encoding="utf-8-sig")
    back = read_config(TrainConfig(), file, ["loss=infonce", "hardest=[1.0]"])
    assert (back.loss, back.hardest) == ("infonce", (1.0,))
    for settings in (["batch=6", "neighbours=3"], ["neighbours=3", "batch=6"]):
        found = read_config(TrainConfig(), None, settings)
        assert (found.batch, found.neighbours) == (6, 3)
    pooled = ["model.head=token", "model.backbone=test_vit", "model.azimuth_bins=1", "model.polar=false"]
    assert read_config(TrainConfig(), None, pooled) == read_config(TrainConfig(), None, pooled[::-1])
    twice = read_config(
        TrainConfig(), None, ["epochs=3", "model={channels=8, stage=3}", "epochs=4", "model.stage=2"]
    )
    assert (twice.epochs, twice.model.channels, twice.model.stage) == (4, 8, 2)


def test_training_wants_a_canvas() -> None:
    squashed = ["model.head=pooled", "model.azimuth_bins=1", "model.polar=false", "model.street_layout=whole"]
    with pytest.raises(DataError, match="street_elevation_deg to what the panoramas span"):
        read_config(TrainConfig(), None, squashed)


def test_unreadable_file(tmp_path: Path) -> None:
    broken = tmp_path / "x.toml"
    broken.write_text("epochs = = 3")
    for path in (broken, tmp_path / "absent.toml", tmp_path):
        with pytest.raises(DataError, match="TOML"):
            read_config(TrainConfig(), path, [])
