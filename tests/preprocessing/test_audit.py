import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from geoloc.errors import DataError
from geoloc.pairs import Distractor, Pair, PairTable
from geoloc.places import LonLat
from preprocessing.audit import accept, audit


def picture(path: Path, seed: int, wh: tuple[int, int] = (64, 32)) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (wh[1], wh[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def table(tmp_path: Path) -> PairTable:
    pairs = [
        Pair(
            picture(tmp_path / f"s{i}.jpg", i), picture(tmp_path / f"t{i}.png", 100 + i, (32, 32)), 0.0, 360.0
        )
        for i in range(4)
    ]
    lone = Distractor(picture(tmp_path / "d.jpg", 200, (32, 32)))
    return PairTable("made", "val", pairs, distractors=[lone], street_px=(64, 32), satellite_px=(32, 32))


def found(table: PairTable) -> dict[str, list[str]]:
    _, seen = audit(table)
    named: dict[str, list[str]] = {}
    for finding in seen.findings:
        named.setdefault(finding.kind, []).append(finding.path.name)
    return named


def test_nothing_wrong(table: PairTable) -> None:
    ticks: list[tuple[int, int]] = []
    checked, seen = audit(table, lambda done, total: ticks.append((done, total)))
    assert checked == table
    assert (seen.findings, seen.images, seen.listed, seen.dropped) == ([], 9, 4, 0)
    assert ticks[-1] == (9, 9)
    accept(checked, seen, frozenset(), Path("audit.csv"))


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.99])
@pytest.mark.parametrize("name", ["s1.jpg", "t2.png"])
def test_a_truncated_image_drops_its_pair(table: PairTable, tmp_path: Path, name: str, keep: float) -> None:
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(len(whole) * keep)])
    checked, seen = audit(table)
    assert found(table) == {"unreadable": [name]}
    assert (len(checked.pairs), seen.dropped) == (3, 1)
    with pytest.raises(DataError, match=r"1 image is unreadable.*--allow unreadable"):
        accept(checked, seen, frozenset({"missing"}), Path("audit.csv"))
    accept(checked, seen, frozenset({"unreadable"}), Path("audit.csv"))


def test_an_image_too_small_to_embed_is_unreadable(table: PairTable, tmp_path: Path) -> None:
    picture(tmp_path / "s1.jpg", 1, (20, 20))
    assert found(table) == {"unreadable": ["s1.jpg"]}


def test_sizes_and_duplicates(table: PairTable, tmp_path: Path) -> None:
    picture(tmp_path / "s0.jpg", 0, (48, 32))
    (tmp_path / "s3.jpg").write_bytes((tmp_path / "s2.jpg").read_bytes())
    (tmp_path / "d.jpg").write_bytes((tmp_path / "t1.png").read_bytes())
    checked, seen = audit(table)
    assert found(table) == {"size": ["s0.jpg"], "duplicate": ["s3.jpg", "d.jpg"]}
    assert checked == table and seen.dropped == 0
    with pytest.raises(DataError, match="1 image is of unexpected size, 2 images are duplicated"):
        accept(checked, seen, frozenset(), Path("audit.csv"))


def test_missing_files_and_where_they_are_named(table: PairTable, tmp_path: Path) -> None:
    lacking = replace(table, missing=[Path("gone.jpg"), Path('a,"b".jpg')], missing_pairs=1)
    checked, seen = audit(lacking)
    assert (seen.listed, seen.dropped) == (5, 1)
    with pytest.raises(DataError, match=r"1 of 5 pairs are missing .*gone.jpg.*audit.csv.*--allow-missing"):
        accept(checked, seen, frozenset(), tmp_path / "audit.csv")
    seen.write(tmp_path / "audit.csv")
    with (tmp_path / "audit.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[1:] == [["missing", "gone.jpg", ""], ["missing", 'a,"b".jpg', ""]]
    with pytest.raises(DataError, match="not one of 5 pairs"):
        accept(replace(checked, pairs=[]), seen, frozenset({"missing"}), Path("audit.csv"))


def test_the_fingerprint_is_of_names_and_contents(table: PairTable, tmp_path: Path) -> None:
    before = audit(table)[1].fingerprint
    assert audit(table)[1].fingerprint == before
    swapped = [replace(table.pairs[0], satellite=table.pairs[1].satellite), *table.pairs[1:]]
    assert audit(replace(table, pairs=swapped))[1].fingerprint != before
    picture(tmp_path / "d.jpg", 7, (32, 32))
    assert audit(table)[1].fingerprint != before


def test_the_fingerprint_is_of_all_that_is_known(table: PairTable) -> None:
    one, *others = table.pairs
    changed = [
        replace(one, heading_deg=180.0), replace(one, hfov_deg=90.0), replace(one, lonlat=LonLat(9, 50)),
        replace(one, tile_lonlat=LonLat(9, 50)), replace(one, footprint_m=50.0),
        replace(one, also=(others[0].satellite,)), replace(one, semi=(others[0].satellite,)),
    ]  # fmt: skip
    prints = [audit(replace(table, pairs=[first, *others]))[1].fingerprint for first in (one, *changed)]
    assert len(set(prints)) == 8
    assert audit(table)[1].fingerprint == prints[0]
