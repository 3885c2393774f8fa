"""One segment of a gallery, opened: which tiles its rows are, and which of them are in the gallery still."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import geopandas
import numpy as np
from jaxtyping import Float32, Int64

from geoloc.spec import EncoderSpec
from indexing.embeddings import read_ids
from indexing.faiss_index import read_index
from indexing.manifest import EMBEDDINGS, INDEX, TABLE, StoredSegment
from indexing.rows import Ranges, count, rows_of
from indexing.segment import SearchedRows, Segment
from indexing.table import read_table

Found = tuple[Int64[np.ndarray, "m"], Float32[np.ndarray, "m"], Float32[np.ndarray, "m"]]
"""Tiles: their ids, their scores, and by how many bins the query is turned for them."""


@dataclass(frozen=True)
class OpenSegment:
    """A segment's rows and their ids. kept: the rows that are in the gallery; these are its tiles."""

    segment: SearchedRows
    table: Path
    all_ids: Int64[np.ndarray, "n"]
    kept: Ranges

    @cached_property
    def tiles(self) -> geopandas.GeoDataFrame:
        """One row per tile, see `make_table`."""
        table = read_table(self.table)
        return table if count(self.kept) == len(table) else table.iloc[rows_of(self.kept)]

    def search(
        self, query: Float32[np.ndarray, "d"], turns: Int64[np.ndarray, "t"], k: int, only: Ranges
    ) -> Found:
        """At least k tiles of the rows `only`, where there are, see `Segment.search`."""
        row, score, turn = self.segment.search(query, turns, k, only)
        return self.all_ids[row], score, turn


def open_segment(gallery: Path, stored: StoredSegment, spec: EncoderSpec) -> OpenSegment:
    """Open a segment whose files have been checked. Raises GalleryError where they are not of one make."""
    folder = gallery / stored.folder
    ids = read_ids(folder / EMBEDDINGS, spec, stored.rows)
    index = read_index(folder / INDEX, spec.dim, stored.rows)
    segment = Segment(folder / EMBEDDINGS, spec, stored.rows, index, stored.depth)
    return OpenSegment(segment, folder / TABLE, ids, stored.kept)
