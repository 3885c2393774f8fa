"""VIGOR in its authors' layout (Zhu et al. 2021), with their labels or the corrected ones."""

import math
from collections.abc import Iterator
from pathlib import Path

from geoloc.errors import DataError, GeolocError
from geoloc.pairs import Distractor, Pair, PairTable
from geoloc.places import LonLat, mercator_m
from preprocessing.datasets.lists import read_list

CITIES = {
    "same-train": ("Chicago", "NewYork", "SanFrancisco", "Seattle"),
    "same-test": ("Chicago", "NewYork", "SanFrancisco", "Seattle"),
    "cross-train": ("NewYork", "Seattle"),
    "cross-test": ("Chicago", "SanFrancisco"),
}
LISTS = {
    "same-train": "same_area_balanced_train",
    "same-test": "same_area_balanced_test",
    "cross-train": "pano_label_balanced",
    "cross-test": "pano_label_balanced",
}
ALIASES = {"train": "same-train", "val": "same-test"}
ENDINGS = {"corrected": "__corrected.txt", "original": ".txt"}
TILE_PX, ZOOM = 640, 20


def read_vigor(root: Path, split: str = "same-test", labels: str = "corrected") -> PairTable:
    """The panoramas of one split, each with its tile and three semi-positive ones.

    Lists are `splits/CITY/`, images `CITY/panorama/` and `CITY/satellite/`. A line is a panorama, then
    four times `tile dx dy`: how many pixels of the tile its centre lies north and east of the camera.
    Both are left to the coordinates in the files' names, with which the corrected offsets (SliceMatch)
    agree to half a metre; `original` differs in which tile is the positive. North is in the middle of
    the panoramas; tiles are 640 px of web mercator's zoom 20. A test gallery holds every tile of its
    cities, with a panorama or without; a training gallery those of its pairs. Raises DataError for a
    split or labels that there are not, and for a broken list.
    """
    split = ALIASES.get(split, split)
    if split not in CITIES or labels not in ENDINGS:
        raise DataError(
            f"VIGOR has the splits {', '.join(CITIES)} and the labels {', '.join(ENDINGS)}, "
            f"not {split!r} with {labels!r}."
        )
    pairs: list[Pair] = []
    distractors: list[Distractor] = []
    missing: list[Path] = []
    dropped = 0
    for city in CITIES[split]:
        listing = root / "splits" / city / f"{LISTS[split]}{ENDINGS[labels]}"
        tiles = root / "splits" / city / "satellite_list.txt"
        others = [
            kind for kind, end in ENDINGS.items() if (listing.parent / f"{LISTS[split]}{end}").is_file()
        ]
        if others and labels not in others:
            raise DataError(
                f"{listing} is missing; put the {labels} lists there, or take the ones there are: "
                f"--labels {others[0]}."
            )
        absent = [path for path in (listing, tiles) if not path.is_file()]
        missing += absent
        if absent:
            continue
        images = _Images(root / city / "panorama"), _Images(root / city / "satellite")
        found, lacking = _pairs(listing, *images)
        pairs += found
        missing += [path for paths in lacking for path in paths]
        dropped += len(lacking)
        if split.endswith("test"):
            for line, (tile,) in _lines(tiles, 1):
                place = _place(tile, tiles, line)
                if tile in images[1].names:
                    distractors.append(Distractor(images[1].folder / tile, place, _side_m(place)))
                else:
                    missing.append(images[1].folder / tile)
    return PairTable(
        name="vigor",
        split=split,
        pairs=pairs,
        missing=list(dict.fromkeys(missing)),
        missing_pairs=dropped,
        distractors=distractors,
        labels=labels,
        street_px=(2048, 1024),
        satellite_px=(TILE_PX, TILE_PX),
    )


class _Images:
    """A folder and the names of its files, listed once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.names = frozenset(path.name for path in folder.iterdir())
        except OSError:
            self.names = frozenset()


def _pairs(listing: Path, panoramas: _Images, tiles: _Images) -> tuple[list[Pair], list[list[Path]]]:
    """The pairs whose two images are there, and of the others the images that are not."""
    pairs, lacking = [], []
    for line, (name, *around) in _lines(listing, 13):
        tile, *semi = around[::3]
        if not _numbers(around[1::3] + around[2::3]):
            raise DataError(f"{listing}, line {line}: an offset is no number; take the list again.")
        absent = [images.folder / file for images, file in ((panoramas, name), (tiles, tile))
                  if file not in images.names]  # fmt: skip
        if absent:
            lacking.append(absent)
            continue
        place = _place(tile, listing, line)
        pairs.append(
            Pair(
                street=panoramas.folder / name,
                satellite=tiles.folder / tile,
                heading_deg=0.0,
                hfov_deg=360.0,
                lonlat=_place(name, listing, line),
                tile_lonlat=place,
                footprint_m=_side_m(place),
                semi=tuple(tiles.folder / one for one in semi),
            )
        )
    return pairs, lacking


def _lines(listing: Path, words: int) -> Iterator[tuple[int, list[str]]]:
    """The lines of a list that are not blank, split at spaces, by their number."""
    text = read_list(listing, "take VIGOR's lists again from their source")
    for number, line in enumerate(text.splitlines(), 1):
        if not (parts := line.split()):
            continue
        if len(parts) != words or any("/" in part or "\\" in part for part in parts):
            raise DataError(
                f"{listing}, line {number}: want {words} words without folders, not {line[:80]!r}."
            )
        yield number, parts


def _numbers(words: list[str]) -> bool:
    try:
        return all(math.isfinite(float(word)) for word in words)
    except ValueError:
        return False


def _place(name: str, listing: Path, line: int) -> LonLat:
    """Where `id,lat,lon,.jpg` or `satellite_lat_lon.png` is."""
    parts = name.rsplit(",", 3)[1:3] if name.endswith(",.jpg") else Path(name).stem.split("_")[1:3]
    try:
        lat, lon = map(float, parts)
        return LonLat(lon, lat)
    except (ValueError, GeolocError) as cause:
        raise DataError(f"{listing}, line {line}: {name!r} does not say where it is.") from cause


def _side_m(place: LonLat) -> float:
    return mercator_m(TILE_PX, ZOOM, place.lat)
