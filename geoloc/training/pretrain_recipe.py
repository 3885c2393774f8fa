"""What a run of pre-training is told: the encoder's spec and everything that decides its weights."""

import math
from dataclasses import dataclass
from pathlib import Path

from geoloc.embed import Precision, Side
from geoloc.errors import DataError
from geoloc.spec import EncoderSpec
from geoloc.training.recipe import SMALL, TrainConfig


@dataclass(frozen=True)
class PretrainConfig:
    """All that decides a run. Learning rate: linear warm-up, then half a cosine to 0.

    view: whose encoder learns; with model.shared it is both views'. temperature: of NT-Xent. projection: how
    many numbers are compared, the head that makes them is thrown away. chunk: so many images of a batch at a
    time through the encoder, which bounds the memory; 0 all at once. weights, start_from, precision,
    save_every_s and log_every as in `TrainConfig`.

    What differs between the two views of an image. Of a tile: its area, between the shares of a tile's that
    crop says, turned by any angle, half of them mirrored; blur, the share that is blurred. Of a street view:
    its heading, any; tilt_deg, up to how far the camera leans; window, the share that is cut to between 110
    and 240 degrees. Of both: colour and style as in `Augmentation`.
    """

    model: EncoderSpec = SMALL
    view: Side = "satellite"
    epochs: int = 20
    batch: int = 128
    chunk: int = 0
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warmup: float = 0.05
    temperature: float = 0.1
    projection: int = 128
    crop: tuple[float, float] = (0.25, 1.0)
    blur: float = 0.5
    tilt_deg: float = 10.0
    window: float = 0.7
    colour: float = 0.3
    style: float = 0.5
    precision: Precision = "auto"
    seed: int = 0
    save_every_s: float = 60.0
    start_from: Path | None = None
    weights: str = ""
    log_every: int = 50

    def __post_init__(self) -> None:
        low, high = self.crop
        shares = (self.blur, self.window, self.colour, self.style)
        problems = {
            "epochs >= 1 and batch >= 2": self.epochs < 1 or self.batch < 2,
            "a chunk that divides the batch": self.chunk < 0 or (self.chunk and self.batch % self.chunk),
            "a finite learning_rate above 0": not 0 < self.learning_rate < math.inf,
            "weight_decay >= 0 and 0 <= warmup < 1": not (
                0 <= self.weight_decay < math.inf and 0 <= self.warmup < 1
            ),
            "a temperature in 0.001..10": not 0.001 <= self.temperature <= 10,
            "a projection in 2..65536": not 2 <= self.projection <= 65_536,
            "crop to rise within 0.01..1": not 0.01 <= low <= high <= 1,
            "blur, window, colour and style in 0..1": not all(0 <= share <= 1 for share in shares),
            "tilt_deg in 0..45": not 0 <= self.tilt_deg <= 45,
            "0 <= seed < 2**32": not 0 <= self.seed < 2**32,
            "save_every_s >= 0 and log_every >= 1": not (self.save_every_s >= 0 and self.log_every >= 1),
            "weights or start_from, not both": self.weights and self.start_from,
        }
        if wanted := [problem for problem, holds in problems.items() if holds]:
            raise DataError(f"Pre-training wants {'; '.join(wanted)}.")


Recipe = TrainConfig | PretrainConfig
