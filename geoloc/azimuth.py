"""Azimuth embeddings compared at every heading: a turn of the camera is a roll by bins."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor


def correlate(street: Float[Tensor, "q a c"], satellite: Float[Tensor, "g a c"]) -> Float[Tensor, "q g a"]:
    """The inner product of every street view, turned by every number of bins, with every tile.

    Entry [q, g, t] is that of tile g with street view q rolled by t bins: with it looking t x 360 / a
    degrees further clockwise than its canvas says. The circular cross-correlation of DSM (Shi et al.
    2020, eq. 4), as one matrix product with the fewer of the two rolled: at tens of bins that beats an FFT.
    """
    (q, a, _), g = street.shape, len(satellite)
    if q < g:
        rolled = torch.stack([torch.roll(street, turn, dims=1) for turn in range(a)], dim=1)
        return (rolled.flatten(2).flatten(0, 1) @ satellite.flatten(1).T).view(q, a, g).transpose(1, 2)
    rolled = torch.stack([torch.roll(satellite, -turn, dims=1) for turn in range(a)], dim=1)
    return (street.flatten(1) @ rolled.flatten(2).flatten(0, 1).T).view(q, g, a)


def correlate_each(street: Float[Tensor, "n a c"], satellite: Float[Tensor, "n a c"]) -> Float[Tensor, "n a"]:
    """As `correlate`, of every street view with its own tile alone."""
    turns = range(street.shape[1])
    return torch.stack(
        [(torch.roll(street, turn, dims=1) * satellite).sum(dim=(1, 2)) for turn in turns], dim=1
    )


def window_gain(street: Float[Tensor, "q a c"]) -> Float[Tensor, " q"]:
    """What makes an inner product with a tile the cosine over the azimuths that the view shows.

    All bins of a tile have the norm 1 / sqrt(a), so every window of n bins has sqrt(n / a), whatever
    tile and turn: the window normalisation of DSM (section 3.3) is one factor per street view.
    """
    seen = (street != 0).any(dim=2).sum(dim=1).clamp(min=1)
    return torch.sqrt(street.shape[1] / seen)


def peak(
    scores: Float[Tensor, "*n a"], at: Int64[Tensor, "*n"] | None = None
) -> tuple[Float[Tensor, "*n"], Float[Tensor, "*n"]]:
    """How high each circular sequence rises around its maximum (or bin `at`), and where, in bins.

    Both are of the parabola through the bin and its two neighbours, at its vertex or at most half a bin off:
    a camera seldom looks where a bin lies, and between two of them the bins' own scores are too low.
    """
    a = scores.shape[-1]
    at = scores.max(dim=-1).indices if at is None else at
    before, here, after = (scores.gather(-1, ((at + step) % a)[..., None])[..., 0] for step in (-1, 0, 1))
    bend = 2 * here - before - after
    offset = torch.where(bend > 1e-9, (after - before) / 2 / bend.clamp(min=1e-9), 0.0).clamp(-0.5, 0.5)
    return here + offset * (after - before - bend * offset) / 2, (at + offset) % a
