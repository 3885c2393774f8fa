"""Step 2 of a build on many machines: Ray embeds them where it has processors, this process keeps them."""

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from geoloc.embed import best_device, compute_dtype
from geoloc.encoder import TwinEncoder
from geoloc.errors import GalleryError, GeolocError
from geoloc.report import StageReport
from indexing.durable import write_whole
from indexing.embed import chunk_path, embed_block, ready, single_threaded, to_npz
from preprocessing.source import Imagery
from preprocessing.tiles import Block, Grid

_PATIENCE_S = 10


def embed_blocks_on_ray(
    blocks: Sequence[Block],
    grid: Grid,
    imagery: Sequence[Imagery],
    encoder: TwinEncoder,
    work: Path,
    progress: StageReport,
    *,
    address: str,
) -> None:
    """What `embed_blocks` does, on a Ray cluster; every node has geoloc, and the imagery at the same paths.

    A block is one task, on one processor (and one GPU, where this machine has one), and Ray runs it again
    where its node is lost. Only this process writes, each block once, so nothing is doubled or torn. Nodes
    of the same kind of processor and the same torch give the bytes of a local build. Raises GalleryError
    without Ray or its cluster, and what the local engine raises.
    """
    missing = [number for number in range(len(blocks)) if not chunk_path(work, number).is_file()]
    total = sum(len(block.rows) for block in blocks)
    done = total - sum(len(blocks[number].rows) for number in missing)
    progress("embed", done, total)
    if not missing:
        return
    with _cluster(address) as ray:
        shared = ray.put((grid, list(imagery), encoder.cpu().eval()))
        rows = [{"number": number, "block": blocks[number]} for number in missing]
        task = partial(_embed, shared=shared, dtype=compute_dtype("auto", best_device()))
        gpus = 1 if best_device().type == "cuda" else 0
        embedded = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            task, batch_size=1, num_cpus=1, num_gpus=gpus, compute=ray.data.TaskPoolStrategy()
        )
        for row in embedded.iter_rows():
            if row["error"]:
                raise row["error"]
            write_whole(chunk_path(work, row["number"]), row["npz"])
            done += len(blocks[row["number"]].rows)
            progress("embed", done, total)


def _embed(batch: dict[str, Any], shared: Any, dtype: torch.dtype) -> dict[str, list[Any]]:
    """A task: one block to the bytes of its file, or to the error that the user is to read."""
    import ray

    (number,), (block,) = batch["number"].tolist(), batch["block"]
    grid, imagery, encoder = ray.get(shared)
    npz, error = b"", None
    try:
        with single_threaded():
            npz = to_npz(embed_block(block, grid, imagery, ready(encoder), dtype))
    except GeolocError as cause:
        error = cause
    return {"number": [number], "npz": [npz], "error": [error]}


@contextmanager
def _cluster(address: str) -> Iterator[Any]:
    """Ray, connected for as long as this is open. Raises GalleryError for what a user can mend."""
    try:
        import ray
        import ray.data
    except ImportError as cause:
        raise GalleryError(
            'The engine ray wants Ray: pip install "geoloc-crossview[ray]", here and on every node.'
        ) from cause
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        host, _, port = address.rpartition(":")
        socket.create_connection((host, int(port)), _PATIENCE_S).close()  # Ray itself tries for minutes
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (OSError, ValueError, OverflowError, RuntimeError) as cause:
        raise GalleryError(
            f"No Ray cluster answers at {address!r}; start one with ray start --head, and give the address "
            "that it prints."
        ) from cause
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        yield ray
    except ray.exceptions.RayError as cause:
        raise GalleryError(
            f"The Ray cluster at {address} gave up ({type(cause).__name__}); mend it and run the same "
            "command again: it goes on where it stopped."
        ) from cause
    finally:
        ray.shutdown()
