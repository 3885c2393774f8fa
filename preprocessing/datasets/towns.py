"""The synthetic towns that `geoloc synth` writes."""

from pathlib import Path

from geoloc.errors import DataError
from geoloc.pairs import Pair, PairTable
from geoloc.places import LonLat
from preprocessing.towns.table import town_rows

SPLITS = ("train", "val", "all")


def read_towns(root: Path, split: str = "all") -> PairTable:
    """The street views of one split that have a tile of their own, with their positions.

    Raises DataError for a folder that is no set of towns or a split that is not there.
    """
    if split not in SPLITS:
        raise DataError(f"Towns have the splits {', '.join(SPLITS)}, not {split!r}; choose with --split.")
    views = [view for view in town_rows(root, "street", "satellite") if split in ("all", view["split"])]
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
