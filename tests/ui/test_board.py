"""The log of a run as TensorBoard itself reads it back."""

import json
import sys
from pathlib import Path

import pytest

from geoloc.errors import GeolocError
from ui.board import board

event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

STEP = {"step": 50, "epoch": 0, "loss": 2.5, "learning_rate": 0.1}
EPOCH = {"step": 80, "epoch": 0, "loss": 2.0, "recall@1": 0.25}


def read_back(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = event_accumulator.EventAccumulator(str(folder))
    events.Reload()
    names = events.Tags()["scalars"]
    return {name: [(one.step, one.value) for one in events.Scalars(name)] for name in names}


def test_every_number_of_the_log_arrives_once(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    follow = board(tmp_path)
    follow()
    assert not list(tmp_path.iterdir())
    log.write_text(json.dumps(STEP) + "\n")
    follow()
    log.write_text(json.dumps(STEP) + "\n" + json.dumps(EPOCH) + "\n")
    follow()
    found = read_back(tmp_path / "tensorboard")
    assert found["step/loss"] == [(50, 2.5)]
    assert found["epoch/loss"] == [(80, 2.0)]
    assert found["epoch/recall@1"] == [(80, 0.25)]
    assert found["step/learning_rate"] == [(50, pytest.approx(0.1))]


def test_a_resumed_run_tells_its_steps_once(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(json.dumps(STEP) + "\n")
    board(tmp_path)()
    board(tmp_path)()
    assert read_back(tmp_path / "tensorboard")["step/loss"] == [(50, 2.5)]


def test_without_the_package_there_is_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(GeolocError, match="pip install"):
        board(tmp_path)
