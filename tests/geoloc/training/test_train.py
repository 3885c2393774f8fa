import dataclasses
import errno
import fcntl
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from since import SINCE

from geoloc.errors import DataError, GeolocError, ImageError, ModelError
from geoloc.figures import Figures
from geoloc.model import load_encoder, trained_towns
from geoloc.pairs import PairTable
from geoloc.score import Asked, evaluate_table
from geoloc.spec import EncoderSpec
from geoloc.training import decoded, validate
from geoloc.training.augment import Augmentation
from geoloc.training.batch_order import batch_order
from geoloc.training.negatives import Negatives
from geoloc.training.read_ahead import read_ahead
from geoloc.training.recipe import TrainConfig
from geoloc.training.run import Progress
from geoloc.training.run_folder import read_log
from geoloc.training.step import Stepper
from geoloc.training.train import train
from geoloc.training.validate import asked_as_trained

CHILD = """
import json, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path[:0] = [sys.argv[1], *map(str, Path(sys.argv[1]).parents[:2])]
from train_child import config, tables
from geoloc.training.train import train
train(config(), *tables(Path(sys.argv[2])), Path(sys.argv[3]), resume=sys.argv[4] == "resume",
      report=lambda now: (print(now.step, flush=True), time.sleep(0.05)))
"""


@pytest.fixture
def config(tiny_spec: EncoderSpec) -> TrainConfig:
    return TrainConfig(
        model=tiny_spec,
        augmentation=Augmentation(shift_m=2.0, colour=0.1, layouts=(0.7, 0.1, 0.1, 0.1)),
        epochs=3,
        batch=8,
        neighbours=0,
        precision="float32",
        workers=0,
        save_every_s=0.0,
        log_every=2,
    )


def weights(run: Path) -> bytes:
    return (run / "checkpoint.safetensors").read_bytes()


def told(run: Path) -> list[dict[str, float]]:
    """What the log says, but for how fast that went."""
    timings = {"pairs_per_s", "waited"}
    return [{name: line[name] for name in line if name not in timings} for line in read_log(run)]


def same(one: Path, other: Path) -> bool:
    """Whether two runs ended alike, to the last byte."""
    files = ("checkpoint.safetensors", "model/weights.safetensors", "model/spec.json", "model/README.md")
    alike = all((one / name).read_bytes() == (other / name).read_bytes() for name in files)
    return alike and told(one) == told(other)


def test_reading_ahead_keeps_the_order_and_passes_errors_on() -> None:
    made: list[int] = []

    def make(step: tuple[int, np.ndarray]) -> tuple[int, int]:
        number, rows = step
        if number == 6:
            raise DataError("the sixth is bad")
        made.append(number)
        return number, int(rows[0])

    steps = [(number, np.array([number * number])) for number in range(8)]
    ahead = read_ahead(make, steps)
    assert next(ahead) == (0, 0)
    assert max(made, default=0) <= 2
    assert [next(ahead) for _ in range(5)] == [(1, 1), (2, 4), (3, 9), (4, 16), (5, 25)]
    with pytest.raises(DataError, match="sixth"):
        next(ahead)


def test_learns_and_keeps_the_best(
    config: TrainConfig, training: PairTable, validation: PairTable, tmp_path: Path
) -> None:
    seen: list[Progress] = []
    longer = dataclasses.replace(config, epochs=12, learning_rate=3e-3, save_every_s=60.0)
    model = train(longer, training, validation, tmp_path / "run", report=seen.append)
    log = [line for line in read_log(tmp_path / "run") if "recall@1" in line]
    assert len(log) == 12
    assert log[-1]["loss"] < log[0]["loss"] / 2
    assert [now.step for now in seen] == list(range(1, 49))
    scores = (
        evaluate_table(load_encoder(model), validation, [asked_as_trained(config.augmentation)])
        .scored[0]
        .figures.values
    )
    assert scores["n"] == scores["gallery"] == 16
    assert scores["recall@1"] == pytest.approx(max(line["recall@1"] for line in log), abs=1 / 16)
    assert scores["recall@1"] >= 0.5
    card = (model / "README.md").read_text()
    assert "Town seeds trained on: 1." in card
    assert trained_towns(model) == {1}
    assert f"| recall@1 | {max(line['recall@1'] for line in log):.4f} |" in card


