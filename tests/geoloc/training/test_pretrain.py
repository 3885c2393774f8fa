"""Pre-training against a loop of eq. 1, against views whose geometry is known, and stopped at any moment."""

import dataclasses
import json
import math
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from scipy import ndimage

from geoloc.encoder import TwinEncoder
from geoloc.errors import DataError, ImageError, ModelError
from geoloc.lineup import View
from geoloc.model import load_encoder, trained_towns
from geoloc.pairs import Pair, PairTable
from geoloc.spec import EncoderSpec
from geoloc.training.agreement import agreement, representation
from geoloc.training.pretrain import pretrain
from geoloc.training.pretrain_recipe import PretrainConfig
from geoloc.training.recipe import TrainConfig
from geoloc.training.run import Progress
from geoloc.training.run_folder import read_log
from geoloc.training.train import train
from geoloc.training.two_views import Crops, blurred, cropped, draw_crops, two_views
from geoloc.training.unlabelled import Unlabelled, image_files, image_shape, named, square_px, stored

CHILD = """
import sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from geoloc.lineup import View
from geoloc.training.pretrain import pretrain
from geoloc.training.pretrain_recipe import PretrainConfig
from geoloc.spec import EncoderSpec
from geoloc.training.unlabelled import image_files
spec = EncoderSpec("test_resnet", 2, False, 8, 4, (32, 128), (-45.0, 45.0), 48, True, 48.0)
config = PretrainConfig(
    spec, epochs=2, batch=8, projection=16, precision="float32", save_every_s=0.0, log_every=2
)
tiles = [View(Path(path), footprint_m=48.0) for path in sys.argv[2:]]
pretrain(config, [image_files(tiles, "satellite", spec, "made", frozenset({5}))], Path(sys.argv[1]),
         report=lambda now: (print(now.step, flush=True), time.sleep(300 if now.step == 5 else 0)))
"""


@pytest.fixture
def config(tiny_spec: EncoderSpec) -> PretrainConfig:
    return PretrainConfig(
        tiny_spec, epochs=2, batch=8, projection=16, precision="float32", save_every_s=0.0, log_every=2
    )


def tiles_of(places: list[Pair], spec: EncoderSpec) -> Unlabelled:
    views = [View(pair.satellite, footprint_m=48.0) for pair in places[:32]]
    return image_files(views, "satellite", spec, "made", frozenset({5}))


def streets_of(places: list[Pair], spec: EncoderSpec) -> Unlabelled:
    return image_files([View(pair.street, hfov_deg=360.0) for pair in places[:32]], "street", spec, "made")


def naive(first: np.ndarray, second: np.ndarray, temperature: float) -> float:
    """SimCLR, eq. 1, in its own order: z_2k and z_2k+1 are the two views of image k."""
    z = np.stack([first, second], axis=1).reshape(-1, first.shape[1])
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    total = 0.0
    for i in range(len(z)):
        below = sum(math.exp(z[i] @ z[k] / temperature) for k in range(len(z)) if k != i)
        total -= math.log(math.exp(z[i] @ z[i ^ 1] / temperature) / below)
    return total / len(z)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_the_loss_is_equation_1(temperature: float) -> None:
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((2, 7, 5))
    given = torch.from_numpy(first).requires_grad_()
    loss = agreement(given, torch.from_numpy(second), temperature)
    assert float(loss.detach()) == pytest.approx(naive(first, second, temperature), abs=1e-9)
    loss.backward()
    assert given.grad is not None
    for row, column in ((0, 0), (3, 4), (6, 2)):
        step = np.zeros_like(first)
        step[row, column] = 1e-5
        up, down = (naive(first + way * step, second, temperature) for way in (1, -1))
        assert float(given.grad[row, column]) == pytest.approx((up - down) / 2e-5, abs=1e-7)


