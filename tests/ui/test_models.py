import json

import pytest
import timm
import torch

from geoloc.model import load_encoder
from ui.cli import main


def run(*words):
    with pytest.raises(SystemExit) as stop:
        main(words)
    return stop.value.code


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    state = timm.create_model("test_convnext", num_classes=0).state_dict()
    torch.save({f"model.{name}": value for name, value in state.items()}, tmp_path / "w.pth")
    return tmp_path / "w.pth"


def test_import_writes_a_model_that_loads(weights, tmp_path, capsys):
    words = [
        "models",
        "import",
        "sample4geo",
        str(weights),
        "--dataset",
        "vigor",
        "--backbone",
        "test_convnext",
    ]
    assert run(*words, "--out", str(tmp_path / "m")) in (0, None)
    spec = load_encoder(tmp_path / "m").spec
    assert (spec.head, spec.street_hw, spec.satellite_px) == ("pooled", (384, 768), 384)
    assert "Sample4Geo for vigor" in (tmp_path / "m/README.md").read_text()
    assert json.loads((tmp_path / "m/spec.json").read_text())["interpolation"] == "bilinear-plain"
    assert run(*words, "--out", str(tmp_path / "m")) == 2
    assert "exists already" in capsys.readouterr().err


def test_what_cannot_be_imported_leaves_nothing(weights, tmp_path, capsys):
    words = [
        "models",
        "import",
        "sample4geo",
        str(weights),
        "--dataset",
        "cvusa",
        "--out",
        str(tmp_path / "m"),
    ]
    assert run(*words) == 2
    assert "name its --backbone" in capsys.readouterr().err
    assert not (tmp_path / "m").exists()
