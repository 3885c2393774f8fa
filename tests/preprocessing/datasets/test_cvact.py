from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from geoloc.errors import DataError
from preprocessing.datasets.cvact import read_cvact
from preprocessing.datasets.open import open_pairs

N = 40
IDS = [f"id-{'x' * (number % 3)}{number:03d}" for number in range(N)]
CANBERRA_M = np.array([693_000.0, 6_090_000.0])


def places(seed: int = 0) -> np.ndarray:
    """Crowded enough that several lie within 5 m, some of them exactly."""
    utm = CANBERRA_M + np.random.default_rng(seed).uniform(0, 30, (N, 2))
    utm[1] = utm[0] + [3, 4]
    utm[2] = utm[0] + [5.001, 0]
    return utm


def write(root: Path, utm: np.ndarray, ids: object = None, **sets: object) -> Path:
    """ACT_data.mat in its true structure: the indices count from 1 and are the second field."""
    whole = {
        "panoIds": np.array(IDS) if ids is None else ids,
        "utm": utm,
        "trainSet": {"trainNum": 10, "trainInd": np.arange(1, 11)[:, None]},
        "valSet": {"valNum": 15, "valInd": np.arange(11, 26)[:, None]},
        "valSetAll": {"valNum": 20, "valInd": np.arange(1, 41, 2)[:, None]},
    }
    savemat(root / "ACT_data.mat", whole | sets)
    for folder in ("ANU_data_small", "ANU_data_test"):
        for one, ending in (("streetview", "grdView"), ("satview_polish", "satView_polish")):
            (root / folder / one).mkdir(parents=True, exist_ok=True)
            for name in IDS:
                (root / folder / one / f"{name}_{ending}.jpg").write_bytes(b"not read here")
    return root


@pytest.mark.parametrize(
    ("split", "folder", "rows"),
    [("train", "small", range(10)), ("val", "small", range(10, 25)), ("test", "test", range(0, 40, 2))],
)
def test_splits_count_from_one(tmp_path: Path, split: str, folder: str, rows: range) -> None:
    table = read_cvact(write(tmp_path, places()), split)
    assert [pair.street.name for pair in table.pairs] == [f"{IDS[row]}_grdView.jpg" for row in rows]
    assert {pair.satellite.parent for pair in table.pairs} == {tmp_path / f"ANU_data_{folder}/satview_polish"}
    assert (table.street_px, table.satellite_px, table.missing_pairs) == ((1664, 832), (1200, 1200), 0)


def test_tiles_within_5_m_are_those_of_a_loop(tmp_path: Path) -> None:
    every = {"valInd": np.arange(1, N + 1)}
    utm = places()
    table = read_cvact(write(tmp_path, utm, valSetAll=every), "test")
    assert table.also_means == "<5m"
    for row, pair in enumerate(table.pairs):
        near = [j for j in range(N) if j != row and np.sqrt(((utm[j] - utm[row]) ** 2).sum()) <= 5]
        assert [path.name for path in pair.also] == [f"{IDS[j]}_satView_polish.jpg" for j in near]
    assert f"{IDS[1]}_satView_polish.jpg" in [path.name for path in table.pairs[0].also]
    assert f"{IDS[2]}_satView_polish.jpg" not in [path.name for path in table.pairs[0].also]
    assert sum(len(pair.also) for pair in table.pairs) > N


def test_places_are_canberras_or_unknown(tmp_path: Path) -> None:
    (pair, *_) = read_cvact(write(tmp_path, places())).pairs
    assert pair.lonlat is not None and pair.lonlat == pair.tile_lonlat
    assert (pair.lonlat.lon, pair.lonlat.lat) == pytest.approx((149.13, -35.31), abs=0.1)
    anywhere = np.random.default_rng(0).uniform(0, 1e5, (N, 2))
    assert read_cvact(write(tmp_path, anywhere)).pairs[0].lonlat is None


def test_ids_in_cells(tmp_path: Path) -> None:
    cells = np.array(IDS, object)[:, None]
    assert len(read_cvact(write(tmp_path, places(), cells)).pairs) == 15


def test_what_is_missing_is_counted_and_named(tmp_path: Path) -> None:
    root = write(tmp_path, places())
    gone = root / f"ANU_data_small/streetview/{IDS[12]}_grdView.jpg"
    gone.unlink()
    table = open_pairs(f"cvact:{root}", "val")
    assert (len(table.pairs), table.missing_pairs, table.missing) == (14, 1, [gone])


@pytest.mark.parametrize(
    "broken",
    [
        {"utm": np.zeros((3, 2))},
        {"utm": np.full((N, 2), np.nan)},
        {"utm": np.full((N, 2), 1e300)},
        {"utm": places() * 1j},
        {"valSet": {"valInd": np.array([np.nan])}},
        {"valSet": {"valInd": np.array([0, 1])}},
        {"valSet": {"valInd": np.array([1, N + 1])}},
        {"valSet": {"valInd": np.array([1.5, 2])}},
        {"valSet": {"other": np.array([1])}},
        {"valSet": {"valInd": np.zeros((0, 1))}},
        {"panoIds": np.array(["../../etc/passwd"] * N)},
    ],
)
def test_broken_files(tmp_path: Path, broken: dict[str, object]) -> None:
    with pytest.raises(DataError, match=r"ACT_data\.mat"):
        read_cvact(write(tmp_path, **{"utm": places(), **broken}))


@pytest.mark.parametrize(
    "blob", [b"", b"MATLAB 5.0 MAT-file" + bytes(200), b"\x89HDF\r\n\x1a\n" + bytes(600)]
)
def test_no_mat_file(tmp_path: Path, blob: bytes) -> None:
    with pytest.raises(DataError, match="is not there"):
        read_cvact(tmp_path)
    (tmp_path / "ACT_data.mat").write_bytes(blob)
    with pytest.raises(DataError, match=r"ACT_data\.mat"):
        read_cvact(tmp_path)
    with pytest.raises(DataError, match="splits train, val, test"):
        read_cvact(tmp_path, "valSet")
