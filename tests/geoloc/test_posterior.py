import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoloc.calibrate import ELSEWHERE, Trial, auroc, calibration_error, fit_calibration, reliability, thinned
from geoloc.errors import DataError, ModelError
from geoloc.posterior import CALIBRATION, Calibration, Evidence, Posterior, Scatter, read_calibration

NONE = (0.0, 0.0, 0.0, 0.0)
PLAIN = Calibration(
    (2.0, -0.3, 0.1, 0.2), (3.0, 0.5, 0.0, -0.1), ((-4.0, 0.2, 0.1, -0.5), (0.8, 0.0, -0.1, 0.0), NONE, NONE)
)
finite = st.floats(-50, 50)


def evidence(scores: np.ndarray, tiles: int, seed: int = 0, background: np.ndarray | None = None) -> Evidence:
    some = np.random.default_rng(seed).normal(0.1, 0.1, 200) if background is None else background
    best_first = np.sort(scores)[::-1]
    return Evidence(best_first, float(best_first[min(1, len(scores) - 1)]), some, tiles, 90.0, 360.0)


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.floats(-1, 1), min_size=1, max_size=30),
    st.integers(0, 10_000),
    st.tuples(finite, finite, finite, finite),
    st.lists(st.floats(-1, 1), max_size=20),
)
def test_probabilities_sum_to_one(
    scores: list[float], more: int, weights: tuple[float, float, float, float], background: list[float]
) -> None:
    calibration = Calibration(weights, weights, (weights, weights, NONE, weights))
    seen = evidence(np.array(scores), len(scores) + more, background=np.array([0.0, *background]))
    found = calibration.posterior(seen)
    assert (found.tiles >= 0).all() and found.elsewhere >= 0 and 0 <= found.absent <= 1
    assert float(found.tiles.sum()) + found.elsewhere + found.absent == pytest.approx(1, abs=1e-9)


def test_equals_a_naive_softmax_where_every_tile_is_listed() -> None:
    scores = np.sort(np.random.default_rng(1).normal(0.2, 0.1, 50))[::-1]
    seen = evidence(scores, 50)
    mean, deviation = seen.background.mean(), seen.background.std()
    x = [1.0, 2.0, 1.0, math.log10(50) - 4]  # 90 degrees are two octaves below 360, all headings searched
    slope, plain = (sum(w * c for w, c in zip(ws, x, strict=True)) for ws in (PLAIN.standard, PLAIN.cosine))
    terms = [math.exp(slope * (s - mean) / deviation + plain * s) for s in scores]
    best = (scores[0] - mean) / deviation
    logit = sum(w * c for w, c in zip(PLAIN.inside[0], x, strict=True))
    logit += sum(w * c for w, c in zip(PLAIN.inside[1], x, strict=True)) * best
    here = 1 / (1 + math.exp(-logit))
    found = PLAIN.posterior(seen)
    assert found.in_gallery == pytest.approx(here)
    np.testing.assert_allclose(found.tiles, [here * term / sum(terms) for term in terms])
    assert found.elsewhere == pytest.approx(0)


def test_a_list_and_a_sample_come_near_the_whole_gallery() -> None:
    scores = np.sort(np.random.default_rng(2).normal(0.1, 0.1, 5000))[::-1]
    sample = scores[::5]
    soft = Calibration((1.0, 0.0, 0.0, 0.0), NONE, (NONE, NONE, NONE, NONE))
    whole = soft.posterior(Evidence(scores, scores[1], sample, 5000, 90.0, 360.0))
    listed = soft.posterior(Evidence(scores[:100], scores[1], sample, 5000, 90.0, 360.0))
    assert listed.elsewhere == pytest.approx(whole.tiles[100:].sum(), rel=0.05)
    np.testing.assert_allclose(listed.tiles, whole.tiles[:100], rtol=0.05)


