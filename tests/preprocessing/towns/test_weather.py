import math

import numpy as np
import pytest

from geoloc.errors import DataError
from preprocessing.towns.weather import GAPS, SEASONS, draw_weather


def days(difficulty: str, *, ortho: bool = False) -> list:
    return [draw_weather(np.random.default_rng(seed), difficulty, ortho=ortho) for seed in range(60)]


def test_unknown_difficulty_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"'brutal'.*easy, normal, hard"):
        draw_weather(np.random.default_rng(0), "brutal", ortho=False)


def test_same_seed_same_day() -> None:
    assert days("hard") == days("hard")


@pytest.mark.parametrize("difficulty", GAPS)
def test_days_stay_within_their_gap(difficulty: str) -> None:
    gap = GAPS[difficulty]
    for day in days(difficulty):
        assert gap.sun_elevation_deg[0] <= day.sun_elevation_deg <= gap.sun_elevation_deg[1]
        assert gap.overcast[0] <= day.overcast <= gap.overcast[1]
        assert gap.visibility_m[0] <= day.visibility_m <= gap.visibility_m[1]
        assert day.season in [SEASONS[name] for name in gap.seasons]
        assert abs(math.log2(day.exposure)) <= gap.exposure_stops


def test_harder_days_differ_more() -> None:
    spread = {name: np.std([math.log2(day.exposure) for day in days(name)]) for name in GAPS}
    assert spread["easy"] < spread["normal"] < spread["hard"]
    assert [len({day.season for day in days(name)}) for name in GAPS] == [1, 4, 5]


@pytest.mark.parametrize("difficulty", GAPS)
def test_orthophotos_are_flown_on_clear_days_with_leaves(difficulty: str) -> None:
    for day in days(difficulty, ortho=True):
        assert day.overcast <= 0.1
        assert day.sun_elevation_deg >= 35
        assert day.season.bare < 0.2
        assert day.traffic == 0


def test_sun_is_a_unit_vector_and_light_adds_up_to_one() -> None:
    for day in days("hard"):
        assert math.hypot(*day.sun) == pytest.approx(1)
        assert math.degrees(math.atan2(day.sun[0], day.sun[1])) % 360 == pytest.approx(
            day.sun_azimuth_deg % 360
        )
        if day.sun[2] >= 0.5:
            green = day.ambient[1] + day.sunlight[1] * day.sun[2]
            assert green == pytest.approx(1, abs=0.1)
