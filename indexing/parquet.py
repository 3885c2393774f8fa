"""A gallery as one GeoParquet file, for whatever else is to read it."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from geoloc.atomic import atomic_path
from geoloc.report import Report
from indexing.gallery import Gallery
from indexing.rows import mask_of
from indexing.table import open_table

COLUMNS = ["id", "lon", "lat", "source", "geometry"]
_AT_ONCE = 8192


def export_to_parquet(gallery: Gallery, out: Path, report: Report) -> None:
    """Write every tile as a row: id, lon, lat, source, geometry (the footprint) and its embedding, float16.

    Row group by row group, so that memory does not grow with the gallery; `out` is whole or as it was.
    Raises GalleryError for a damaged gallery, GeolocError where `out` cannot be written.
    """
    done = 0
    with atomic_path(out) as temporary:
        writer = None
        for table in _tables(gallery):
            writer = writer or pq.ParquetWriter(temporary, table.schema, compression="zstd")
            writer.write_table(table)
            done += len(table)
            report(done, len(gallery))
        assert writer is not None, "a gallery has at least one tile"
        writer.close()


def _tables(gallery: Gallery) -> Iterator[pa.Table]:
    for opened in gallery.segments:
        kept, start = mask_of(opened.kept, len(opened.all_ids)), 0
        with open_table(opened.table) as stored:
            described = _described(stored.metadata.metadata)
            for batch in stored.iter_batches(_AT_ONCE, columns=COLUMNS):
                here = kept[start : start + len(batch)]
                rows = start + np.flatnonzero(here)
                start += len(batch)
                if not len(rows):
                    continue
                vectors = pa.array(opened.segment.read(rows).astype(np.float16).ravel())
                embeddings = pa.FixedSizeListArray.from_arrays(vectors, gallery.spec.dim)
                table = pa.Table.from_batches([batch]).select(COLUMNS).filter(pa.array(here))
                table = table.append_column("embedding", embeddings)
                yield table.replace_schema_metadata(described)


def _described(metadata: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """What makes it GeoParquet, without what is particular to one segment."""
    geo = json.loads(metadata[b"geo"])
    for name in ("bbox", "covering"):
        geo["columns"]["geometry"].pop(name, None)
    return {b"geo": json.dumps(geo).encode()}
