"""What the curves show, read back from the axes."""

import numpy as np

from geoloc.places import LonLat
from ui.curves import Way, _error_curve, _recall_curve, _reliability, curves


def test_the_error_curve_is_the_share_within() -> None:
    figure = _error_curve([Way("one", error_m=np.array([4000.0, 0.0, 20.0, 30.0]))])
    x, y = figure.axes[0].lines[0].get_data()
    assert figure.axes[0].lines[0].get_drawstyle() == "steps-post"
    for metres, share in ((1, 0.25), (25, 0.5), (100, 0.75), (5000, 1.0)):
        assert y[np.searchsorted(x, metres, "right") - 1] == share


def test_the_recall_curve_is_recall_at_every_k() -> None:
    figure = _recall_curve([Way("one", rank=np.array([0, 0, 4, 99]))], 100)
    x, y = figure.axes[0].lines[0].get_data()
    assert [y[np.flatnonzero(x == k)[0]] for k in (1, 4, 5, 100)] == [0.5, 0.5, 0.75, 1.0]


def test_a_way_is_drawn_by_what_it_has() -> None:
    places = [LonLat(10, 50), LonLat(10.001, 50)]
    assert set(curves([Way("a", rank=np.array([0, 1]))], places, 2, 0)) == {"recall_curve"}
    way = Way("b", error_m=np.array([1.0, 2.0]), reliability=[(3, 0.4, 0.5)])
    assert set(curves([way], places, 2, 0)) == {"error_curve", "error_map", "reliability"}


def test_the_reliability_diagram_says_of_what() -> None:
    points = [(3, 0.2, 0.5), (4, 0.9, 1.0)]
    pairs = _reliability([Way("a", rank=np.array([0, 1]), reliability=points)])
    places = _reliability([Way("b", error_m=np.array([1.0, 2.0]), reliability=points)])
    assert "the first tile" in pairs.axes[0].get_title("left")
    assert "within 25 m" in places.axes[0].get_title("left")
    assert pairs.axes[0].lines[1].get_xydata().tolist() == [[0.2, 0.5], [0.9, 1.0]]
