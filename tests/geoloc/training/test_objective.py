import dataclasses
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from apart import apart

from geoloc.encoder import TwinEncoder
from geoloc.errors import DataError
from geoloc.pairs import Pair, PairTable
from geoloc.places import LonLat
from geoloc.spec import EncoderSpec
from geoloc.training.augment import Augmentation, Queries, Varied, draw, vary
from geoloc.training.negatives import Negatives
from geoloc.training.objective import OVER_PLACES, AskedBins, Objective, asked_north
from geoloc.training.recipe import Loss, TrainConfig
from geoloc.training.run import Progress
from geoloc.training.train import train

LOSSES = get_args(Loss)
PLAIN = Augmentation(shift_m=0.0, tilt_deg=0.0, colour=0.0)


def batch_of(spec: EncoderSpec, rows: np.ndarray, bars: np.ndarray) -> Varied:
    """Street views and tiles that show the same bars at the same azimuths."""
    tall = spec.street_hw[0] + 2 * (spec.street_hw[0] // 4)
    wide = np.repeat(bars[rows], spec.street_hw[1] // bars.shape[1], axis=1)
    canvases = np.repeat(wide[:, None], tall, axis=1).transpose(0, 3, 1, 2)
    seen = np.full((len(rows), 1, tall, spec.street_hw[1]), 255, np.uint8)
    side = spec.satellite_px
    y, x = np.mgrid[-side / 2 : side / 2, -side / 2 : side / 2] + 0.5
    sector = (np.degrees(np.arctan2(x, -y)) + 180) // (360 / bars.shape[1])
    tiles = bars[rows][:, sector.astype(int) % bars.shape[1]]
    rng = np.random.default_rng(int(rows[0]))
    images = torch.from_numpy(np.concatenate([canvases, seen], axis=1)), torch.from_numpy(tiles)
    return vary(*images, spec, draw(len(rows), spec, PLAIN, rng))


def asks(turn: torch.Tensor, windows: torch.Tensor) -> Queries:
    """One of each pair."""
    return Queries(turn, torch.arange(len(turn)), windows)


@pytest.mark.parametrize("bins", [8, 1])
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_falls(tiny_spec: EncoderSpec, loss: Loss, bins: int) -> None:
    """A few steps on one batch, with azimuth bins and pooled; whatever is learnt of the loss learns too."""
    torch.manual_seed(0)
    small = dataclasses.replace(tiny_spec, street_hw=(16, 64), satellite_px=32)
    spec = small if bins > 1 else dataclasses.replace(small, azimuth_bins=1, channels=16, polar=False)
    encoder, objective = TwinEncoder(spec), Objective(TrainConfig(spec, loss=loss), apart(16))
    parts = torch.nn.ModuleList([encoder, objective])
    before = {name: value.detach().clone() for name, value in objective.named_parameters()}
    optimizer = torch.optim.AdamW(parts.parameters(), 3e-3)
    rows, bars = np.arange(3, 11), np.random.default_rng(0).integers(0, 256, (16, 8, 3)).astype(np.uint8)
    batch = batch_of(spec, rows, bars)
    losses = []
    for _ in range(8):
        value = objective(
            encoder.street_bins(batch.street), encoder.satellite_bins(batch.satellite), batch, rows
        )
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(float(value.detach()))
    assert losses[-1] < 0.9 * losses[0], losses
    for name, value in objective.named_parameters():
        assert torch.equal(before[name], value) == (name == "neck.bias"), name


def test_north_is_where_the_tile_has_it() -> None:
    """A query of a whole turn against a place's vector, and against the turned scores between two bins."""
    torch.manual_seed(0)
    bins, place = torch.randn(3, 8, 4), torch.randn(8, 4)
    windows = torch.zeros(3, 8)
    windows[:, 2:5] = 1
    bins = F.normalize((bins * windows[:, :, None]).flatten(1)).view(3, 8, 4)
    turn = torch.tensor([-3.0, 2.0, 5.25])
    north, window = asked_north(AskedBins(bins, windows, torch.arange(3), turn))
    scores = [[float((torch.roll(one, t, 0) * place).sum()) for t in range(8)] for one in bins]
    want = [scores[0][5], scores[1][2], 0.75 * scores[2][5] + 0.25 * scores[2][6]]
    assert (north * place).sum(dim=(1, 2)).tolist() == pytest.approx(want, abs=1e-5)
    assert window[0].tolist() == torch.roll(windows[0], -3).tolist()
    assert torch.allclose(window[2], 0.75 * torch.roll(windows[2], 5) + 0.25 * torch.roll(windows[2], 6))


def test_a_narrow_view_of_its_place_has_cosine_1(
    tiny_spec: EncoderSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows of 1, 2, 5 and all 8 bins, turned, of what the places' vectors hold; other places have less."""
    given: list[torch.Tensor] = []

    def loss(cosines: torch.Tensor, label: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        assert label.tolist() == [5, 6, 7, 8]
        assert not out.any()
        given.append(cosines.detach())
        return cosines.sum()

    monkeypatch.setitem(OVER_PLACES, "cosface", loss)
    torch.manual_seed(0)
    objective = Objective(TrainConfig(tiny_spec, loss="cosface"), apart(16))
    tiles = F.normalize(objective.places.detach()[5:9], dim=2)
    windows = (torch.arange(8) < torch.tensor([[1], [2], [5], [8]])).float()
    street = torch.stack([torch.roll(tile, turn, 0) for turn, tile in enumerate(tiles)])
    turn = -torch.arange(4.0)
    objective(street, tiles, asks(turn, windows), np.arange(5, 9))
    for cosines in given:
        assert torch.allclose(cosines[range(4), range(5, 9)], torch.ones(4), atol=1e-5)
        assert (cosines.abs() <= 1.00001).all()
        assert (cosines > 0.999).sum() == 4


def test_a_class_loss_spares_the_places_that_are_near(tiny_spec: EncoderSpec, places: list[Pair]) -> None:
    """Two pairs of one tile are one place; a third stands beside them, and pulls at nothing of theirs."""
    here = [dataclasses.replace(pair, lonlat=LonLat(10 + 1e-4 * n, 50)) for n, pair in enumerate(places[:4])]
    here[1] = dataclasses.replace(here[1], satellite=here[0].satellite)
    known = Negatives.of(PairTable("made", "train", here), 10.0)
    assert known.place.tolist() == [0, 0, 1, 2]
    objective = Objective(TrainConfig(tiny_spec, loss="proxy-nca"), known)
    bins = F.normalize(torch.randn(1, 8, 4), dim=2)
    objective(bins, bins, asks(torch.zeros(1), torch.ones(1, 8)), np.array([1])).backward()
    pulled = objective.places.grad.abs().amax(dim=(1, 2)) > 0
    assert pulled.tolist() == [True, False, True]


def test_the_hardest_shares_come_one_after_another(tiny_spec: EncoderSpec) -> None:
    config = TrainConfig(tiny_spec, loss="triplet", hardest=(1.0, 0.1), batch=8, epochs=2)
    objective = Objective(config, apart(16))
    assert [objective._hardest() for _ in range(6)] == [1.0, 1.0, 0.1, 0.1, 0.1, 0.1]
    assert "steps" in objective.state_dict()


@pytest.mark.parametrize(
    "change",
    [{"loss": "triplet", "hardest": (1.0, 0.2)}, {"loss": "bnneck", "neighbours": 4, "mine_every": 1}],
    ids=["hardest", "bnneck"],
)
def test_what_a_loss_learns_and_counts_survives_a_stop(
    tiny_spec: EncoderSpec,
    training: PairTable,
    validation: PairTable,
    tmp_path: Path,
    change: dict[str, object],
) -> None:
    spec = dataclasses.replace(tiny_spec, head="gem", azimuth_bins=1, channels=16)
    config = TrainConfig(spec, epochs=2, batch=8, precision="float32", workers=0, save_every_s=0.0)
    config = dataclasses.replace(config, **change)
    train(config, training, validation, tmp_path / "whole")

    def killer(now: Progress) -> None:
        if now.step == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, training, validation, tmp_path / "broken", report=killer)
    train(config, training, validation, tmp_path / "broken", resume=True)
    whole, broken = (
        (tmp_path / name / "checkpoint.safetensors").read_bytes() for name in ("whole", "broken")
    )
    assert whole == broken


def test_places_too_many_to_learn_are_refused(
    tiny_spec: EncoderSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geoloc.training.objective.MAX_LEARNT", 16 * tiny_spec.dim)
    assert Objective(TrainConfig(tiny_spec, loss="arcface"), apart(16))
    with pytest.raises(DataError, match="loss=infonce"):
        Objective(TrainConfig(tiny_spec, loss="arcface"), apart(17))
    assert Objective(TrainConfig(tiny_spec), apart(17))


@pytest.mark.parametrize(
    "wrong",
    [
        {"smoothing": 0.1, "loss": "triplet"},
        {"smoothing": 1.0},
        {"smoothing": float("nan")},
        {"hardest": (1.0, 0.1)},
        {"hardest": (), "loss": "triplet"},
        {"hardest": (0.0,), "loss": "triplet"},
    ],
    ids=str,
)
def test_settings_of_another_loss_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(DataError, match=r"set (smoothing|hardest)|list of shares"):
        TrainConfig(**wrong)  # type: ignore[arg-type]


def test_threads_sum_a_gradient_in_one_order() -> None:
    """Overlapping windows of one view add to the same bins: with two threads as with one, again and again."""
    rng = np.random.default_rng(0)
    owner = torch.from_numpy(rng.integers(0, 4, 256))
    windows = torch.from_numpy(rng.uniform(size=(256, 32)) < 0.6).float()
    street = torch.from_numpy(rng.normal(size=(4, 32, 32)).astype(np.float32))
    pull = torch.from_numpy(rng.normal(size=(256, 32, 32)).astype(np.float32))
    before, found = torch.get_num_threads(), set()
    try:
        for threads in (1, *[4] * 30):
            torch.set_num_threads(threads)
            learnt = street.clone().requires_grad_()
            asked = AskedBins.of(learnt, Queries(torch.zeros(4), owner, windows))
            (asked.bins * pull).sum().backward()
            assert learnt.grad is not None
            found.add(learnt.grad.numpy().tobytes())
    finally:
        torch.set_num_threads(before)
    assert len(found) == 1
