"""Batches of canvases and tiles to matrices of embeddings."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from geoloc.batches import PairDataset, batches
from geoloc.encoder import TwinEncoder
from geoloc.pairs import Pair
from geoloc.spec import EncoderSpec

Report = Callable[[int, int], None]
Change = Callable[[int, Tensor], Tensor]
BATCH = 64


def best_device() -> torch.device:
    """The accelerator that is there, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def pair_tensors(pairs: Sequence[Pair], spec: EncoderSpec, workers: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Canvases and tiles of the pairs in order, by batches. Raises what reading the images raises."""
    order = [range(start, min(start + BATCH, len(pairs))) for start in range(0, len(pairs), BATCH)]
    return batches(PairDataset(pairs, spec), order, workers)


def embed_pairs(
    encoder: TwinEncoder,
    loaded: Iterable[tuple[Tensor, Tensor]],
    n: int,
    *,
    changes: Sequence[Change] = (lambda _, canvas: canvas,),
    report: Report | None = None,
) -> tuple[list[Float32[np.ndarray, "n d"]], Float32[np.ndarray, "n d"]]:
    """Embeddings of n pairs: of their canvases once for every change, and of their tiles.

    changes: each is called as change(i, canvas) on the canvas of pair i before it is embedded.
    report: called with pairs done and pairs in all.
    """
    device = next(encoder.parameters()).device
    streets = [np.empty((n, encoder.spec.dim), np.float32) for _ in changes]
    satellite = np.empty((n, encoder.spec.dim), np.float32)
    start = 0
    for canvases, tiles in loaded:
        stop = start + len(canvases)
        with torch.inference_mode():
            for street, change in zip(streets, changes, strict=True):
                changed = [change(row, canvas) for row, canvas in enumerate(canvases, start)]
                street[start:stop] = encoder.embed_street(torch.stack(changed).to(device)).cpu()
            satellite[start:stop] = encoder.embed_satellite(tiles.to(device)).cpu()
        start = stop
        if report is not None:
            report(stop, n)
    return streets, satellite
