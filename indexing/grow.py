"""Imagery into a gallery that is there: `add` and `replace`, as if it had been built with it.

Only tiles that show the new imagery are embedded, where it has a pixel that nothing listed before it
covers. They become a segment of their own; what the gallery had of the same cells is removed. Tiles
keep their cells, so nothing is moved or numbered anew.
"""

import dataclasses
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from jaxtyping import Int64

from geoloc.encoder import TwinEncoder
from geoloc.errors import GalleryError, ImageryError
from geoloc.model import load_encoder
from geoloc.places import M_PER_DEG
from geoloc.report import StageReport
from indexing.build import (
    Note,
    Plan,
    Shelf,
    Stored,
    clear_leftovers,
    embed,
    say_notes,
    store,
    tell_unused,
    work_key,
)
from indexing.compact import settle, without
from indexing.curve import along_curve
from indexing.durable import disk_errors_named, only_builder
from indexing.embeddings import read_ids
from indexing.manifest import EMBEDDINGS, TABLE, Manifest, Source, live_folder, read_manifest
from indexing.publish import publish
from indexing.rows import both, rows_of
from indexing.source import open_source, source_of
from indexing.table import rows_inside
from preprocessing.remote import host_of, is_url
from preprocessing.source import Bounds, Imagery, outline
from preprocessing.sources import open_all
from preprocessing.tiles import Block, Grid, make_grid, plan_blocks


@dataclass(frozen=True)
class Growth:
    """What to embed, and the sources of the gallery when that is done.

    given: indexes into plan.imagery. stale: ids of tiles that may show imagery replaced by itself.
    """

    plan: Plan
    given: frozenset[int]
    sources: tuple[Source, ...]
    stale: Int64[np.ndarray, "n"]


def add_imagery(
    gallery: Path,
    imagery: Sequence[str | Path],
    *,
    replace: bool = False,
    hosts: Collection[str] = (),
    encoder: TwinEncoder | None = None,
    progress: StageReport = lambda *_: None,
    note: Note = lambda _: None,
) -> Path:
    """Add imagery to a gallery, publish that as its live version, and return that version's folder.

    Where it overlaps the gallery's own imagery that wins, as if listed before it; with `replace` the new
    imagery wins. Tiles of the gallery that show none of the new imagery stay as they are. hosts: see
    `build_gallery`. encoder: instead of the one in the gallery. Raises GalleryError, ImageryError; none of
    them touches the live version.
    """
    live_folder(gallery)
    with disk_errors_named(gallery), only_builder(gallery):
        live = live_folder(gallery)
        base = read_manifest(live)
        encoder = encoder or load_encoder(gallery / base.model)
        ids = [read_ids(gallery / one.folder / EMBEDDINGS, base.spec, one.rows) for one in base.segments]
        growth = plan_growth(gallery, base, imagery, ids, replace=replace, hosts=hosts)
        plan = growth.plan
        say_notes([plan.imagery[number] for number in sorted(growth.given)], note)
        if not plan.blocks and not len(growth.stale):
            clear_leftovers(gallery)
            note("Nothing to do: the gallery has every tile of this imagery.")
            return live
        work = embed(plan, encoder, gallery, progress)
        tiles = tell_unused(plan, work, growth.given, note)
        if not tiles and not len(growth.stale):
            clear_leftovers(gallery)
            note("Nothing to do: no tile that the gallery lacks shows enough of this imagery.")
            return live
        stored = store(plan, Shelf(base.spec, gallery, work, progress, note), "auto") if tiles else None
        version = publish(_grown(gallery, base, growth, stored, ids), gallery, work)
        clear_leftovers(gallery)
        return settle(gallery, version, progress, note)


def _grown(
    gallery: Path, base: Manifest, growth: Growth, stored: Stored | None, ids: Sequence[np.ndarray]
) -> Manifest:
    """The manifest with the new segment, if there is one, and without what is stale or lies on its cells.

    ids: of the old segments. Raises GalleryError where no tile would be left.
    """
    gone = [np.isin(one, growth.stale) for one in ids]
    if stored is None:
        left = without(base.segments, gone)
        if not left:
            raise GalleryError(
                "No tile would be left: the imagery as it is now shows nothing. "
                "Build the gallery of other imagery."
            )
        return base.changed(left, grid=growth.plan.grid, sources=growth.sources)
    new = read_ids(gallery / stored.segment.folder / EMBEDDINGS, base.spec, stored.segment.rows)
    gone = [stale | np.isin(one, new) for stale, one in zip(gone, ids, strict=True)]
    return base.changed(
        (*without(base.segments, gone), stored.segment),
        stored.files,
        grid=growth.plan.grid,
        bounds_lonlat=_around(base.bounds_lonlat, stored.bounds_lonlat),
        sources=growth.sources,
    )


