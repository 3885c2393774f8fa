"""Score an encoder on a table of pairs: every street view against every tile."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from geoloc.batches import narrowed
from geoloc.embed import Report, embed_pairs
from geoloc.encoder import TwinEncoder
from geoloc.errors import ModelError
from geoloc.pairs import PairTable
from geoloc.places import WGS84
from geoloc.recall import figures, position_figures, ranks


def score_pairs(
    encoder: TwinEncoder,
    table: PairTable,
    *,
    hfov_deg: float = 360.0,
    unknown_heading: bool = False,
    workers: int = 0,
    report: Report | None = None,
) -> dict[str, float | int]:
    """Recalls, ranks and, where positions are known, metres; ties count against us.

    hfov_deg narrows every street view to a window of that many degrees, towards an azimuth drawn
    from its number in the table. unknown_heading turns the canvas so that the window's centre lies
    in the middle, as a photo's does, and searches every heading by azimuth bins. Raises ModelError for
    a model that makes no numbers.
    """
    directions = np.random.default_rng(0).uniform(0, 360, len(table.pairs))
    change = _window(encoder, directions, hfov_deg, unknown_heading)
    street, satellite = embed_pairs(encoder, table.pairs, change=change, workers=workers, report=report)
    if not (np.isfinite(street).all() and np.isfinite(satellite).all()):
        raise ModelError("The model's embeddings are not numbers; take it again from its source.")
    gallery, truth = _distinct(table, satellite)
    rolls = encoder.spec.azimuth_bins if unknown_heading else 1
    rank, best, roll = ranks(street, gallery, truth, rolls=rolls)
    scores = figures(rank, len(gallery))
    error_m = _errors_m(table, truth, best)
    if error_m is not None:
        scores |= position_figures(error_m)
    if unknown_heading:
        wrong_deg = np.abs((roll * 360 / rolls - directions + 180) % 360 - 180)
        scores["median_heading_error_deg"] = float(np.median(wrong_deg))
    return scores


def _window(
    encoder: TwinEncoder, directions: Float[np.ndarray, " n"], hfov_deg: float, unknown_heading: bool
) -> Callable[[int, Tensor], Tensor]:
    columns = encoder.spec.street_hw[1]

    def change(row: int, canvas: Tensor) -> Tensor:
        if hfov_deg < 360:
            canvas = narrowed(canvas, hfov_deg, float(directions[row]))
        if unknown_heading:
            canvas = torch.roll(canvas, -round(directions[row] / 360 * columns), dims=2)
        return canvas

    return change


def _distinct(
    table: PairTable, satellite: Float32[np.ndarray, "n d"]
) -> tuple[Float32[np.ndarray, "g d"], Int64[np.ndarray, " n"]]:
    """The gallery without repeated files, and each pair's row in it."""
    files = np.array([str(pair.satellite) for pair in table.pairs])
    _, first, truth = np.unique(files, return_index=True, return_inverse=True)
    return satellite[first], truth.astype(np.int64)


def _errors_m(
    table: PairTable, truth: Int64[np.ndarray, " n"], best: Int64[np.ndarray, " n"]
) -> Float[np.ndarray, " n"] | None:
    places = {row: pair.tile_lonlat for row, pair in zip(truth.tolist(), table.pairs, strict=True)}
    cameras = [pair.lonlat for pair in table.pairs]
    guesses = [places[row] for row in best.tolist()]
    if not all(cameras) or not all(guesses):
        return None
    lonlats = np.array(
        [(c.lon, c.lat, g.lon, g.lat) for c, g in zip(cameras, guesses, strict=True) if c and g]
    )
    return np.asarray(WGS84.inv(*lonlats.T)[2])
