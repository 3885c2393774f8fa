"""What the processes of test_train.py and test_ranks.py train."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from apart import apart
from conftest import write_place
from torch import Tensor

from geoloc.encoder import TwinEncoder
from geoloc.pairs import PairTable
from geoloc.spec import EncoderSpec
from geoloc.training.augment import draw, vary
from geoloc.training.learner import Learner, optimizer_of
from geoloc.training.objective import Objective
from geoloc.training.ranks import all_ranks, norms_over_all
from geoloc.training.recipe import TrainConfig
from geoloc.training.step import Bins, Stepper, both_views, parts_of

SPEC = EncoderSpec("test_resnet", 2, False, 8, 4, (32, 128), (-45.0, 45.0), 48, True, 48.0)
ALONE = dataclasses.replace(SPEC, backbone="test_convnext", stage=1)
SHARED = dataclasses.replace(SPEC, shared=True, backbone="mobilenetv4_conv_small_050", stage=1)
CHUNKS = {"batch": 16, "chunk": 8, "recompute": True, "ema": 0.5, "neighbours": 4, "mine_every": 1}
VARIANTS: dict[str, dict[str, Any]] = {
    "norms": {},
    "plain": {"model": ALONE},
    "chunks": {"model": ALONE, **CHUNKS},
    "chunked norms": {"chunk": 4},
    "shared": {"model": SHARED, "loss": "triplet"},
}


def config(variant: str = "norms") -> TrainConfig:
    """Two epochs of four batches, a checkpoint after each."""
    short = TrainConfig(SPEC, epochs=2, batch=8, precision="float32", workers=0, save_every_s=0.0)
    short = dataclasses.replace(short, neighbours=0, learning_rate=1e-3, log_every=1)
    return dataclasses.replace(short, **VARIANTS[variant])


def tables(folder: Path) -> tuple[PairTable, PairTable]:
    """The same places in every process."""
    places = [write_place(folder, number) for number in range(40)]
    return PairTable("made", "train", places[:32]), PairTable("made", "val", places[32:])


def in_double(encoder: TwinEncoder, street: Tensor, satellite: Tensor) -> Bins:
    return both_views(encoder, street.double(), satellite.double())


def steps(variant: str) -> tuple[dict[str, Tensor], Tensor]:
    """The weights after three steps on noise, and the losses, in float64: what rounding hides is gone."""
    told = config(variant)
    b, spec, rng = told.batch, told.model, np.random.default_rng(0)
    canvases = rng.integers(0, 256, (b, 4, spec.street_hw[0] * 3 // 2, spec.street_hw[1]), np.uint8)
    tiles = rng.integers(0, 256, (b, spec.satellite_px + 8, spec.satellite_px + 8, 3), np.uint8)
    canvases[:, 3] = 255
    torch.manual_seed(0)
    learner = Learner(TwinEncoder(spec), Objective(told, apart(b)), told.ema).double().train()
    losses = []
    with all_ranks() as ranks:
        norms_over_all(learner.encoder, ranks)
        scaler = torch.amp.GradScaler("cpu", enabled=False)
        optimizer = optimizer_of(learner, told)
        for group in optimizer.param_groups:
            group["eps"] = 1e-3  # else gradients near 0, float32's rounding, are full steps
        stepper = Stepper(learner, optimizer, scaler, torch.float32, ranks, encode=in_double)
        for number in range(3):
            drawn = draw(b, spec, told.augmentation, np.random.default_rng(number))
            mine = parts_of(b, told.chunk, ranks)[ranks.rank]
            images = torch.from_numpy(canvases), torch.from_numpy(tiles)
            parts = [vary(*(one[rows] for one in images), spec, drawn.of(rows)) for rows in mine]
            losses.append(stepper.step(parts * 2, len(mine), np.arange(b), number, number)[0])
    return {name: value.clone() for name, value in learner.state_dict().items()}, torch.tensor(losses)
