"""What a training run is told: the encoder's spec and everything that decides its weights."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from geoloc.batches import Augmentation
from geoloc.errors import DataError
from geoloc.spec import EncoderSpec

SMALL = EncoderSpec(
    backbone="test_resnet",
    stage=3,
    shared=False,
    azimuth_bins=16,
    channels=32,
    street_hw=(64, 256),
    street_elevation_deg=(-30.0, 30.0),
    satellite_px=128,
    polar=True,
    footprint_m=64.0,
)


@dataclass(frozen=True)
class TrainConfig:
    """All that decides a run. Learning rate: linear warm-up, then half a cosine to 0.

    loss_weight: the soft margin's (10 in SAFA). windows: the loss is the mean over the whole ring of
    azimuths (1) and over its quarters (4) and so on, see `over_windows`. precision: `auto` is
    bfloat16 where the device computes in it, else float16 on a GPU, else float32. start_from: a
    model folder of the same spec to go on from. save_every_s: seconds between checkpoints within an
    epoch.
    """

    model: EncoderSpec = SMALL
    augmentation: Augmentation = field(
        default_factory=lambda: Augmentation(shift_m=8.0, heading_noise_deg=2.0, narrow=0.1, colour=0.3)
    )
    epochs: int = 10
    batch: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    warmup: float = 0.05
    loss_weight: float = 10.0
    windows: tuple[int, ...] = (1, 4, 16)
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    seed: int = 0
    workers: int = 1
    save_every_s: float = 60.0
    start_from: Path | None = None

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 2 or not 0 <= self.workers <= 64 or not 0 <= self.warmup < 1:
            raise DataError("A run wants epochs >= 1, batch >= 2, workers in 0..64 and 0 <= warmup < 1.")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0 and self.loss_weight > 0):
            raise DataError("A run wants a learning_rate and a loss_weight above 0.")
        if not (0 <= self.weight_decay < math.inf and 0 <= self.seed < 2**32 and self.save_every_s >= 0):
            raise DataError("A run wants weight_decay >= 0, 0 <= seed < 2**32 and save_every_s >= 0.")
        how, (low, high) = self.augmentation, self.augmentation.narrow_deg
        if not (
            0 <= how.shift_m < math.inf
            and 0 <= how.heading_noise_deg <= 180
            and 0 <= how.narrow <= 1
            and 1 <= low <= high <= 360
            and 0 <= how.colour <= 1
        ):
            raise DataError(
                "An augmentation wants shift_m >= 0, heading_noise_deg in 0..180, narrow and colour in 0..1, "
                "narrow_deg rising in 1..360."
            )
        if not self.windows or any(n < 1 or self.model.azimuth_bins % n for n in self.windows):
            raise DataError(
                f"windows {self.windows} must cut {self.model.azimuth_bins} azimuth bins into equal parts; "
                "windows=[1] always does."
            )
