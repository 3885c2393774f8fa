import dataclasses
import errno
import io
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from since import SINCE

from geoloc.errors import DataError, GeolocError
from geoloc.training.augment import Augmentation
from geoloc.training.recipe import TrainConfig
from geoloc.training.run_folder import (
    claim,
    cut_log,
    environment,
    git_revision,
    log,
    read_log,
    refuse_other_data,
    seeds_before,
)

CPU = torch.device("cpu")


def test_a_run_says_where_it_was_made(tmp_path: Path) -> None:
    config = TrainConfig(seed=7)
    claim(tmp_path, config, False, 2, CPU)
    claim(tmp_path, config, True, 1, CPU)
    first, second = map(json.loads, (tmp_path / "environment.jsonl").read_text().splitlines())
    assert (first["processes"], second["processes"], first["seed"]) == (2, 1, 7)
    assert first["packages"]["torch"] == torch.__version__
    assert first["threads"] == torch.get_num_threads()
    assert first["command"] == shlex.join(sys.argv)
    assert {"python", "platform", "device", "cores", "git", "started"} <= first.keys()
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 7


def test_the_revision_is_the_codes_own(tmp_path: Path) -> None:
    assert git_revision(tmp_path) == "none"
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    (tmp_path / "file").write_text("one")
    (tmp_path / "inside").mkdir()
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *words], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout
    assert git_revision(tmp_path) == commit.strip()
    (tmp_path / "file").write_text("two")
    assert git_revision(tmp_path) == commit.strip() + "-dirty"
    assert git_revision(tmp_path / "inside") == "none"  # installed within another repository
    assert environment(CPU)["git"]


def test_settings_that_an_older_version_did_not_know(tmp_path: Path) -> None:
    config = TrainConfig()
    old = dataclasses.asdict(config)
    for name in (*SINCE, "log_every"):
        del old[name]
    del old["model"]["street_layout"]
    (tmp_path / "config.json").write_text(json.dumps(old))
    claim(tmp_path, config, True, 1, CPU)
    with pytest.raises(DataError, match=r"other settings \(ema was 0.0; see"):
        claim(tmp_path, dataclasses.replace(config, ema=0.9), True, 1, CPU)
    leaning = dataclasses.replace(config, augmentation=Augmentation(tilt_deg=3.0), workers=1)
    with pytest.raises(DataError, match=r"other settings \(augmentation.tilt_deg was 10.0; see"):
        claim(tmp_path, leaning, True, 1, CPU)
    claim(tmp_path, dataclasses.replace(config, workers=1, log_every=7, save_every_s=1.0), True, 1, CPU)
    (tmp_path / "config.json").write_text(json.dumps({**old, "forgotten": 1}))
    with pytest.raises(DataError, match=r"other settings \(forgotten was 1; see"):
        claim(tmp_path, config, True, 1, CPU)
    (tmp_path / "config.json").write_text("[1")
    with pytest.raises(DataError, match="no run's settings"):
        claim(tmp_path, config, True, 1, CPU)


def test_the_log_is_cut_where_a_run_goes_on(tmp_path: Path) -> None:
    for step in (2, 4, 6):
        log(tmp_path, {"step": step})
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 8, "lo')
    assert [line["step"] for line in read_log(tmp_path)] == [2, 4, 6]
    cut_log(tmp_path, 4)
    log(tmp_path, {"step": 5})
    assert (tmp_path / "log.jsonl").read_text() == '{"step": 2}\n{"step": 4}\n{"step": 5}\n'


def test_a_full_disk_under_the_log_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, "full")

    def opened(path: Path, *_: Any, **__: Any) -> Full:
        return Full()

    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(GeolocError, match="disk is full"):
        log(tmp_path, {"step": 1})


@pytest.mark.parametrize(
    "text",
    ['{"trained on before": 3}', '{"trained on before": {"seeds": "all"}}', "[1]", '{"trained on": 1}'],
)
def test_notes_that_say_nothing_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "pairs.json"
    path.write_text(text)
    with pytest.raises(DataError, match="choose another --out"):
        seeds_before(TrainConfig(start_from=tmp_path), path)
    if text == '{"trained on": 1}':
        with pytest.raises(DataError, match="choose another --out"):
            refuse_other_data(path, {"trained on": {"seeds": []}})
