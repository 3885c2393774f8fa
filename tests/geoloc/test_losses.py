import math

import numpy as np
import pytest
import torch

from geoloc.errors import GeolocError
from geoloc.losses import over_windows, soft_margin_triplet


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


def test_windows_are_losses_of_their_own() -> None:
    """Against a naive loop that cuts, normalises and scores every window with numpy."""
    rng = np.random.default_rng(5)
    street, satellite = rng.normal(size=(2, 6, 8 * 3))
    terms = []
    for n in (1, 4):
        width = 8 // n * 3
        of_cut = []
        for start in range(0, 24, width):
            windows = [view[:, start : start + width] for view in (street, satellite)]
            unit = [view / np.linalg.norm(view, axis=1, keepdims=True) for view in windows]
            of_cut.append(naive(unit[0], unit[1], 10.0))
        terms.append(np.mean(of_cut))
    ours = over_windows(torch.tensor(street), torch.tensor(satellite), 8, (1, 4), soft_margin_triplet)
    assert float(ours) == pytest.approx(np.mean(terms), rel=1e-9)
