"""How sure: from the scores of one query to probabilities that sum to one, with a share for "not here"."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from geoloc.errors import ModelError

CALIBRATION = "calibration.json"
SCHEMA = 2
REGION_SHARE = 0.9
MOST = 1e6

Weights = tuple[float, float, float, float]
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Scatter:
    """How far off a refined place lies: Student's t in two dimensions, of `tail` degrees of freedom.

    The fewer degrees, the more of it lies many times spread_m away.
    """

    spread_m: float
    tail: float

    def density(self, distance_m: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
        """How densely the probability lies at a distance, as a share of how densely at the place itself."""
        return np.asarray((1 + np.square(distance_m / self.spread_m) / self.tail) ** -(1 + self.tail / 2))


@dataclass(frozen=True)
class Evidence:
    """What a search says about one query.

    scores: cosines of the tiles listed, best first. rival: that of the best tile which does not show the
    place of the first. background: of a sample of the gallery, at the best heading like them. tiles: how
    many were searched. seen_deg: azimuths that the view shows. span_deg:
    headings that were searched, 0 for a known one to 360.
    """

    scores: Float[np.ndarray, " k"]
    rival: float
    background: Float[np.ndarray, " s"]
    tiles: int
    seen_deg: float
    span_deg: float

    @property
    def conditions(self) -> Float[np.ndarray, " 4"]:
        """1, how narrow the view is (octaves below 360 degrees), the share of all headings that is searched,
        and how many tiles are (decades above 10,000)."""
        narrow, crowd = math.log2(360 / max(self.seen_deg, 1.0)), math.log10(max(self.tiles, 1)) - 4
        return np.array([1.0, narrow, self.span_deg / 360, crowd])

    @property
    def unlisted(self) -> tuple[Float[np.ndarray, " m"], float]:
        """Scores of a sample of the tiles that are not listed, and how many each stands for."""
        rest = self.tiles - len(self.scores)
        lesser = self.background[self.background <= self.scores.min(initial=math.inf)]
        return (lesser, rest / len(lesser)) if rest > 0 and len(lesser) else (lesser[:0], 0.0)

    @property
    def standing(self) -> Float[np.ndarray, " 4"]:
        """1, and how the best tile stands: above the background, as it is, and above its rival."""
        best, rival = self.standardised(np.array([self.scores[0], self.rival]))
        return np.array([1.0, best, self.scores[0], best - rival])

    def standardised(self, scores: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Scores in deviations of the background above its mean."""
        spread = max(float(self.background.std()), 1e-3)
        return (scores - float(self.background.mean())) / spread


@dataclass(frozen=True)
class Posterior:
    """The probability of every place; being in the gallery and not were equally likely before.

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

    @property
    def region_holds(self) -> float:
        """What the region of 90 % really holds, and so how often it should be right: more, of few tiles."""
        return float(self.tiles[self.region()].sum()) / max(self.in_gallery, 1e-12)


@dataclass(frozen=True)
class Calibration:
    """How a model's scores become probabilities, fitted on towns that it was not trained on.

    Within the gallery the tiles share by a softmax of ((standard . x) / deviation + cosine . x) s: s the
    score, deviation that of the query's own background, x the conditions of the evidence. That the place is
    in the gallery at all is a logistic regression on x times how the best tile stands: inside, 4 x 4. How
    far a refined place is off, where it is the right one, is a `Scatter` of exp(spread . y) metres and
    exp(tail . y) degrees, y the first three of x; None where it was fitted without such places. fitted_on:
    what it was fitted on, in words.
    """

    standard: Weights
    cosine: Weights
    inside: tuple[Weights, Weights, Weights, Weights]
    fitted_on: str = ""
    spread: Triple | None = None
    tail: Triple | None = None

    def in_gallery(self, evidence: Evidence) -> float:
        """The probability that the place is in the gallery."""
        logit = float(evidence.standing @ np.array(self.inside) @ evidence.conditions)
        return 1 / (1 + math.exp(-max(-500.0, min(500.0, logit))))

    def scatter(self, evidence: Evidence) -> Scatter | None:
        """How far off a refined place lies where it is the right one; None where that is not known."""
        if self.spread is None or self.tail is None:
            return None
        spread, tail = np.array([self.spread, self.tail]) @ evidence.conditions[:3]
        return Scatter(math.exp(max(-5.0, min(5.0, spread))), math.exp(max(0.0, min(5.0, tail))))

    def posterior(self, evidence: Evidence) -> Posterior:
        """The probability of every tile listed, of the others together, and of absence."""
        inside, x = self.in_gallery(evidence), evidence.conditions

        def logits(scores: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
            return np.asarray(
                (x @ self.standard) * evidence.standardised(scores) + (x @ self.cosine) * scores
            )

        lesser, weight = evidence.unlisted
        terms = np.concatenate([logits(evidence.scores), logits(lesser) + math.log(max(weight, 1e-300))])
        share = np.exp(terms - np.logaddexp.reduce(terms))
        k = len(evidence.scores)
        return Posterior(inside * share[:k], inside * float(share[k:].sum()), 1 - inside)

    def to_json(self) -> str:
        """As text, for calibration.json."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=2) + "\n"


def read_calibration(folder: Path) -> Calibration | None:
    """The calibration of a model's folder, None where it has none. Raises ModelError."""
    path = folder / CALIBRATION
    if not path.is_file():
        return None
    try:
        raw: Any = json.loads(path.read_text(encoding="utf-8")[:65536])
        if raw["schema"] != SCHEMA or not isinstance(raw["fitted_on"], str):
            raise ValueError("of another schema")
        a, b, c, d = (_numbers(row, 4) for row in raw["inside"])
        return Calibration(
            _numbers(raw["standard"], 4),
            _numbers(raw["cosine"], 4),
            (a, b, c, d),
            raw["fitted_on"],
            *(None if raw.get(name) is None else _numbers(raw[name], 3) for name in ("spread", "tail")),
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as cause:
        raise ModelError(
            f"{path} is no calibration ({cause}); make a model's again with geoloc calibrate, a gallery's by "
            "building that again."
        ) from cause


def _numbers(raw: Sequence[float], count: int) -> Any:
    numbers = tuple(map(float, raw))
    if len(numbers) != count or not all(abs(number) < MOST for number in numbers):
        raise ValueError(f"weights that are not {count} numbers below {MOST:g}")
    return numbers
