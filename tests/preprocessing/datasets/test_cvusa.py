from pathlib import Path

import pytest

from geoloc.errors import DataError
from preprocessing.datasets.cvusa import read_cvusa
from preprocessing.datasets.open import open_pairs


@pytest.fixture
def cvusa(tmp_path: Path) -> Path:
    """Three listed pairs; of the second the panorama is missing, of the third both files."""
    for folder in ("splits", "bingmap/19", "streetview/panos"):
        (tmp_path / folder).mkdir(parents=True)
    names = ["0000001", "0000002", "0000003"]
    lines = [f"bingmap/19/{n}.jpg,streetview/panos/{n}.jpg,streetview/annotations/{n}.png\n" for n in names]
    (tmp_path / "splits/val-19zl.csv").write_text("".join(lines))
    for name in ("bingmap/19/0000001.jpg", "streetview/panos/0000001.jpg", "bingmap/19/0000002.jpg"):
        (tmp_path / name).write_bytes(b"not read here")
    return tmp_path


def test_missing_pairs_are_counted_and_named(cvusa: Path) -> None:
    table = read_cvusa(cvusa)
    assert [pair.street.name for pair in table.pairs] == ["0000001.jpg"]
    assert (table.pairs[0].heading_deg, table.pairs[0].hfov_deg) == (0.0, 360.0)
    assert table.missing_pairs == 2
    assert [path.name for path in table.missing] == ["0000002.jpg", "0000003.jpg", "0000003.jpg"]
    assert [path.parent.name for path in table.missing] == ["panos", "19", "panos"]
    with pytest.raises(DataError, match=r"2 of 3 pairs are missing.*--allow-missing"):
        table.complete(allow_missing=False)
    assert table.complete(allow_missing=True) is table


def test_nothing_left_is_refused_even_if_missing_is_allowed(cvusa: Path) -> None:
    (cvusa / "bingmap/19/0000001.jpg").unlink()
    with pytest.raises(DataError, match="not one of 3"):
        read_cvusa(cvusa).complete(allow_missing=True)


@pytest.mark.parametrize(
    "line",
    [
        "only one column\n",
        "/etc/passwd,b.jpg,c\n",
        "../a.jpg,b.jpg,c\n",
        " /a.jpg,b.jpg,c\n",
        "\xff\n",
        " \n",
    ],
)
def test_lists_that_are_wrong(cvusa: Path, line: str) -> None:
    (cvusa / "splits/val-19zl.csv").write_bytes(line.encode("latin-1"))
    with pytest.raises(DataError, match=r"val-19zl\.csv"):
        read_cvusa(cvusa)


def test_a_list_without_end(cvusa: Path) -> None:
    (cvusa / "splits/train-19zl.csv").symlink_to("/dev/zero")
    with pytest.raises(DataError, match=r"train-19zl\.csv is no list"):
        read_cvusa(cvusa, "train")


def test_lists_from_windows(cvusa: Path) -> None:
    """A byte order mark, CRLF and blank lines change nothing; lines are counted as an editor does."""
    listing = cvusa / "splits/val-19zl.csv"
    text = listing.read_text().replace("\n", "\r\n\r\n") + "  \r\n"
    listing.write_bytes(text.encode("utf-8-sig"))
    assert [pair.street.name for pair in read_cvusa(cvusa).pairs] == ["0000001.jpg"]
    listing.write_bytes((text + "wrong\r\n").encode())
    with pytest.raises(DataError, match="line 8"):
        read_cvusa(cvusa)


@pytest.mark.parametrize("data", ["cvusa", "nothing:here", "cvusa:/no/such/folder", ""])
def test_kind_and_path(data: str) -> None:
    with pytest.raises(DataError, match="--data"):
        open_pairs(data)


def test_split_is_checked(cvusa: Path) -> None:
    with pytest.raises(DataError, match="--split"):
        open_pairs(f"cvusa:{cvusa}", "test")
    with pytest.raises(DataError, match=r"train-19zl\.csv"):
        open_pairs(f"cvusa:{cvusa}", "train")


def test_without_a_split_it_is_val_unless_most_of_that_is_missing(cvusa: Path) -> None:
    listing = cvusa / "splits/val-19zl.csv"
    first, *_ = listing.read_text().splitlines(keepends=True)
    (cvusa / "splits/train-19zl.csv").write_text(listing.read_text())
    either = read_cvusa(cvusa)
    assert (either.split, len(either.pairs), either.missing_pairs) == ("train+val", 2, 4)
    there = listing.read_text().splitlines(keepends=True)
    for lines, split in ((there[:1] + there[1:2], "val"), (there, "train+val")):
        listing.write_text("".join(lines))
        assert read_cvusa(cvusa).split == split
    listing.write_text(first)
    assert (read_cvusa(cvusa).split, read_cvusa(cvusa).missing_pairs) == ("val", 0)


def test_real_lists(real_data: Path) -> None:
    """18 pairs are on the disk, of the 35,532 to train and the 8,884 to validate on."""
    train, val = (read_cvusa(real_data / "cvusa", split) for split in ("train", "val"))
    assert len(train.pairs) + train.missing_pairs == 35_532
    assert len(val.pairs) + val.missing_pairs == 8_884
    either = read_cvusa(real_data / "cvusa")
    assert (either.split, len(either.pairs), either.missing_pairs) == ("train+val", 18, 44_398)
