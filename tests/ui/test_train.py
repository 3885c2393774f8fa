"""`geoloc train` from a table of files, and the same under torchrun."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from geoloc.pairs import PairTable
from ui.cli import main

SETTINGS = {
    "epochs": "2", "batch": "8", "neighbours": "0", "workers": "0", "precision": "float32", "log_every": "1",
    "model.backbone": "test_convnext", "model.stage": "1", "model.output_stride": "0",
    "model.azimuth_bins": "8", "model.channels": "4", "model.street_hw": "[32, 128]",
    "model.satellite_px": "48",
}  # fmt: skip


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """What is typed but for --out: 24 pairs of noise, 8 of them for validation."""
    with (tmp_path / "pairs.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["street", "satellite", "heading_deg", "hfov_deg", "footprint_m", "split"])
        for number in range(24):
            rng = np.random.default_rng(number)
            for name, hw in (("street", (64, 256)), ("tile", (64, 64))):
                pixels = rng.integers(0, 256, (*hw, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / f"{name}{number}.png")
            split = "train" if number < 16 else "val"
            table.writerow([f"street{number}.png", f"tile{number}.png", 0, 360, 76, split])
    settings = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
    return ["train", "--data", f"table:{tmp_path / 'pairs.csv'}", *settings]


def test_a_run_folder_is_complete(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*words, "--out", str(tmp_path / "run")])
    _, err = capsys.readouterr()
    assert not stop.value.code, err
    assert "The best model is in" in err
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "checkpoint.safetensors", "config.json", "curves.png", "environment.jsonl", "log.jsonl", "model",
        "pairs.json",
    ]  # fmt: skip
    with pytest.raises(SystemExit) as stop:
        main([*words, "--out", str(tmp_path / "run")])
    assert stop.value.code == 2
    assert "--resume" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "asked"), [
    ([], [("same-train", None), ("same-test", None)]),
    (["--area", "cross", "--labels", "original"], [("cross-train", "original"), ("cross-test", "original")]),
])  # fmt: skip
def test_vigors_two_protocols_and_labels(
    words: list[str], asked: list[tuple[str, str | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []

    def reader(_: str, split: str, labels: str | None = None, option: str = "--data") -> PairTable:
        opened.append((split, labels))
        return PairTable("vigor", split, [])

    monkeypatch.setattr("ui.train.open_pairs", reader)
    monkeypatch.setattr(PairTable, "complete", lambda table, _: table)
    with pytest.raises(SystemExit) as stop:
        main(["train", "--data", "vigor:V", "--out", "run", *words])
    assert stop.value.code == 2 and opened == asked


def test_the_best_epoch_is_by_pairs_of_elsewhere(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "elsewhere.csv").write_text(
        "street,satellite,heading_deg,hfov_deg,footprint_m,split\n"
        "street0.png,tile0.png,0,360,76,train\nstreet20.png,tile20.png,0,360,76,val\n"
    )
    words += ["--val", f"table:{tmp_path / 'elsewhere.csv'}", "--out", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert not stop.value.code, capsys.readouterr().err
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["recall@1"] for line in lines if "recall@1" in line] == [1.0, 1.0]  # of one tile
    assert "Validated on 1 pairs of" in (tmp_path / "run" / "model" / "README.md").read_text()
    with pytest.raises(SystemExit):
        main([*words[:-4], "--val", "table:nowhere.csv", "--out", str(tmp_path / "other")])
    assert "of --val 'table:nowhere.csv' is no file" in capsys.readouterr().err


def test_a_run_that_diverges_leaves_its_curves(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*words, "--out", str(tmp_path / "run"), "--set", "learning_rate=1e30", "--set", "warmup=0"])
    assert stop.value.code == 2
    assert "failed_batch.json names the batch" in capsys.readouterr().err
    assert (tmp_path / "run" / "curves.png").exists()
    assert not list((tmp_path / "run").glob(".*"))


@pytest.mark.slow
def test_torchrun_trains_what_one_process_does(words: list[str], tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "ui.cli"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for name, launcher in (("one", [sys.executable, "-m", "ui.cli"]), ("two", torchrun)):
        done = subprocess.run(
            [*launcher, *words, "--out", str(tmp_path / name)],
            capture_output=True,
            text=True,
            timeout=280,
            env=environment,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("The best model is in") == 1
    one, two = (load_file(tmp_path / name / "checkpoint.safetensors") for name in ("one", "two"))
    for name, value in one.items():
        assert float((value.double() - two[name].double()).abs().max()) < 1e-4, name
    (line,) = (tmp_path / "two" / "environment.jsonl").read_text().splitlines()
    assert json.loads(line)["processes"] == 2
