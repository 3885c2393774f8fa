"""Tiles to embeddings, block by block, so that what is done stays done."""

import io
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float16, Float32, Int64, UInt8
from torch import Tensor

from geoloc.cores import cores
from geoloc.embed import best_device, compute_dtype
from geoloc.encoder import TwinEncoder
from geoloc.errors import GalleryError, ModelError
from geoloc.report import StageReport
from geoloc.spec import EncoderSpec
from geoloc.tensors import ground_tensor, tile_tensor
from indexing.durable import write_whole
from preprocessing.source import Imagery
from preprocessing.tiles import Block, Grid, Strip, cut_block

CPU_BATCH, GPU_BATCH = 16, 256
"""Of tiles: larger ones leave a processor's caches, and the last bits of an embedding depend on it."""


Engine = Callable[[Sequence[Block], Grid, Sequence[Imagery], TwinEncoder, Path, StageReport], None]
"""What does the work of `embed_blocks`, here or elsewhere."""


@dataclass(frozen=True)
class Embedded:
    """The tiles of one block. sources: index into the plan's imagery, by tile."""

    ids: Int64[np.ndarray, "n"]
    sources: Int64[np.ndarray, "n"]
    embeddings: Float16[np.ndarray, "n d"]


class Stopped(Exception):
    """Another block failed, or the user gave up."""


def embed_blocks(
    blocks: Sequence[Block],
    grid: Grid,
    imagery: Sequence[Imagery],
    encoder: TwinEncoder,
    work: Path,
    progress: StageReport,
) -> None:
    """Step 2 of a build: the tiles of every block that is not in `work` yet to a file there, whole or absent.

    As many blocks at a time as there are processors, each on one thread: while one is read, another is
    embedded, and no embedding depends on how many processors there are. Raises ImageryError for imagery
    that moved, ModelError for a model that makes nonsense.
    """
    dtype = compute_dtype("auto", best_device())
    encoder = ready(encoder)
    stop = threading.Event()

    def embed(number: int) -> int:
        if not chunk_path(work, number).is_file():
            embedded = embed_block(blocks[number], grid, imagery, encoder, dtype, stop)
            write_whole(chunk_path(work, number), to_npz(embedded))
        return len(blocks[number].rows)

    done, total = 0, sum(len(block.rows) for block in blocks)
    with single_threaded(), ThreadPoolExecutor(cores()) as pool:
        try:
            largest_first = sorted(range(len(blocks)), key=lambda number: -len(blocks[number].rows))
            for block in as_completed([pool.submit(embed, number) for number in largest_first]):
                done += block.result()
                progress("embed", done, total)
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)


def embed_block(
    block: Block,
    grid: Grid,
    imagery: Sequence[Imagery],
    encoder: TwinEncoder,
    dtype: torch.dtype,
    stop: threading.Event | None = None,
) -> Embedded:
    """The tiles of a block. Raises Stopped between two batches once `stop` is set.

    The last batch of a strip is filled up: the last bits of an embedding depend on the size of its batch, and
    a tile's are to be the same whichever others are cut.
    """
    ids = [np.empty(0, np.int64)]
    sources = [np.empty(0, np.int64)]
    parts = [np.empty((0, encoder.spec.dim), np.float16)]
    device = best_device()
    at_once = tiles_at_once(device)
    for strip in cut_block(block, grid, imagery):
        ids.append(strip.ids)
        sources.append(strip.sources)
        for start in range(0, len(strip.ids), at_once):
            if stop is not None and stop.is_set():
                raise Stopped
            batch = _tensors(strip, slice(start, start + at_once), encoder.spec)
            whole = F.pad(batch, (0, 0, 0, 0, 0, 0, 0, at_once - len(batch)))
            parts.append(_embed(whole, encoder, device, dtype)[: len(batch)])
    return Embedded(np.concatenate(ids), np.concatenate(sources), np.concatenate(parts))


def _tensors(strip: Strip, some: slice, spec: EncoderSpec) -> Float32[Tensor, "b 3 s s"]:
    """What `tile_tensor` makes of some of a strip's tiles, the ground they share normalised once."""
    corners, size = strip.corners[some], strip.size_px
    left, top = corners.min(axis=0).tolist()
    right, bottom = (corners.max(axis=0) + size).tolist()
    ground = ground_tensor(strip.rgb[top:bottom, left:right], spec).contiguous()
    return torch.stack(
        [ground[:, y - top : y - top + size, x - left : x - left + size] for x, y in corners.tolist()]
    )


def ready(encoder: TwinEncoder) -> TwinEncoder:
    """On the device that embeds, with the layout of weights that is fastest there."""
    return encoder.to(best_device()).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload, no-any-return]


def tiles_at_once(device: torch.device) -> int:
    """The size of a batch."""
    return CPU_BATCH if device.type == "cpu" else GPU_BATCH


def embed_tiles(
    tiles: Sequence[UInt8[np.ndarray, "s s 3"]], encoder: TwinEncoder, device: torch.device
) -> Float16[np.ndarray, "b d"]:
    """Embed tiles of the spec's size, in float32. Raises ModelError for embeddings that are none."""
    batch = torch.stack([tile_tensor(rgb, encoder.spec) for rgb in tiles])
    return _embed(batch, encoder, device, torch.float32)


def _embed(
    batch: Float32[Tensor, "b 3 s s"], encoder: TwinEncoder, device: torch.device, dtype: torch.dtype
) -> Float16[np.ndarray, "b d"]:
    with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        embeddings = encoder.embed_satellite(batch.to(device)).float().cpu().numpy()
    if embeddings.shape != (len(batch), encoder.spec.dim) or not np.isfinite(embeddings).all():
        raise ModelError("The model's embeddings are of the wrong shape or not numbers; train it again.")
    return embeddings.astype(np.float16)


@contextmanager
def single_threaded() -> Iterator[None]:
    """Torch on one thread, here and in every thread that begins within."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def chunk_path(work: Path, number: int) -> Path:
    """Where a block's embeddings are kept."""
    return work / f"block-{number:06d}.npz"


def to_npz(embedded: Embedded) -> bytes:
    """The file of a block."""
    buffer = io.BytesIO()
    np.savez(buffer, ids=embedded.ids, sources=embedded.sources, embeddings=embedded.embeddings)
    return buffer.getvalue()


def committed(work: Path, blocks: int) -> Iterator[Embedded]:
    """What `embed_blocks` left in `work`, block by block. Raises GalleryError for a damaged file."""
    for number in range(blocks):
        path = chunk_path(work, number)
        try:
            with np.load(path, allow_pickle=False) as saved:
                yield Embedded(saved["ids"], saved["sources"], saved["embeddings"])
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as cause:
            path.unlink()
            raise GalleryError(f"{path} was damaged and is removed; run the same command again.") from cause
