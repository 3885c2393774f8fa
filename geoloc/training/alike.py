"""Mining: which places an encoder takes for each other, the hardest negatives there are."""

from collections.abc import Callable, Iterable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from geoloc.embed import device_of
from geoloc.encoder import TwinEncoder
from geoloc.report import Report
from geoloc.training.negatives import Negatives

WINDOW = 4
"""One 4th of a panorama, 90 degrees, is asked."""
CHUNK = 512


def alike(
    encoder: TwinEncoder,
    loaded: Iterable[tuple[Tensor, Tensor]],
    negatives: Negatives,
    k: int,
    *,
    seed: int,
    dtype: torch.dtype = torch.float32,
    report: Report = lambda *_: None,
) -> Int64[np.ndarray, "n k"]:
    """The k pairs whose tiles answer each pair's street view best, of those that are its negatives.

    loaded: the pairs' canvases and tiles, by batches. Asked is a window of 90 degrees in a direction drawn
    from the seed, at unknown heading: what is hard to tell apart in a whole panorama is hard anywhere; of a
    model of one bin all of the view, as it lies. The similarity sampling of Sample4Geo (Deuser et al. 2023),
    over the whole set in blocks of 512 rows.
    """
    n, bins = len(negatives.place), encoder.spec.azimuth_bins
    width = max(1, bins // WINDOW)
    k = min(k, n - 1)
    starts = torch.from_numpy(np.random.default_rng(seed).integers(bins, size=n))
    views, tiles = _embed(encoder, loaded, starts, width, dtype, lambda done: report(done, 2 * n))
    found = []
    for start in range(0, n, CHUNK):
        rows = slice(start, min(n, start + CHUNK))
        scores = _best_turn(views[rows], tiles)
        views_of = np.arange(rows.start, rows.stop)
        scores[negatives.close(views_of, np.arange(n), scores.device)] = -torch.inf
        found.append(scores.topk(k, dim=1).indices.cpu())
        report(n + rows.stop, 2 * n)
    return torch.cat(found).numpy()


def _embed(
    encoder: TwinEncoder,
    loaded: Iterable[tuple[Tensor, Tensor]],
    starts: Int64[Tensor, " n"],
    width: int,
    dtype: torch.dtype,
    report: Callable[[int], None],
) -> tuple[Float32[Tensor, "n w c"], Float32[Tensor, "n a c"]]:
    """Windows of `width` bins from each view's start, and tiles whole."""
    device = device_of(encoder)
    views, tiles, done = [], [], 0
    for canvases, satellite in loaded:
        with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            street = encoder.street_bins(canvases.to(device))
            tiles.append(encoder.satellite_bins(satellite.to(device)))
        here = starts[done : done + len(street), None].to(device) + torch.arange(width, device=device)
        window = torch.take_along_dim(street, (here % street.shape[1])[:, :, None], dim=1)
        views.append(F.normalize(window.flatten(1), dim=1).view_as(window))
        done += len(street)
        report(done)
    return torch.cat(views), torch.cat(tiles)


def _best_turn(views: Float[Tensor, "q w c"], tiles: Float[Tensor, "n a c"]) -> Float[Tensor, "q n"]:
    """The inner product of each view with the best window of each tile."""
    width = views.shape[1]
    ring = torch.cat([tiles, tiles[:, : width - 1]], dim=1)
    best = torch.full((len(views), len(tiles)), -torch.inf, device=views.device)
    for turn in range(tiles.shape[1]):
        window = ring[:, turn : turn + width].flatten(1)
        torch.maximum(best, views.flatten(1) @ window.T, out=best)
    return best
