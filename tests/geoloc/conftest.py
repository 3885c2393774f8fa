"""A tiny set of pairs: each place is a pattern of colours by azimuth, seen in both views."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from geoloc.pairs import Pair, PairTable
from geoloc.places import LonLat

torch.set_num_threads(1)  # the sums of a resumed run must come in the same order


def write_place(folder: Path, number: int) -> Pair:
    """A panorama of colour bars, and the tile whose sectors have the same colours."""
    rng = np.random.default_rng(number)
    bars = rng.integers(0, 256, (8, 3)).astype(np.uint8)
    street = np.repeat(np.repeat(bars[None], 32, axis=0), 16, axis=1)
    y, x = np.mgrid[-24:24, -24:24] + 0.5
    sector = (np.degrees(np.arctan2(x, -y)) + 180) // 45
    Image.fromarray(street).save(folder / f"{number}_street.png")
    Image.fromarray(bars[sector.astype(int) % 8]).save(folder / f"{number}_tile.png")
    place = LonLat(10 + number / 1000, 50)
    return Pair(
        folder / f"{number}_street.png",
        folder / f"{number}_tile.png",
        0.0,
        360.0,
        place,
        place,
        footprint_m=48.0,
    )


@pytest.fixture(scope="session")
def places(tmp_path_factory: pytest.TempPathFactory) -> list[Pair]:
    folder = tmp_path_factory.mktemp("places")
    return [write_place(folder, number) for number in range(48)]


@pytest.fixture
def training(places: list[Pair]) -> PairTable:
    return PairTable("made", "train", places[:32], seeds=frozenset({1}))


@pytest.fixture
def validation(places: list[Pair]) -> PairTable:
    return PairTable("made", "val", places[32:], seeds=frozenset({2}))
