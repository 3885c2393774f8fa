"""University-1652 in its authors' layout (Zheng et al. 2020): buildings from drone, street and satellite."""

from collections.abc import Iterator
from pathlib import Path

from geoloc.errors import DataError
from geoloc.pairs import Distractor, Pair, PairTable

SPLITS = ("drone-satellite", "satellite-drone", "street-satellite", "satellite-street", "train")
ALIASES = {"val": "drone-satellite"}
SUFFIXES = {".jpg", ".jpeg", ".png"}
DRONE_HFOV_DEG = 90.0


def read_university1652(root: Path, split: str = "drone-satellite") -> PairTable:
    """All queries of one view against all images of another, `test/query_A/ID/*` and `test/gallery_B/ID/*`.

    Drone images take the place of street views; what they span is not known and stands as 90 degrees,
    which only encoders that look at azimuths would mind. Every image of a building is a right answer for
    each of its queries; buildings that are asked for by none are distractors; a building's folder without
    images is missing. `train` pairs the drone images of `train/drone` with `train/satellite`. Raises
    DataError for a split that there is not and for folders that are absent.
    """
    split = ALIASES.get(split, split)
    if split not in SPLITS:
        raise DataError(f"University-1652 has the splits {', '.join(SPLITS)}, not {split!r}.")
    asking, answering = ("drone", "satellite") if split == "train" else split.split("-")
    folders = (
        (root / "train" / asking, root / "train" / answering)
        if split == "train"
        else (root / "test" / f"query_{asking}", root / "test" / f"gallery_{answering}")
    )
    queries, gallery = (_buildings(folder) for folder in folders)
    missing = [
        folder / building
        for folder, side in zip(folders, (queries, gallery), strict=True)
        for building in queries | side
        if not side.get(building)
    ]
    pairs, dropped = [], 0
    for building, images in queries.items():
        answers = gallery.get(building, [])
        dropped += 0 if images and answers else max(1, len(images))
        for query in images:
            for answer in answers:
                street, satellite = (answer, query) if asking == "satellite" else (query, answer)
                pairs.append(Pair(street, satellite, heading_deg=0.0, hfov_deg=DRONE_HFOV_DEG))
    others = [path for building in gallery if building not in queries for path in gallery[building]]
    square = (512, 512)
    return PairTable(
        name="university1652",
        split=split,
        pairs=pairs,
        missing=missing,
        missing_pairs=dropped,
        distractors=[Distractor(path) for path in others] if split != "train" else (),
        direction="satellite->street" if asking == "satellite" else "street->satellite",
        street_px=square if "drone" in (asking, answering) else None,
        satellite_px=square,
    )


def _buildings(folder: Path) -> dict[str, list[Path]]:
    """The images of every building, by its folder's name."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not there; --data university1652:PATH wants the folder above it.")
    return {place.name: list(_images(place)) for place in sorted(folder.iterdir()) if place.is_dir()}


def _images(place: Path) -> Iterator[Path]:
    return (
        path
        for path in sorted(place.iterdir())
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    )
