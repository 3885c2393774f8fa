"""The map setting on two small towns, and the figures made of its answers by hand."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from geoloc.calibrate import ELSEWHERE, Trial, fit_calibration
from geoloc.encoder import TwinEncoder
from geoloc.errors import DataError
from geoloc.locate import Refined
from geoloc.model import load_encoder, save_encoder
from geoloc.places import M_PER_DEG, LonLat
from geoloc.posterior import Calibration, Evidence
from geoloc.score import Asked
from indexing import trials
from indexing.answer import answer
from indexing.build import build_gallery
from indexing.gallery import Gallery
from indexing.trials import Case, Result, as_asked, figures_of, town_cases, try_cases
from preprocessing.towns.synth import SynthConfig, synthesize
from preprocessing.towns.town import TownConfig

NONE = (0.0, 0.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def towns(tmp_path_factory):
    town = TownConfig(pairs=4, side_m=200.0, footprint_m=48.0, panorama_wh=(128, 32))
    return synthesize(SynthConfig(2, 50, town), tmp_path_factory.mktemp("two") / "towns")


def test_cases_come_from_inside_and_outside_alike(towns):
    chosen = town_cases(towns, "all", 3)
    assert [case.inside for case in chosen.cases] == [True] * 3 + [False] * 3
    assert [path.name for path in chosen.imagery] == ["town-50.tif"]
    assert chosen.seeds == {50, 51}
    with pytest.raises(DataError, match="one inside the gallery and one outside"):
        town_cases(towns, "val", 3)


def test_a_view_of_unknown_width_is_not_cut_by_a_guess(tmp_path):
    for wh, columns in (((400, 100), 100), ((330, 100), 330)):
        path = tmp_path / f"{wh[0]}.png"
        Image.new("RGB", wh).save(path)
        cases = [Case(path, LonLat(9, 50), 0.0, True)]
        assert as_asked(cases, 0, Asked(90.0, True)).rgb.shape[1] == columns


def test_answers_of_a_dense_gallery(towns, tiny_spec, tmp_path):
    torch.manual_seed(0)
    model = tmp_path / "model"
    save_encoder(TwinEncoder(tiny_spec), model, "untrained")
    weights = Calibration(
        (3.0, 0.0, 0.0, 0.0), NONE, ((-3.0, 0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0), NONE, NONE)
    )
    (model / "calibration.json").write_text(weights.to_json())
    chosen = town_cases(towns, "all", 3)
    build_gallery(chosen.imagery, model, tmp_path / "gallery", stride_m=16.0)
    seen = []
    with Gallery.open(tmp_path / "gallery") as gallery:
        results = try_cases(
            chosen.cases, gallery, load_encoder(model), Asked(90.0, True), lambda *step: seen.append(step)
        )
        for result, case in zip(results[:3], chosen.cases[:3], strict=True):
            center = gallery.tile(gallery.nearest(case.lonlat)).center
            assert center.distance_m(case.lonlat) <= 16 / np.sqrt(2) + 0.1
            assert result.trial.truth is not None
            assert result.rank is not None, "of tiles 16 m apart one is within 25 m, and all are listed"
            assert 80 <= result.trial.evidence.seen_deg <= 100 + 45
            assert result.trial.evidence.tiles == len(gallery)
    assert seen[-1] == ("90 degrees, heading unknown", 6, 6)
    assert [result.trial.truth for result in results[3:]] == [None] * 3
    assert all(0 < result.in_gallery < 1 and 0 <= result.heading_error_deg <= 180 for result in results)
    figures = figures_of(results)
    assert figures["n"] == figures["outside"] == 3
    assert {"recall@1<25m", "median_error_m", "calibration_error", "coverage90"} <= set(figures)
    with pytest.raises(DataError, match="10 queries"):
        fit_calibration([result.trial for result in results], "too few")


def test_how_far_off_is_told_of_the_best_hit_around_a_place_not_of_the_nearest(
    towns, tiny_spec, tmp_path, monkeypatch
):
    """The region lies about the best."""
    save_encoder(TwinEncoder(tiny_spec), tmp_path / "model", "untrained")
    chosen = town_cases(towns, "all", 3)
    build_gallery(chosen.imagery, tmp_path / "model", tmp_path / "gallery", stride_m=16.0)

    def answered(*words, **more):
        found = answer(*words, **more)
        here = gallery.tile(gallery.nearest(case.lonlat))
        elsewhere = gallery.tile(next(id for id in found.ids.tolist() if away(id, here.id) > 2))
        hits = [
            Refined(tile.id, LonLat(case.lonlat.lon, case.lonlat.lat + north_m / M_PER_DEG), score, 0.0)
            for tile, north_m, score in ((elsewhere, 1, 0.9), (here, 12, 0.8), (here, 3, 0.7))
        ]
        return dataclasses.replace(found, refined=tuple(hits))

    def away(one, other):
        (_, columns, rows) = gallery.manifest.grid.cells(np.array([one, other]))
        return max(abs(columns[0] - columns[1]), abs(rows[0] - rows[1]))

    monkeypatch.setattr(trials, "answer", answered)
    case = chosen.cases[0]
    with Gallery.open(tmp_path / "gallery") as gallery:
        encoder = load_encoder(tmp_path / "model")
        (result,) = try_cases([case], gallery, encoder, Asked(90.0, True), lambda *_: None)
    assert result.trial.off_m == pytest.approx(12, abs=0.1)


def made(error_m, truth, *, nearby=0.5, in_gallery=0.5, covered=False, turn=None, rank=0):
    evidence = Evidence(np.array([0.5]), 0.2, np.array([0.1, 0.2]), 10, 90.0, 360.0)
    holds = 0.9 + covered / 20
    return Result(
        Trial(evidence, truth), error_m, error_m + 1, turn, in_gallery, nearby, covered, holds, rank
    )


def test_figures_by_hand():
    results = [
        made(2.0, 0, nearby=0.9, in_gallery=0.9, covered=True, turn=1.0),
        made(30.0, ELSEWHERE, nearby=0.1, in_gallery=0.6, turn=90.0, rank=None),
        made(4.0, 0, nearby=0.9, in_gallery=0.4, covered=True, turn=20.0, rank=7),
        made(1e5, None, nearby=0.1, in_gallery=0.5, rank=None),
    ]
    assert [result.found for result in results] == [True, False, True, False]
    figures = figures_of(results)
    assert figures["recall@1<25m"] == pytest.approx(2 / 3)
    assert figures["recall@1<50m"] == 1
    assert figures["median_error_m"] == 4.0
    assert figures["median_error_found_m"] == 3.0
    assert figures["median_grid_error_m"] == 5.0
    assert [figures[f"recall@{k}<25m"] for k in ("5", "10", "1%")] == pytest.approx([1 / 3, 2 / 3, 1 / 3])
    assert figures["recall@1%<25m_k"] == 1
    assert figures["intervals"]["recall@10<25m"] == [0, 1]
    assert figures["heading<5deg"] == 0.5
    assert figures["median_heading_error_deg"] == 10.5
    assert figures["calibration_error"] == pytest.approx(0.1)
    assert figures["coverage90"] == pytest.approx(2 / 3)
    assert figures["region90_holds"] == pytest.approx(2.8 / 3)
    assert figures["auroc_in_gallery"] == pytest.approx(2 / 3)


def test_recall_at_one_percent_wants_so_many_tiles_listed():
    crowd = made(2.0, 0)
    evidence = dataclasses.replace(crowd.trial.evidence, tiles=250)
    figures = figures_of([dataclasses.replace(crowd, trial=Trial(evidence, 0))])
    assert figures["recall@5<25m"] == 1 and "recall@1%<25m" not in figures
