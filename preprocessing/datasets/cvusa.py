"""CVUSA in its authors' layout (Workman et al. 2015; the split of Zhai et al. 2017)."""

import csv
import io
from dataclasses import replace
from pathlib import Path

from geoloc.errors import DataError
from geoloc.pairs import Pair, PairTable
from geoloc.places import mercator_m
from preprocessing.datasets.lists import read_list

SPLITS = ("train", "val")
TILE_M = mercator_m(750, 19, 38.5)
"""A tile's side: 750 px of zoom 19, 175 m. Where each lies is not published; this is the middle of the
contiguous states, and from their south to their north it is 203 to 147 m."""


def read_cvusa(root: Path, split: str | None = None) -> PairTable:
    """The pairs of one split: `splits/{split}-19zl.csv`, columns satellite, street, annotation.

    The file has no header and paths are relative to `root`; panoramas are 360 degrees, north in
    the middle. Annotations are not needed. Without a split it is val, the one that papers score;
    of an excerpt, which lacks more of val than it has, what there is of both splits. Raises
    DataError for a split or list that is not there.
    """
    if split is None:
        val = read_cvusa(root, "val")
        if val.missing_pairs <= len(val.pairs) or not (root / "splits" / "train-19zl.csv").is_file():
            return val
        train = read_cvusa(root, "train")
        missing = [*train.missing, *val.missing]
        dropped = train.missing_pairs + val.missing_pairs
        return replace(
            val, split="train+val", pairs=[*train.pairs, *val.pairs], missing=missing, missing_pairs=dropped
        )
    if split not in SPLITS:
        raise DataError(f"CVUSA has the splits {' and '.join(SPLITS)}, not {split!r}; choose with --split.")
    pairs, missing, dropped = [], [], 0
    for satellite, street in _rows(root / "splits" / f"{split}-19zl.csv"):
        absent = [path for path in (root / satellite, root / street) if not path.is_file()]
        missing += absent
        dropped += bool(absent)
        if not absent:
            pairs.append(Pair(root / street, root / satellite, 0.0, 360.0, footprint_m=TILE_M))
    return PairTable("cvusa", split, pairs, missing, dropped, street_px=(1232, 224), satellite_px=(750, 750))


def _rows(listing: Path) -> list[tuple[str, str]]:
    text = read_list(listing, "--data cvusa:PATH wants the folder above splits/")
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        rows = [(reader.line_num, row) for row in reader if any(map(str.strip, row))]
    except csv.Error as cause:
        raise DataError(f"{listing}, line {reader.line_num}: {cause}; take the list again.") from cause
    for line, row in rows:
        if len(row) < 2 or any(_leaves_root(name) for name in row[:2]):
            raise DataError(f"{listing}, line {line}: want satellite,street,annotation inside the dataset.")
    return [(row[0].strip(), row[1].strip()) for _, row in rows]


def _leaves_root(name: str) -> bool:
    return Path(name.strip()).is_absolute() or ".." in Path(name).parts
