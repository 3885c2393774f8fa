"""The synthetic towns that `geoloc synth` writes."""

from pathlib import Path
from typing import Any

from pyarrow import ArrowException, parquet

from geoloc.errors import DataError
from geoloc.pairs import Pair, PairTable
from geoloc.places import LonLat

TABLE = "street_views.parquet"
KINDS = {"town_seed": int, "split": str, "street": str, "satellite": str}
RANGES = {
    "lon": (-180, 180), "lat": (-90, 90), "tile_lon": (-180, 180), "tile_lat": (-90, 90),
    "heading_deg": (-360, 360), "hfov_deg": (1, 360), "footprint_m": (1, 10_000),
}  # fmt: skip
SPLITS = ("train", "val", "all")


def read_towns(root: Path, split: str = "all") -> PairTable:
    """The street views of one split that have a tile of their own, with their positions.

    Raises DataError for a folder that is no set of towns or a split that is not there.
    """
    if split not in SPLITS:
        raise DataError(f"Towns have the splits {', '.join(SPLITS)}, not {split!r}; choose with --split.")
    views = [view for view in _rows(root) if split in ("all", view["split"])]
    pairs, missing, dropped = [], [], 0
    for view in views:
        street, satellite = root / view["street"], root / view["satellite"]
        absent = [path for path in (street, satellite) if not path.is_file()]
        missing += absent
        dropped += bool(absent)
        if not absent:
            pairs.append(
                Pair(
                    street=street,
                    satellite=satellite,
                    heading_deg=view["heading_deg"],
                    hfov_deg=view["hfov_deg"],
                    lonlat=LonLat(view["lon"], view["lat"]),
                    tile_lonlat=LonLat(view["tile_lon"], view["tile_lat"]),
                    footprint_m=view["footprint_m"],
                )
            )
    return PairTable("towns", split, pairs, missing, dropped, frozenset(view["town_seed"] for view in views))


def _rows(root: Path) -> list[dict[str, Any]]:
    """The table's rows that have a tile."""
    path = root / TABLE
    try:
        views = parquet.read_table(path, columns=[*KINDS, *RANGES]).to_pylist()
    except (OSError, ArrowException, UnicodeDecodeError) as cause:
        raise DataError(
            f"{path} is no table of towns; --data towns:PATH wants a folder that `geoloc synth` finished."
        ) from cause
    views = [view for view in views if view["satellite"] is not None]
    for view in views:
        wrong = _wrong(view)
        if wrong or _leaves(view["street"]) or _leaves(view["satellite"]):
            raise DataError(
                f"{path} has a row that no town has ({wrong or view['street']}); make the towns again."
            )
    return views


def _wrong(view: dict[str, Any]) -> list[str]:
    """The columns whose value is of another type or out of range."""
    strange = [name for name, kind in KINDS.items() if not isinstance(view.get(name), kind)]
    return strange + [
        name
        for name, (low, high) in RANGES.items()
        if not (isinstance(view.get(name), float) and low <= view[name] <= high)
    ]


def _leaves(name: str) -> bool:
    return Path(name).is_absolute() or ".." in Path(name).parts