def test_a_crop_is_the_ground_it_says(tiny_spec: EncoderSpec) -> None:
    """Ground whose red is its column and whose green is its row, against the corners worked out by hand."""
    r, s = square_px(tiny_spec), tiny_spec.satellite_px
    ground = np.zeros((4, r, r, 3), np.uint8)
    ground[..., 0], ground[..., 1] = np.arange(r), np.arange(r)[:, None]
    turn = np.radians([0.0, 90.0, 0.0, 33.0])
    crops = Crops(
        np.array([24.0, 24.0, 24.0, 30.0]), np.array([[0, 0], [0, 0], [5, -7], [2, 3]], float), turn,
        np.array([1.0, 1.0, -1.0, -1.0]), np.zeros(4),
    )  # fmt: skip
    seen = cropped(torch.from_numpy(ground), s, crops).numpy() * 255
    middle = (np.arange(s) + 0.5) / s - 0.5
    for i in range(4):
        x, y = np.meshgrid(middle * crops.side[i] * crops.mirror[i], middle * crops.side[i])
        column = x * math.cos(turn[i]) - y * math.sin(turn[i]) + crops.middle[i, 0] + r / 2 - 0.5
        row = x * math.sin(turn[i]) + y * math.cos(turn[i]) + crops.middle[i, 1] + r / 2 - 0.5
        np.testing.assert_allclose(seen[i, 0], column, atol=0.02)
        np.testing.assert_allclose(seen[i, 1], row, atol=0.02)


def test_crops_stay_on_the_ground(config: PretrainConfig) -> None:
    crops = draw_crops(500, config, np.random.default_rng(0))
    tile, r = config.model.satellite_px, square_px(config.model)
    assert r == 1.5 * tile
    area = crops.side**2 / tile**2
    assert area.min() >= 0.25 and area.max() <= 1 and area.std() > 0.15
    corners = np.stack([np.cos(crops.turn_rad), np.sin(crops.turn_rad)])
    reach = crops.side / 2 * np.abs(corners).sum(axis=0)
    assert (np.abs(crops.middle).max(axis=1) + reach <= r / 2 + 1e-9).all()
    assert 0.4 < (crops.mirror == 1).mean() < 0.6 and 0.4 < (crops.blur > 0).mean() < 0.6


def test_the_blur_is_a_gaussian() -> None:
    images = np.random.default_rng(0).uniform(0, 1, (3, 2, 20, 24))
    deviation = np.array([0.0, 1.0, 1.5])
    seen = blurred(torch.from_numpy(images).float(), torch.from_numpy(deviation).float()).numpy()
    np.testing.assert_allclose(seen[0], images[0], atol=1e-6)
    for i in (1, 2):
        want = ndimage.gaussian_filter(images[i], (0, deviation[i], deviation[i]), mode="nearest", radius=5)
        np.testing.assert_allclose(seen[i], want, atol=1e-4)


def test_a_part_of_a_batch_is_varied_as_in_the_whole(
    config: PretrainConfig, places: list[Pair], tmp_path: Path
) -> None:
    """And the two views differ, as do those of the next step."""
    spec = config.model
    for view, images in (("satellite", tiles_of(places, spec)), ("street", streets_of(places, spec))):
        told = dataclasses.replace(config, view=view)
        decoded = torch.from_numpy(np.array(stored([images], told.view, spec, tmp_path)))
        assert decoded.shape == (32, *image_shape(spec, told.view))
        first, second = two_views(decoded[np.arange(8)], np.arange(8), told, 3).images
        part = np.array([1, 6])
        for whole, some in zip((first, second), two_views(decoded[part], part, told, 3).images, strict=True):
            assert torch.allclose(whole[part], some, atol=1e-5)
        later, _ = two_views(decoded[np.arange(8)], np.arange(8), told, 4).images
        assert all((one - other).abs().mean() > 0.05 for one, other in ((first, second), (first, later)))


def test_a_street_view_is_represented_by_what_it_shows(tiny_spec: EncoderSpec) -> None:
    torch.manual_seed(0)
    encoder = TwinEncoder(tiny_spec).eval()
    canvas = torch.rand(3, 4, *tiny_spec.street_hw)
    canvas[:, 3] = 1
    canvas[0, :, :, :64] = 0
    canvas[2] = 0
    bins = encoder.street_bins(canvas)
    found = representation(encoder, "street", canvas)
    assert torch.allclose(found[0], bins[0, 4:].mean(dim=0), atol=1e-6)
    assert torch.allclose(found[1], bins[1].mean(dim=0), atol=1e-6)
    assert (found[2] == 0).all()


