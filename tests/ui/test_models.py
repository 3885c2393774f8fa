import dataclasses
import errno
import hashlib
import json
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save

from geoloc.encoder import TwinEncoder
from geoloc.errors import ModelError
from geoloc.model import load_encoder, save_encoder, trained_towns
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


def test_weights_that_are_no_numbers_are_refused(tiny_spec, tmp_path):
    encoder = TwinEncoder(tiny_spec)
    spec = save_encoder(encoder, tmp_path / "m", "# A model")
    next(encoder.parameters()).data[0] = float("nan")
    with pytest.raises(ModelError, match="no numbers"):
        save_encoder(encoder, tmp_path / "other", "# A model")
    blob = save(encoder.state_dict())
    (tmp_path / "m" / "weights.safetensors").write_bytes(blob)
    of_blob = dataclasses.replace(spec, weights_sha256=hashlib.sha256(blob).hexdigest())
    (tmp_path / "m" / "spec.json").write_text(of_blob.to_json())
    with pytest.raises(ModelError, match="no numbers"):
        load_encoder(tmp_path / "m")


def test_an_average_lies_between_its_models(tiny_spec, tmp_path, capsys):
    for seed, name in ((1, "one"), (2, "other")):
        torch.manual_seed(seed)
        save_encoder(TwinEncoder(tiny_spec), tmp_path / name, f"# Card of {name}", frozenset({seed}))
    words = (
        "models",
        "average",
        str(tmp_path / "one"),
        str(tmp_path / "other"),
        "--out",
        str(tmp_path / "m"),
    )
    assert run(*words, "--share", "0.25") in (0, None)
    one, other, between = (load_encoder(tmp_path / name).state_dict() for name in ("one", "other", "m"))
    for name, value in between.items():
        if value.is_floating_point():
            want = 0.75 * one[name].double() + 0.25 * other[name].double()
            torch.testing.assert_close(value.double(), want, atol=2e-3, rtol=2e-3)
    assert trained_towns(tmp_path / "m") == {1, 2}
    card = (tmp_path / "m/README.md").read_text()
    assert "0.25 of the weights" in card and "## Card of other" in card
    capsys.readouterr()
    assert run(*words) == 2
    assert "exists already" in capsys.readouterr().err


def test_models_of_two_specs_are_not_averaged(tiny_spec, tmp_path, capsys):
    wider = dataclasses.replace(tiny_spec, channels=tiny_spec.channels * 2)
    for spec, name in ((tiny_spec, "one"), (wider, "other")):
        save_encoder(TwinEncoder(spec), tmp_path / name, "")
    words = (
        "models",
        "average",
        str(tmp_path / "one"),
        str(tmp_path / "other"),
        "--out",
        str(tmp_path / "m"),
    )
    assert run(*words) == 2
    assert "of one spec" in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("full_at", ["write_bytes", "write_text"])  # the weights, or the card after them
def test_after_a_full_disk_the_same_words_do(tiny_spec, tmp_path, monkeypatch, capsys, full_at):
    for name in ("one", "other"):
        save_encoder(TwinEncoder(tiny_spec), tmp_path / name, "")
    words = (
        "models",
        "average",
        str(tmp_path / "one"),
        str(tmp_path / "other"),
        "--out",
        str(tmp_path / "m"),
    )

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as disk:
        disk.setattr(Path, full_at, full)
        assert run(*words) == 2
    assert not (tmp_path / "m").exists()
    assert "free some space and run again" in capsys.readouterr().err
    assert run(*words) in (0, None)
    assert load_encoder(tmp_path / "m").spec.channels == tiny_spec.channels
