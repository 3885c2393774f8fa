"""CVACT in its authors' layout (Liu & Li 2019), with both of its test protocols."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int64
from pyproj import Transformer
from scipy.io import loadmat
from scipy.spatial import cKDTree

from geoloc.errors import DataError
from geoloc.pairs import Pair, PairTable
from geoloc.places import LonLat, mercator_m

SPLITS = {
    "train": ("trainSet", "trainInd", "ANU_data_small"),
    "val": ("valSet", "valInd", "ANU_data_small"),
    "test": ("valSetAll", "valInd", "ANU_data_test"),
}
TILE_M = mercator_m(1200, 20, 35.3)
"""A tile's side: 1,200 px of zoom 20 at Canberra, 146 m."""

WITHIN_M = 5.0
FAR_M = 1e8
CANBERRA = (148.5, -36.5, 150.0, -34.5)
"""West, south, east, north: where positions must lie to be believed."""


def read_cvact(root: Path, split: str = "val") -> PairTable:
    """The pairs of one split of `ACT_data.mat`: panoIds, utm, and indices from 1.

    A pair's tile is its own (one-to-one by id); `also` are those of the split whose utm lies within 5 m
    of its own, the authors' protocol (OriCNN's RecallGeo). utm is of zone 55 south; where it does not lie
    around Canberra, positions stay unknown. North is in the middle of the panoramas. Raises DataError
    for a split that there is not, and for a broken file.
    """
    if split not in SPLITS:
        raise DataError(f"CVACT has the splits {', '.join(SPLITS)}, not {split!r}; choose with --split.")
    group, key, folder = SPLITS[split]
    ids, utm, rows = _read_mat(root / "ACT_data.mat", group, key)
    streets, tiles = root / folder / "streetview", root / folder / "satview_polish"
    names = [(streets / f"{ids[row]}_grdView.jpg", tiles / f"{ids[row]}_satView_polish.jpg") for row in rows]
    there = {path for path in (streets, tiles) for path in _listed(path)}
    whole = [number for number, pair in enumerate(names) if there.issuperset(pair)]
    missing = [path for pair in names for path in pair if path not in there]
    near = cKDTree(utm[rows]).query_ball_point(utm[rows], WITHIN_M)
    lonlats = _lonlats(utm[rows])
    pairs = [
        Pair(
            street=names[number][0],
            satellite=names[number][1],
            heading_deg=0.0,
            hfov_deg=360.0,
            lonlat=lonlats[number],
            tile_lonlat=lonlats[number],
            footprint_m=TILE_M,
            also=tuple(names[other][1] for other in sorted(near[number]) if other != number),
        )
        for number in whole
    ]
    return PairTable(
        name="cvact",
        split=split,
        pairs=pairs,
        missing=missing,
        missing_pairs=len(rows) - len(whole),
        also_means=f"<{WITHIN_M:g}m",
        street_px=(1664, 832),
        satellite_px=(1200, 1200),
    )


def _read_mat(
    path: Path, group: str, key: str
) -> tuple[list[str], Float[np.ndarray, "n 2"], Int64[np.ndarray, " m"]]:
    """Every id, every utm, and the split's rows from 0."""
    if not path.is_file():
        raise DataError(f"{path} is not there; --data cvact:PATH wants the folder that holds it.")
    try:
        raw: dict[str, Any] = loadmat(path, variable_names=["panoIds", "utm", group])
        ids = [_text(one) for one in raw["panoIds"].ravel()]
        utm = np.asarray(raw["utm"].astype(np.float64, casting="same_kind"))
        listed = np.asarray(raw[group][key][0, 0]).ravel().astype(np.float64, casting="same_kind")
    except NotImplementedError as cause:
        raise DataError(f"{path} is of MATLAB 7.3; save it again with -v7.") from cause
    except Exception as cause:  # scipy raises what it likes for a broken or foreign file
        raise DataError(
            f"{path} is not CVACT's ACT_data.mat with panoIds, utm and {group}.{key} ({cause}); "
            "take it again from its source."
        ) from cause
    if utm.shape != (len(ids), 2) or not (np.abs(utm) < FAR_M).all():
        raise DataError(f"{path}: utm has the shape {utm.shape}, want metres for each of {len(ids)} panoIds.")
    if not len(listed) or not np.isin(listed, np.arange(1, len(ids) + 1)).all():
        raise DataError(f"{path}: {group}.{key} should count from 1 to {len(ids)}.")
    rows = listed.astype(np.int64) - 1
    if any("/" in ids[row] or "\\" in ids[row] or not ids[row] for row in rows):
        raise DataError(f"{path}: a panoId is empty or names a folder; take it again from its source.")
    return ids, utm, rows


def _text(one: Any) -> str:
    """A string of MATLAB: padded in a char array, or in a cell of its own."""
    return str(one.ravel()[0] if isinstance(one, np.ndarray) else one).strip()


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _lonlats(utm: Float[np.ndarray, "n 2"]) -> Sequence[LonLat | None]:
    lon, lat = Transformer.from_crs(32755, 4326, always_xy=True).transform(utm[:, 0], utm[:, 1])
    west, south, east, north = CANBERRA
    if not ((lon > west) & (lon < east) & (lat > south) & (lat < north)).all():
        return [None] * len(utm)
    return [LonLat(*place) for place in zip(lon.tolist(), lat.tolist(), strict=True)]