def test_interrupted_and_resumed_is_unbroken(
    config: TrainConfig, training: PairTable, validation: PairTable, tmp_path: Path
) -> None:
    train(config, training, validation, tmp_path / "whole")

    class Killed(Exception):
        pass

    for stop in (2, 4, 7):

        def killer(now: Progress, stop: int = stop) -> None:
            if now.step == stop:
                raise Killed

        with pytest.raises(Killed):
            train(config, training, validation, tmp_path / "broken", resume=stop != 2, report=killer)
    train(config, training, validation, tmp_path / "broken", resume=True)
    assert same(tmp_path / "whole", tmp_path / "broken")


def test_mining_survives_a_stop(
    config: TrainConfig, training: PairTable, validation: PairTable, tmp_path: Path
) -> None:
    """Mined after the first epoch and the second; stopped within the second, and while the third is mined."""
    mining = dataclasses.replace(config, neighbours=4, mine_every=1)
    done: list[str] = []
    train(mining, training, validation, tmp_path / "whole", preparing=lambda what, *_: done.append(what))
    assert done.count("mining") == 4

    class Killed(Exception):
        pass

    def in_epoch(now: Progress) -> None:
        if now.step == 6:
            raise Killed

    def in_mining(what: str, *_: int) -> None:
        if what == "mining":
            raise Killed

    broken = tmp_path / "broken"
    with pytest.raises(Killed):
        train(mining, training, validation, broken, report=in_epoch)
    with pytest.raises(Killed):
        train(mining, training, validation, broken, resume=True, preparing=in_mining)
    train(mining, training, validation, broken, resume=True)
    assert weights(tmp_path / "whole") == weights(broken)
    assert sorted(path.name for path in broken.iterdir()) == [
        "checkpoint.safetensors", "config.json", "environment.jsonl", "log.jsonl", "model", "pairs.json",
    ]  # fmt: skip
    train(config, training, validation, tmp_path / "mixed")
    assert weights(tmp_path / "whole") != weights(tmp_path / "mixed")


def test_stopped_while_it_validates_is_unbroken(
    config: TrainConfig,
    training: PairTable,
    validation: PairTable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between an epoch's last step and its score, the epoch is not over: it is scored after all."""
    train(config, training, validation, tmp_path / "whole")

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for resume in (False, True):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr("geoloc.training.validate.score_pairs", killed)
            train(config, training, validation, tmp_path / "broken", resume=resume)
    train(config, training, validation, tmp_path / "broken", resume=True)
    assert same(tmp_path / "whole", tmp_path / "broken")


def test_sigkilled_and_resumed_is_unbroken(tmp_path: Path) -> None:
    here = str(Path(__file__).parent)

    def run(name: str, mode: str) -> subprocess.Popen[str]:
        words = [sys.executable, "-c", CHILD, here, str(tmp_path), str(tmp_path / name), mode]
        return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)

    with run("whole", "new") as whole:
        whole.communicate(timeout=200)
    with run("broken", "new") as broken:
        assert broken.stdout is not None
        for line in broken.stdout:
            if line.strip() == "5":
                break
        broken.kill()
    with run("broken", "resume") as resumed:
        steps = resumed.communicate(timeout=200)[0].split()
    assert (whole.returncode, resumed.returncode) == (0, 0)
    assert broken.returncode == -signal.SIGKILL
    assert 1 < int(steps[0]) <= 6
    assert weights(tmp_path / "whole") == weights(tmp_path / "broken")


