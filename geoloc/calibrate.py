"""Fitting a calibration, and judging one: reliability, coverage, and telling absence."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from geoloc.errors import DataError
from geoloc.posterior import Calibration, Evidence, Triple

PENALTY = 1e-5
UNLISTED = 256
ELSEWHERE = -1
SCATTER = torch.tensor([[0.0, 0.0, 0.0], [math.log(5), 0.0, 0.0]], dtype=torch.float64)
"""Where the fit of spread and tail begins: a metre, and five degrees of freedom."""
FEWEST = 20


@dataclass(frozen=True)
class Trial:
    """A query whose place is known.

    truth: its tile's index in the evidence, ELSEWHERE for a tile that is not listed, None for a place that is
    not in the gallery. off_m: how far from it the refined place around it is, None where there is none.
    """

    evidence: Evidence
    truth: int | None
    off_m: float | None = None


def fit_calibration(trials: Sequence[Trial], fitted_on: str) -> Calibration:
    """The calibration that makes the truths likeliest, by L-BFGS.

    Fitted on every trial twice: as it is, and `thinned` to a gallery of any size down to FEWEST tiles.
    The softmax is fitted on trials whose place is in the gallery, absence on all, either kind weighing
    half, the scatter on those as they are that were refined at the right place. Raises DataError unless
    there are ten of either.
    """
    there = sum(trial.truth is not None for trial in trials)
    if min(there, len(trials) - there) < 10:
        raise DataError(
            "A calibration wants 10 queries from inside the gallery and 10 from outside; give more pairs."
        )
    spread, tail = _fit_scatter(trials)
    rng = np.random.default_rng(0)
    trials = [*trials, *(less for trial in trials if (less := thinned(trial, rng)))]
    inside = [trial for trial in trials if trial.truth is not None]
    parts, conditions, logs, truth = _tensors(inside)

    def share_loss(weights: Tensor) -> Tensor:
        logits = torch.einsum("tkf,tf->tk", parts, conditions @ weights.T) + logs
        right = logits.masked_fill(~truth, -math.inf).logsumexp(dim=1)
        return (logits.logsumexp(dim=1) - right).mean()

    standing = np.stack([np.outer(t.evidence.standing, t.evidence.conditions) for t in trials])
    present = torch.tensor([trial.truth is not None for trial in trials], dtype=torch.float64)
    balance = torch.where(present > 0, 0.5 / present.sum(), 0.5 / (1 - present).sum())

    def absence_loss(weights: Tensor) -> Tensor:
        logits = (torch.from_numpy(standing) * weights).sum(dim=(1, 2))
        return (F.binary_cross_entropy_with_logits(logits, present, reduction="none") * balance).sum()

    standard, cosine = _least(share_loss, torch.eye(2, 4, dtype=torch.float64) * torch.tensor([[1.0], [0.0]]))
    present_weights = _least(absence_loss, torch.zeros(4, 4, dtype=torch.float64))
    return Calibration(standard, cosine, tuple(present_weights), fitted_on, spread, tail)


def _fit_scatter(trials: Sequence[Trial]) -> tuple[Triple | None, Triple | None]:
    """Spread and tail that make the distances of right refined places likeliest; None without any."""
    placed = [(trial.evidence.conditions[:3], trial.off_m) for trial in trials if trial.off_m is not None]
    if not placed:
        return None, None
    conditions = torch.from_numpy(np.stack([one for one, _ in placed]))
    off_m = torch.tensor([far for _, far in placed], dtype=torch.float64)

    def loss(weights: Tensor) -> Tensor:
        spread, tail = conditions @ weights[0], (conditions @ weights[1]).clamp(0, 5).exp()
        return (2 * spread + (1 + tail / 2) * torch.log1p((off_m / spread.exp()).square() / tail)).mean()

    spread, tail = _least(loss, SCATTER)
    return spread, tail


def thinned(trial: Trial, rng: np.random.Generator) -> Trial | None:
    """The trial with a random part of the gallery's tiles left, the truth among them; None where none is.

    How many are left is drawn evenly on a logarithmic scale, from FEWEST up.
    """
    evidence = trial.evidence
    share = (min(1.0, FEWEST / evidence.tiles)) ** rng.random()
    kept = rng.random(len(evidence.scores)) < share
    listed = None if trial.truth == ELSEWHERE else trial.truth
    if listed is not None:
        kept[listed] = True
    left = np.flatnonzero(kept)
    if not len(left):
        return None
    scores = evidence.scores[left]
    rivals = scores[1:][scores[1:] <= evidence.rival]
    seen = dataclasses.replace(
        evidence,
        scores=scores,
        rival=float(rivals[0] if len(rivals) else scores[-1]),
        tiles=max(len(left), round(share * evidence.tiles)),
    )
    return Trial(seen, trial.truth if listed is None else int(np.searchsorted(left, listed)))


def _least(loss: Callable[[Tensor], Tensor], start: Tensor) -> list[Any]:
    """The rows of the weights with the least loss, held back a little towards where they start."""
    weights = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        total = loss(weights) + PENALTY * (weights - start).square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return [tuple(map(float, row)) for row in weights.detach()]


def _tensors(trials: Sequence[Trial]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of each trial's tiles both kinds of score, its conditions, the log of each tile's count, and the truth.

    The tiles are those listed, then a sample of the others, each standing for many, then padding.
    """
    width = max(len(trial.evidence.scores) for trial in trials) + 2 * UNLISTED
    parts = np.zeros((len(trials), width, 2))
    logs = np.full((len(trials), width), -1e9)
    truth = np.zeros(logs.shape, bool)
    for row, trial in enumerate(trials):
        evidence, k = trial.evidence, len(trial.evidence.scores)
        lesser, weight = evidence.unlisted
        thin = lesser[:: max(1, len(lesser) // UNLISTED)]
        scores = np.concatenate([evidence.scores, thin])
        n = len(scores)
        parts[row, :n] = np.stack([evidence.standardised(scores), scores], axis=1)
        logs[row, :k] = 0.0
        if n > k:
            logs[row, k:n] = np.log(weight * len(lesser) / (n - k))
        truth[row, slice(k, n) if trial.truth == ELSEWHERE else trial.truth] = True
    conditions = np.stack([trial.evidence.conditions for trial in trials])
    return tuple(map(torch.from_numpy, (parts, conditions, logs, truth)))  # type: ignore[return-value]


def reliability(
    confidence: Float[np.ndarray, " n"], correct: Bool[np.ndarray, " n"]
) -> list[tuple[int, float, float]]:
    """For each tenth of confidence that occurs: how many, their mean confidence, and how many were right."""
    place = np.minimum((confidence * 10).astype(int), 9)
    groups = [place == number for number in range(10)]
    return [
        (int(group.sum()), float(confidence[group].mean()), float(correct[group].mean()))
        for group in groups
        if group.any()
    ]


def calibration_error(confidence: Float[np.ndarray, " n"], correct: Bool[np.ndarray, " n"]) -> float:
    """Expected calibration error over ten equal bins (Guo et al. 2017, eq. 3)."""
    table = reliability(confidence, correct)
    return sum(n * abs(mean - right) for n, mean, right in table) / max(1, len(confidence))


def auroc(score: Float[np.ndarray, " n"], positive: Bool[np.ndarray, " n"]) -> float:
    """The chance that a positive scores above a negative, ties half (Mann-Whitney); NaN without both."""
    positives, negatives = np.sort(score[positive]), np.sort(score[~positive])
    if not len(positives) or not len(negatives):
        return float("nan")
    below = np.searchsorted(negatives, positives, "left") + np.searchsorted(negatives, positives, "right")
    return float(below.mean() / 2 / len(negatives))
