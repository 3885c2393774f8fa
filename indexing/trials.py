"""The map setting: street views asked of a dense gallery, from inside it and from outside, answers known."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from jaxtyping import Bool

from geoloc.calibrate import ELSEWHERE, Trial, auroc, calibration_error, reliability
from geoloc.encoder import TwinEncoder
from geoloc.errors import DataError
from geoloc.figures import Figures, near_figures, position_figures
from geoloc.places import LonLat, flat_m, turned_deg
from geoloc.report import StageReport
from geoloc.score import TRUE_HEADING_DEG, Asked
from geoloc.street_view import StreetView, looking, narrowed, read_street_view
from indexing.answer import Answer, answer
from indexing.gallery import Gallery
from indexing.refine import around
from preprocessing.datasets.table import read_photos
from preprocessing.towns.table import Row, town_rows

NEAR_M = 25.0


@dataclass(frozen=True)
class Case:
    """A street view with its true place. inside: whether the gallery covers it; None: look there."""

    path: Path
    lonlat: LonLat
    heading_deg: float | None
    inside: bool | None
    hfov_deg: float | None = None


@dataclass(frozen=True)
class Result:
    """One case's answer. grid_error_m: of the best tile's centre, before it was refined.

    heading_error_deg: None where the heading was given. nearby: the probability of what lies within 25 m
    of the fix. covered: whether the truth lies in the 90 % region; holds: the share of what lies in the
    gallery that the region holds. rank: from 0, of the first tile whose centre lies within 25 m of the truth;
    None where none of those listed does.
    """

    trial: Trial
    error_m: float
    grid_error_m: float
    heading_error_deg: float | None
    in_gallery: float
    nearby: float
    covered: bool
    holds: float
    rank: int | None

    @property
    def found(self) -> bool:
        """Whether the place is in the gallery, and the fix within 25 m of it."""
        return self.trial.truth is not None and self.error_m < NEAR_M


@dataclass(frozen=True)
class Cases:
    """Orthophotos to build the gallery from, and the street views to ask."""

    imagery: list[Path]
    cases: list[Case]
    seeds: frozenset[int]


def photo_cases(table: Path, split: str | None) -> list[Case]:
    """The photos of a user's table. Raises DataError."""
    return [
        Case(photo.path, photo.lonlat, photo.heading_deg, None, photo.hfov_deg)
        for photo in read_photos(table, split)
        if photo.lonlat
    ]


