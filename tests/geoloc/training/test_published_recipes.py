"""The recipes in docs/recipes: they say what their papers do or the study did, and `train` takes them."""

from pathlib import Path

import pytest
import torch

from geoloc.encoder import TwinEncoder
from geoloc.pairs import PairTable
from geoloc.training.config import read_config
from geoloc.training.recipe import TrainConfig
from geoloc.training.run_folder import read_log
from geoloc.training.step import both_views
from geoloc.training.train import train

RECIPES = Path(__file__).parents[3] / "docs" / "recipes"
LESS = ["epochs=1", "batch=8", "workers=0", "precision=float32", "weights=''", "validate_every=1"]
LESS += ["model.street_hw=[32, 128]", "model.satellite_px=48", "model.footprint_m=48"]
TINY = {
    "sample4geo": ["model.backbone=test_convnext", "model.channels=64", "neighbours=4"],
    "safa": ["model.backbone=test_resnet", "model.stage=2", "model.channels=256"],
    "larger": ["model.azimuth_bins=8", "neighbours=4", "frozen=0"],
}


PUBLISHED = {"sample4geo": (1024, 87.6), "safa": (4096, 29.5)}


@pytest.mark.parametrize("name", PUBLISHED)
def test_embeds_as_its_paper(name: str) -> None:
    dim, millions = PUBLISHED[name]
    told = read_config(TrainConfig(), RECIPES / f"{name}.toml", [])
    with torch.device("meta"):
        encoder = TwinEncoder(told.model)
        side = told.model.satellite_px
        images = torch.empty(1, 4, *told.model.street_hw), torch.empty(1, 3, side, side)
        assert [bins.shape for bins in both_views(encoder, *images)] == [(1, 1, dim)] * 2
    assert sum(weight.numel() for weight in encoder.parameters()) == pytest.approx(millions * 1e6, rel=2e-3)
    assert told.augmentation.turn_deg == 0 and told.augmentation.layouts == (1, 0, 0, 0)


@pytest.mark.parametrize("name", TINY)
def test_trains(name: str, training: PairTable, validation: PairTable, tmp_path: Path) -> None:
    told = read_config(TrainConfig(), RECIPES / f"{name}.toml", [*LESS, *TINY[name]])
    train(told, training, validation, tmp_path / "run")
    assert [line for line in read_log(tmp_path / "run") if "recall@1" in line]
    card = (tmp_path / "run" / "model" / "README.md").read_text().replace("\n", " ")
    assert ("at known heading" in card) == (name in PUBLISHED)


def test_none_is_left_out() -> None:
    assert {path.stem for path in RECIPES.iterdir()} == set(TINY)
