"""Step 4 of a build: which index suits how many tiles, made, and measured against exact search."""

from dataclasses import dataclass
from pathlib import Path

import faiss

from geoloc.spec import EncoderSpec
from indexing.embeddings import read_embeddings
from indexing.faiss_index import fill_index
from indexing.manifest import Recall
from indexing.measure import DEPTHS, WANTED, settle_depth
from indexing.segment import Segment

FLAT_BELOW = 20_000
"""Fewer rows than this are searched exactly."""

_MOST_BYTES = 2 << 30
_ID_BYTES = 8


def choose_factory(rows: int, dim: int) -> tuple[str, str]:
    """The index for so many rows, and why: exact for few, else the longest codes that fit in 2 GiB.

    Of 64 bytes or fewer, and of as many parts, of 4 bits each, as an embedding has numbers at most. Inverted
    files of rows (`IVF4096,SQ8` and the like) are faster for whole panoramas of known heading only; see
    tests/benchmarks/bench_index.py.
    """
    taken = {size: rows * (size + _ID_BYTES) for size in (64, 32, 16, 8) if 2 * size <= dim}
    if rows < FLAT_BELOW or not taken:
        return "Flat", f"exact search of {rows:,} tiles takes {rows * dim * 4 / 2**20:,.0f} MiB"
    fitting = [size for size in taken if taken[size] <= _MOST_BYTES] or [min(taken)]
    size = fitting[0]
    return f"Scan{size}", f"{rows:,} tiles at {size} bytes each take {taken[size] / 2**20:,.0f} MiB of memory"


@dataclass(frozen=True)
class Indexed:
    """The index that was made, and why; depth and recall as in the manifest. `str` says it to the user."""

    factory: str
    reason: str
    depth: int
    recall: Recall | None

    def __str__(self) -> str:
        text = f"index {self.factory}: {self.reason}"
        if self.recall is None:
            return text
        known, unknown = self.recall.known_heading, self.recall.unknown_heading
        text += (
            f"; recall@10 {known:.1%} at known, {unknown:.1%} at unknown heading, the best {self.depth:,} "
            "scored again"
        )
        return text if min(known, unknown) >= WANTED else f"{text}, less than the {WANTED:.0%} wanted"


def index_rows(folder: Path, spec: EncoderSpec, rows: int, index: str) -> Indexed:
    """Make index.faiss beside the embeddings.h5 of a folder, of a factory string or of `auto` choice.

    Raises GalleryError for a factory of no use.
    """
    factory, reason = choose_factory(rows, spec.dim) if index == "auto" else (index, "as asked")
    path = folder / "embeddings.h5"
    filled = fill_index(
        factory, spec.dim, rows, lambda: (some for _, some in read_embeddings(path, spec, rows))
    )
    faiss.write_index(filled, str(folder / "index.faiss"))
    if factory == "Flat":
        return Indexed(factory, reason, DEPTHS[0], None)
    depth, recall = settle_depth(Segment(path, spec, rows, filled, DEPTHS[0]))
    return Indexed(factory, reason, depth, recall)
