import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from geoloc.azimuth import correlate
from geoloc.training.losses import heading_infonce, heading_infonce_in_parts


def targets(turn: float, a: int) -> np.ndarray:
    """How right each of the a turns is: 1 at a whole one, shared by the two about any other."""
    right = np.zeros(a)
    for near in range(a):
        distance = abs((near - turn + a / 2) % a - a / 2)
        right[near] = max(0.0, 1 - distance)
    return right


def naive_infonce(
    scores: np.ndarray,
    owner: list[int],
    turn: list[float],
    temperature: float,
    near: np.ndarray,
    smoothing: float = 0.0,
) -> float:
    """Loops over every query, tile and turn, in float64."""
    q, b, a = scores.shape
    from_street, from_tile = [], []
    for i in range(q):
        logits = {(j, t): scores[i, j, t] / temperature for j in range(b) for t in range(a)
                  if j == owner[i] or not near[owner[i], j]}  # fmt: skip
        total = math.log(sum(math.exp(value) for value in logits.values()))
        right = targets(turn[i], a)
        even = sum(total - value for value in logits.values()) / len(logits)
        true = sum(right[t] * (total - logits[owner[i], t]) for t in range(a))
        from_street.append((1 - smoothing) * true + smoothing * even)
    for j in set(owner):
        logits = {(i, t): scores[i, j, t] / temperature for i in range(q) for t in range(a)
                  if j == owner[i] or not near[owner[i], j]}  # fmt: skip
        total = math.log(sum(math.exp(value) for value in logits.values()))
        ours = [i for i in range(q) if owner[i] == j]
        terms = [targets(turn[i], a)[t] * (total - logits[i, t]) for i in ours for t in range(a)]
        even = sum(total - value for value in logits.values()) / len(logits)
        from_tile.append((1 - smoothing) * sum(terms) / len(ours) + smoothing * even)
    return float(np.mean(from_street) + np.mean(from_tile)) / 2


