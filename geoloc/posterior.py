"""How sure: from the scores of one query to probabilities that sum to one, with a share for "not here"."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from geoloc.errors import ModelError

FILE = "calibration.json"
SCHEMA = 1
REGION_SHARE = 0.9

Weights = tuple[float, float, float]


@dataclass(frozen=True)
class Evidence:
    """What a search says about one query.

    scores: cosines of the tiles listed, best first. background: of a sample of the gallery, at the best
    heading like them. tiles: how many were searched. seen_deg: azimuths that the view shows. span_deg:
    headings that were searched, 0 for a known one to 360.
    """

    scores: Float[np.ndarray, " k"]
    background: Float[np.ndarray, " s"]
    tiles: int
    seen_deg: float
    span_deg: float

    @property
    def conditions(self) -> Float[np.ndarray, " 3"]:
        """1, how narrow the view is (octaves below 360 degrees), and the share of all headings searched."""
        return np.array([1.0, math.log2(360 / max(self.seen_deg, 1.0)), self.span_deg / 360])

    def standardised(self, scores: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Scores in deviations of the background above its mean."""
        spread = max(float(self.background.std()), 1e-3)
        return (scores - float(self.background.mean())) / spread


@dataclass(frozen=True)
class Posterior:
    """The probability of every place, given that being in the gallery and not were equally likely before.

    tiles: of each tile listed, in the order of the evidence. elsewhere: of the gallery's other tiles
    together. absent: that the place is not in the gallery. The sum is 1.
    """

    tiles: Float[np.ndarray, " k"]
    elsewhere: float
    absent: float

    @property
    def in_gallery(self) -> float:
        """The probability that the place is in the gallery."""
        return 1 - self.absent

    def region(self, share: float = REGION_SHARE) -> Int64[np.ndarray, " n"]:
        """The fewest listed tiles that hold `share` of what lies in the gallery, as indices, best first.

        All of them where they hold less.
        """
        order = np.argsort(-self.tiles, kind="stable")
        held = np.cumsum(self.tiles[order]) / max(self.in_gallery, 1e-12)
        return np.asarray(order[: int(np.searchsorted(held, share - 1e-9)) + 1])


@dataclass(frozen=True)
class Calibration:
    """How a model's scores become likelihoods, fitted on towns that it was not trained on.

    The log of how much likelier a score s is of the true tile than of another is
    (standard . x) z + (cosine . x) s + (offset . x), with z the score in deviations above the query's own
    background, and x the conditions of the evidence. fitted_on: what it was fitted on, in words.
    """

    standard: Weights
    cosine: Weights
    offset: Weights
    fitted_on: str = ""

    def log_likelihood(self, evidence: Evidence, scores: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Of scores of that query."""
        x = evidence.conditions
        z = evidence.standardised(scores)
        return np.asarray((x @ self.standard) * z + (x @ self.cosine) * scores + x @ self.offset)

    def posterior(self, evidence: Evidence) -> Posterior:
        """Bayes' rule over the tiles and "not in this gallery", each tile as likely before as any other."""
        listed = self.log_likelihood(evidence, evidence.scores) - math.log(max(evidence.tiles, 1))
        rest = max(0, evidence.tiles - len(evidence.scores))
        lesser = evidence.background[evidence.background <= evidence.scores.min(initial=math.inf)]
        unlisted = -math.inf
        if rest and len(lesser):
            terms = self.log_likelihood(evidence, lesser) - math.log(max(evidence.tiles, 1))
            unlisted = float(np.logaddexp.reduce(terms)) + math.log(rest / len(lesser))
        total = float(np.logaddexp.reduce([*listed, unlisted, 0.0]))
        tiles = np.exp(listed - total)
        absent = math.exp(-total)
        return Posterior(tiles, max(0.0, 1 - absent - float(tiles.sum())), absent)

    def to_json(self) -> str:
        """As text, for calibration.json."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=2) + "\n"


def read_calibration(folder: Path) -> Calibration | None:
    """The calibration of a model's folder, None where it has none. Raises ModelError."""
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        raw: Any = json.loads(path.read_text(encoding="utf-8")[:65536])
        weights = {name: _weights(raw[name]) for name in ("standard", "cosine", "offset")}
        if raw["schema"] != SCHEMA or not isinstance(raw["fitted_on"], str):
            raise ValueError("of another schema")
        return Calibration(**weights, fitted_on=raw["fitted_on"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as cause:
        raise ModelError(
            f"{path} is no calibration ({cause}); make it again with geoloc calibrate."
        ) from cause


def _weights(raw: list[float]) -> Weights:
    a, b, c = map(float, raw)
    if not all(map(math.isfinite, (a, b, c))):
        raise ValueError("weights that are no numbers")
    return a, b, c
