import os
from pathlib import Path

import numpy as np
import pytest
from pyproj import Geod

from geoloc.errors import DataError
from geoloc.lineup import line_up
from preprocessing.datasets.open import open_pairs
from preprocessing.datasets.vigor import read_vigor

CITIES = ("Chicago", "NewYork", "SanFrancisco", "Seattle")


def tile(city: int, number: int) -> str:
    return f"satellite_{30 + city + number / 1000}_{-90.0 + city}.png"


def panorama(city: int, number: int) -> str:
    return f"pano-{number},{30 + city + number / 1000 + 0.0001:.6f},{-90.0 + city:.6f},.jpg"


def line(city: int, number: int, tiles: tuple[int, ...]) -> str:
    return " ".join([panorama(city, number), *(f"{tile(city, t)} 1.0 -2.0" for t in tiles)]) + "\n"


@pytest.fixture
def vigor(tmp_path: Path) -> Path:
    """Six tiles a city, the last without a panorama; the original labels take another positive."""
    for city, name in enumerate(CITIES):
        lists = tmp_path / "splits" / name
        for folder in (lists, tmp_path / name / "panorama", tmp_path / name / "satellite"):
            folder.mkdir(parents=True)
        (lists / "satellite_list.txt").write_text("".join(f"{tile(city, n)}\n" for n in range(6)))
        for ending, shift in (("__corrected.txt", 0), (".txt", 1)):
            tiles = [tuple((n + k + shift) % 5 for k in range(4)) for n in range(5)]
            lines = [line(city, n, tiles[n]) for n in range(5)]
            (lists / f"same_area_balanced_train{ending}").write_text("".join(lines[:2]))
            (lists / f"same_area_balanced_test{ending}").write_text("".join(lines[2:]))
            (lists / f"pano_label_balanced{ending}").write_text("".join(lines))
        for number in range(6):
            (tmp_path / name / "panorama" / panorama(city, number)).write_bytes(b"not read here")
            (tmp_path / name / "satellite" / tile(city, number)).write_bytes(b"not read here")
    return tmp_path


@pytest.mark.parametrize(
    ("split", "cities", "pairs", "gallery"),
    [
        ("same-train", CITIES, 8, 8),
        ("same-test", CITIES, 12, 24),
        ("cross-train", ("NewYork", "Seattle"), 10, 10),
        ("cross-test", ("Chicago", "SanFrancisco"), 10, 12),
    ],
)
def test_splits(vigor: Path, split: str, cities: tuple[str, ...], pairs: int, gallery: int) -> None:
    table = read_vigor(vigor, split)
    assert {pair.street.parent.parent.name for pair in table.pairs} == set(cities)
    lineup = line_up(table)
    assert (len(lineup.queries), len(lineup.gallery)) == (pairs, gallery)
    assert all(view.lonlat for view in [*lineup.queries, *lineup.gallery])


def test_labels_and_semi_positives(vigor: Path) -> None:
    corrected, original = (
        read_vigor(vigor, "same-test", labels).pairs[0] for labels in ("corrected", "original")
    )
    assert corrected.street == original.street
    assert corrected.satellite.name == tile(0, 2)
    assert [path.name for path in corrected.semi] == [tile(0, 3), tile(0, 4), tile(0, 0)]
    assert original.satellite.name == tile(0, 3)
    assert corrected.lonlat is not None and corrected.lonlat.lat == pytest.approx(30.0021)
    lineup = line_up(read_vigor(vigor, "same-test"))
    assert len(lineup.semi.row) == 3 * len(lineup.queries)


def test_what_is_missing_is_counted_and_named(vigor: Path) -> None:
    (vigor / "Seattle/panorama" / panorama(3, 2)).unlink()
    (vigor / "Chicago/satellite" / tile(0, 5)).unlink()
    (vigor / "splits/NewYork/satellite_list.txt").unlink()
    table = open_pairs(f"vigor:{vigor}")
    assert {path.name for path in table.missing} == {panorama(3, 2), tile(0, 5), "satellite_list.txt"}
    assert (len(table.pairs), table.missing_pairs) == (8, 1)
    with pytest.raises(DataError, match="allow-missing"):
        table.complete(allow_missing=False)


@pytest.mark.parametrize(
    "text",
    [
        "x.jpg a 1 2\n",
        line(0, 1, (1, 2, 3)),
        line(0, 1, (1, 2, 3, 4)).replace("30.", "../"),
        "\x00\xff",
        "",
        line(0, 2, (1, 2, 3, 4)).replace("-2.0", "nan"),
    ],
)
def test_broken_lists(vigor: Path, text: str) -> None:
    (vigor / "splits/Chicago/same_area_balanced_test__corrected.txt").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match="same_area_balanced_test"):
        read_vigor(vigor)