@st.composite
def asked(draw: st.DrawFn) -> tuple[np.ndarray, list[int], list[float], np.ndarray]:
    """Scores of a few queries, several of one tile or none of another, and who is near whom."""
    q, b, a = draw(st.integers(1, 6)), draw(st.integers(1, 5)), draw(st.integers(3, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    near = rng.uniform(size=(b, b)) < draw(st.sampled_from([0.0, 0.3, 1.0]))
    turn = rng.uniform(-a, a, q)
    whole = rng.uniform(size=q) < 0.3
    turn = np.where(whole, np.rint(turn), turn)
    return rng.uniform(-1, 1, (q, b, a)), rng.integers(0, b, q).tolist(), turn.tolist(), near | near.T


Case = tuple[np.ndarray, list[int], list[float], np.ndarray]


@settings(deadline=None, max_examples=60)
@given(asked(), st.floats(0.05, 2), st.sampled_from([0.0, 0.1, 0.7]))
def test_infonce_equals_the_naive_loop(case: Case, temperature: float, smoothing: float) -> None:
    scores, owner, turn, near = case
    ours = heading_infonce(
        torch.from_numpy(scores), torch.tensor(owner), torch.tensor(turn, dtype=torch.float64),
        temperature, torch.from_numpy(near), smoothing,
    )  # fmt: skip
    naive = naive_infonce(scores, owner, turn, temperature, near, smoothing)
    assert float(ours) == pytest.approx(naive, rel=1e-9)


@settings(deadline=None, max_examples=60)
@given(asked(), st.integers(1, 5), st.sampled_from([0.0, 0.1]))
def test_infonce_in_parts_is_that_of_the_whole(case: Case, size: int, smoothing: float) -> None:
    """In value and in all gradients, with parts that ask nothing of some tiles."""
    (q, b, a), rng = case[0].shape, np.random.default_rng(0)
    street, satellite = (torch.from_numpy(rng.normal(size=(n, a, 3))) for n in (q, b))
    owner, turn, near = torch.tensor(case[1]), torch.tensor(case[2]).double(), torch.from_numpy(case[3])
    found = []
    for in_parts in (False, True):
        given = [one.clone().requires_grad_() for one in (street, satellite, torch.tensor(0.3).double())]
        how = owner, turn, given[2], near, smoothing
        if in_parts:
            loss = heading_infonce_in_parts(
                lambda rows, one, other: correlate(one[rows], other), given[0], given[1], *how, size
            )
        else:
            loss = heading_infonce(correlate(given[0], given[1]), *how)
        (2 * loss).backward()  # type: ignore[no-untyped-call]
        found.append([loss.detach(), *(one.grad for one in given)])
    for whole, parts in zip(*found, strict=True):
        assert torch.allclose(whole, parts, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("turn", [0.0, 0.37, -0.5])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_infonce_of_one_bin_is_the_symmetric_cross_entropy(turn: float, smoothing: float) -> None:
    """That of CLIP, and with smoothing of Sample4Geo, by torch's own."""
    torch.manual_seed(0)
    scores, rows = torch.randn(6, 6, 1, dtype=torch.float64), torch.arange(6)
    ours = heading_infonce(scores, rows, torch.full((6,), turn, dtype=torch.float64), 0.1, None, smoothing)
    logits = scores[:, :, 0] / 0.1
    clip = sum(F.cross_entropy(one, rows, label_smoothing=smoothing) for one in (logits, logits.T)) / 2
    assert float(ours) == pytest.approx(float(clip), rel=1e-12)


def test_infonce_of_one_pair_and_turn_each_is_log1p() -> None:
    """Two places and one bin: the soft margin of the single negative."""
    scores = torch.tensor([[[0.7], [0.1]], [[0.1], [0.7]]], dtype=torch.float64)
    loss = heading_infonce(scores, torch.arange(2), torch.zeros(2, dtype=torch.float64), 1.0)
    assert float(loss) == pytest.approx(math.log1p(math.exp(-0.6)), rel=1e-12)


def test_whatever_lies_near_pulls_at_nothing() -> None:
    torch.manual_seed(0)
    near = torch.tensor([[True, True, False], [True, True, False], [False, False, True]])
    owner, turn = torch.tensor([0, 1, 2]), torch.tensor([0.5, 1.0, 2.2])
    for smoothing in (0.0, 0.1):
        scores = torch.randn(3, 3, 4, requires_grad=True)
        heading_infonce(scores, owner, turn, 0.5, near, smoothing).backward()
        assert scores.grad is not None
        assert not scores.grad[0, 1].any()
        assert not scores.grad[1, 0].any()
        assert scores.grad[0, 2].any()
        assert scores.grad[0, 0].any()


def test_infonce_is_least_at_the_true_turn() -> None:
    """Scores that peak between two bins, where the pair says they do, cost less than any others."""

    def loss(at: float) -> float:
        away = (torch.arange(16.0) - at + 8) % 16 - 8
        scores = torch.zeros(1, 1, 16)
        scores[0, 0] = -(away**2)
        return float(heading_infonce(scores, torch.tensor([0]), torch.tensor([5.5]), 1.0))

    assert min((loss(at / 10), at / 10) for at in range(160))[1] == 5.5


@pytest.mark.parametrize(
    "near", [None, torch.tensor([[True, False, True], [False, True, False], [True, False, True]])]
)
def test_gradients_of_scores_and_temperature(near: torch.Tensor | None) -> None:
    torch.manual_seed(0)
    scores = torch.rand(4, 3, 5, dtype=torch.float64, requires_grad=True)
    temperature = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    owner, turn = torch.tensor([0, 2, 2, 1]), torch.tensor([0.25, -1.5, 3.0, 4.75], dtype=torch.float64)
    for smoothing in (0.0, 0.1):
        assert torch.autograd.gradcheck(
            lambda s, t, e=smoothing: heading_infonce(s, owner, turn, t, near, e), (scores, temperature)
        )
