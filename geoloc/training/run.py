"""A run of training: what all its parts need to know, and how it tells where it stands."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from geoloc.pairs import PairTable
from geoloc.report import StageReport
from geoloc.training.pretrain_recipe import Recipe
from geoloc.training.ranks import Ranks
from geoloc.training.recipe import TrainConfig
from geoloc.training.run_folder import Told


@dataclass(frozen=True)
class Progress:
    """Where a run stands, reported after every step. In pre-training the two views of an image are a pair."""

    epoch: int
    step: int
    steps: int
    loss: float
    pairs_per_s: float
    recall_at_1: float | None


Report = Callable[[Progress], None]


@dataclass(frozen=True)
class Run:
    """The settings, the folder that it writes to, its processes, and whom it tells.

    report: called after every step, preparing: while images are decoded or mined; by the first process alone.
    notes: the file of the folder that names what it learns from, which is data. before: the seeds of the
    towns that the model it starts from was trained on.
    """

    config: Recipe
    folder: Path
    ranks: Ranks
    report: Report
    preparing: StageReport
    notes: Path
    data: Told
    before: frozenset[int]


@dataclass(frozen=True)
class PairRun(Run):
    """A run that learns from pairs. keep_decoded: where they stay once decoded; else with the run they go."""

    config: TrainConfig
    pairs: PairTable
    validation: PairTable
    keep_decoded: Path | None = None
