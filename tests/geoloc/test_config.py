from pathlib import Path

import pytest

from geoloc.config import read_config
from geoloc.errors import DataError
from geoloc.recipe import TrainConfig


def test_file_then_settings(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('epochs = 3\nlearning_rate = 1\n[model]\nbackbone = "resnet18"\nstreet_hw = [64, 128]\n')
    settings = [
        "epochs=5",
        "model.channels=48",
        "start_from=runs/a",
        "precision=float32",
        "windows=[1, 2, 8]",
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
    assert config.windows == (1, 2, 8)
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
        ("windows=[3]", "equal parts"),
        ("windows=[1.5]", "windows should be int"),
        ("weight_decay=nan", "weight_decay"),
        ("seed=-1", "seed"),
        ("workers=100000", "workers"),
        ("augmentation.shift_m=nan", "augmentation"),
        ("augmentation.narrow_deg=[90.0, 60.0]", "narrow_deg"),
    ],
)
def test_what_is_wrong_is_named(setting: str, names: str) -> None:
    with pytest.raises(DataError, match=names):
        read_config(TrainConfig(), None, [setting])


def test_unreadable_file(tmp_path: Path) -> None:
    broken = tmp_path / "x.toml"
    broken.write_text("epochs = = 3")
    for path in (broken, tmp_path / "absent.toml", tmp_path):
        with pytest.raises(DataError, match="TOML"):
            read_config(TrainConfig(), path, [])
