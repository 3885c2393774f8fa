from pathlib import Path

import pytest

from geoloc.errors import DataError
from geoloc.lineup import line_up
from preprocessing.datasets.open import open_pairs
from preprocessing.datasets.university1652 import read_university1652

ASKED, LONE = ("0001", "0002"), ("0003", "0004")


def fill(root: Path, folder: str, buildings: tuple[str, ...], images: int, ending: str = ".jpeg") -> None:
    for building in buildings:
        (root / folder / building).mkdir(parents=True)
        for number in range(images):
            (root / folder / building / f"image-{number:02d}{ending}").write_bytes(b"not read here")
        (root / folder / building / "Thumbs.db").write_bytes(b"")


@pytest.fixture
def university(tmp_path: Path) -> Path:
    fill(tmp_path, "train/drone", ("0701", "0702"), 3)
    fill(tmp_path, "train/satellite", ("0701", "0702"), 1, ".jpg")
    fill(tmp_path, "test/query_drone", ASKED, 4)
    fill(tmp_path, "test/gallery_drone", ASKED + LONE, 4)
    fill(tmp_path, "test/query_street", ASKED, 2)
    fill(tmp_path, "test/query_satellite", ASKED, 1, ".jpg")
    fill(tmp_path, "test/gallery_satellite", ASKED + LONE, 1, ".jpg")
    return tmp_path


@pytest.mark.parametrize(
    ("split", "queries", "gallery", "answers"),
    [("drone-satellite", 8, 4, 1), ("satellite-drone", 2, 16, 4), ("street-satellite", 4, 4, 1)],
)
def test_who_is_asked_of_whom(university: Path, split: str, queries: int, gallery: int, answers: int) -> None:
    lineup = line_up(open_pairs(f"university1652:{university}", split))
    assert (len(lineup.queries), len(lineup.gallery)) == (queries, gallery)
    assert len(lineup.right.row) == queries * answers
    for query, row in zip(lineup.right.query, lineup.right.row, strict=True):
        assert lineup.queries[query].path.parent.name == lineup.gallery[row].path.parent.name
    asks_street = not split.startswith("satellite")
    assert (lineup.direction == "street->satellite") == asks_street


def test_training_pairs_have_no_distractors(university: Path) -> None:
    table = read_university1652(university, "train")
    assert (len(table.pairs), len(table.distractors)) == (6, 0)


def test_a_building_without_an_answer_is_missing(university: Path) -> None:
    for path in (university / "test/gallery_satellite/0002").iterdir():
        path.unlink()
    for path in (university / "test/query_drone/0001").iterdir():
        path.rename(path.with_name(f"._{path.name}"))
    table = read_university1652(university)
    assert (len(table.pairs), table.missing_pairs) == (0, 5)
    assert [path.relative_to(university / "test").as_posix() for path in table.missing] == [
        "query_drone/0001",
        "gallery_satellite/0002",
    ]


def test_refusals(university: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="splits drone-satellite"):
        read_university1652(university, "drone-street")
    with pytest.raises(DataError, match="query_drone"):
        read_university1652(tmp_path / "nowhere")
