"""Score an encoder on a table of pairs: every query against the whole gallery."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from geoloc.azimuth import correlate_each, peak
from geoloc.certainty import certainty
from geoloc.embed import Change, Precision, Throughput, best_device, embed_pairs, embed_views
from geoloc.encoder import TwinEncoder
from geoloc.errors import DataError
from geoloc.figures import Figures, position_figures, rank_figures
from geoloc.lineup import Lineup, View, line_up
from geoloc.pairs import PairTable
from geoloc.places import WGS84, lonlat_rows, turned_deg
from geoloc.posterior import Calibration
from geoloc.recall import Standing, Ties, stand
from geoloc.report import Report
from geoloc.spec import EncoderSpec
from geoloc.tensors import azimuths_deg

TRUE_HEADING_DEG = 5.0


@dataclass(frozen=True)
class Asked:
    """How street views are shown to the encoder: cut to hfov_deg, their heading told or not."""

    hfov_deg: float = 360.0
    unknown_heading: bool = False


@dataclass(frozen=True)
class Scored:
    """One way of asking, scored. standing: rows are those of the line-up's queries. error_m: from the camera
    to the centre of the best tile, where places are known. heading_error_deg: of the right tile's best
    turn, where headings were searched; not a number where the view's
    own heading is not known. reliability: of the first hit's probability, by tenths, with a calibration.
    """

    asked: Asked
    figures: Figures
    standing: Standing
    error_m: Float[np.ndarray, " q"] | None
    heading_error_deg: Float[np.ndarray, " q"] | None
    reliability: Sequence[tuple[int, float, float]] = ()


@dataclass(frozen=True)
class Embedded:
    """A line-up's embeddings: of its queries once for every way of asking, of its gallery, and the cost."""

    queries: list[Float32[np.ndarray, "q d"]]
    gallery: Float32[np.ndarray, "g d"]
    throughput: Throughput


def embed_lineup(
    encoder: TwinEncoder,
    lineup: Lineup,
    asked: Sequence[Asked] = (Asked(),),
    *,
    precision: Precision = "float32",
    report: Report = lambda *_: None,
) -> Embedded:
    """Embed both sides of a line-up. A field of view under 360 degrees is a window around where the query
    looks (`directions_deg`); at unknown heading the canvas is turned so that the window's centre lies in
    the middle, as a photo's does. Raises DataError where tiles are to be narrowed, ModelError for a model
    that makes no numbers.
    """
    asking, answering = ("street", "satellite") if _asks_street(lineup) else ("satellite", "street")
    if asking == "satellite" and any(one != Asked() for one in asked):
        raise DataError("Here tiles are the queries: they have no field of view and no heading to leave out.")
    told = all(one.unknown_heading for one in asked) or encoder.spec.azimuth_bins == 1
    if asking == "street" and not told and (n := sum(v.heading_deg is None for v in lineup.queries)):
        raise DataError(
            f"{n:,} street views have no heading: give heading_deg for them, or score with --unknown-heading."
        )
    total = len(lineup.queries) + len(lineup.gallery)
    directions = directions_deg(lineup)
    queries, first = embed_views(
        encoder,
        lineup.queries,
        asking,  # type: ignore[arg-type]
        changes=[window_change(encoder.spec, directions, one) for one in asked],
        precision=precision,
        report=lambda done, _: report(done, total),
    )
    (gallery,), second = embed_views(
        encoder,
        lineup.gallery,
        answering,  # type: ignore[arg-type]
        precision=precision,
        report=lambda done, _: report(len(lineup.queries) + done, total),
    )
    return Embedded(queries, gallery, first + second)


@dataclass(frozen=True)
class Evaluation:
    """A table's line-up, its embeddings, and every way of asking scored."""

    lineup: Lineup
    embedded: Embedded
    scored: list[Scored]


def evaluate_table(
    encoder: TwinEncoder,
    table: PairTable,
    asked: Sequence[Asked] = (Asked(),),
    *,
    precision: Precision = "float32",
    ties: Ties = "against",
    calibration: Calibration | None = None,
    report: Report = lambda *_: None,
    ranking: Report = lambda *_: None,
) -> Evaluation:
    """Embed a table's line-up and score it for every way of asking; see `embed_lineup` and `score`."""
    lineup = line_up(table)
    embedded = embed_lineup(encoder, lineup, asked, precision=precision, report=report)
    scored = [
        score(
            encoder.spec, lineup, queries, embedded.gallery, one,
            also_means=table.also_means, ties=ties, calibration=calibration, report=ranking,
        )
        for queries, one in zip(embedded.queries, asked, strict=True)
    ]  # fmt: skip
    return Evaluation(lineup, embedded, scored)


def score_pairs(
    encoder: TwinEncoder, table: PairTable, asked: Asked, loaded: Iterable[tuple[Tensor, Tensor]]
) -> Figures:
    """The figures of pairs whose tensors are at hand, in batches in the table's order."""
    lineup = line_up(replace(table, distractors=(), direction="street->satellite"))
    query_of = _rows(lineup.queries, [pair.street for pair in table.pairs])
    tile_of = _rows(lineup.gallery, [pair.satellite for pair in table.pairs])
    directions = directions_deg(lineup)[query_of]
    street, satellite = embed_pairs(encoder, loaded, window_change(encoder.spec, directions, asked))
    queries, gallery = street[_firsts(query_of)], satellite[_firsts(tile_of)]
    return score(encoder.spec, lineup, queries, gallery, asked).figures


