"""A table of pairs to two matrices of embeddings."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from geoloc.batches import PairDataset, batches
from geoloc.encoder import TwinEncoder
from geoloc.pairs import Pair

Report = Callable[[int, int], None]
BATCH = 64


def best_device() -> torch.device:
    """The accelerator that is there, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def embed_pairs(
    encoder: TwinEncoder,
    pairs: Sequence[Pair],
    *,
    change: Callable[[int, Tensor], Tensor] | None = None,
    workers: int = 0,
    report: Report | None = None,
) -> tuple[Float32[np.ndarray, "n d"], Float32[np.ndarray, "n d"]]:
    """Street and satellite embeddings of every pair, in order.

    change: applied to the canvas of pair i before it is embedded, as change(i, canvas).
    report: called with pairs done and pairs in all. Raises what reading the images raises.
    """
    device = next(encoder.parameters()).device
    starts = range(0, len(pairs), BATCH)
    order = [range(start, min(start + BATCH, len(pairs))) for start in starts]
    street = np.empty((len(pairs), encoder.spec.dim), np.float32)
    satellite = np.empty_like(street)
    loaded = batches(PairDataset(pairs, encoder.spec), order, workers)
    for rows, (canvases, tiles) in zip(order, loaded, strict=True):
        if change is not None:
            canvases = torch.stack([change(row, canvas) for row, canvas in zip(rows, canvases, strict=True)])
        with torch.inference_mode():
            street[rows.start : rows.stop] = encoder.embed_street(canvases.to(device)).cpu()
            satellite[rows.start : rows.stop] = encoder.embed_satellite(tiles.to(device)).cpu()
        if report is not None:
            report(rows.stop, len(pairs))
    return street, satellite