@settings(deadline=None)
@given(st.lists(st.floats(0.001, 1), min_size=1, max_size=7), st.floats(0.0, 0.9))
def test_the_region_is_the_smallest_that_holds_its_share(parts: list[float], absent: float) -> None:
    tiles = np.array(parts) / sum(parts) * (1 - absent)
    region = Posterior(tiles, 0.0, absent).region(0.9)
    assert tiles[region].sum() >= 0.9 * (1 - absent) - 1e-6
    best_first = np.sort(tiles)[::-1]
    fewest = next(n for n in range(1, 9) if best_first[:n].sum() >= 0.9 * (1 - absent) - 1e-6)
    assert len(region) <= fewest + 1 and (len(region) == 1 or tiles[region[:-1]].sum() < 0.9 * (1 - absent))


def test_round_trip_and_files_that_are_none(tmp_path: Path) -> None:
    assert read_calibration(tmp_path) is None
    (tmp_path / CALIBRATION).write_text(PLAIN.to_json())
    assert read_calibration(tmp_path) == PLAIN
    good = json.loads(PLAIN.to_json())
    (tmp_path / CALIBRATION).write_text(
        json.dumps({key: good[key] for key in good if key not in ("spread", "tail")})
    )
    assert read_calibration(tmp_path) == PLAIN
    wrong = [
        "", "[" * 10**5, "null", "{}", json.dumps(good | {"schema": 9}),
        json.dumps(good | {"standard": [1]}),
        json.dumps(good | {"inside": [[0, 0, 0, 0]] * 3}), json.dumps(good | {"cosine": ["a", 1, 2, 3]}),
        PLAIN.to_json().replace("3.0", "NaN"), json.dumps(good | {"spread": [1.0]}),
        json.dumps(good | {"tail": [1, 2]}), json.dumps(good | {"fitted_on": 3}),
    ]  # fmt: skip
    for text in wrong:
        (tmp_path / CALIBRATION).write_text(text)
        with pytest.raises(ModelError, match="no calibration"):
            read_calibration(tmp_path)


def simulated(rng: np.random.Generator, inside: bool, tiles: int = 400, listed: int = 100) -> Trial:
    """A gallery of normal scores in which the true tile, if any, stands some deviations higher."""
    scores = rng.normal(0.1, 0.1, tiles)
    truth = int(rng.integers(tiles)) if inside else None
    if truth is not None:
        scores[truth] += abs(rng.normal(0.3, 0.15))
    order = np.argsort(-scores)
    best = scores[order[:listed]]
    at = np.flatnonzero(order[:listed] == truth)
    place = None if truth is None else int(at[0]) if len(at) else ELSEWHERE
    return Trial(Evidence(best, float(best[1]), scores[::4], tiles, 90.0, 360.0), place)


def test_a_fit_is_calibrated_on_fresh_queries() -> None:
    rng = np.random.default_rng(3)
    fitted = fit_calibration([simulated(rng, number % 2 == 0) for number in range(800)], "simulation")
    fresh = [simulated(rng, number % 2 == 0) for number in range(800)]
    found = [fitted.posterior(trial.evidence) for trial in fresh]
    top = np.array([one.tiles[0] for one in found])
    assert calibration_error(top, np.array([trial.truth == 0 for trial in fresh])) < 0.06
    here = np.array([trial.truth is not None for trial in fresh])
    present = np.array([one.in_gallery for one in found])
    assert calibration_error(present, here) < 0.06
    assert auroc(present, here) > 0.65
    held = [t.truth in p.region() for t, p in zip(fresh, found, strict=True) if t.truth is not None]
    assert 0.82 <= np.mean(held) <= 0.99
    with pytest.raises(DataError, match="10 queries"):
        fit_calibration(fresh[:15], "too few")