def test_one_encoder_learns_and_training_goes_on_from_it(
    config: PretrainConfig, places: list[Pair], tmp_path: Path
) -> None:
    """The other encoder is as it began, norms and all; then the street's is learnt from there."""
    mild = dataclasses.replace(config, crop=(0.7, 1.0), style=0.0, colour=0.05, blur=0.0)
    longer = dataclasses.replace(mild, epochs=8, batch=16, learning_rate=3e-3, save_every_s=60.0)
    first = pretrain(longer, [tiles_of(places, config.model)], tmp_path / "tiles")
    lines = [line for line in read_log(tmp_path / "tiles") if "learning_rate" not in line]
    assert len(lines) == 8 and lines[-1]["loss"] < lines[0]["loss"] / 1.5
    torch.manual_seed(longer.seed)
    before, after = TwinEncoder(longer.model), load_encoder(first)
    moved = {
        name.split(".")[0]
        for name, value in after.state_dict().items()
        if not torch.allclose(value.float(), before.state_dict()[name].float(), atol=2e-3)
    }
    assert moved == {"satellite"}
    card = (first / "README.md").read_text()
    assert "32 satellite tiles of made, 8 epochs" in card and "Town seeds trained on: 5." in card
    assert trained_towns(first) == {5}

    then = dataclasses.replace(config, view="street", epochs=1, start_from=first)
    second = pretrain(then, [streets_of(places, config.model)], tmp_path / "both")
    both = load_encoder(second)
    assert all(
        torch.equal(value, after.state_dict()[name])
        for name, value in both.state_dict().items()
        if name.startswith("satellite.")
    )
    assert trained_towns(second) == {5}
    assert sorted(path.name for path in (tmp_path / "both").iterdir()) == [
        "checkpoint.safetensors", "config.json", "environment.jsonl", "images.json", "log.jsonl", "model",
    ]  # fmt: skip

    fine = TrainConfig(
        config.model, epochs=1, batch=8, neighbours=0, precision="float32", workers=0, start_from=second,
        learning_rate=1e-12, weight_decay=0.0,
    )  # fmt: skip
    known, unseen = PairTable("made", "train", places[:8]), PairTable("made", "val", places[40:])
    kept = load_encoder(train(fine, known, unseen, tmp_path / "fine"))
    for name, value in both.named_parameters():
        assert torch.allclose(value, dict(kept.named_parameters())[name], atol=1e-3), name
    with pytest.raises(DataError, match="training and validation both"):
        train(fine, known, dataclasses.replace(unseen, seeds=frozenset({5})), tmp_path / "leak")


def test_stopped_and_resumed_is_unbroken(config: PretrainConfig, places: list[Pair], tmp_path: Path) -> None:
    """In chunks, of either view."""
    told = dataclasses.replace(config, view="street", chunk=4)
    images = [streets_of(places, told.model)]
    pretrain(told, images, tmp_path / "whole")

    class Killed(Exception):
        pass

    for stop in (2, 5):

        def killer(now: Progress, stop: int = stop) -> None:
            if now.step == stop:
                raise Killed

        with pytest.raises(Killed):
            pretrain(told, images, tmp_path / "broken", resume=stop == 5, report=killer)
    pretrain(told, images, tmp_path / "broken", resume=True)
    for name in ("checkpoint.safetensors", "model/weights.safetensors", "model/README.md"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "broken" / name).read_bytes(), name
    losses = [[line["loss"] for line in read_log(tmp_path / run)] for run in ("whole", "broken")]
    assert losses[0] == losses[1] and len(losses[0]) == 6


def test_a_run_that_is_done_reads_no_image_again(
    config: PretrainConfig, places: list[Pair], tmp_path: Path
) -> None:
    images = [streets_of(places, config.model)]
    model = pretrain(dataclasses.replace(config, view="street"), images, tmp_path / "run")
    before = (tmp_path / "run" / "checkpoint.safetensors").read_bytes()

    def gone() -> Iterator[Any]:
        raise ImageError("the disk with the photos is away")

    away = [dataclasses.replace(images[0], read=gone)]
    assert pretrain(dataclasses.replace(config, view="street"), away, tmp_path / "run", resume=True) == model
    assert (tmp_path / "run" / "checkpoint.safetensors").read_bytes() == before


def test_killed_between_the_last_line_and_the_checkpoint_is_not_done(
    config: PretrainConfig, places: list[Pair], tmp_path: Path
) -> None:
    """What is done says the checkpoint; images that a killed process left are gone once it is."""
    told, images, run = (
        dataclasses.replace(config, view="street"),
        [streets_of(places, config.model)],
        tmp_path / "run",
    )
    pretrain(told, images, tmp_path / "whole")

    class Killed(Exception):
        pass

    def killer(now: Progress) -> None:
        if now.step == now.steps - 1:
            raise Killed

    with pytest.raises(Killed):
        pretrain(told, images, run, report=killer)
    with (run / "log.jsonl").open("a") as file:
        for epoch in range(told.epochs):
            file.write(json.dumps({"step": epoch, "loss": 1.0}) + "\n")
    pretrain(told, images, run, resume=True)
    ours, theirs = ((one / "checkpoint.safetensors").read_bytes() for one in (run, tmp_path / "whole"))
    assert ours == theirs
    (run / "decoded").mkdir()
    pretrain(told, images, run, resume=True)
    assert not (run / "decoded").exists()


