"""Score an encoder on a table of pairs: every street view against every tile."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

from geoloc.azimuth import peak
from geoloc.certainty import certainty_figures
from geoloc.embed import Change, Report, embed_pairs, pair_tensors
from geoloc.encoder import TwinEncoder
from geoloc.errors import ModelError
from geoloc.pairs import PairTable
from geoloc.places import WGS84
from geoloc.posterior import Calibration
from geoloc.recall import figures, position_figures, ranks
from geoloc.spec import EncoderSpec
from geoloc.tensors import azimuths_deg

TRUE_HEADING_DEG = 5.0
M_PER_DEG = 111_320.0


@dataclass(frozen=True)
class Asked:
    """How street views are shown to the encoder: cut to hfov_deg, their heading told or not."""

    hfov_deg: float = 360.0
    unknown_heading: bool = False


def score_pairs(
    encoder: TwinEncoder,
    table: PairTable,
    asked: Sequence[Asked] = (Asked(),),
    *,
    loaded: Iterable[tuple[Tensor, Tensor]] | None = None,
    calibration: Calibration | None = None,
    workers: int = 0,
    report: Report | None = None,
) -> list[dict[str, float | int]]:
    """Recalls, ranks and, where positions are known, metres, for each way of asking; ties count against us.

    A field of view under 360 degrees is a window around an azimuth drawn from the pair's number in the
    table. At unknown heading the canvas is turned so that the window's centre lies in the middle, as a
    photo's does, and every heading is searched by azimuth bins; heading<5deg is then the share of
    correct first hits whose heading is that near. calibration: score the certainty it gives as well.
    loaded: the pairs' tensors, where they are at hand.
    Raises ModelError for a model that makes no numbers.
    """
    spec, n = encoder.spec, len(table.pairs)
    directions = np.random.default_rng(0).uniform(0, 360, n)
    streets, satellite = embed_pairs(
        encoder,
        pair_tensors(table.pairs, spec, workers) if loaded is None else loaded,
        n,
        changes=[window_change(spec, directions, one) for one in asked],
        report=report,
    )
    if not all(np.isfinite(matrix).all() for matrix in (*streets, satellite)):
        raise ModelError("The model's embeddings are not numbers; take it again from its source.")
    return [
        _score(spec, table, street, satellite, directions, one, calibration)
        for street, one in zip(streets, asked, strict=True)
    ]


def _score(
    spec: EncoderSpec,
    table: PairTable,
    street: Float32[np.ndarray, "n d"],
    satellite: Float32[np.ndarray, "n d"],
    directions: Float[np.ndarray, " n"],
    asked: Asked,
    calibration: Calibration | None,
) -> dict[str, float | int]:
    gallery, truth = _distinct(table, satellite)
    rolls = spec.azimuth_bins if asked.unknown_heading else 1
    rank, best = ranks(street, gallery, truth, rolls=rolls)
    scores = figures(rank, len(gallery))
    error_m = _errors_m(table, truth, best)
    if error_m is not None:
        scores |= position_figures(error_m)
    if rolls > 1:
        found = headings_deg(street, satellite, rolls)
        wrong_deg = np.abs((found - directions + 180) % 360 - 180)
        scores["median_heading_error_deg"] = float(np.median(wrong_deg))
        correct = wrong_deg[rank == 0]
        scores["heading<5deg"] = float((correct <= TRUE_HEADING_DEG).mean()) if len(correct) else 0.0
    if calibration is not None:
        scores |= certainty_figures(
            calibration,
            street,
            gallery,
            truth,
            _overlaps(table, truth, spec.footprint_m),
            azimuth_bins=spec.azimuth_bins,
            unknown_heading=asked.unknown_heading,
        )
    return scores


def _overlaps(
    table: PairTable, truth: Int64[np.ndarray, " n"], footprint_m: float
) -> Bool[np.ndarray, "n g"] | None:
    """Which tiles have their centre within a footprint of which street view; None without places."""
    places = {row: pair.tile_lonlat for row, pair in zip(truth.tolist(), table.pairs, strict=True)}
    tiles = [places[row] for row in sorted(places)]
    cameras = [pair.lonlat for pair in table.pairs]
    if not all(tiles) or not all(cameras):
        return None
    at = np.array([(one.lon, one.lat) for one in tiles if one]) * M_PER_DEG
    here = np.array([(one.lon, one.lat) for one in cameras if one]) * M_PER_DEG
    shrink = np.cos(np.radians(here[:, 1] / M_PER_DEG))
    east = (here[:, :1] - at[None, :, 0]) * shrink[:, None]
    return np.asarray(np.hypot(east, here[:, 1:] - at[None, :, 1]) < footprint_m)


def headings_deg(
    street: Float32[np.ndarray, "n d"], satellite: Float32[np.ndarray, "n d"], bins: int
) -> Float[np.ndarray, " n"]:
    """The turn that suits each pair best, degrees clockwise, between bins by a parabola."""
    ours, theirs = (torch.from_numpy(matrix).view(len(matrix), bins, -1) for matrix in (street, satellite))
    turned = [(torch.roll(ours, turn, dims=1) * theirs).sum(dim=(1, 2)) for turn in range(bins)]
    return peak(torch.stack(turned, dim=1))[1].numpy() * 360 / bins


def window_change(spec: EncoderSpec, directions: Float[np.ndarray, " n"], asked: Asked) -> Change:
    """What is done to the canvas of pair i before it is embedded, so that it is seen as asked."""
    columns = spec.street_hw[1]

    def change(row: int, canvas: Tensor) -> Tensor:
        if asked.hfov_deg < 360:
            canvas = narrowed(canvas, spec, asked.hfov_deg, float(directions[row]))
        if asked.unknown_heading:
            canvas = torch.roll(canvas, -round(directions[row] / 360 * columns), dims=2)
        return canvas

    return change


def narrowed(
    canvas: Float32[Tensor, "4 h w"], spec: EncoderSpec, hfov_deg: float, centre_deg: float
) -> Float32[Tensor, "4 h w"]:
    """The same canvas with all but a window of azimuths blanked; centre_deg counts from its middle."""
    across = torch.remainder(azimuths_deg(spec) - centre_deg + 180, 360) - 180
    return canvas * (across.abs() <= hfov_deg / 2).float()


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