def _rows(views: Sequence[View], paths: Sequence[Path]) -> Int64[np.ndarray, " n"]:
    row = {view.path: number for number, view in enumerate(views)}
    return np.array([row[path] for path in paths], np.int64)


def _firsts(rows: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " m"]:
    return np.unique(rows, return_index=True)[1]


def score(
    spec: EncoderSpec,
    lineup: Lineup,
    queries: Float32[np.ndarray, "q d"],
    gallery: Float32[np.ndarray, "g d"],
    asked: Asked = Asked(),
    *,
    also_means: str = "",
    ties: Ties = "against",
    calibration: Calibration | None = None,
    report: Report = lambda *_: None,
) -> Scored:
    """Recalls and ranks, and where places are known metres; ties count against us.

    At unknown heading every heading is searched by azimuth bins; heading<5deg is then the share of
    correct first hits whose heading is that near. calibration: score the certainty it gives as well.
    """
    rolls = spec.azimuth_bins if asked.unknown_heading else 1
    standing = stand(queries, gallery, lineup, ties=ties, rolls=rolls, device=best_device(), report=report)
    figures = rank_figures(standing, lineup, also_means)
    error_m = errors_m(lineup.queries, lineup.gallery, standing.best)
    if error_m is not None:
        figures |= position_figures(error_m)
    wrong_deg = None
    if rolls > 1:
        match = lineup.right.row[_firsts(lineup.right.query)]
        found = headings_deg(queries, gallery[match], rolls)
        towards_deg = columns_turned(spec, directions_deg(lineup)) * 360 / spec.street_hw[1]
        wrong_deg = np.abs(turned_deg(found, towards_deg))
        wrong_deg[[view.heading_deg is None for view in lineup.queries]] = np.nan
        correct = wrong_deg[(standing.rank == 0) & np.isfinite(wrong_deg)]
        if np.isfinite(wrong_deg).any():
            figures |= Figures({"median_heading_error_deg": float(np.nanmedian(wrong_deg))}, {})
        if len(correct):
            figures |= Figures({"heading<5deg": float((correct <= TRUE_HEADING_DEG).mean())}, {})
    scored = Scored(asked, figures, standing, error_m, wrong_deg)
    if calibration is None or not _asks_street(lineup):
        return scored
    sure = certainty(calibration, spec, lineup, queries, gallery, asked.unknown_heading)
    known = Figures({name: value for name, value in sure.figures.items() if np.isfinite(value)}, {})
    return replace(scored, figures=figures | known, reliability=sure.reliability)


def _asks_street(lineup: Lineup) -> bool:
    return lineup.direction == "street->satellite"


def directions_deg(lineup: Lineup) -> Float[np.ndarray, " q"]:
    """Where each query looks when it is cut or turned, clockwise from its canvas's middle.

    A panorama towards an azimuth drawn from its row; any other view, whose own middle is all there is for
    certain, towards its heading.
    """
    drawn = np.random.default_rng(0).uniform(0, 360, len(lineup.queries))
    whole = [view.hfov_deg == 360 for view in lineup.queries]
    return np.where(whole, drawn, [view.heading_deg or 0.0 for view in lineup.queries])


def headings_deg(
    street: Float32[np.ndarray, "n d"], satellite: Float32[np.ndarray, "n d"], bins: int
) -> Float[np.ndarray, " n"]:
    """The turn that suits each pair best, degrees clockwise, between bins by a parabola."""
    ours, theirs = (torch.from_numpy(matrix).view(len(matrix), bins, -1) for matrix in (street, satellite))
    return peak(correlate_each(ours, theirs))[1].numpy() * 360 / bins


def window_change(spec: EncoderSpec, directions: Float[np.ndarray, " n"], asked: Asked) -> Change:
    """What is done to the canvas of query i before it is embedded, so that it is seen as asked."""
    columns = columns_turned(spec, directions)

    def change(row: int, canvas: Tensor) -> Tensor:
        if asked.hfov_deg < 360:
            canvas = narrowed(canvas, spec, asked.hfov_deg, float(directions[row]))
        if asked.unknown_heading:
            canvas = torch.roll(canvas, -int(columns[row]), dims=2)
        return canvas

    return change


def columns_turned(spec: EncoderSpec, directions: Float[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """By how many whole columns a canvas is turned to have that direction in its middle: so the true turn."""
    return np.round(directions / 360 * spec.street_hw[1]).astype(np.int64)


def narrowed(
    canvas: Float32[Tensor, "4 h w"], spec: EncoderSpec, hfov_deg: float, centre_deg: float
) -> Float32[Tensor, "4 h w"]:
    """The same canvas with all but a window of azimuths blanked; centre_deg counts from its middle."""
    across = torch.remainder(azimuths_deg(spec) - centre_deg + 180, 360) - 180
    return canvas * (across.abs() <= hfov_deg / 2).float()


def errors_m(
    queries: Sequence[View], gallery: Sequence[View], best: Int64[np.ndarray, " q"]
) -> Float[np.ndarray, " q"] | None:
    """Geodesic metres from every query to its best tile's centre; None unless all images have places."""
    if not all(view.lonlat for view in (*queries, *gallery)):
        return None
    cameras = lonlat_rows(view.lonlat for view in queries)
    guesses = lonlat_rows(gallery[row].lonlat for row in best.tolist())
    return np.asarray(WGS84.inv(*cameras.T, *guesses.T)[2])
