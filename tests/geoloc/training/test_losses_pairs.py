"""Every loss over pairs against its paper's sums, written out as loops over anchors in float64."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning import losses as oracle
from pytorch_metric_learning.miners import MultiSimilarityMiner

from geoloc.training.losses_pairs import (
    Contrast,
    batch_hard_triplet,
    contrasts,
    lifted_structure,
    multi_similarity,
    nt_xent,
    soft_margin_triplet,
)

Anchor = tuple[float, list[float]]
"""How like it its match is, and each of the others."""
Anchors = list[Anchor]
Case = tuple[np.ndarray, list[int], list[float], np.ndarray]


def anchors(case: Case) -> tuple[Anchors, Anchors]:
    """What each query, and each query's tile, is compared with."""
    scores, owner, turn, near = case
    q, b, a = scores.shape

    def true(i: int) -> float:
        whole = math.floor(turn[i])
        part = turn[i] - whole
        row = scores[i, owner[i]]
        return float((1 - part) * row[whole % a] + part * row[(whole + 1) % a])

    def best(i: int, j: int) -> list[float]:
        right = {math.floor(turn[i]) % a, (math.floor(turn[i]) + 1) % a} if j == owner[i] else set()
        wrong = [float(scores[i, j, t]) for t in range(a) if t not in right]
        excused = j != owner[i] and near[owner[i], j]
        return [max(wrong)] if wrong and not excused else []

    street = [(true(i), [s for j in range(b) for s in best(i, j)]) for i in range(q)]
    tile = [
        (true(i), [s for k in range(q) if k == i or owner[k] != owner[i] for s in best(k, owner[i])])
        for i in range(q)
    ]
    return street, tile


def far(cosine: float) -> float:
    return math.sqrt(max(2 - 2 * cosine, 1e-8))


def naive_triplet(street: Anchors, tile: Anchors, weight: float, hardest: float) -> float:
    total = 0.0
    for view in (street, tile):
        terms = [
            math.log1p(math.exp(weight * ((2 - 2 * p) - (2 - 2 * n)))) for p, all_n in view for n in all_n
        ]
        kept = sorted(terms, reverse=True)[: max(1, int(hardest * len(terms)))]
        total += sum(kept) / max(1, len(kept))
    return total / 2


def naive_multi_similarity(street: Anchors, tile: Anchors) -> float:
    total = 0.0
    for view in (street, tile):
        for p, all_n in view:
            hard = [n for n in all_n if n > p - 0.1]
            kept = [p] if all_n and p < max(all_n) + 0.1 else []
            total += math.log(1 + sum(math.exp(-2 * (s - 0.5)) for s in kept)) / 2 / len(view)
            total += math.log(1 + sum(math.exp(50 * (s - 0.5)) for s in hard)) / 50 / len(view)
    return total / 2


def naive_lifted(street: Anchors, tile: Anchors) -> float:
    total = 0.0
    for (p, these), (_, those) in zip(street, tile, strict=True):
        if these + those:
            j = math.log(sum(math.exp(1 - far(n)) for n in these + those)) + far(p)
            total += max(0.0, j) ** 2 / 2 / len(street)
    return total


def naive_nt_xent(street: Anchors, tile: Anchors) -> float:
    terms = [
        -math.log(math.exp(p / 0.2) / (math.exp(p / 0.2) + sum(math.exp(n / 0.2) for n in all_n)))
        for view in (street, tile)
        for p, all_n in view
    ]
    return sum(terms) / len(terms)


def naive_batch_hard(street: Anchors, tile: Anchors) -> float:
    terms = [
        max(0.0, far(p) - min(map(far, all_n)) + 0.3) if all_n else 0.0
        for view in (street, tile)
        for p, all_n in view
    ]
    return sum(terms) / len(terms)


