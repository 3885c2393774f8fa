"""Segments into fewer: what was removed is dropped, and every search asks one index again.

Nothing is embedded: the rows come from the segments that are there, in the order of a new build.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from geoloc.errors import GalleryError
from geoloc.report import StageReport
from geoloc.spec import EncoderSpec
from indexing.build import Note, Shelf, store_segment
from indexing.curve import row_order
from indexing.durable import disk_errors_named, only_builder
from indexing.embeddings import CHUNK, Chunk, read_rows
from indexing.manifest import (
    EMBEDDINGS,
    TABLE,
    Manifest,
    StoredSegment,
    check_file,
    live_folder,
    read_manifest,
)
from indexing.publish import publish
from indexing.rows import mask_of, rows_of
from indexing.table import Origins, read_origins

MOST_SEGMENTS = 8
MOST_REMOVED = 1 / 3
MOST_RUNS = 100_000

_SCRATCH = ".changing"
_AT_ONCE = 8 * CHUNK


def compact(gallery: Path, *, progress: StageReport = lambda *_: None, note: Note = lambda _: None) -> Path:
    """Make one segment of all, without what was removed; publish, and return the version's folder.

    Raises GalleryError for a segment that is damaged; the live version is not touched then.
    """
    live_folder(gallery)
    with disk_errors_named(gallery), only_builder(gallery), scratch(gallery) as work:
        live = live_folder(gallery)
        base = read_manifest(live)
        if len(base.segments) == 1 and not base.segments[0].removed:
            note("Nothing to do: the gallery is one segment, and nothing was removed from it.")
            return live
        return publish(
            merged(base, base.segments, Shelf(base.spec, gallery, work, progress, note)), gallery, work
        )


@contextmanager
def scratch(gallery: Path) -> Iterator[Path]:
    """A folder for the files of a change, gone when it is done; what a killed one left goes first."""
    work = gallery / _SCRATCH
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def settle(gallery: Path, version: Path, progress: StageReport, note: Note) -> Path:
    """Merge segments of a version just published where that is due: the folder of the live version then."""
    base = read_manifest(version)
    chosen = due(base.segments)
    if not chosen:
        return version
    note(f"Merging {len(chosen)} of {len(base.segments)} segments.")
    with scratch(gallery) as work:
        return publish(merged(base, chosen, Shelf(base.spec, gallery, work, progress, note)), gallery, work)


def due(segments: Sequence[StoredSegment]) -> list[StoredSegment]:
    """Which segments to merge, if any: those with over a third removed, all but the largest of over eight."""
    by_size = sorted(segments, key=lambda one: one.live)
    small = by_size[:-1] if len(segments) > MOST_SEGMENTS else []
    return [
        one
        for one in segments
        if one in small or one.rows - one.live > MOST_REMOVED * one.rows or len(one.removed) > MOST_RUNS
    ]


def without(segments: Sequence[StoredSegment], gone: Sequence[np.ndarray]) -> tuple[StoredSegment, ...]:
    """The segments with more rows removed, by a flag for each row, and none of which nothing is left."""
    left = [mask_of(segment.kept, segment.rows) & ~rows for segment, rows in zip(segments, gone, strict=True)]
    return tuple(segment.keeping(rows) for segment, rows in zip(segments, left, strict=True) if rows.any())


def merged(base: Manifest, chosen: Sequence[StoredSegment], shelf: Shelf) -> Manifest:
    """The manifest with one new segment, installed, in place of the chosen ones."""
    for file in base.files_of(*(segment.folder for segment in chosen)):
        check_file(shelf.gallery, file)
    rows = _rows_of(base, chosen, shelf.gallery)

    others = tuple(segment for segment in base.segments if segment not in chosen)
    try:
        stored = store_segment(
            base.grid, rows.tiles, rows.chunks(), shelf, "auto" if others else base.wanted_index
        )
    except GalleryError:  # fewer tiles are left than the index that was asked for learns from
        stored = store_segment(base.grid, rows.tiles, rows.chunks(), shelf, "auto")
    return base.changed((*others, stored.segment), stored.files)


@dataclass(frozen=True)
class _Rows:
    """The rows that segments keep, in the order of a new build: of which segment, and which row of it."""

    tiles: Origins
    segment: Int64[np.ndarray, "n"]
    row: Int64[np.ndarray, "n"]
    files: tuple[tuple[Path, int], ...]
    spec: EncoderSpec

    def chunks(self) -> Iterator[Chunk]:
        for start in range(0, len(self.row), _AT_ONCE):
            segment, row = self.segment[start : start + _AT_ONCE], self.row[start : start + _AT_ONCE]
            embeddings = np.empty((len(row), self.spec.dim), np.float16)
            for number, (path, rows) in enumerate(self.files):
                here = segment == number
                if here.any():
                    embeddings[here] = read_rows(path, self.spec, rows, row[here])
            yield self.tiles.ids[start : start + _AT_ONCE], embeddings


def _rows_of(base: Manifest, chosen: Sequence[StoredSegment], gallery: Path) -> _Rows:
    rows = [rows_of(segment.kept) for segment in chosen]
    origins = [read_origins(gallery / segment.folder / TABLE) for segment in chosen]
    ids, sources, gsd_m = (
        np.concatenate([getattr(one, name)[some] for one, some in zip(origins, rows, strict=True)])
        for name in ("ids", "sources", "gsd_m")
    )
    order = row_order(ids, base.grid)
    return _Rows(
        Origins(ids, sources, gsd_m).part(order),
        np.repeat(np.arange(len(rows)), [len(some) for some in rows])[order],
        np.concatenate(rows)[order],
        tuple((gallery / segment.folder / EMBEDDINGS, segment.rows) for segment in chosen),
        base.spec,
    )
