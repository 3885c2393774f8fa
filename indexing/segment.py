"""One searchable set of tiles: stored embeddings, and an index over their rows.

The index proposes rows, of any type and however lossy; what is answered is scored from the embeddings.
"""

from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
import torch
from jaxtyping import Float32, Int64

from geoloc.azimuth import correlate, peak, window_gain
from geoloc.spec import EncoderSpec
from indexing.embeddings import read_rows
from indexing.faiss_index import search_rows
from indexing.rows import Ranges, count, every_row, rows_of

SPARE = 16
"""More rows than asked for, so that equal scores around the k-th are ordered by id."""

_AT_ONCE = 8192
_FEW_TURNS = 3


class SearchedRows:
    """`rows` embeddings of one model, wherever they are. depth: how many are scored again.

    Of a place that keeps them two things are asked, `nearest` and `read`; all else follows. One that holds
    a connection lets it go in `close`.
    """

    spec: EncoderSpec
    rows: int
    depth: int

    def nearest(
        self, copies: Float32[np.ndarray, "t d"], depth: int, only: Ranges
    ) -> tuple[Float32[np.ndarray, "t k"], Int64[np.ndarray, "t k"]]:
        """Inner products and rows of about the `depth` best of `only` for each copy; row -1 pads."""
        raise NotImplementedError

    def read(self, rows: Int64[np.ndarray, "m"]) -> Float32[np.ndarray, "m d"]:
        """The stored embeddings of some rows. Raises GalleryError."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go what is held to read them; they are read no more."""

    def search(
        self, query: Float32[np.ndarray, "d"], turns: Int64[np.ndarray, "t"], k: int, only: Ranges
    ) -> tuple[Int64[np.ndarray, "m"], Float32[np.ndarray, "m"], Float32[np.ndarray, "m"]]:
        """The rows of `only` nearest to a query, best first, at least k where there are; scores and turns.

        turns: by how many bins the query may be rolled. A row has its best score over them, and that turn
        (`best_turns`). A row among the best overall is among the best of its own best turn, so `depth` of
        each turn are looked up together, and the best `depth` of all scored from the stored embeddings.
        A heading known to 3 bins has fewer rivals, and a quarter of the depth does. Few rows are all scored.
        Raises GalleryError for a damaged file.
        """
        depth = max(self.depth if len(turns) > _FEW_TURNS else self.depth // 4, k + SPARE)
        row = rows_of(only) if count(only) <= 2 * depth else self._candidates(query, turns, depth, only)
        if len(row) < min(k, count(only)):  # lists that were not probed hold the rest
            row = rows_of(only)
        score, turn = self.score(query, row, turns)
        order = np.lexsort((row, -score))
        return row[order], score[order], turn[order]

    def _candidates(
        self, query: Float32[np.ndarray, "d"], turns: Int64[np.ndarray, "t"], depth: int, only: Ranges
    ) -> Int64[np.ndarray, "m"]:
        by_bin = query.reshape(self.spec.azimuth_bins, self.spec.channels)
        copies = np.stack([np.roll(by_bin, turn, axis=0).ravel() for turn in turns])
        score, row = (part.ravel() for part in self.nearest(copies, depth, only))
        order = np.argsort(-score, kind="stable")
        _, first = np.unique(row[order], return_index=True)
        best = row[order][np.sort(first)]
        return best[best >= 0][:depth]

    def score(
        self, query: Float32[np.ndarray, "d"], rows: Int64[np.ndarray, "m"], turns: Int64[np.ndarray, "t"]
    ) -> tuple[Float32[np.ndarray, "m"], Float32[np.ndarray, "m"]]:
        """Exact scores of some rows at their best of the turns, and those turns. Raises GalleryError."""
        parts = [
            best_turns(query, self.read(rows[start : start + _AT_ONCE]), self.spec, turns)
            for start in range(0, max(len(rows), 1), _AT_ONCE)
        ]
        score, turn = (np.concatenate(part) for part in zip(*parts, strict=True))
        return score, turn

    @property
    def every(self) -> Ranges:
        """All rows, for a search of everything."""
        return every_row(self.rows)


@dataclass(frozen=True)
class Segment(SearchedRows):
    """Embeddings in a file, and their index."""

    embeddings: Path
    spec: EncoderSpec
    rows: int
    index: faiss.Index
    depth: int

    def nearest(
        self, copies: Float32[np.ndarray, "t d"], depth: int, only: Ranges
    ) -> tuple[Float32[np.ndarray, "t k"], Int64[np.ndarray, "t k"]]:
        """What the index proposes."""
        return search_rows(self.index, copies, depth, only)

    def read(self, rows: Int64[np.ndarray, "m"]) -> Float32[np.ndarray, "m d"]:
        """The stored embeddings of some rows. Raises GalleryError."""
        return read_rows(self.embeddings, self.spec, self.rows, rows).astype(np.float32)


def best_turns(
    query: Float32[np.ndarray, "d"],
    embeddings: Float32[np.ndarray, "m d"],
    spec: EncoderSpec,
    turns: Int64[np.ndarray, "t"],
) -> tuple[Float32[np.ndarray, "m"], Float32[np.ndarray, "m"]]:
    """The cosine of a query with each tile at its best of the turns, and that turn.

    Where there was a choice both are taken between bins, where the scores truly peak.
    """
    street = torch.from_numpy(query).view(1, spec.azimuth_bins, -1)
    scores = correlate(street, torch.from_numpy(embeddings).view(-1, spec.azimuth_bins, spec.channels))[0]
    allowed = torch.from_numpy(turns)
    best = allowed[scores[:, allowed].argmax(dim=1)]
    one = len(turns) == 1
    height, turn = (scores[:, turns[0]], best.float()) if one else peak(scores, best)
    return (height * window_gain(street)).numpy(), turn.numpy()