Ours = Callable[[Contrast, Contrast], torch.Tensor]
LOSSES: dict[str, tuple[Ours, Callable[[Anchors, Anchors], float]]] = {
    "triplet": (lambda s, t: soft_margin_triplet(s, t, 3.0), lambda s, t: naive_triplet(s, t, 3.0, 1.0)),
    "hardest": (
        lambda s, t: soft_margin_triplet(s, t, 10.0, 0.2),
        lambda s, t: naive_triplet(s, t, 10.0, 0.2),
    ),
    "multi-similarity": (multi_similarity, naive_multi_similarity),
    "lifted-structure": (lifted_structure, naive_lifted),
    "nt-xent": (lambda s, t: nt_xent(s, t, 0.2), naive_nt_xent),
    "batch-hard": (batch_hard_triplet, naive_batch_hard),
}


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Scores of a few queries, several of one tile or none of another, and who is near whom."""
    q, b, a = draw(st.integers(1, 6)), draw(st.integers(1, 5)), draw(st.integers(1, 7))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    near = rng.uniform(size=(b, b)) < draw(st.sampled_from([0.0, 0.3, 1.0]))
    turn = np.where(rng.uniform(size=q) < 0.3, rng.integers(-a, a, q), rng.uniform(-a, a, q))
    return rng.uniform(-1, 1, (q, b, a)), rng.integers(0, b, q).tolist(), turn.tolist(), near


def compared(case: Case) -> tuple[Contrast, Contrast]:
    scores, owner, turn, near = case
    turns = torch.tensor(turn, dtype=torch.float64)
    return contrasts(torch.from_numpy(scores), torch.tensor(owner), turns, torch.from_numpy(near))


@settings(deadline=None, max_examples=40)
@given(cases())
def test_each_equals_its_naive_loop(case: Case) -> None:
    for name, (ours, naive) in LOSSES.items():
        assert float(ours(*compared(case))) == pytest.approx(naive(*anchors(case)), rel=1e-9, abs=1e-9), name


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("a", [1, 4])
def test_gradients_by_finite_differences(name: str, a: int) -> None:
    torch.manual_seed(2)
    scores = (torch.rand(4, 3, a, dtype=torch.float64) * 1.8 - 0.9).requires_grad_()
    owner, turn = torch.tensor([0, 2, 2, 1]), torch.tensor([0.25, -1.5, 3.0, 4.75]).double()
    near = torch.eye(3, dtype=torch.bool)
    near[0, 1] = True
    assert torch.autograd.gradcheck(lambda s: LOSSES[name][0](*contrasts(s, owner, turn, near)), (scores,))


@pytest.mark.parametrize("name", LOSSES)
def test_whatever_lies_near_pulls_at_nothing(name: str) -> None:
    torch.manual_seed(0)
    near = torch.tensor([[True, True, False], [True, True, False], [False, False, True]])
    owner, turn = torch.tensor([0, 1, 2]), torch.tensor([0.5, 1.0, 2.2])
    scores = (torch.rand(3, 3, 4) * 0.2 + 0.4).requires_grad_()
    LOSSES[name][0](*contrasts(scores, owner, turn, near)).backward()
    assert scores.grad is not None
    assert not scores.grad[0, 1].any()
    assert not scores.grad[1, 0].any()
    assert scores.grad[[0, 1, 2], [0, 1, 2]].any()
    scores.grad = None
    LOSSES[name][0](*contrasts(scores, owner, turn, torch.ones_like(near))).backward()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


@pytest.mark.parametrize("weight", [1.0, 10.0])
def test_the_triplet_of_one_bin_is_that_of_the_distances(weight: float) -> None:
    """CVM-Net's, over vectors."""
    rng = np.random.default_rng(1)
    street, tile = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in rng.normal(size=(2, 7, 12)))
    squared = ((street[:, None] - tile) ** 2).sum(axis=2)
    terms = [
        math.log1p(math.exp(weight * (squared[i, i] - other)))
        for i in range(7)
        for j in range(7)
        if i != j
        for other in (squared[i, j], squared[j, i])
    ]
    scores = torch.from_numpy((street @ tile.T)[:, :, None])
    ours = soft_margin_triplet(*contrasts(scores, torch.arange(7), torch.zeros(7).double()), weight)
    assert float(ours) == pytest.approx(sum(terms) / len(terms), rel=1e-9)


@pytest.fixture
def views() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(4)
    street = F.normalize(torch.randn(9, 6, dtype=torch.float64))
    return street, F.normalize(street + 0.4 * torch.randn(9, 6, dtype=torch.float64))


@pytest.mark.parametrize("name", ["multi-similarity", "lifted-structure", "nt-xent"])
def test_one_bin_and_both_views_negatives_are_pytorch_metric_learning(
    name: str, views: tuple[torch.Tensor, torch.Tensor]
) -> None:
    """Its losses over both views as one batch; NT-Xent's negatives are such in SimCLR."""
    street, tile = views
    labels = torch.arange(9).repeat(2)
    batch = torch.cat(views)
    theirs = {
        "multi-similarity": lambda: oracle.MultiSimilarityLoss(2, 50, 0.5)(
            batch, labels, MultiSimilarityMiner(0.1)(batch, labels)
        ),
        "lifted-structure": lambda: oracle.LiftedStructureLoss()(batch, labels),
        "nt-xent": lambda: oracle.NTXentLoss(0.2)(batch, labels),
    }[name]()
    others = ~torch.eye(9, dtype=torch.bool)
    ours = contrasts((street @ tile.T)[:, :, None], torch.arange(9), torch.zeros(9).double())
    beside = ours[0].beside(street @ street.T, others), ours[1].beside(tile @ tile.T, others)
    assert float(LOSSES[name][0](*beside)) == pytest.approx(float(theirs), rel=1e-6)
