from pathlib import Path

import numpy as np
import pytest

from geoloc.certainty import certainty
from geoloc.lineup import Lineup, Links, View
from geoloc.places import LonLat
from geoloc.posterior import Calibration
from geoloc.spec import EncoderSpec

NONE = (0.0, 0.0, 0.0, 0.0)


def unit(rng: np.random.Generator, n: int, a: int, c: int) -> np.ndarray:
    bins = rng.normal(size=(n, a, c))
    return (bins / np.linalg.norm(bins, axis=2, keepdims=True) / np.sqrt(a)).reshape(n, -1).astype(np.float32)


def ring_spec(a: int, c: int) -> EncoderSpec:
    return EncoderSpec("test_resnet", 2, False, a, c, (8, 64), (-45, 45), 48, True, 48)


def one_to_one(n: int, gallery: list[View]) -> Lineup:
    nothing = Links(np.zeros(0, np.int64), np.zeros(0, np.int64))
    queries = [View(Path(f"q{row}"), gallery[row].lonlat) for row in range(n)]
    return Lineup(queries, gallery, Links(np.arange(n), np.arange(n)), nothing, nothing)


def anywhere(n: int) -> list[View]:
    return [View(Path(str(row))) for row in range(n)]


@pytest.mark.parametrize("unknown", [False, True])
def test_sure_of_what_is_there_and_of_what_is_not(unknown: bool) -> None:
    """Queries that equal their tile exactly: every even one is found, every odd one's tile is taken away."""
    gallery = unit(np.random.default_rng(0), 60, 8, 16)
    sharp = Calibration(
        (10.0, 0.0, 0.0, 0.0), NONE, ((-25.0, 0.0, 0.0, 0.0), (5.5, 0.0, 0.0, 0.0), NONE, NONE)
    )
    lineup = one_to_one(40, anywhere(60))
    found = certainty(sharp, ring_spec(8, 16), lineup, gallery[:40], gallery, unknown)
    assert [n for n, _, _ in found.reliability] == [20, 20]
    assert [right for _, _, right in found.reliability] == [0, 1]
    figures = found.figures
    assert figures["auroc_in_gallery"] == 1
    assert figures["coverage90"] == 1
    assert 0.9 <= figures["region90_holds"] <= 1
    assert figures["calibration_error"] < 0.05


def test_a_model_that_is_always_sure_is_found_out() -> None:
    gallery = unit(np.random.default_rng(0), 60, 8, 16)
    vain = Calibration((90.0, 0.0, 0.0, 0.0), NONE, ((90.0, 0.0, 0.0, 0.0), NONE, NONE, NONE))
    lineup = one_to_one(40, anywhere(60))
    figures = certainty(vain, ring_spec(8, 16), lineup, gallery[:40], gallery, False).figures
    assert figures["calibration_error"] > 0.4


def test_tiles_that_overlap_are_taken_out_too() -> None:
    gallery = unit(np.random.default_rng(0), 30, 4, 8)
    twins = np.concatenate([gallery, gallery])
    sharp = Calibration(
        (10.0, 0.0, 0.0, 0.0), NONE, ((-25.0, 0.0, 0.0, 0.0), (5.5, 0.0, 0.0, 0.0), NONE, NONE)
    )
    spec = ring_spec(4, 8)
    places = [View(Path(str(row)), LonLat(10 + row % 30 / 1000, 50)) for row in range(60)]  # 72 m apart
    blind = certainty(sharp, spec, one_to_one(30, anywhere(60)), gallery, twins, False).figures
    aware = certainty(sharp, spec, one_to_one(30, places), gallery, twins, False).figures
    assert aware["auroc_in_gallery"] > 0.99 > blind["auroc_in_gallery"]