def test_names_that_say_no_place(vigor: Path) -> None:
    nowhere = line(0, 2, (1, 2, 3, 4)).replace("30.001", "north")
    (vigor / "splits/Chicago/same_area_balanced_test__corrected.txt").write_text(nowhere)
    (vigor / "Chicago/satellite/satellite_north_-90.0.png").write_bytes(b"")
    with pytest.raises(DataError, match="does not say where it is"):
        read_vigor(vigor)


def test_refusals(vigor: Path) -> None:
    with pytest.raises(DataError, match="same-train"):
        read_vigor(vigor, "test")
    with pytest.raises(DataError, match="corrected"):
        open_pairs(f"vigor:{vigor}", labels="mine")


@pytest.mark.parametrize(("there", "asked"), [("original", "corrected"), ("corrected", "original")])
def test_lists_of_other_labels_are_named(vigor: Path, there: str, asked: str) -> None:
    for path in (vigor / "splits").glob("*/*balanced*"):
        if path.name.endswith("__corrected.txt") == (asked == "corrected"):
            path.unlink()
    with pytest.raises(DataError, match=f"--labels {there}"):
        read_vigor(vigor, "cross-train", asked)
    assert len(read_vigor(vigor, "cross-train", there).pairs) == 10


@pytest.mark.skipif("GEOLOC_REAL_DATA" not in os.environ, reason="GEOLOC_REAL_DATA is not set: no real lists")
def test_the_real_lists_of_chicago(tmp_path: Path) -> None:
    """25,479 lines: every tile is listed, and the offsets are the distances of the names to half a metre."""
    real = Path(os.environ["GEOLOC_REAL_DATA"]) / "vigor"
    tiles = set((real / "splits/Chicago/satellite_list.txt").read_text().split())
    assert len(tiles) == 22_308
    rows, lines = [], 0
    for split in ("train", "test"):
        text = (real / f"splits/Chicago/same_area_balanced_{split}__corrected.txt").read_text()
        for words in map(str.split, text.splitlines()):
            lines += 1
            lat, lon = map(float, words[0].rsplit(",", 3)[1:3])
            for name, north_px, east_px in zip(words[1::3], words[2::3], words[3::3], strict=True):
                assert name in tiles
                tile_lat, tile_lon = map(float, name.removesuffix(".png").split("_")[1:])
                rows.append((lon, lat, tile_lon, tile_lat, float(north_px), float(east_px)))
    assert lines == 25_479  # 25,477 line ends: neither file's last line has one
    lon, lat, tile_lon, tile_lat, north_px, east_px = np.array(rows).T
    gsd_m = 2 * np.pi * 6_378_137 * np.cos(np.radians(tile_lat)) / 2**20 / 256
    azimuth, _, metres = Geod(ellps="WGS84").inv(lon, lat, tile_lon, tile_lat)
    north_m, east_m = np.cos(np.radians(azimuth)) * metres, np.sin(np.radians(azimuth)) * metres
    off_m = np.hypot(north_m - north_px * gsd_m, east_m - east_px * gsd_m)
    assert off_m.max() < 0.5


@pytest.mark.skipif("GEOLOC_REAL_DATA" not in os.environ, reason="GEOLOC_REAL_DATA is not set: no real lists")
def test_a_pair_for_every_real_line_whose_images_are_there(tmp_path: Path) -> None:
    """The real lists, their images stood in for by empty files."""
    real = Path(os.environ["GEOLOC_REAL_DATA"]) / "vigor/splits/Chicago"
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits/Chicago").symlink_to(real)
    for folder in ("panorama", "satellite"):
        (tmp_path / "Chicago" / folder).mkdir(parents=True)
    lines = (real / "same_area_balanced_test__corrected.txt").read_text().splitlines()[:50]
    for words in map(str.split, lines):
        (tmp_path / "Chicago/panorama" / words[0]).touch()
        (tmp_path / "Chicago/satellite" / words[1]).touch()
    table = read_vigor(tmp_path, "same-test")
    assert len(table.pairs) == 50
    assert table.missing_pairs == 12_740 - 50 - 1
    assert {path.name for path in table.missing if path.parent.parent.name == "splits"} == {
        "satellite_list.txt",
        "same_area_balanced_test__corrected.txt",
    }
    assert [pair.satellite.name for pair in table.pairs] == [words.split()[1] for words in lines]
