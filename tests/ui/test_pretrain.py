"""`geoloc pretrain` on a folder of tiles."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from geoloc.model import load_encoder
from geoloc.training.run import Progress
from ui.cli import main
from ui.watch import progress_line

SETTINGS = {
    "epochs": "2", "batch": "8", "projection": "16", "precision": "float32", "log_every": "1",
    "model.backbone": "test_convnext", "model.stage": "1", "model.output_stride": "0",
    "model.azimuth_bins": "8", "model.channels": "4", "model.street_hw": "[32, 128]",
    "model.satellite_px": "48",
}  # fmt: skip


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """What is typed but for --out: 16 tiles of noise."""
    (tmp_path / "tiles").mkdir()
    for number in range(16):
        pixels = np.random.default_rng(number).integers(0, 256, (48, 48, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "tiles" / f"{number}.png")
    settings = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
    return ["pretrain", str(tmp_path / "tiles"), "--view", "satellite", *settings]


def test_a_run_folder_is_complete(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    with pytest.raises(SystemExit) as stop:
        main([*words, "--out", str(run)])
    _, err = capsys.readouterr()
    assert not stop.value.code, err
    assert "decoding images 16/16" in err and f"--set start_from={run / 'model'}" in err
    assert sorted(path.name for path in run.iterdir()) == [
        "checkpoint.safetensors", "config.json", "curves.png", "environment.jsonl", "images.json",
        "log.jsonl", "model",
    ]  # fmt: skip
    assert load_encoder(run / "model").spec.backbone == "test_convnext"
    for more, said in (([], "--resume"), (["--resume", "--set", "seed=1"], "other settings")):
        with pytest.raises(SystemExit) as stop:
            main([*words, "--out", str(run), *more])
        assert stop.value.code == 2
        assert said in capsys.readouterr().err


def test_what_cannot_be_learnt_from(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence, and nothing is left behind."""
    run = tmp_path / "run"
    (tmp_path / "tiles" / "16.png").write_bytes(b"\x89PNG nonsense")
    wrong = (([], "16.png"), (["--set", "batch=64"], "do not fill"), (["--set", "no=1"], "no setting"))
    for more, said in wrong:
        with pytest.raises(SystemExit) as stop:
            main([*words, "--out", str(run), *more])
        assert stop.value.code == 2
        err = capsys.readouterr().err
        assert said in err and "Traceback" not in err
        assert not run.exists()


def test_a_line_says_what_is_left() -> None:
    line = progress_line(Progress(1, 5, 1000, 1.5, 200.4, None), 3, 61.0, "images")
    assert line == "epoch 2/3  step 5/1,000  loss 1.5000  200 images/s  1:01 left"
    line = progress_line(Progress(0, 5, 10, 1.5, 2.0, 0.25), 3, 9.0, "pairs")
    assert line.endswith("2 pairs/s  0:09 left  val recall@1 0.250")


@pytest.mark.slow
def test_torchrun_learns_what_one_process_does(words: list[str], tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "ui.cli"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = [*words, "--set", "chunk=4"]
    for name, launcher in (("one", [sys.executable, "-m", "ui.cli"]), ("two", torchrun)):
        done = subprocess.run(
            [*launcher, *words, "--out", str(tmp_path / name)],
            capture_output=True,
            text=True,
            timeout=280,
            env=environment,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("The model is in") == 1
    one, two = (load_file(tmp_path / name / "checkpoint.safetensors") for name in ("one", "two"))
    for name, value in one.items():
        assert float((value.double() - two[name].double()).abs().max()) < 1e-4, name
