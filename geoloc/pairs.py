"""The table of pairs: all that training and evaluation see of a dataset."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from geoloc.errors import DataError
from geoloc.places import LonLat
from geoloc.street_view import StreetView, read_rgb, read_street_view


@dataclass(frozen=True)
class Pair:
    """A street view and the tile that shows its place.

    heading_deg: of the street view's centre, clockwise from true north. hfov_deg: its field of view. None
    where the dataset does not know them; the file's metadata may. lonlat, tile_lonlat: of the camera and
    of the tile's centre, where known. footprint_m: the tile image's side, None where the dataset does not
    say. also: further tiles that a lenient protocol counts as right (CVACT: within 5 m). semi: tiles that
    are neither right nor wrong (VIGOR's semi-positives). A query with several right answers has a pair
    for each.
    """

    street: Path
    satellite: Path
    heading_deg: float | None
    hfov_deg: float | None
    lonlat: LonLat | None = None
    tile_lonlat: LonLat | None = None
    footprint_m: float | None = None
    also: tuple[Path, ...] = ()
    semi: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Distractor:
    """An image of the gallery that is no query's match; fields as in `Pair`."""

    path: Path
    lonlat: LonLat | None = None
    footprint_m: float | None = None


Direction = Literal["street->satellite", "satellite->street"]


@dataclass(frozen=True)
class PairTable:
    """The pairs of one split of one dataset.

    missing: files that the dataset's list names and the disk lacks; their pairs are not in `pairs`.
    missing_pairs: how many pairs that dropped. seeds: of synthetic towns, to keep training and
    evaluation apart; empty for photographs. distractors: what else the gallery holds. direction: which
    view is asked of which. labels: which of several published sets of labels. also_means: what the
    pairs' `also` is, as it ends a figure's name ("<5m"). street_px, satellite_px: width and height that
    the dataset's images have, None where they may differ.
    """

    name: str
    split: str
    pairs: Sequence[Pair]
    missing: Sequence[Path] = ()
    missing_pairs: int = 0
    seeds: frozenset[int] = frozenset()
    distractors: Sequence[Distractor] = ()
    direction: Direction = "street->satellite"
    labels: str = ""
    also_means: str = ""
    street_px: tuple[int, int] | None = None
    satellite_px: tuple[int, int] | None = None

    def complete(self, allow_missing: bool) -> "PairTable":
        """This table, if nothing is missing or that is allowed, and something is left; else DataError."""
        listed = len(self.pairs) + self.missing_pairs
        if self.missing and not allow_missing:
            named = ", ".join(str(path) for path in self.missing[:3])
            raise DataError(
                f"{self.name} ({self.split}): {self.missing_pairs:,} of {listed:,} pairs are missing "
                f"(first missing files: {named}); fetch them, or go on without with --allow-missing."
            )
        if not self.pairs:
            raise DataError(
                f"{self.name} ({self.split}): not one of {listed:,} pairs is there; check the path."
            )
        return self


def joined(tables: Sequence[PairTable]) -> PairTable:
    """Several tables as one."""
    return PairTable(
        name=" + ".join(dict.fromkeys(table.name for table in tables)),
        split=" + ".join(dict.fromkeys(table.split for table in tables)),
        pairs=[pair for table in tables for pair in table.pairs],
        missing=[path for table in tables for path in table.missing],
        missing_pairs=sum(table.missing_pairs for table in tables),
        seeds=frozenset().union(*(table.seeds for table in tables)),
    )


def read_pair_street(pair: Pair) -> StreetView:
    """The street view with the heading and field of view that the dataset states. Raises ImageError."""
    return read_street_view(pair.street, hfov_deg=pair.hfov_deg, heading_deg=pair.heading_deg)


def read_pair_tile(pair: Pair, footprint_m: float, spare_m: float = 0.0) -> UInt8[np.ndarray, "h w 3"]:
    """The middle of the pair's tile; see `read_tile_image`."""
    return read_tile_image(pair.satellite, pair.footprint_m, footprint_m, spare_m)


def read_tile_image(
    path: Path, covers_m: float | None, footprint_m: float, spare_m: float = 0.0
) -> UInt8[np.ndarray, "h w 3"]:
    """The middle of a tile image: a square of footprint_m, with as much of spare_m around it as there is.

    covers_m: the image's side; one of unknown side is taken whole, and so is one that is smaller by up
    to 10 %. Raises DataError where a smaller one would mislead.
    """
    rgb = read_rgb(path)
    if covers_m is None:
        return rgb
    side_px = min(rgb.shape[:2])
    want_px = round(side_px * footprint_m / covers_m)
    if want_px > side_px * 1.1:
        raise DataError(
            f"{path} covers {covers_m:g} m; the model wants {footprint_m:g} m: "
            "make the tiles larger or take another model."
        )
    keep_px = min(round(side_px * (footprint_m + 2 * spare_m) / covers_m), side_px)
    left, top = ((side - keep_px) // 2 for side in (rgb.shape[1], rgb.shape[0]))
    return rgb[top : top + keep_px, left : left + keep_px]
