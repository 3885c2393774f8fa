"""What a build would cost, before it is begun: from formulas, and from a few seconds of the work itself."""

import math
import resource
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from jaxtyping import UInt8

from geoloc.cores import cores
from geoloc.embed import best_device
from geoloc.encoder import TwinEncoder
from geoloc.errors import ImageryError
from geoloc.model import CARD, SPEC, WEIGHTS
from geoloc.posterior import CALIBRATION
from indexing.build import Plan
from indexing.choose import choose_factory
from indexing.embed import embed_tiles, ready, single_threaded, tiles_at_once
from indexing.faiss_index import make_index, refuse_few
from indexing.table import Origins, write_table
from preprocessing.tiles import Block, cut_block

SAMPLE_S = 4.0
"""How long is measured, half of it reading, half of it embedding; one block and one batch at least."""

_TABLE_SAMPLE = 20_000
_TABLE_ROW_BYTES = 300  # of memory while it is made and written: measured 265
_MOST_BLOCKS = 16

_swig: Any = faiss


@dataclass(frozen=True)
class Sample:
    """What was measured. planned, kept: cells of the blocks that were read, and those with enough pixels."""

    planned: int
    kept: int
    embedded: int
    cut_s: float
    embed_s: float

    @property
    def tile_s(self) -> float:
        """Seconds to read and embed one tile, one after the other."""
        return self.cut_s / max(1, self.kept) + self.embed_s / max(1, self.embedded)


@dataclass(frozen=True)
class Estimate:
    """What a build would cost on this machine.

    tiles: cells the imagery covers, times the share of them that the sample kept. area_km2: the ground of
    as many strides. hours: of embedding, as measured; training a large index comes on top. disk_bytes: of
    the version; work_bytes: beside it until it is published. memory_bytes: at most, while building.
    index: the FAISS factory string. sample_tiles, sample_s: how many were embedded, how long all took.
    """

    tiles: int
    area_km2: float
    stride_m: float
    index: str
    hours: float
    disk_bytes: int
    work_bytes: int
    memory_bytes: int
    sample_tiles: int
    sample_s: float


def estimate(
    plan: Plan, encoder: TwinEncoder, model: Path, index: str = "auto", seconds: float = SAMPLE_S
) -> Estimate:
    """Read and embed a sample of the plan for about `seconds`, and reckon the rest. Writes nothing.

    Raises GalleryError for a senseless index, ImageryError where the sample has no valid pixels, ModelError.
    """
    start = time.perf_counter()
    dim = encoder.spec.dim
    if index != "auto":
        make_index(index, dim)
    with single_threaded():  # as a build embeds, a block on each processor
        sample = measure(plan, encoder, seconds)
    rows = round(sum(len(block.rows) for block in plan.blocks) * sample.kept / sample.planned)
    factory = choose_factory(rows, dim)[0] if index == "auto" else index
    refuse_few(factory, dim, rows)
    in_index = index_bytes(factory, dim, rows)
    files = embeddings_bytes(dim, rows) + in_index + table_bytes(plan, rows) + _model_bytes(model)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Estimate(
        tiles=rows,
        area_km2=rows * plan.grid.stride_m**2 / 1e6,
        stride_m=plan.grid.stride_m,
        index=factory,
        hours=rows * sample.tile_s / cores() / 3600,
        disk_bytes=files + _manifest_bytes(plan),
        work_bytes=rows * (2 * dim + 16) + 1000 * len(plan.blocks),
        memory_bytes=peak + rows * (_TABLE_ROW_BYTES + 16) + in_index,
        sample_tiles=sample.embedded,
        sample_s=time.perf_counter() - start,
    )


