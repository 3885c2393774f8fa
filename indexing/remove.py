"""Tiles out of a gallery: marked as removed in the next version, dropped when segments are merged."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import shapely
from jaxtyping import Bool

from geoloc.errors import GalleryError
from geoloc.report import StageReport
from indexing.build import Note
from indexing.compact import scratch, settle, without
from indexing.durable import disk_errors_named, only_builder
from indexing.manifest import TABLE, Manifest, Source, check_file, live_folder, read_manifest
from indexing.publish import publish
from indexing.region import read_region
from indexing.rows import mask_of
from indexing.table import make_table, read_origins, rows_inside
from preprocessing.source import Bounds

_AT_ONCE = 100_000


def remove_region(
    gallery: Path, region: Path, *, progress: StageReport = lambda *_: None, note: Note = lambda _: None
) -> Path:
    """Remove the tiles whose centre lies in a GeoJSON region, publish, and return the version's folder.

    Imagery that no tile lies on any more is no source of the gallery then. Raises DataError for a region
    that is none, GalleryError where it holds no tile or every one.
    """
    live_folder(gallery)
    area = read_region(region)
    with disk_errors_named(gallery), only_builder(gallery):
        base = read_manifest(live_folder(gallery))
        for file in (one for segment in base.segments for one in base.files_of(segment.folder)):
            if file.name.endswith(TABLE):
                check_file(gallery, file)
        gone = [mask_of(rows_inside(gallery / one.folder / TABLE, area), one.rows) for one in base.segments]
        kept = [mask_of(segment.kept, segment.rows) for segment in base.segments]
        _refuse_none_and_all(base, [rows & some for rows, some in zip(kept, gone, strict=True)])
        left = [rows & ~some for rows, some in zip(kept, gone, strict=True)]
        bounds, sources = _ground(gallery, base, left)
        smaller = base.changed(without(base.segments, gone), bounds_lonlat=bounds, sources=sources)
        with scratch(gallery) as work:
            version = publish(smaller, gallery, work)
        return settle(gallery, version, progress, note)


def _refuse_none_and_all(base: Manifest, gone: Sequence[Bool[np.ndarray, "n"]]) -> None:
    removed = sum(int(rows.sum()) for rows in gone)
    if removed == base.rows:
        raise GalleryError(
            "The region holds every tile of the gallery, and a gallery of none is no gallery; "
            "delete its folder, or build it again of other imagery."
        )
    if not removed:
        west, south, east, north = base.bounds_lonlat
        raise GalleryError(
            "No tile of the gallery lies in the region; "
            f"draw one within {west:.4f}, {south:.4f}, {east:.4f}, {north:.4f}."
        )


def _ground(
    gallery: Path, base: Manifest, left: Sequence[Bool[np.ndarray, "n"]]
) -> tuple[Bounds, tuple[Source, ...]]:
    """Around the footprints of some rows of all segments, and the sources below any of them."""
    boxes = [shapely.box(*source.bounds_lonlat) for source in base.sources]
    edges, below = [], set[int]()
    for segment, rows in zip(base.segments, left, strict=True):
        tiles, chosen = read_origins(gallery / segment.folder / TABLE), np.flatnonzero(rows)
        for start in range(0, len(chosen), _AT_ONCE):
            some = tiles.part(chosen[start : start + _AT_ONCE])
            footprints = make_table(base.grid, some).geometry
            edges.append(footprints.total_bounds)
            below.update(footprints.sindex.query(boxes, predicate="intersects")[0].tolist())
    low, high = np.min(edges, axis=0), np.max(edges, axis=0)
    bounds = float(low[0]), float(low[1]), float(high[2]), float(high[3])
    return bounds, tuple(base.sources[number] for number in sorted(below))
