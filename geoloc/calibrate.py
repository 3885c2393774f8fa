"""Fitting a calibration, and judging one: reliability, coverage, and telling absence."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float

from geoloc.errors import DataError
from geoloc.posterior import Calibration, Evidence

PENALTY = 1e-3
UNLISTED = 256
ELSEWHERE = -1


@dataclass(frozen=True)
class Trial:
    """A query whose place is known.

    truth: its tile's index in the evidence, ELSEWHERE for a tile that is not listed, None for a place that is
    not in the gallery.
    """

    evidence: Evidence
    truth: int | None


def fit_calibration(trials: Sequence[Trial], fitted_on: str) -> Calibration:
    """The calibration that makes the truths likeliest: minimum of the mean of -log p(truth), by L-BFGS.

    Trials whose place is in the gallery and those whose is not weigh the same, half each, as
    `Calibration.posterior` supposes. Raises DataError unless there are ten of either kind.
    """
    absent = torch.tensor([trial.truth is None for trial in trials])
    if min(int(absent.sum()), int((~absent).sum())) < 10:
        raise DataError(
            "A calibration wants 10 queries from inside the gallery and 10 from outside; give more pairs."
        )
    features, logs, truth = _tensors(trials)
    share = torch.where(absent, 0.5 / absent.sum(), 0.5 / (~absent).sum())
    start = torch.tensor([[1.0, 0, 0], [0, 0, 0], [-3.0, 0, 0]], dtype=torch.float64)
    weights = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        logits = torch.einsum("tkfx,fx->tk", features, weights) + logs
        right = logits.masked_fill(~truth, -math.inf).logsumexp(dim=1)
        loss = ((logits.logsumexp(dim=1) - right) * share).sum()
        loss = loss + PENALTY * (weights - start).square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    standard, cosine, offset = (tuple(map(float, row)) for row in weights.detach())
    return Calibration(standard, cosine, offset, fitted_on)  # type: ignore[arg-type]


def _tensors(trials: Sequence[Trial]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """For each trial and each of its entries the 3 x 3 features, the log of its prior, and if it is true.

    The entries are the tiles listed, the rest of the gallery as a sample of it, padding, and absence.
    """
    width = max(len(trial.evidence.scores) for trial in trials) + 2 * UNLISTED + 1
    features = np.zeros((len(trials), width, 3, 3))
    logs = np.full((len(trials), width), -1e9)
    truth = np.zeros(logs.shape, bool)
    for row, trial in enumerate(trials):
        evidence, k = trial.evidence, len(trial.evidence.scores)
        lesser = evidence.background[evidence.background <= evidence.scores.min(initial=np.inf)]
        lesser = lesser[:: max(1, len(lesser) // UNLISTED)]
        rest = max(0, evidence.tiles - k)
        scores = np.concatenate([evidence.scores, lesser if rest else lesser[:0]])
        n = len(scores)
        parts = np.stack([evidence.standardised(scores), scores, np.ones(n)], axis=1)
        features[row, :n] = parts[:, :, None] * evidence.conditions
        logs[row, :k] = -np.log(evidence.tiles)
        if n > k:
            logs[row, k:n] = np.log(rest / (n - k) / evidence.tiles)
        logs[row, -1] = 0.0
        if trial.truth == ELSEWHERE:
            truth[row, k:n] = True
        else:
            truth[row, -1 if trial.truth is None else trial.truth] = True
    return torch.from_numpy(features), torch.from_numpy(logs), torch.from_numpy(truth)


def reliability(
    confidence: Float[np.ndarray, " n"], correct: Bool[np.ndarray, " n"], bins: int = 10
) -> list[tuple[int, float, float]]:
    """For each tenth of confidence that occurs: how many, their mean confidence, and how many were right."""
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    groups = [place == number for number in range(bins)]
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
