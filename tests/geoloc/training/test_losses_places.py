"""Every loss over identities against its paper's sums, written out as loops in float64."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning import losses as oracle

from geoloc.training.losses_places import (
    arcface,
    cosface,
    identification,
    proxy_anchor,
    proxy_nca,
    proxy_nca_pp,
    sphereface,
)

Case = tuple[np.ndarray, list[int], np.ndarray]
"""Cosines of embeddings with classes, each one's class, and classes that are no negatives."""


def softmax_with(true: Callable[[float], float], scale: float) -> Callable[[Case], float]:
    """Mean -log softmax in which the true class has true(theta) in place of its cosine."""

    def loss(case: Case) -> float:
        cosines, label, out = case
        total = 0.0
        for i, row in enumerate(cosines):
            own = math.exp(scale * true(math.acos(row[label[i]])))
            rest = sum(math.exp(scale * s) for j, s in enumerate(row) if j != label[i] and not out[i, j])
            total -= math.log(own / (own + rest)) / len(cosines)
        return total

    return loss


def psi(theta: float) -> float:
    """SphereFace's, piece by piece."""
    for k in range(4):
        if k * math.pi / 4 <= theta <= (k + 1) * math.pi / 4:
            return (-1) ** k * math.cos(4 * theta) - 2 * k
    raise AssertionError(theta)


def arc(theta: float) -> float:
    return math.cos(theta + 0.5) if theta <= math.pi - 0.5 else math.cos(theta) - 0.5 * math.sin(0.5)


def naive_nca(case: Case) -> float:
    cosines, label, out = case
    total = 0.0
    for i, row in enumerate(cosines):
        rest = sum(math.exp(-(2 - 2 * s)) for j, s in enumerate(row) if j != label[i] and not out[i, j])
        total -= math.log(math.exp(-(2 - 2 * row[label[i]])) / rest) / len(cosines)
    return total


def naive_anchor(case: Case) -> float:
    cosines, label, out = case
    pull, push = [], []
    for j in range(cosines.shape[1]):
        own = [cosines[i, j] for i in range(len(cosines)) if label[i] == j]
        rest = [cosines[i, j] for i in range(len(cosines)) if label[i] != j and not out[i, j]]
        if own:
            pull.append(math.log(1 + sum(math.exp(-32 * (s - 0.1)) for s in own)))
        push.append(math.log(1 + sum(math.exp(32 * (s + 0.1)) for s in rest)))
    return sum(pull) / len(pull) + sum(push) / len(push)


def naive_identification(case: Case) -> float:
    cosines, label, out = case
    total = 0.0
    for i, row in enumerate(cosines):
        kept = [j for j in range(len(row)) if not out[i, j]]
        normal = math.log(sum(math.exp(row[j]) for j in kept))
        for j in kept:
            right = 0.1 / len(kept) + (0.9 if j == label[i] else 0)
            total -= right * (row[j] - normal) / len(cosines)
    return total


Ours = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
LOSSES: dict[str, tuple[Ours, Callable[[Case], float]]] = {
    "sphereface": (sphereface, softmax_with(psi, 30)),
    "cosface": (cosface, softmax_with(lambda theta: math.cos(theta) - 0.35, 64)),
    "arcface": (arcface, softmax_with(arc, 64)),
    "proxy-nca": (proxy_nca, naive_nca),
    "proxy-nca++": (proxy_nca_pp, softmax_with(math.cos, 18)),
    "proxy-anchor": (proxy_anchor, naive_anchor),
    "identification": (identification, naive_identification),
}


@st.composite
def cases(draw: st.DrawFn) -> Case:
    m, n = draw(st.integers(1, 6)), draw(st.integers(2, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    label = rng.integers(0, n, m)
    out = rng.uniform(size=(m, n)) < draw(st.sampled_from([0.0, 0.4]))
    out[np.arange(m), label] = False
    out[np.arange(m), (label + 1) % n] = False
    return rng.uniform(-1, 1, (m, n)), label.tolist(), out


def told(case: Case) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    cosines, label, out = case
    return torch.from_numpy(cosines), torch.tensor(label), torch.from_numpy(out)


@settings(deadline=None, max_examples=40)
@given(cases())
def test_each_equals_its_naive_loop(case: Case) -> None:
    for name, (ours, naive) in LOSSES.items():
        assert float(ours(*told(case))) == pytest.approx(naive(case), rel=1e-6, abs=1e-9), name


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_by_finite_differences(name: str) -> None:
    torch.manual_seed(1)
    cosines = (torch.rand(5, 7, dtype=torch.float64) * 1.8 - 0.9).requires_grad_()
    label, out = torch.tensor([0, 3, 3, 6, 2]), torch.rand(5, 7) < 0.3
    out[torch.arange(5), label] = False
    assert torch.autograd.gradcheck(lambda s: LOSSES[name][0](s, label, out), (cosines,), atol=1e-4)
    LOSSES[name][0](cosines, label, out).backward()
    assert cosines.grad is not None
    assert not cosines.grad[out].any()


@pytest.mark.parametrize("name", LOSSES)
def test_right_and_wrong_ends_have_gradients(name: str) -> None:
    cosines = torch.tensor([[1.0, -1.0, 0.2], [1.0, -1.0, 0.2]], requires_grad=True)
    LOSSES[name][0](cosines, torch.tensor([0, 1]), torch.zeros(2, 3, dtype=torch.bool)).backward()
    assert cosines.grad is not None
    assert cosines.grad.isfinite().all()


THEIRS = {
    "sphereface": lambda: oracle.SphereFaceLoss(8, 6, margin=4, scale=30),
    "cosface": lambda: oracle.CosFaceLoss(8, 6),
    "arcface": lambda: oracle.ArcFaceLoss(8, 6, margin=math.degrees(0.5)),
    "proxy-nca++": lambda: oracle.ProxyNCALoss(8, 6, softmax_scale=9),
    "proxy-anchor": lambda: oracle.ProxyAnchorLoss(8, 6),
}


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # their SphereFace, numpy 2
@pytest.mark.parametrize("name", THEIRS)
def test_each_equals_that_of_pytorch_metric_learning(name: str) -> None:
    torch.manual_seed(3)
    theirs = THEIRS[name]().double()
    weights = theirs.W.T if hasattr(theirs, "W") else theirs.proxies
    embeddings, label = F.normalize(torch.randn(10, 6, dtype=torch.float64)), torch.randint(8, (10,))
    cosines = embeddings @ F.normalize(weights).T
    ours = LOSSES[name][0](cosines, label, torch.zeros(10, 8, dtype=torch.bool))
    assert float(ours.detach()) == pytest.approx(float(theirs(embeddings, label).detach()), rel=1e-6)
