"""What the processes of test_train.py and test_ranks.py train."""

import dataclasses
from pathlib import Path
from typing import Any

from conftest import write_place

from geoloc.pairs import PairTable
from geoloc.recipe import TrainConfig
from geoloc.spec import EncoderSpec

SPEC = EncoderSpec("test_resnet", 2, False, 8, 4, (32, 128), (-45.0, 45.0), 48, True, 48.0)
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "chunks": {"chunk": 4, "recompute": True, "ema": 0.5, "neighbours": 4, "mine_every": 1},
    "shared": {
        "model": dataclasses.replace(SPEC, shared=True, backbone="mobilenetv4_conv_small_050", stage=1),
        "loss": "triplet",
    },
}


def config(variant: str = "plain") -> TrainConfig:
    """Two epochs of four batches, a checkpoint after each."""
    short = TrainConfig(SPEC, epochs=2, batch=8, precision="float32", workers=0, save_every_s=0.0)
    return dataclasses.replace(short, learning_rate=1e-3, log_every=1, **VARIANTS[variant])


def tables(folder: Path) -> tuple[PairTable, PairTable]:
    """The same places in every process."""
    places = [write_place(folder, number) for number in range(40)]
    return PairTable("made", "train", places[:32]), PairTable("made", "val", places[32:])
