"""Tiles out of a gallery: marked as removed in the next version, dropped when segments are merged."""

from collections.abc import Sequence
from pathlib import Path

import geopandas
import numpy as np
import shapely
from jaxtyping import Bool

from geoloc.errors import GalleryError
from indexing.build import Note
from indexing.compact import scratch, settle, without
from indexing.durable import disk_errors_named, only_builder
from indexing.embed import Progress
from indexing.manifest import TABLE, Manifest, Source, check_file, live_folder, read_manifest
from indexing.publish import publish
from indexing.region import read_region
from indexing.rows import mask_of
from indexing.table import read_table, rows_inside


def remove_region(
    gallery: Path, region: Path, *, progress: Progress = lambda *_: None, note: Note = lambda _: None
) -> Path:
    """Remove the tiles whose centre lies in a GeoJSON region, publish, and return the version's folder.

    Imagery that no tile lies on any more is no source of the gallery then. Raises DataError for a region
    that is none, GalleryError where it holds no tile or every one.
    """
    live_folder(gallery)
    area = read_region(region)
    with disk_errors_named(gallery), only_builder(gallery):
        base = read_manifest(live_folder(gallery))
        tables = [_table(gallery, base, segment.folder) for segment in base.segments]
        gone = [mask_of(rows_inside(gallery / one.folder / TABLE, area), one.rows) for one in base.segments]
        kept = [mask_of(segment.kept, segment.rows) for segment in base.segments]
        _refuse_none_and_all(base, [rows & some for rows, some in zip(kept, gone, strict=True)])
        left = [one.geometry[rows & ~some] for one, rows, some in zip(tables, kept, gone, strict=True)]
        footprints = np.concatenate([np.asarray(one) for one in left])
        west, south, east, north = shapely.total_bounds(footprints).tolist()
        smaller = base.changed(
            without(base.segments, gone),
            bounds_lonlat=(west, south, east, north),
            sources=_below(footprints, base.sources),
        )
        with scratch(gallery) as work:
            version = publish(smaller, gallery, work)
        return settle(gallery, version, progress, note)


def _table(gallery: Path, base: Manifest, folder: str) -> geopandas.GeoDataFrame:
    for file in base.files_of(folder):
        if file.name.endswith(TABLE):
            check_file(gallery, file)
    return read_table(gallery / folder / TABLE)


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


def _below(footprints: np.ndarray, sources: Sequence[Source]) -> tuple[Source, ...]:
    """The sources that lie below any of the tiles."""
    tree = shapely.STRtree(footprints)
    boxes = [shapely.box(*source.bounds_lonlat) for source in sources]
    return tuple(sources[number] for number in np.unique(tree.query(boxes, predicate="intersects")[0]))
