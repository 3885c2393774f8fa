from dataclasses import replace
from pathlib import Path

import numpy as np

from geoloc.lineup import Links, line_up
from geoloc.pairs import Distractor, Pair, PairTable
from geoloc.places import LonLat

HERE = LonLat(10, 50)


def pair(street: str, satellite: str, **more: tuple[Path, ...]) -> Pair:
    return Pair(Path(street), Path(satellite), 0.0, 360.0, HERE, HERE, 48.0, **more)


def listed(links: Links) -> list[tuple[int, int]]:
    return list(zip(links.query.tolist(), links.row.tolist(), strict=True))


TABLE = PairTable(
    "made",
    "test",
    [
        pair("s0", "t1", also=(Path("t0"), Path("nowhere"))),
        pair("s1", "t0", semi=(Path("t1"), Path("far"))),
        pair("s1", "t2"),
        pair("s2", "t2"),
    ],
    distractors=[Distractor(Path("far"), HERE), Distractor(Path("t0"))],
)


def test_images_once_and_answers_by_row() -> None:
    lineup = line_up(TABLE)
    assert [str(view.path) for view in lineup.queries] == ["s0", "s1", "s2"]
    assert [str(view.path) for view in lineup.gallery] == ["t1", "t0", "t2", "far"]
    assert listed(lineup.right) == [(0, 0), (1, 1), (1, 2), (2, 2)]
    assert listed(lineup.also) == [(0, 1)]
    assert listed(lineup.semi) == [(1, 0), (1, 3)]
    assert (lineup.queries[0].heading_deg, lineup.queries[0].footprint_m) == (0, None)
    assert (lineup.gallery[0].heading_deg, lineup.gallery[0].footprint_m) == (None, 48)


def test_the_other_way_round() -> None:
    lineup = line_up(replace(TABLE, direction="satellite->street", distractors=[Distractor(Path("s9"))]))
    assert [str(view.path) for view in lineup.queries] == ["t1", "t0", "t2"]
    assert [str(view.path) for view in lineup.gallery] == ["s0", "s1", "s2", "s9"]
    assert listed(lineup.right) == [(0, 0), (1, 1), (2, 1), (2, 2)]


def test_links_join_without_repeats() -> None:
    one, two = Links(np.array([0, 2]), np.array([5, 1])), Links(np.array([0, 1]), np.array([5, 3]))
    assert listed(one | two) == [(0, 5), (1, 3), (2, 1)]