def test_the_scatter_of_refined_places_is_fitted_by_how_much_is_seen() -> None:
    """Distances drawn by inverting the distribution that `Scatter` is the density of."""
    rng = np.random.default_rng(4)
    seen = {360.0: Scatter(1.5, 12.0), 90.0: Scatter(6.0, 3.0)}
    trials = [simulated(rng, number % 2 == 0, 60, 30) for number in range(40)]
    for seen_deg, true in seen.items():
        for within in rng.uniform(size=3000):
            off_m = true.spread_m * math.sqrt(true.tail * ((1 - within) ** (-2 / true.tail) - 1))
            trials.append(Trial(dataclasses.replace(trials[0].evidence, seen_deg=seen_deg), ELSEWHERE, off_m))
    fitted = fit_calibration(trials, "simulation")
    for seen_deg, true in seen.items():
        found = fitted.scatter(dataclasses.replace(trials[0].evidence, seen_deg=seen_deg))
        assert found
        assert found.spread_m == pytest.approx(true.spread_m, rel=0.08)
        assert found.tail == pytest.approx(true.tail, rel=0.4)
    unplaced = fit_calibration(trials[:40], "no place")
    assert unplaced.scatter(trials[0].evidence) is None


@pytest.mark.parametrize(("share", "times"), [(0.5, 1.26), (0.9, 2.75)])
def test_how_much_lies_within_how_many_spreads(share: float, times: float) -> None:
    line = (np.arange(40_000) + 0.5) * 0.01
    ring = line * Scatter(3.0, 5.0).density(line)
    assert ring[line < times * 3].sum() / ring.sum() == pytest.approx(share, abs=0.003)


@pytest.mark.parametrize("tiles", [40, 4000])
def test_a_fit_holds_in_galleries_of_other_sizes(tiles: int) -> None:
    rng = np.random.default_rng(5)
    fitted = fit_calibration([simulated(rng, number % 2 == 0, 1000) for number in range(1500)], "simulation")
    fresh = [simulated(rng, number % 2 == 0, tiles, min(tiles, 100)) for number in range(800)]
    found = [fitted.posterior(trial.evidence) for trial in fresh]
    here = np.array([trial.truth is not None for trial in fresh])
    assert calibration_error(np.array([one.in_gallery for one in found]), here) < 0.08
    top = np.array([one.tiles[0] for one in found])
    assert calibration_error(top, np.array([trial.truth == 0 for trial in fresh])) < 0.08


def test_thinning_keeps_the_truth_and_the_order() -> None:
    rng = np.random.default_rng(6)
    sizes = []
    for number in range(300):
        trial = simulated(rng, number % 2 == 0)
        less = thinned(trial, rng)
        if less is None:
            continue
        kept = less.evidence.scores
        assert (np.diff(kept) <= 0).all() and np.isin(kept, trial.evidence.scores).all()
        assert less.evidence.rival <= kept[0] and len(kept) <= less.evidence.tiles <= trial.evidence.tiles
        if trial.truth is None or trial.truth == ELSEWHERE:
            assert less.truth == trial.truth
        else:
            assert less.truth is not None and kept[less.truth] == trial.evidence.scores[trial.truth]
        sizes.append(less.evidence.tiles)
    assert min(sizes) < 30 and max(sizes) > 300


def test_measures_against_naive_loops() -> None:
    rng = np.random.default_rng(4)
    confidence, correct = rng.uniform(0, 1, 500), rng.uniform(0, 1, 500) < 0.4
    total = 0.0
    for low in range(10):
        here = [i for i, c in enumerate(confidence) if low / 10 <= c < (low + 1) / 10]
        total += abs(sum(confidence[i] for i in here) - sum(bool(correct[i]) for i in here)) / 500
    assert calibration_error(confidence, correct) == pytest.approx(total)
    assert sum(n for n, _, _ in reliability(confidence, correct)) == 500
    assert reliability(np.array([1.0]), np.array([True])) == [(1, 1.0, 1.0)]
    score = rng.integers(0, 20, 60) / 20
    wins = [(a > b) + (a == b) / 2 for a in score[correct[:60]] for b in score[~correct[:60]]]
    assert auroc(score, correct[:60]) == pytest.approx(float(np.mean(wins)))
    assert math.isnan(auroc(score, np.ones(60, bool)))