def town_cases(root: Path, split: str, queries: int) -> Cases:
    """Of a set of towns the first half is the gallery; panoramas of both halves are asked, as many of each.

    queries: at most so many of either half, spread evenly. Raises DataError for fewer than two towns.
    """
    rows = [row for row in town_rows(root, "street", "ortho") if split in ("all", row["split"])]
    seeds = sorted({row["town_seed"] for row in rows})
    if len(seeds) < 2:
        raise DataError(
            f"{root} ({split}) has {len(seeds)} towns; one inside the gallery and one outside are wanted. "
            "Take another --split (train, val or all), or make more towns."
        )
    inside = frozenset(seeds[: (len(seeds) + 1) // 2])
    imagery = sorted({root / row["ortho"] for row in rows if row["town_seed"] in inside})
    return Cases(
        imagery,
        [*_cases(root, rows, inside, True, queries), *_cases(root, rows, inside, False, queries)],
        frozenset(seeds),
    )


def _cases(root: Path, rows: Sequence[Row], towns: frozenset[int], inside: bool, queries: int) -> list[Case]:
    some = [row for row in rows if row["is_panorama"] and (row["town_seed"] in towns) == inside]
    picked = np.unique(np.linspace(0, len(some) - 1, min(queries, len(some))).astype(int))
    return [
        Case(root / row["street"], LonLat(row["lon"], row["lat"]), row["heading_deg"], inside)
        for row in (some[index] for index in picked)
    ]


def try_cases(
    cases: Sequence[Case], gallery: Gallery, encoder: TwinEncoder, asked: Asked, report: StageReport
) -> list[Result]:
    """Answer every case the way a user's photo is answered, as `asked`.

    A panorama looks towards an azimuth drawn from its number; any other view that is wider than asked is cut
    to its middle, and a narrower one asked as it is. Raises what
    reading and answering raise, and DataError for one without a heading where headings are to be told.
    """
    results = []
    for number, case in enumerate(cases):
        view = as_asked(cases, number, asked)
        if view.heading_deg is None and not asked.unknown_heading:
            raise DataError(f"{case.path} has no heading; give heading_deg, or add --unknown-heading.")
        results.append(_try(case, view, gallery, encoder, asked))
        report(_label(asked), number + 1, len(cases))
    return results


def as_asked(cases: Sequence[Case], number: int, asked: Asked) -> StreetView:
    """What is shown of a case, its heading not hidden yet. Raises ImageError."""
    case = cases[number]
    view = read_street_view(case.path, heading_deg=case.heading_deg, hfov_deg=case.hfov_deg)
    if view.hfov_deg < 360 or not view.hfov_known:
        return narrowed(view, asked.hfov_deg)
    towards_deg = np.random.default_rng(0).uniform(-180, 180, len(cases))[number]
    return looking(view, float(towards_deg), asked.hfov_deg)


def _label(asked: Asked) -> str:
    return f"{asked.hfov_deg:g} degrees, heading {'unknown' if asked.unknown_heading else 'known'}"


def _try(case: Case, view: StreetView, gallery: Gallery, encoder: TwinEncoder, asked: Asked) -> Result:
    hidden = dataclasses.replace(view, heading_deg=None) if asked.unknown_heading else view
    found = answer(hidden, gallery, encoder, k=1, tolerance_deg=0.0)
    fix = found.fix
    nearest = gallery.nearest(case.lonlat)
    away_m = gallery.tile(nearest).center.distance_m(case.lonlat)
    reach_m = max(gallery.spec.footprint_m / 2, gallery.manifest.stride_m / math.sqrt(2))
    inside = away_m < reach_m if case.inside is None else case.inside
    truth_id = nearest if inside else None
    at = np.flatnonzero(found.ids == truth_id)
    truth = None if truth_id is None else int(at[0]) if len(at) else ELSEWHERE
    turn_deg = None
    if asked.unknown_heading and fix.heading_deg is not None and view.heading_deg is not None:
        turn_deg = abs(turned_deg(fix.heading_deg, view.heading_deg))
    map, likely = fix.map, found.likely
    off_m = None if truth_id is None else _off_m(case, truth_id, found, gallery)
    return Result(
        trial=Trial(found.evidence, truth, off_m),
        error_m=fix.lonlat.distance_m(case.lonlat),
        grid_error_m=gallery.tile(fix.tile_id).center.distance_m(case.lonlat),
        heading_error_deg=turn_deg,
        in_gallery=float("nan") if map is None else map.posterior.in_gallery,
        nearby=float("nan") if map is None else map.within(fix.lonlat, NEAR_M),
        covered=likely is not None
        and inside
        and bool(shapely.intersects_xy(likely.ground, case.lonlat.lon, case.lonlat.lat)),
        holds=float("nan") if likely is None else likely.holds,
        rank=_rank(case, found, gallery),
    )


def _rank(case: Case, found: Answer, gallery: Gallery) -> int | None:
    near = np.flatnonzero(flat_m(gallery.lonlats(found.ids), case.lonlat) < NEAR_M)
    return int(near[0]) if len(near) else None


def _off_m(case: Case, truth_id: int, found: Answer, gallery: Gallery) -> float | None:
    """How far from a case's place the refined one is that its tile goes with: the best of those near."""
    here, grid = np.array([truth_id]), gallery.manifest.grid
    mine = (one for one in found.refined if around(grid, here, one.tile_id)[0])
    return next((one.lonlat.distance_m(case.lonlat) for one in mine), None)


def figures_of(results: Sequence[Result]) -> dict[str, Any]:
    """What the results come to: recalls and metres of the cases inside, certainty over all; the recalls'
    bootstrap intervals under "intervals".

    Raises DataError where none is inside.
    """
    inside = [result for result in results if result.trial.truth is not None]
    if not inside:
        raise DataError("Not one street view was taken on the imagery; check their positions.")
    recalls = position_figures(np.array([result.error_m for result in inside])) | _near(inside)
    figures: dict[str, Any] = {
        "n": len(inside),
        "outside": len(results) - len(inside),
        **recalls.values,
        "median_grid_error_m": float(np.median([result.grid_error_m for result in inside])),
    }
    found = [result for result in inside if result.found]
    if found:
        figures["median_error_found_m"] = float(np.median([result.error_m for result in found]))
    turns = np.array([result.heading_error_deg for result in found if result.heading_error_deg is not None])
    if len(turns):
        figures["median_heading_error_deg"] = float(np.median(turns))
        figures["heading<5deg"] = float((turns <= TRUE_HEADING_DEG).mean())
    nearby = np.array([result.nearby for result in results])
    if np.isfinite(nearby).all():
        figures["calibration_error"] = calibration_error(nearby, _found(results))
        figures["coverage90"] = float(np.mean([result.covered for result in inside]))
        figures["region90_holds"] = float(np.mean([result.holds for result in inside]))
        known = np.array([result.trial.truth is not None for result in results])
        if known.any() and not known.all():
            figures["auroc_in_gallery"] = auroc(np.array([result.in_gallery for result in results]), known)
    figures["intervals"] = {name: list(pair) for name, pair in recalls.intervals.items()}
    return figures


def _near(inside: Sequence[Result]) -> Figures:
    """Of the tiles as they are listed: how often one within 25 m is among the best."""
    rank = np.array([math.inf if result.rank is None else result.rank for result in inside], np.float64)
    evidence = inside[0].trial.evidence
    return near_figures(rank, evidence.tiles, listed=len(evidence.scores))


def _found(results: Sequence[Result]) -> Bool[np.ndarray, " n"]:
    return np.array([result.found for result in results])


def reliability_of(results: Sequence[Result]) -> list[tuple[int, float, float]]:
    """The reliability diagram's points for "within 25 m of the fix"."""
    nearby = np.array([result.nearby for result in results])
    return reliability(nearby, _found(results)) if np.isfinite(nearby).all() else []
