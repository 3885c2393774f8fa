import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from geoloc.errors import GeolocError
from geoloc.losses import heading_infonce, heading_triplet, soft_margin_triplet


def naive(street: np.ndarray, satellite: np.ndarray, weight: float) -> float:
    """Loops over every triplet, in float64."""
    b, terms = len(street), []
    for i in range(b):
        for j in range(b):
            if i == j:
                continue
            positive = ((street[i] - satellite[i]) ** 2).sum()
            terms.append(math.log1p(math.exp(weight * (positive - ((street[i] - satellite[j]) ** 2).sum()))))
            terms.append(math.log1p(math.exp(weight * (positive - ((street[j] - satellite[i]) ** 2).sum()))))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("weight", [1.0, 10.0])
@pytest.mark.parametrize("b", [2, 7])
def test_equals_the_naive_loop(b: int, weight: float) -> None:
    rng = np.random.default_rng(b)
    street, satellite = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in rng.normal(size=(2, b, 12)))
    ours = soft_margin_triplet(torch.tensor(street), torch.tensor(satellite), weight)
    assert float(ours) == pytest.approx(naive(street, satellite, weight), rel=1e-9)


def test_known_angles() -> None:
    pairs = torch.eye(2, dtype=torch.float64)
    assert float(soft_margin_triplet(pairs, pairs, 10.0)) == pytest.approx(math.log1p(math.exp(-20)))
    swapped = pairs.flip(0)
    assert float(soft_margin_triplet(pairs, swapped, 10.0)) == pytest.approx(math.log1p(math.exp(20)))


def test_gradient_by_finite_differences() -> None:
    torch.manual_seed(0)
    street = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    satellite = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)

    def loss(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return soft_margin_triplet(torch.nn.functional.normalize(a), torch.nn.functional.normalize(b), 3.0)

    assert torch.autograd.gradcheck(loss, (street, satellite))


def test_one_pair_has_no_triplet() -> None:
    with pytest.raises(GeolocError, match="2 pairs"):
        soft_margin_triplet(torch.ones(1, 3), torch.ones(1, 3))


def targets(turn: float, a: int) -> np.ndarray:
    """How right each of the a turns is: 1 at a whole one, shared by the two about any other."""
    right = np.zeros(a)
    for near in range(a):
        distance = abs((near - turn + a / 2) % a - a / 2)
        right[near] = max(0.0, 1 - distance)
    return right


def naive_infonce(
    scores: np.ndarray, owner: list[int], turn: list[float], temperature: float, near: np.ndarray
) -> float:
    """Loops over every query, tile and turn, in float64."""
    q, b, a = scores.shape
    from_street, from_tile = [], []
    for i in range(q):
        logits = {(j, t): scores[i, j, t] / temperature for j in range(b) for t in range(a)
                  if j == owner[i] or not near[owner[i], j]}  # fmt: skip
        total = math.log(sum(math.exp(value) for value in logits.values()))
        right = targets(turn[i], a)
        from_street.append(sum(right[t] * (total - logits[owner[i], t]) for t in range(a)))
    for j in set(owner):
        logits = {(i, t): scores[i, j, t] / temperature for i in range(q) for t in range(a)
                  if j == owner[i] or not near[owner[i], j]}  # fmt: skip
        total = math.log(sum(math.exp(value) for value in logits.values()))
        ours = [i for i in range(q) if owner[i] == j]
        terms = [targets(turn[i], a)[t] * (total - logits[i, t]) for i in ours for t in range(a)]
        from_tile.append(sum(terms) / len(ours))
    return float(np.mean(from_street) + np.mean(from_tile)) / 2


def naive_triplet(
    scores: np.ndarray, owner: list[int], turn: list[float], weight: float, near: np.ndarray
) -> float:
    q, b, a = scores.shape
    terms = []
    for i in range(q):
        right = targets(turn[i], a)
        below = math.floor(turn[i]) % a
        positive = float(right @ scores[i, owner[i]])
        for j in range(b):
            if j != owner[i] and near[owner[i], j]:
                continue
            wrong = [t for t in range(a) if j != owner[i] or t not in (below, (below + 1) % a)]
            negative = max(scores[i, j, t] for t in wrong)
            terms.append(math.log1p(math.exp(2 * weight * (negative - positive))))
    return float(np.mean(terms))


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
@given(asked(), st.floats(0.05, 2))
def test_infonce_equals_the_naive_loop(case: Case, temperature: float) -> None:
    scores, owner, turn, near = case
    ours = heading_infonce(
        torch.from_numpy(scores), torch.tensor(owner), torch.tensor(turn, dtype=torch.float64),
        temperature, torch.from_numpy(near),
    )  # fmt: skip
    assert float(ours) == pytest.approx(naive_infonce(scores, owner, turn, temperature, near), rel=1e-9)


@settings(deadline=None, max_examples=60)
@given(asked(), st.sampled_from([1.0, 10.0]))
def test_heading_triplet_equals_the_naive_loop(case: Case, weight: float) -> None:
    scores, owner, turn, near = case
    ours = heading_triplet(
        torch.from_numpy(scores), torch.tensor(owner), torch.tensor(turn, dtype=torch.float64),
        weight, torch.from_numpy(near),
    )  # fmt: skip
    assert float(ours) == pytest.approx(naive_triplet(scores, owner, turn, weight, near), rel=1e-9)


@pytest.mark.parametrize("turn", [0.0, 0.37, -0.5])
def test_infonce_of_one_bin_is_the_symmetric_cross_entropy(turn: float) -> None:
    """That of CLIP, by torch's own."""
    torch.manual_seed(0)
    scores, rows = torch.randn(6, 6, 1, dtype=torch.float64), torch.arange(6)
    ours = heading_infonce(scores, rows, torch.full((6,), turn, dtype=torch.float64), 0.1)
    logits = scores[:, :, 0] / 0.1
    clip = (F.cross_entropy(logits, rows) + F.cross_entropy(logits.T, rows)) / 2
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
    for loss in (heading_infonce, heading_triplet):
        scores = torch.randn(3, 3, 4, requires_grad=True)
        loss(scores, owner, turn, 0.5, near).backward()
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
    assert torch.autograd.gradcheck(
        lambda s, t: heading_infonce(s, owner, turn, t, near), (scores, temperature)
    )
    assert torch.autograd.gradcheck(lambda s: heading_triplet(s, owner, turn, 3.0, near), (scores,))
