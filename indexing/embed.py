"""Tiles to embeddings, block by block, so that what is done stays done."""

import io
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float16, Int64, UInt8

from geoloc.embed import BATCH, best_device
from geoloc.encoder import TwinEncoder
from geoloc.errors import GalleryError, ModelError
from geoloc.tensors import tile_tensor
from indexing.durable import write_whole
from preprocessing.source import Imagery
from preprocessing.tiles import Block, Grid, cut_block

Progress = Callable[[str, int, int], None]
"""Called with the step's name, and how many of how many tiles are done."""


@dataclass(frozen=True)
class Embedded:
    """The tiles of one block. sources: index into the plan's imagery, by tile."""

    ids: Int64[np.ndarray, "n"]
    sources: Int64[np.ndarray, "n"]
    embeddings: Float16[np.ndarray, "n d"]


def embed_blocks(
    blocks: Sequence[Block],
    grid: Grid,
    imagery: Sequence[Imagery],
    encoder: TwinEncoder,
    work: Path,
    progress: Progress,
) -> None:
    """Step 2: the tiles of every block that is not in `work` yet to a file there, whole or absent.

    Raises ImageryError for imagery that moved, ModelError for a model that makes nonsense.
    """
    device = best_device()
    encoder = encoder.to(device).eval()
    done, total = 0, sum(len(block.rows) for block in blocks)
    for number, block in enumerate(blocks):
        path = _chunk_path(work, number)
        if not path.is_file():
            embedded = _embed_block(cut_block(block, grid, imagery), encoder, device)
            write_whole(path, _to_npz(embedded))
        done += len(block.rows)
        progress("embed", done, total)


def _embed_block(
    tiles: Iterator[tuple[int, int, UInt8[np.ndarray, "s s 3"]]], encoder: TwinEncoder, device: torch.device
) -> Embedded:
    ids: list[int] = []
    sources: list[int] = []
    parts = [np.empty((0, encoder.spec.dim), np.float16)]
    while batch := list(islice(tiles, BATCH)):
        ids += [id for id, _, _ in batch]
        sources += [source for _, source, _ in batch]
        parts.append(embed_tiles([rgb for _, _, rgb in batch], encoder, device))
    return Embedded(np.array(ids, np.int64), np.array(sources, np.int64), np.concatenate(parts))


def embed_tiles(
    tiles: Sequence[UInt8[np.ndarray, "s s 3"]], encoder: TwinEncoder, device: torch.device
) -> Float16[np.ndarray, "b d"]:
    """Embed tiles of the spec's size. Raises ModelError for embeddings that are none."""
    spec = encoder.spec
    with torch.inference_mode():
        tensors = torch.stack([tile_tensor(rgb, spec) for rgb in tiles])
        embeddings = encoder.embed_satellite(tensors.to(device)).float().cpu().numpy()
    if embeddings.shape != (len(tiles), spec.dim) or not np.isfinite(embeddings).all():
        raise ModelError("The model's embeddings are of the wrong shape or not numbers; train it again.")
    return embeddings.astype(np.float16)


def _chunk_path(work: Path, number: int) -> Path:
    return work / f"block-{number:06d}.npz"


def _to_npz(embedded: Embedded) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, ids=embedded.ids, sources=embedded.sources, embeddings=embedded.embeddings)
    return buffer.getvalue()


def committed(work: Path, blocks: int) -> Iterator[Embedded]:
    """What `embed_blocks` left in `work`, block by block. Raises GalleryError for a damaged file."""
    for number in range(blocks):
        path = _chunk_path(work, number)
        try:
            with np.load(path, allow_pickle=False) as saved:
                yield Embedded(saved["ids"], saved["sources"], saved["embeddings"])
        except (ValueError, KeyError, zipfile.BadZipFile) as cause:
            path.unlink()
            raise GalleryError(f"{path} was damaged and is removed; run the same command again.") from cause
