"""Where images of one view come from that belong to no pair: files, imagery, the orthophotos of towns."""

from collections.abc import Collection, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from geoloc.embed import Side
from geoloc.errors import DataError
from geoloc.lineup import View
from geoloc.spec import EncoderSpec
from geoloc.training.unlabelled import SOME, Images, Unlabelled, image_files, square_px
from preprocessing.source import Imagery
from preprocessing.sources import SUFFIXES, open_all
from preprocessing.tile_folder import scheme_of
from preprocessing.tiles import Block, Grid, cut_block, make_grid, plan_blocks
from preprocessing.towns.table import TABLE, town_rows

PICTURES = (".jpg", ".jpeg", ".png", ".webp")


def open_unlabelled(
    word: str,
    view: Side,
    spec: EncoderSpec,
    stride_m: float | None = None,
    hosts: Collection[str] = (),
) -> Unlabelled:
    """The images of a folder or of imagery; of a folder of `geoloc synth`, those of its train split.

    Street views are a folder of photos and panoramas, or one photo. Tiles are a folder of images, each taken
    whole, or whatever `find_imagery` knows, cut every stride_m, by default half a tile's side. hosts: that
    STAC items may lie on. Raises DataError and ImageryError.
    """
    path = Path(word)
    if (path / TABLE).is_file():
        return _towns(path, view, spec, stride_m)
    found = pictures(path)
    if view == "street" or (found and not _holds_imagery(path)):
        if not found:
            raise DataError(f"{word} holds no JPEG, PNG or WebP; give a folder of photos.")
        return image_files([View(one) for one in found], view, spec, _name(path))
    return _imagery([word], spec, stride_m, _name(path), hosts=hosts)


def _name(path: Path) -> str:
    return path.name or str(path)


def pictures(path: Path) -> list[Path]:
    """The photos of a folder and its folders, in order; or the one that it is."""
    inside = path.rglob("*") if path.is_dir() else [path]
    return sorted(one for one in inside if one.suffix.lower() in PICTURES and one.is_file())


def _holds_imagery(path: Path) -> bool:
    if not path.is_dir():
        return False
    return scheme_of(path) is not None or any(one.suffix.lower() in SUFFIXES for one in path.rglob("*"))


def _towns(root: Path, view: Side, spec: EncoderSpec, stride_m: float | None) -> Unlabelled:
    """Photos without a tile are among the street views."""
    rows = [row for row in town_rows(root, "street", "ortho") if row["split"] == "train"]
    seeds = frozenset(row["town_seed"] for row in rows)
    name = f"{_name(root)} (train)"
    if view == "satellite":
        orthos = sorted({str(root / row["ortho"]) for row in rows})
        return _imagery(orthos, spec, stride_m, name, seeds)
    views = [
        View(root / row["street"], heading_deg=row["heading_deg"], hfov_deg=row["hfov_deg"]) for row in rows
    ]
    return image_files(views, view, spec, name, seeds)


def _imagery(
    words: Sequence[str],
    spec: EncoderSpec,
    stride_m: float | None,
    name: str,
    seeds: frozenset[int] = frozenset(),
    hosts: Collection[str] = (),
) -> Unlabelled:
    side = square_px(spec)
    imagery = open_all(words, hosts, "listed", spec.footprint_m)
    reach_m = spec.footprint_m * side / spec.satellite_px
    grid = make_grid(imagery, reach_m, side, spec.footprint_m / 2 if stride_m is None else stride_m)
    blocks = plan_blocks(imagery, grid)
    key = f"{grid} {[(one.address, one.state.stamp) for one in imagery]}"
    contents = f"{grid} {[Path(one.address).name for one in imagery]}"
    planned = sum(len(block.columns) for block in blocks)
    return Unlabelled(name, planned, key, contents, partial(_cut, blocks, grid, imagery), seeds)


def _cut(blocks: Sequence[Block], grid: Grid, imagery: Sequence[Imagery]) -> Iterator[Images]:
    for block in blocks:
        for strip in cut_block(block, grid, imagery):
            squares = list(strip.squares())
            for start in range(0, len(squares), SOME):
                yield np.stack([strip.rgb[square] for square in squares[start : start + SOME]])
