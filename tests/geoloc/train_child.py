"""What the killed process of test_train.py trains."""

import dataclasses
from pathlib import Path

from conftest import write_place

from geoloc.pairs import PairTable
from geoloc.recipe import TrainConfig
from geoloc.spec import EncoderSpec


def config() -> TrainConfig:
    """Two epochs of four batches, a checkpoint after each."""
    spec = EncoderSpec("test_resnet", 2, False, 8, 4, (32, 128), (-45.0, 45.0), 48, True, 48.0)
    short = TrainConfig(spec, epochs=2, batch=8)
    return dataclasses.replace(short, precision="float32", workers=0, save_every_s=0.0)


def tables(folder: Path) -> tuple[PairTable, PairTable]:
    """The same places in every process."""
    places = [write_place(folder, number) for number in range(40)]
    return PairTable("made", "train", places[:32]), PairTable("made", "val", places[32:])