def test_refusals(config: TrainConfig, training: PairTable, validation: PairTable, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(DataError, match="training and validation both"):
        train(config, training, training, run)
    with pytest.raises(DataError, match="do not fill a batch"):
        train(dataclasses.replace(config, batch=64), training, validation, run)
    assert not run.exists()
    train(dataclasses.replace(config, epochs=1), training, validation, run)
    with pytest.raises(DataError, match="--resume"):
        train(config, training, validation, run)
    with pytest.raises(DataError, match="other settings"):
        train(config, training, validation, run, resume=True)
    (run / "checkpoint.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ModelError, match="damaged"):
        train(dataclasses.replace(config, epochs=1), training, validation, run, resume=True)


def test_a_run_that_is_refused_leaves_nothing(
    config: TrainConfig, training: PairTable, validation: PairTable, tmp_path: Path
) -> None:
    run, first = tmp_path / "run", training.pairs[0]
    with pytest.raises(DataError, match="keep decoded pairs elsewhere"):
        train(config, training, validation, run, keep_decoded=run / "decoded")
    pooled = {"head": "pooled", "azimuth_bins": 1, "polar": False}
    frozen = dataclasses.replace(config.model, channels=96, **pooled)
    with pytest.raises(DataError, match="nothing of the encoders to learn"):
        train(dataclasses.replace(config, model=frozen, frozen=5), training, validation, run)
    one_place = [dataclasses.replace(pair, satellite=first.satellite) for pair in training.pairs]
    with pytest.raises(DataError, match="1 different places"):
        train(config, dataclasses.replace(training, pairs=one_place), validation, run)
    lost = [*training.pairs[:-1], dataclasses.replace(first, street=tmp_path / "lost.png")]
    with pytest.raises(ImageError, match=r"lost\.png"):
        train(config, dataclasses.replace(training, pairs=lost), validation, run, resume=True)
    assert not run.exists()


def test_bins_are_not_trained_without_headings(
    config: TrainConfig, training: PairTable, validation: PairTable, tmp_path: Path
) -> None:
    """An embedding of one bin knows none and needs none; validation that searches them needs none either."""
    no_heading = [dataclasses.replace(pair, heading_deg=None) for pair in training.pairs]
    untold = dataclasses.replace(training, pairs=no_heading)
    unseen = dataclasses.replace(
        validation, pairs=[dataclasses.replace(pair, heading_deg=None) for pair in validation.pairs]
    )
    short = dataclasses.replace(config, epochs=1)
    with pytest.raises(DataError, match=r"0_street\.png has no heading.*model\.azimuth_bins=1"):
        train(short, untold, validation, tmp_path / "run")
    known = dataclasses.replace(short, augmentation=dataclasses.replace(config.augmentation, turn_deg=0.0))
    with pytest.raises(DataError, match="has no heading"):
        train(known, training, unseen, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert train(short, training, unseen, tmp_path / "run").is_dir()
    pooled = dataclasses.replace(config.model, azimuth_bins=1)
    assert train(dataclasses.replace(known, model=pooled), untold, unseen, tmp_path / "pooled").is_dir()


def test_every_epoch_is_counted_whether_scored_or_not(
    config: TrainConfig, training: PairTable, validation: PairTable, tmp_path: Path
) -> None:
    seldom = dataclasses.replace(config, epochs=4, validate_every=3, log_every=1)
    model = train(seldom, training, validation, tmp_path / "run")
    lines = read_log(tmp_path / "run")
    epochs = [line for line in lines if "learning_rate" not in line]
    assert [line["step"] for line in epochs] == [4, 8, 12, 16]
    assert ["recall@1" in line for line in epochs] == [False, False, True, True]
    losses = [line["loss"] for line in lines if "learning_rate" in line]
    assert [line["loss"] for line in epochs] == pytest.approx(
        np.reshape(losses, (4, 4)).mean(axis=1).tolist()
    )
    scored = [line for line in epochs if "recall@1" in line]
    best = 4 if scored[1]["recall@1"] >= scored[0]["recall@1"] else 3
    assert f"{best} epochs so far" in (model / "README.md").read_text()


def test_what_cannot_begin_leaves_nothing(
    config: TrainConfig, training: PairTable, validation: PairTable, tmp_path: Path
) -> None:
    """The last image that is decoded is cut short; once it is whole the same command does."""
    damaged = tmp_path / "damaged.png"
    whole = validation.pairs[-1].satellite.read_bytes()
    damaged.write_bytes(whole[: len(whole) // 2])
    last = dataclasses.replace(validation.pairs[-1], satellite=damaged)
    unseen = dataclasses.replace(validation, pairs=[*validation.pairs[:-1], last])
    short = dataclasses.replace(config, epochs=1)
    with pytest.raises(ImageError, match=r"damaged\.png"):
        train(short, training, unseen, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    damaged.write_bytes(whole)
    assert train(short, training, unseen, tmp_path / "run").is_dir()


def test_divergence_stops_and_names_the_batch(
    config: TrainConfig, training: PairTable, validation: PairTable, tmp_path: Path
) -> None:
    wild = dataclasses.replace(config, learning_rate=1e30, warmup=0.0)
    with pytest.raises(
        DataError, match=r"became (nan|inf) at step 1; .*failed_batch.json.*last checkpoint is kept"
    ):
        train(wild, training, validation, tmp_path / "run")
    with pytest.raises(DataError, match="there is no checkpoint yet"):
        train(dataclasses.replace(wild, save_every_s=1e6), training, validation, tmp_path / "unkept")
    failed = json.loads((tmp_path / "run" / "failed_batch.json").read_text())
    rows = batch_order(wild, Negatives.of(training, wild.apart_m), 0)[1]
    assert failed["step"] == 1
    assert [pair["street"] for pair in failed["batch"]] == [str(training.pairs[row].street) for row in rows]
    with safe_open(tmp_path / "run" / "checkpoint.safetensors", "pt") as kept:
        assert json.loads(kept.metadata()["state"])["step"] == 1


@pytest.mark.parametrize("sure", [1, 20])
def test_a_run_that_forgets_stops_and_keeps_its_best_model(
    config: TrainConfig,
    training: PairTable,
    validation: PairTable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sure: int,
) -> None:
    """Unless so few were ever found that it may be chance."""
    recalls, scored = iter([0.9, 0.5, 0.0]), validate.score_pairs

    def told(*words: Any) -> Figures:
        return Figures({**scored(*words).values, "recall@1": next(recalls)}, {})

    monkeypatch.setattr(validate, "score_pairs", told)
    monkeypatch.setattr(validate, "SURE", sure)
    if sure == 1:
        with pytest.raises(DataError, match=r"it finds 0\.0% .* it found 90\.0%\. .*lower learning_rate"):
            train(config, training, validation, tmp_path / "run")
        lines = read_log(tmp_path / "run")
        assert [line["recall@1"] for line in lines if "recall@1" in line] == [0.9, 0.5, 0.0]
    else:
        train(config, training, validation, tmp_path / "run")
    load_encoder(tmp_path / "run" / "model")


def test_a_full_disk_stops_cleanly_and_the_run_goes_on(
    config: TrainConfig,
    training: PairTable,
    validation: PairTable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Full at the third checkpoint, whose temporary file is half-written: the second is still good."""
    train(config, training, validation, tmp_path / "whole")
    broken, write, done = tmp_path / "broken", Path.write_bytes, 0

    def filling(path: Path, content: bytes) -> int:
        nonlocal done
        done += 1
        if done == 3:
            write(path, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "full")
        return write(path, content)

    with monkeypatch.context() as patch, pytest.raises(GeolocError, match="disk is full"):
        patch.setattr(Path, "write_bytes", filling)
        train(config, training, validation, broken)
    assert not [path for path in broken.iterdir() if path.name.startswith(".")]
    with safe_open(broken / "checkpoint.safetensors", "pt") as kept:
        assert json.loads(kept.metadata()["state"])["step"] == 2
    train(config, training, validation, broken, resume=True)
    assert same(tmp_path / "whole", broken)


def test_every_option_resumes_exactly(
    config: TrainConfig, training: PairTable, validation: PairTable, tmp_path: Path
) -> None:
    """Chunks, an average, frozen stages, rates by layer and recomputing together; and what they leave."""
    much = dataclasses.replace(
        config, epochs=2, chunk=4, ema=0.5, frozen=1, layer_decay=0.7, recompute=True, log_every=3
    )

    class Killed(Exception):
        pass

    def killer(now: Progress) -> None:
        if now.step == 6:
            raise Killed

    train(much, training, validation, tmp_path / "whole")
    with pytest.raises(Killed):
        train(much, training, validation, tmp_path / "broken", report=killer)
    train(much, training, validation, tmp_path / "broken", resume=True)
    assert same(tmp_path / "whole", tmp_path / "broken")
    lines = told(tmp_path / "whole")
    assert [line["step"] for line in lines] == [3, 4, 6, 8]
    assert lines[0].keys() == {"step", "epoch", "loss", "learning_rate", "gradient_norm"}
    assert not (tmp_path / "whole" / "decoded").exists()


def test_other_pairs_are_another_run(
    config: TrainConfig, training: PairTable, validation: PairTable, tmp_path: Path
) -> None:
    """Whether they are those trained on or those validated on; the folder is as it was."""
    train(dataclasses.replace(config, epochs=1), training, validation, tmp_path / "run")
    before = weights(tmp_path / "run")
    fewer, less = (dataclasses.replace(table, pairs=table.pairs[:-1]) for table in (training, validation))
    turned = [dataclasses.replace(pair, heading_deg=1.0) for pair in training.pairs]
    for pairs, unseen, what in (
        (fewer, validation, "trained on"),
        (training, less, "validated on"),
        (dataclasses.replace(training, pairs=turned), validation, "trained on"),
        (dataclasses.replace(training, seeds=frozenset({77})), validation, "trained on"),
    ):
        with pytest.raises(DataError, match=f"other data .{what}"):
            train(dataclasses.replace(config, epochs=1), pairs, unseen, tmp_path / "run", resume=True)
    assert weights(tmp_path / "run") == before
    noted = json.loads((tmp_path / "run" / "pairs.json").read_text())
    older = {
        use: {k: v for k, v in one.items() if k != "seeds"} | {"sha256": ""} for use, one in noted.items()
    }
    (tmp_path / "run" / "pairs.json").write_text(json.dumps(older))
    train(dataclasses.replace(config, epochs=1), training, validation, tmp_path / "run", resume=True)
    assert json.loads((tmp_path / "run" / "pairs.json").read_text()) == noted
    (tmp_path / "run" / "pairs.json").unlink()  # as an older version left it
    train(dataclasses.replace(config, epochs=1), training, validation, tmp_path / "run", resume=True)


def test_decoded_pairs_are_kept_for_other_runs(
    config: TrainConfig,
    training: PairTable,
    validation: PairTable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept, short = tmp_path / "kept", dataclasses.replace(config, epochs=1)
    train(short, training, validation, tmp_path / "plain")
    train(short, training, validation, tmp_path / "first", keep_decoded=kept)
    monkeypatch.setattr(decoded, "read_pair_street", None)  # whoever decodes again fails
    train(short, training, validation, tmp_path / "second", keep_decoded=kept)
    assert same(tmp_path / "plain", tmp_path / "first") and same(tmp_path / "plain", tmp_path / "second")
    assert len(list(kept.iterdir())) == 2
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(GeolocError, match="file cannot be written"):
        train(short, training, validation, tmp_path / "third", keep_decoded=tmp_path / "file")
    assert not (tmp_path / "third").exists()
    assert not (tmp_path / "second" / "decoded").exists()


def test_validated_every_few_epochs_and_at_last(
    config: TrainConfig, training: PairTable, validation: PairTable, tmp_path: Path
) -> None:
    """What is learnt is the same."""
    every = dataclasses.replace(config, epochs=5)
    train(every, training, validation, tmp_path / "every")
    train(dataclasses.replace(every, validate_every=2), training, validation, tmp_path / "seldom")
    steps = [
        [line["step"] for line in read_log(tmp_path / run) if "recall@1" in line]
        for run in ("every", "seldom")
    ]
    assert steps[1] == [steps[0][1], steps[0][3], steps[0][4]]
    one, other = (load_file(tmp_path / run / "checkpoint.safetensors") for run in ("every", "seldom"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_is_trained_by_one_process_at_a_time(
    config: TrainConfig, training: PairTable, validation: PairTable, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    other = os.open(run, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(DataError, match="Another process trains in"):
        train(config, training, validation, run, resume=True)
    os.close(other)
    assert not any(run.iterdir())
    train(dataclasses.replace(config, epochs=1), training, validation, run)


def test_whole_panoramas_of_known_heading_are_validated_so(
    config: TrainConfig, training: PairTable, validation: PairTable, tmp_path: Path
) -> None:
    """The published protocol: SAFA's heads, which know where north lies, on canvases never turned."""
    how = dataclasses.replace(config.augmentation, turn_deg=0.0, layouts=(1.0, 0.0, 0.0, 0.0))
    safa = dataclasses.replace(config.model, head="safa", azimuth_bins=1)
    north = dataclasses.replace(config, model=safa, loss="triplet", neighbours=0, augmentation=how, epochs=1)
    model = train(north, training, validation, tmp_path / "run")
    (line,) = [line for line in read_log(tmp_path / "run") if "recall@1" in line]
    scores = evaluate_table(load_encoder(model), validation, [Asked()]).scored[0].figures.values
    assert scores["recall@1"] == pytest.approx(line["recall@1"], abs=1 / 16)
    assert "trained on, whole and at known heading" in (model / "README.md").read_text().replace("\n", " ")


@pytest.mark.parametrize(
    ("layouts", "turn_deg", "asked"),
    [
        ((0.3, 0.1, 0.0, 0.1), 180.0, Asked(90.0, unknown_heading=True)),
        ((0.0, 0.1, 0.0, 0.0), 180.0, Asked(180.0, unknown_heading=True)),
        ((1.0, 0.0, 1.0, 0.0), 0.0, Asked(90.0)),
        ((1.0, 0.0, 0.0, 0.0), 20.0, Asked(360.0)),
    ],
)
def test_validation_asks_what_is_trained(
    layouts: tuple[float, float, float, float], turn_deg: float, asked: Asked
) -> None:
    assert asked_as_trained(Augmentation(layouts=layouts, turn_deg=turn_deg)) == asked


def test_the_average_is_what_is_validated_and_kept(
    config: TrainConfig, training: PairTable, validation: PairTable, tmp_path: Path
) -> None:
    averaged = dataclasses.replace(config, epochs=1, ema=0.9)
    kept = load_encoder(train(averaged, training, validation, tmp_path / "run"))
    state = load_file(tmp_path / "run" / "checkpoint.safetensors")
    moved = 0.0
    for name, value in kept.state_dict().items():
        assert torch.allclose(value.float(), state[f"model.average.{name}"].half().float(), atol=1e-6), name
        moved += float((value.float() - state[f"model.encoder.{name}"].float()).abs().sum())
    assert moved > 1
    (line,) = [line for line in read_log(tmp_path / "run") if "recall@1" in line]
    scores = (
        evaluate_table(kept, validation, [asked_as_trained(config.augmentation)]).scored[0].figures.values
    )
    assert scores["recall@1"] == pytest.approx(line["recall@1"], abs=1 / 16)
    train(dataclasses.replace(averaged, ema=0.0), training, validation, tmp_path / "plain")
    plain = load_file(tmp_path / "plain" / "checkpoint.safetensors")
    assert all(torch.equal(value, state[name]) for name, value in plain.items() if "optimizer" not in name)


def test_a_run_of_an_older_version_goes_on(
    config: TrainConfig, training: PairTable, validation: PairTable, tmp_path: Path
) -> None:
    """Its settings lack what was added since, its log has epochs only."""
    train(config, training, validation, tmp_path / "whole")

    class Killed(Exception):
        pass

    def killer(now: Progress) -> None:
        if now.step == 6:
            raise Killed

    old = tmp_path / "old"
    with pytest.raises(Killed):
        train(config, training, validation, old, report=killer)
    (old / "environment.jsonl").unlink()
    settings = json.loads((old / "config.json").read_text())
    for name in SINCE:
        del settings[name]
    (old / "config.json").write_text(json.dumps(settings))
    train(config, training, validation, old, resume=True)
    assert same(tmp_path / "whole", old)


def test_pretrained_weights_set_the_beginning_and_the_normalisation(
    config: TrainConfig, training: PairTable, validation: PairTable, tmp_path: Path
) -> None:
    """With a rate of nearly nothing the backbone is still the file's; to go on, the file is not asked for."""
    whole = timm.create_model("test_resnet", pretrained=False)
    save_file(whole.state_dict(), tmp_path / "weights.safetensors")
    still = dataclasses.replace(
        config, epochs=1, weights=str(tmp_path / "weights.safetensors"), learning_rate=1e-12, weight_decay=0.0
    )
    kept = load_encoder(train(still, training, validation, tmp_path / "run"))
    assert kept.spec.mean == timm.models.get_pretrained_cfg("test_resnet").mean
    for name, value in kept.satellite.backbone.named_parameters():  # type: ignore[union-attr]
        assert torch.allclose(value, whole.state_dict()[name], atol=1e-3), name
    (tmp_path / "weights.safetensors").unlink()
    train(still, training, validation, tmp_path / "run", resume=True)


def test_goes_on_from_a_model(
    config: TrainConfig, training: PairTable, validation: PairTable, tmp_path: Path
) -> None:
    short = dataclasses.replace(config, epochs=1)
    first = train(short, training, validation, tmp_path / "first")
    still = dataclasses.replace(short, start_from=first, learning_rate=1e-12, weight_decay=0.0)
    second = load_encoder(train(still, training, validation, tmp_path / "second"))
    for (name, before), after in zip(
        load_encoder(first).named_parameters(), second.parameters(), strict=True
    ):
        assert torch.allclose(before, after, atol=1e-3), name


def test_goes_on_without_the_model_it_began_with(
    config: TrainConfig, training: PairTable, validation: PairTable, tmp_path: Path
) -> None:
    """The checkpoint has its weights, and the run's folder the towns it had seen."""
    short = dataclasses.replace(config, epochs=1)
    seen = dataclasses.replace(training, seeds=frozenset({7}))
    first = train(short, seen, validation, tmp_path / "first")
    onward = dataclasses.replace(config, start_from=first)

    def killer(now: Progress) -> None:
        if now.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(onward, training, validation, tmp_path / "run", report=killer)
    unbroken = train(onward, training, validation, tmp_path / "whole")
    first.rename(tmp_path / "away")
    resumed = train(onward, training, validation, tmp_path / "run", resume=True)
    assert (resumed / "weights.safetensors").read_bytes() == (unbroken / "weights.safetensors").read_bytes()
    assert trained_towns(resumed) == {7} | training.seeds


def test_a_folder_of_other_things_is_left_alone(
    config: TrainConfig, training: PairTable, validation: PairTable, tmp_path: Path
) -> None:
    """Even where it is called as a run's files are."""
    (tmp_path / "decoded").mkdir()
    (tmp_path / "decoded" / "mine.txt").write_text("mine")
    (tmp_path / "model").mkdir()
    with pytest.raises(DataError, match=r"no run's but holds decoded, model; choose another --out"):
        train(config, training, validation, tmp_path)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        "decoded", "decoded/mine.txt", "model",
    ]  # fmt: skip


def test_a_backbone_that_images_do_not_fit_is_refused_first(
    config: TrainConfig, training: PairTable, validation: PairTable, tmp_path: Path
) -> None:
    swin = dataclasses.replace(
        config.model, backbone="swin_tiny_patch4_window7_224", stage=1, output_stride=0
    )
    with pytest.raises(ModelError, match=r"swin.* does not take images of \(32, 128\)"):
        train(dataclasses.replace(config, model=swin), training, validation, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_gradient_that_stays_no_number_stops_float16(
    config: TrainConfig,
    training: PairTable,
    validation: PairTable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not while the loss scale finds its size, which it halves each time; the log is JSON all the while."""

    done = list[int]()

    def no_number(*_: object) -> tuple[float, float]:
        done.append(1)
        return 1.0, math.nan

    monkeypatch.setattr(Stepper, "step", no_number)
    monkeypatch.setattr(Stepper, "loss_scale", property(lambda _: 65536 / 2 ** len(done)))
    half = dataclasses.replace(config, precision="float16", epochs=20, log_every=1, save_every_s=60.0)
    with pytest.raises(DataError, match="The gradient became nan at step 16;"):
        train(half, training, validation, tmp_path / "run")
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    steps = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    assert [line["gradient_norm"] for line in steps if "gradient_norm" in line] == [None] * 16


def test_grows_from_a_model(
    config: TrainConfig, training: PairTable, validation: PairTable, tmp_path: Path
) -> None:
    """The larger model begins where the smaller one ended, says so, and is gone on with."""
    first = train(dataclasses.replace(config, epochs=1), training, validation, tmp_path / "first")
    larger = dataclasses.replace(config.model, widths=(32, 64, 48, 96), depths=(1, 2, 1, 1))
    still = dataclasses.replace(
        config, epochs=1, start_from=first, model=larger, learning_rate=1e-12, weight_decay=0.0
    )
    model = train(still, training, validation, tmp_path / "second")
    train(still, training, validation, tmp_path / "second", resume=True)
    old, new = load_encoder(first), load_encoder(model)
    assert dataclasses.replace(new.spec, weights_sha256="") == larger
    for name, before in old.named_parameters():
        corner = new.state_dict()[name][tuple(slice(side) for side in before.shape)]
        assert torch.allclose(before, corner, atol=1e-3), name