def measure(plan: Plan, encoder: TwinEncoder, seconds: float) -> Sample:
    """Cut blocks spread evenly over the plan, then embed tiles of theirs after a first batch to warm up."""
    planned = kept = embedded = 0
    tiles: list[UInt8[np.ndarray, "s s 3"]] = []
    start = time.perf_counter()
    for block in _spread(plan.blocks):
        planned += len(block.rows)
        for strip in cut_block(block, plan.grid, plan.imagery):
            kept += len(strip.ids)
            some = list(islice(strip.squares(), 0, None, 4))[: 1024 - len(tiles)]
            tiles.extend(strip.rgb[square].copy() for square in some)
        if tiles and time.perf_counter() - start > seconds / 2:
            break
    cut_s = time.perf_counter() - start
    if not tiles:
        raise ImageryError(
            f"None of {planned} tiles tried has enough valid pixels; check the imagery, or plan a part of it."
        )
    device = best_device()
    encoder = ready(encoder)
    at_once = tiles_at_once(device)
    embed_tiles(tiles[:at_once], encoder, device)
    start, batches = time.perf_counter(), iter(tiles * math.ceil(at_once / len(tiles)))
    while batch := list(islice(batches, at_once)):
        embed_tiles(batch, encoder, device)
        embedded += len(batch)
        if time.perf_counter() - start > seconds / 2:
            break
    return Sample(planned, kept, embedded, cut_s, time.perf_counter() - start)


def _spread(blocks: Sequence[Block]) -> list[Block]:
    """The middle block first, then others, spread evenly; all of a small plan."""
    count = min(len(blocks), _MOST_BLOCKS)
    numbers = [(2 * number + 1) * len(blocks) // (2 * count) for number in range(count)]
    return [blocks[number] for number in sorted(numbers, key=lambda n: abs(n - len(blocks) // 2))]


def embeddings_bytes(dim: int, rows: int) -> int:
    """Of embeddings.h5: float16, an id and a checksum a row."""
    return 10_000 + rows * (2 * dim + 8 + 4)


def index_bytes(factory: str, dim: int, rows: int) -> int:
    """Of index.faiss, which is also what it takes in memory: codes, ids, links, and what was learnt."""
    owner = make_index(factory, dim)  # must outlive what it is downcast to
    return _fixed_bytes(owner) + round(rows * _row_bytes(owner))


def _row_bytes(made: faiss.Index) -> float:
    index: Any = faiss.downcast_index(made)
    if isinstance(index, _swig.IndexPreTransform):
        return _row_bytes(index.index)
    if isinstance(index, _swig.IndexIVF):
        return float(index.code_size + 8)
    if isinstance(index, _swig.IndexHNSW):
        upper = index.hnsw.nb_neighbors(1)  # links on all layers but the lowest, of 1 in `upper` rows
        links = index.hnsw.nb_neighbors(0) + upper / max(1, upper - 1)
        return _row_bytes(index.storage) + 4 * float(links) + 12
    return float(index.code_size)


def _fixed_bytes(made: faiss.Index) -> int:
    index: Any = faiss.downcast_index(made)
    if isinstance(index, _swig.IndexPreTransform):
        chain = [index.chain.at(at) for at in range(index.chain.size())]
        return sum(4 * int(step.d_in) * int(step.d_out) for step in chain) + _fixed_bytes(index.index)
    codebook = 4 * int(index.d) * int(index.pq.ksub) if hasattr(index, "pq") else 0
    if isinstance(index, _swig.IndexIVF):
        return int(index.nlist) * round(_row_bytes(index.quantizer) + 8) + codebook + 1000
    return codebook + 1000


def table_bytes(plan: Plan, rows: int) -> int:
    """Of tiles.parquet: two tables of the plan's first cells say what a row takes."""
    ids = np.concatenate([plan.grid.ids(b.zone, b.columns, b.rows) for b in _first(plan.blocks)])
    sizes = []
    for count in (len(ids) // 2, len(ids)):
        first = plan.imagery[0]
        origins = Origins(ids[:count], np.full(count, first.address, object), np.full(count, first.gsd_m))
        with tempfile.NamedTemporaryFile(suffix=".parquet") as written:
            write_table(plan.grid, origins, Path(written.name))
            sizes.append(Path(written.name).stat().st_size)
    row_bytes = (sizes[1] - sizes[0]) / max(1, len(ids) - len(ids) // 2)
    return round(sizes[1] + (rows - len(ids)) * row_bytes)


def _first(blocks: Sequence[Block]) -> list[Block]:
    cells = np.cumsum([len(block.rows) for block in blocks])
    return list(blocks[: 1 + int(np.searchsorted(cells, _TABLE_SAMPLE))])


def _model_bytes(model: Path) -> int:
    files = (model / name for name in (WEIGHTS, SPEC, CARD, CALIBRATION))
    return sum(file.stat().st_size for file in files if file.is_file())


def _manifest_bytes(plan: Plan) -> int:
    return 3_000 + sum(150 + len(one.address) for one in plan.imagery)
