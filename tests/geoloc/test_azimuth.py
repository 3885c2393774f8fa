import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geoloc.azimuth import correlate, correlate_each, peak, window_gain


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def unit_bins(seed: int, n: int, a: int, c: int) -> np.ndarray:
    """Tiles as the encoder makes them: every bin has the norm 1 / sqrt(a)."""
    bins = np.random.default_rng(seed).normal(size=(n, a, c))
    return bins / np.linalg.norm(bins, axis=2, keepdims=True) / np.sqrt(a)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 12), st.integers(1, 4), st.integers(0, 2**31))
def test_correlate_equals_explicit_rolls(q: int, g: int, a: int, c: int, seed: int) -> None:
    street, satellite = noise(seed, q, a, c), noise(seed + 1, g, a, c)
    found = correlate(street, satellite)
    assert found.shape == (q, g, a)
    for turn in range(a):
        for query in range(q):
            rolled = np.roll(street[query].numpy(), turn, axis=0)
            for tile in range(g):
                want = (rolled * satellite[tile].numpy()).sum()
                assert float(found[query, tile, turn]) == pytest.approx(want, abs=1e-10)


@pytest.mark.parametrize(("q", "g"), [(3, 9), (9, 3), (5, 5)])
def test_correlate_equals_the_transform(q: int, g: int) -> None:
    """The circular cross-correlation by FFT, channel by channel."""
    street, satellite = noise(0, q, 32, 8).numpy(), noise(1, g, 32, 8).numpy()
    spectra = np.conj(np.fft.fft(street, axis=1))[:, None] * np.fft.fft(satellite, axis=1)[None]
    want = np.fft.ifft(spectra, axis=2).real.sum(axis=3)
    found = correlate(torch.from_numpy(street), torch.from_numpy(satellite))
    assert np.allclose(found, want, atol=1e-10)


def test_a_turned_view_scores_best_where_it_is_turned_back() -> None:
    tiles = torch.from_numpy(unit_bins(0, 5, 16, 8))
    turned = torch.stack([torch.roll(tile, -3 * row, dims=0) for row, tile in enumerate(tiles)])
    scores = correlate(turned, tiles)
    assert scores.flatten(1).argmax(dim=1).tolist() == [row * 16 + 3 * row for row in range(5)]
    assert torch.allclose(scores.amax(dim=(1, 2)), torch.ones(5, dtype=torch.float64))


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 16), st.data())
def test_gain_makes_it_the_cosine_over_the_window(a: int, data: st.DataObject) -> None:
    """At every turn: the cosine of the query with the tile's bins under it, whatever the rest shows."""
    n, start = data.draw(st.integers(1, a)), data.draw(st.integers(0, a - 1))
    window = np.isin(np.arange(a), (np.arange(n) + start) % a)
    street = unit_bins(1, 1, a, 5) * window[None, :, None]
    street /= np.linalg.norm(street)
    tiles = unit_bins(2, 3, a, 5)
    query = torch.from_numpy(street)
    found = correlate(query, torch.from_numpy(tiles))[0] * window_gain(query)
    for turn in range(a):
        rolled, under = np.roll(street[0], turn, axis=0), np.roll(window, turn)
        for tile in range(3):
            cut = tiles[tile][under].ravel()
            want = rolled[under].ravel() @ cut / np.linalg.norm(cut)
            assert float(found[tile, turn]) == pytest.approx(want, abs=1e-6)


def test_gain_of_nothing_seen_is_finite() -> None:
    assert torch.isfinite(window_gain(torch.zeros(2, 8, 3))).all()


def off_by(found: torch.Tensor, want: float, a: int) -> float:
    return abs((float(found) - want + a / 2) % a - a / 2)


@settings(deadline=None, max_examples=100)
@given(st.integers(5, 40), st.floats(0, 1, exclude_max=True), st.floats(0.01, 10))
def test_peak_is_the_vertex_of_a_parabola(a: int, share: float, bend: float) -> None:
    """Wherever on the ring it lies, across the seam too."""
    vertex = share * a
    away = (np.arange(a) - vertex + a / 2) % a - a / 2
    scores = torch.from_numpy(-bend * away**2)[None]
    height, place = peak(scores)
    assert off_by(place[0], vertex, a) < 1e-6
    assert 0 <= float(place[0]) <= a
    assert float(height[0]) == pytest.approx(0.0, abs=1e-6 * bend)


@settings(deadline=None, max_examples=50)
@given(st.floats(0, 32, exclude_max=True))
def test_peak_of_a_cosine_is_near(phase: float) -> None:
    scores = torch.from_numpy(np.cos((np.arange(32) - phase) * 2 * np.pi / 32))[None]
    height, place = peak(scores)
    assert off_by(place[0], phase, 32) < 0.01
    assert float(height[0]) == pytest.approx(1.0, abs=1e-4)


def test_peak_at_a_chosen_bin() -> None:
    scores = torch.tensor([[0.0, 3.0, 0.0, 0.0, 0.5, 1.0, 0.9, 0.0]] * 2)
    height, place = peak(scores, torch.tensor([1, 5]))
    assert height.tolist() == pytest.approx([3.0, 1.0 + 0.4 * (0.4 / 2 / 0.6) / 4])
    assert place.tolist() == pytest.approx([1.0, 5 + 0.4 / 2 / 0.6], abs=1e-6)


def test_peak_of_what_is_flat_or_rising_stays_at_its_bin() -> None:
    assert peak(torch.ones(1, 8))[1].tolist() == [0.0]
    assert peak(torch.ones(1, 1))[1].tolist() == [0.0]
    rising = torch.arange(8.0)[None]
    assert 3 <= float(peak(rising, torch.tensor([3]))[1][0]) <= 3.5


def test_peak_at_a_bin_beside_a_higher_one_is_the_parabola_half_a_bin_on() -> None:
    """A heading known to within a tolerance ends where the scores may still rise."""
    scores = torch.tensor([[0.0, 1.0, 1.5, 0.0]])
    height, place = peak(scores, torch.tensor([1]))
    assert (float(height[0]), float(place[0])) == pytest.approx((1 + 1.5 / 2 / 2 - 0.5 / 2 / 4, 1.5))


@pytest.mark.parametrize("a", [1, 7])
def test_each_correlated_is_the_diagonal_of_all(a: int) -> None:
    street, satellite = noise(5, 6, a, 3), noise(6, 6, a, 3)
    want = correlate(street, satellite)[torch.arange(6), torch.arange(6)]
    assert torch.allclose(correlate_each(street, satellite), want, atol=1e-12)


def test_peaks_of_a_block_are_those_of_its_rows() -> None:
    scores = noise(3, 4, 5, 16)
    height, place = peak(scores)
    for row in range(4):
        for column in range(5):
            alone = peak(scores[row, column][None])
            assert (height[row, column], place[row, column]) == (alone[0][0], alone[1][0])