def test_a_batch_that_broke_it_is_named(config: PretrainConfig, places: list[Pair], tmp_path: Path) -> None:
    wild = dataclasses.replace(config, view="street", learning_rate=1e30, warmup=0.0)
    images = [streets_of(places, config.model), streets_of(places[8:], config.model)]
    with pytest.raises(DataError, match=r"failed_batch.json"):
        pretrain(wild, images, tmp_path / "run")
    failed = json.loads((tmp_path / "run" / "failed_batch.json").read_text())
    known = {str(pair.street) for pair in places}
    assert len(failed["batch"]) == wild.batch and all(one["image"] in known for one in failed["batch"])
    assert named([dataclasses.replace(images[0], files=())], 3) == {"image": 3, "of": ["made"]}


def test_sigkilled_and_resumed_is_unbroken(
    config: PretrainConfig, places: list[Pair], tmp_path: Path
) -> None:
    """The one that is killed is another process."""
    images = [tiles_of(places, config.model)]
    pretrain(config, images, tmp_path / "whole")
    tiles = [str(pair.satellite) for pair in places[:32]]
    words = [sys.executable, "-c", CHILD, str(tmp_path / "broken"), *tiles]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as broken:
        assert broken.stdout is not None
        for line in broken.stdout:
            if line.strip() == "5":
                break
        broken.kill()
    assert broken.returncode == -signal.SIGKILL
    steps: list[int] = []
    pretrain(config, images, tmp_path / "broken", resume=True, report=lambda now: steps.append(now.step))
    assert steps == [5, 6, 7, 8]
    one, other = (load_file(tmp_path / name / "checkpoint.safetensors") for name in ("whole", "broken"))
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_refusals(config: PretrainConfig, places: list[Pair], tmp_path: Path) -> None:
    spec, run = config.model, tmp_path / "run"
    tiles = tiles_of(places, spec)
    with pytest.raises(DataError, match="no images"):
        pretrain(config, [image_files([], "satellite", spec, "none")], run)
    with pytest.raises(DataError, match="32 images do not fill a batch of 64"):
        pretrain(dataclasses.replace(config, batch=64), [tiles], run)
    with pytest.raises(DataError, match="32 images do not fill a batch of 40"):  # imagery had less than hoped
        pretrain(dataclasses.replace(config, batch=40), [dataclasses.replace(tiles, planned=50)], run)
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(places[0].satellite.read_bytes()[:80])
    views = [*[View(pair.satellite) for pair in places[:9]], View(damaged)]
    with pytest.raises(ImageError, match=r"damaged\.png"):
        pretrain(config, [image_files(views, "satellite", spec, "bad")], run)
    with pytest.raises(DataError, match="weights or start_from"):
        dataclasses.replace(config, weights="hub", start_from=tmp_path)
    with pytest.raises(ModelError, match="nosuchnet"):
        unknown = dataclasses.replace(spec, backbone="nosuchnet")
        pretrain(dataclasses.replace(config, model=unknown), [tiles], run)
    with pytest.raises(DataError, match="crop to rise"):
        dataclasses.replace(config, crop=(0.5, 0.2))
    assert not run.exists()
    wild = dataclasses.replace(config, learning_rate=1e30, warmup=0.0)
    with pytest.raises(DataError, match="lower learning_rate"):
        pretrain(wild, [tiles], run)
    with safe_open(run / "checkpoint.safetensors", "pt") as kept:
        assert '"step": 1,' in kept.metadata()["state"]
    with pytest.raises(DataError, match="--resume"):
        pretrain(config, [tiles], run)
    with pytest.raises(DataError, match="other settings"):
        pretrain(config, [tiles], run, resume=True)
    with pytest.raises(DataError, match="other data"):
        pretrain(wild, [dataclasses.replace(tiles, seeds=frozenset({6}))], run, resume=True)
    with pytest.raises(DataError, match="other data"):
        others = [View(pair.satellite, footprint_m=48.0) for pair in places[1:33]]
        pretrain(wild, [image_files(others, "satellite", spec, tiles.name, tiles.seeds)], run, resume=True)
    (run / "checkpoint.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ModelError, match="damaged"):
        pretrain(wild, [tiles], run, resume=True)