def _around(one: Bounds, other: Bounds) -> Bounds:
    return min(one[0], other[0]), min(one[1], other[1]), max(one[2], other[2]), max(one[3], other[3])


def plan_growth(
    gallery: Path,
    base: Manifest,
    paths: Sequence[str | Path],
    ids: Sequence[Int64[np.ndarray, "n"]],
    *,
    replace: bool,
    hosts: Collection[str],
) -> Growth:
    """Which tiles to embed: those that may show the imagery, less those the gallery has of it already."""
    given = open_all(paths, hosts, "listed", base.grid.footprint_m)
    known = {source.path: source for source in base.sources}
    listed = {one.address: source_of(one) for one in given}
    if not replace:
        _refuse_changed(listed, known)
    sources = tuple((listed | known | listed if replace else known | listed).values())
    opened = {one.address: one for one in given}
    named = {*hosts, *(host_of(str(path)) for path in paths if is_url(str(path)))}
    near = [source for source in sources if _is_near(source, listed.values(), base.grid)]
    all_imagery = [opened[one.path] if one.path in opened else open_source(one, named) for one in near]
    numbers = frozenset(number for number, one in enumerate(near) if one.path in listed)
    fresh = [one for one in given if replace or one.address not in known]
    zones = dict(make_grid(given, base.grid.footprint_m, base.grid.size_px).crs_of_zone)
    grid = dataclasses.replace(
        base.grid, crs_of_zone=tuple(sorted((zones | dict(base.grid.crs_of_zone)).items()))
    )
    present = np.concatenate(
        [one[rows_of(segment.kept)] for one, segment in zip(ids, base.segments, strict=True)]
    )
    again = [known[path] for path in known if replace and path in listed]
    stale = _may_show(gallery, base, ids, again)
    blocks = [
        part
        for block in along_curve(plan_blocks(all_imagery, grid), grid)
        for part in _cells_to_cut(block, grid, given, fresh, present, stale, numbers)
    ]
    key = work_key(base.spec, gallery / base.model, grid, all_imagery, blocks)
    return Growth(Plan(all_imagery, grid, blocks, key), numbers, sources, stale)


def _may_show(
    gallery: Path, base: Manifest, ids: Sequence[Int64[np.ndarray, "n"]], sources: Collection[Source]
) -> Int64[np.ndarray, "n"]:
    """The ids of the gallery's tiles that lie where any of its sources did when it was built."""
    if not sources:
        return np.empty(0, np.int64)
    ground = shapely.union_all([_widened(source, base.grid) for source in sources])
    parts = zip(ids, base.segments, strict=True)
    return np.concatenate(
        [
            one[rows_of(both(segment.kept, rows_inside(gallery / segment.folder / TABLE, ground)))]
            for one, segment in parts
        ]
    )


def _widened(source: Source, grid: Grid) -> shapely.Geometry:
    """Where tiles may show a source, in degrees."""
    west, south, east, north = source.bounds_lonlat
    spare = 2 * grid.footprint_m / M_PER_DEG
    wide = spare / max(0.01, math.cos(math.radians(max(abs(south), abs(north)))))
    return shapely.box(west - wide, south - spare, east + wide, north + spare)


def _refuse_changed(listed: dict[str, Source], known: dict[str, Source]) -> None:
    changed = [path for path in listed if path in known and listed[path].bytes != known[path].bytes]
    if changed:
        raise ImageryError(
            f"{', '.join(changed)} changed since the gallery was built of it; "
            "use geoloc index replace to take the tiles from it as it is now."
        )


def _is_near(source: Source, given: Iterable[Source], grid: Grid) -> bool:
    """Whether a tile might show both: the edges of what is new are cut with the imagery around it."""
    box = shapely.box(*source.bounds_lonlat)
    return any(box.intersects(_widened(one, grid)) for one in given)


def _cells_to_cut(
    block: Block,
    grid: Grid,
    given: Sequence[Imagery],
    fresh: Sequence[Imagery],
    present: Int64[np.ndarray, "n"],
    stale: Int64[np.ndarray, "n"],
    numbers: frozenset[int],
) -> Iterator[Block]:
    """What to cut of a block: cells on the given imagery that the gallery lacks or fresh imagery meets.

    And those of stale tiles, whichever imagery they show now.
    """
    crs = grid.crs(block.zone)
    squares = shapely.box(*grid.bounds(block.columns, block.rows).T)
    new, meets = (
        shapely.intersects(shapely.union_all([outline(one, crs) for one in some]), squares)
        for some in (given, fresh)
    )
    cells = grid.ids(block.zone, block.columns, block.rows)
    again = np.isin(cells, stale)
    wanted = new & (meets | ~np.isin(cells, present)) & ~again
    if wanted.any():
        yield dataclasses.replace(block.only(wanted), showing=numbers)
    if again.any():
        yield block.only(again)
