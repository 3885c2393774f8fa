"""One segment of a gallery, opened: its ids, its stored embeddings, and the search of its index."""

from pathlib import Path

import faiss
import geopandas
import numpy as np
import torch
from jaxtyping import Bool, Float16, Float32, Int64

from geoloc.azimuth import correlate, peak, window_gain
from geoloc.spec import EncoderSpec
from indexing.embeddings import read_ids, read_rows
from indexing.faiss_index import read_index, search_rows
from indexing.manifest import EMBEDDINGS, INDEX, TABLE, Segment
from indexing.table import read_table

_SPARE = 16  # more hits than asked for, so that equal scores around the k-th are ordered by id
_RESCORED = 256

Found = tuple[Int64[np.ndarray, "m"], Float32[np.ndarray, "m"], Float32[np.ndarray, "m"]]
"""Tiles of a segment: their ids, their scores, and by how many bins the query is turned for them."""


def best_turns(
    query: Float32[np.ndarray, "d"],
    embeddings: Float32[np.ndarray, "m d"],
    spec: EncoderSpec,
    turns: Int64[np.ndarray, "t"],
) -> tuple[Float32[np.ndarray, "m"], Float32[np.ndarray, "m"]]:
    """The cosine of a query with each tile at its best of the turns, and that turn.

    Where there was a choice the turn is placed between bins, where the scores truly peak.
    """
    street = torch.from_numpy(query).view(1, spec.azimuth_bins, -1)
    scores = correlate(street, torch.from_numpy(embeddings).view(len(embeddings), spec.azimuth_bins, -1))[0]
    allowed = torch.from_numpy(turns)
    best = allowed[scores[:, allowed].argmax(dim=1)]
    height, turn = peak(scores, best)
    return (height * window_gain(street)).numpy(), (turn if len(turns) > 1 else best.float()).numpy()


class OpenSegment:
    """A segment whose files have been checked. ids: by row. kept: the rows whose tiles are in the gallery."""

    def __init__(
        self,
        folder: Path,
        spec: EncoderSpec,
        ids: Int64[np.ndarray, "n"],
        kept: Bool[np.ndarray, "n"],
        index: faiss.Index,
    ) -> None:
        self.folder, self.spec = folder, spec
        self.ids, self.kept = ids, kept
        self.is_whole = bool(kept.all())
        self._index: faiss.Index | None = index

    @classmethod
    def open(cls, gallery: Path, segment: Segment, spec: EncoderSpec) -> "OpenSegment":
        """Raises GalleryError for files that are not what the manifest says."""
        folder = gallery / segment.folder
        ids = read_ids(folder / EMBEDDINGS, spec, segment.rows)
        index = read_index(folder / INDEX, spec.dim, segment.rows)
        return cls(folder, spec, ids, segment.kept, index)

    def close(self) -> None:
        """Let the index go; the segment cannot be searched any more."""
        self._index = None

    def table(self) -> geopandas.GeoDataFrame:
        """The tiles that are in the gallery, see `make_table`."""
        table = read_table(self.folder / TABLE)
        return table if self.is_whole else table[self.kept]

    def embeddings(self, rows: Int64[np.ndarray, "m"]) -> Float16[np.ndarray, "m d"]:
        """The stored embeddings of some rows."""
        return read_rows(self.folder / EMBEDDINGS, self.spec, len(self.ids), rows)

    def search(
        self,
        query: Float32[np.ndarray, "d"],
        k: int,
        turns: Int64[np.ndarray, "t"],
        only: Bool[np.ndarray, "n"] | None = None,
    ) -> Found:
        """The k best tiles, or all there are, at their best of the turns; of `only` the rows that are set.

        A tile among the k best overall is among the k best of its own best turn, so k of each suffice.
        """
        assert self._index is not None
        if not self.is_whole:
            only = self.kept if only is None else self.kept & only
        by_bin = query.reshape(self.spec.azimuth_bins, self.spec.channels)
        copies = np.stack([np.roll(by_bin, turn, axis=0).ravel() for turn in turns])
        score, row = search_rows(self._index, copies, min(len(self.ids), k + _SPARE), only)
        turn = np.repeat(turns[:, None], row.shape[1], axis=1)[row >= 0].astype(np.float32)
        score, row = score[row >= 0] * self._gain(query), row[row >= 0]
        order = np.lexsort((row, -score))
        order = order[np.sort(np.unique(row[order], return_index=True)[1])]
        score, row, turn = score[order], row[order], turn[order]
        stored = self.embeddings(row[:_RESCORED]).astype(np.float32)
        score[:_RESCORED], turn[:_RESCORED] = best_turns(query, stored, self.spec, turns)
        best = best_first(self.ids[row], score)[:k]
        return self.ids[row][best], score[best], turn[best]

    def _gain(self, query: Float32[np.ndarray, "d"]) -> float:
        return float(window_gain(torch.from_numpy(query).view(1, self.spec.azimuth_bins, -1)))


def best_first(ids: Int64[np.ndarray, "m"], scores: Float32[np.ndarray, "m"]) -> Int64[np.ndarray, "m"]:
    """The order of hits: best first, of equal scores the lower id first."""
    return np.lexsort((ids, -scores.round(6)))
