import numpy as np
import pytest

from geoloc.certainty import certainty_figures
from geoloc.posterior import Calibration

NONE = (0.0, 0.0, 0.0)


def unit(rng: np.random.Generator, n: int, a: int, c: int) -> np.ndarray:
    bins = rng.normal(size=(n, a, c))
    return (bins / np.linalg.norm(bins, axis=2, keepdims=True) / np.sqrt(a)).reshape(n, -1).astype(np.float32)


@pytest.mark.parametrize("unknown", [False, True])
def test_sure_of_what_is_there_and_of_what_is_not(unknown: bool) -> None:
    """Queries that equal their tile exactly: every even one is found, every odd one's tile is taken away."""
    gallery = unit(np.random.default_rng(0), 60, 8, 16)
    sharp = Calibration((10.0, 0.0, 0.0), NONE, ((-25.0, 0.0, 0.0), (5.5, 0.0, 0.0), NONE, NONE))
    figures = certainty_figures(
        sharp, gallery[:40], gallery, np.arange(40), None, azimuth_bins=8, unknown_heading=unknown
    )
    assert figures["auroc_in_gallery"] == 1
    assert figures["coverage90"] == 1
    assert figures["calibration_error"] < 0.05


def test_a_model_that_is_always_sure_is_found_out() -> None:
    gallery = unit(np.random.default_rng(0), 60, 8, 16)
    vain = Calibration((90.0, 0.0, 0.0), NONE, ((90.0, 0.0, 0.0), NONE, NONE, NONE))
    figures = certainty_figures(
        vain, gallery[:40], gallery, np.arange(40), None, azimuth_bins=8, unknown_heading=False
    )
    assert figures["calibration_error"] > 0.4


def test_tiles_that_overlap_are_taken_out_too() -> None:
    gallery = unit(np.random.default_rng(0), 30, 4, 8)
    twins = np.concatenate([gallery, gallery])
    sharp = Calibration((10.0, 0.0, 0.0), NONE, ((-25.0, 0.0, 0.0), (5.5, 0.0, 0.0), NONE, NONE))
    overlaps = np.zeros((30, 60), bool)
    overlaps[np.arange(30), np.arange(30) + 30] = True
    common = {"azimuth_bins": 4, "unknown_heading": False}
    blind = certainty_figures(sharp, gallery, twins, np.arange(30), None, **common)
    aware = certainty_figures(sharp, gallery, twins, np.arange(30), overlaps, **common)
    assert aware["auroc_in_gallery"] > 0.99 > blind["auroc_in_gallery"]
