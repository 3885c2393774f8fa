"""The synthetic towns that `geoloc synth` writes."""

from pathlib import Path

import pandas as pd

from geoloc.errors import DataError
from geoloc.pairs import Pair, PairTable
from geoloc.places import LonLat

TABLE = "street_views.parquet"
COLUMNS = (
    "town_seed", "split", "street", "satellite", "lon", "lat", "heading_deg", "hfov_deg", "tile_lon",
    "tile_lat", "footprint_m",
)  # fmt: skip
SPLITS = ("train", "val", "all")


def read_towns(root: Path, split: str = "all") -> PairTable:
    """The street views of one split that have a tile of their own, with their positions.

    Raises DataError for a folder that is no set of towns or a split that is not there.
    """
    if split not in SPLITS:
        raise DataError(f"Towns have the splits {', '.join(SPLITS)}, not {split!r}; choose with --split.")
    views = _table(root)
    views = views[views["satellite"].notna()]
    if split != "all":
        views = views[views["split"] == split]
    pairs, missing, dropped = [], [], 0
    for view in views.itertuples(index=False):
        street, satellite = root / str(view.street), root / str(view.satellite)
        absent = [path for path in (street, satellite) if not path.is_file()]
        missing += absent
        dropped += bool(absent)
        if not absent:
            pairs.append(
                Pair(
                    street=street,
                    satellite=satellite,
                    heading_deg=float(view.heading_deg),
                    hfov_deg=float(view.hfov_deg),
                    lonlat=LonLat(float(view.lon), float(view.lat)),
                    tile_lonlat=LonLat(float(view.tile_lon), float(view.tile_lat)),
                    footprint_m=float(view.footprint_m),
                )
            )
    seeds = frozenset(int(seed) for seed in views["town_seed"].unique())
    return PairTable("towns", split, pairs, missing, dropped, seeds)


def _table(root: Path) -> pd.DataFrame:
    try:
        views = pd.read_parquet(root / TABLE)
    except (OSError, ValueError) as cause:
        raise DataError(
            f"{root / TABLE} cannot be read; --data towns:PATH wants a folder that `geoloc synth` finished."
        ) from cause
    lacking = [column for column in COLUMNS if column not in views]
    if lacking:
        raise DataError(f"{root / TABLE} lacks the columns {', '.join(lacking)}; make the towns again.")
    outside = views["street"].map(str).str.contains(r"^/|\.\.") | views["satellite"].map(str).str.contains(
        r"^/|\.\."
    )
    if outside.any():
        raise DataError(f"{root / TABLE} names files outside its folder; make the towns again.")
    return views
