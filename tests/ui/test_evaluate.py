"""`geoloc evaluate` and `geoloc calibrate`, run as a user runs them, on two small towns."""

import json
import math
import shutil

import pandas
import pytest
import torch

from geoloc.encoder import TwinEncoder
from geoloc.model import save_encoder
from geoloc.posterior import Calibration, read_calibration
from geoloc.score import Asked
from preprocessing.towns.synth import SynthConfig, synthesize
from preprocessing.towns.town import TownConfig
from ui.cli import main
from ui.evaluate import score_table, title

NONE = (0.0, 0.0, 0.0, 0.0)


def run(*words):
    with pytest.raises(SystemExit) as stop:
        main(words)
    return stop.value.code


@pytest.fixture(scope="module")
def towns(tmp_path_factory):
    town = TownConfig(pairs=12, side_m=200.0, footprint_m=48.0, panorama_wh=(128, 32))
    return synthesize(SynthConfig(2, 60, town), tmp_path_factory.mktemp("two") / "towns")


@pytest.fixture
def model(tiny_spec, tmp_path):
    torch.manual_seed(0)
    save_encoder(TwinEncoder(tiny_spec), tmp_path / "model", "untrained", frozenset({7}))
    return tmp_path / "model"


def test_several_fields_of_view_at_once(towns, model, capsys):
    words = ["evaluate", "--data", f"towns:{towns}", "--model", str(model), "--unknown-heading", "--json"]
    assert run(*words, "--hfov-deg", "360,90") in (0, None)
    found = json.loads(capsys.readouterr().out)
    assert [result["hfov_deg"] for result in found["results"]] == [360, 90]
    assert found["n"] == found["gallery"] == 24
    assert found["recall@1"] == found["results"][0]["recall@1"]
    assert {"recall@1%", "median_rank", "recall@1<25m", "median_heading_error_deg"} <= set(found)
    assert "calibration_error" not in found
    assert run(*words, "--hfov-deg", "90") in (0, None)
    alone = json.loads(capsys.readouterr().out)
    assert alone["recall@10"] == found["results"][1]["recall@10"]


def test_a_calibrated_model_is_scored_for_certainty(towns, model, capsys):
    weights = Calibration(
        (3.0, 0.0, 0.0, 0.0), NONE, ((-3.0, 0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0), NONE, NONE)
    )
    (model / "calibration.json").write_text(weights.to_json())
    words = ("evaluate", "--data", f"towns:{towns}", "--model", str(model), "--report", str(model / "report"))
    assert run(*words, "--json") in (0, None)
    found = json.loads(capsys.readouterr().out)
    assert 0 <= found["calibration_error"] <= 1 and 0 <= found["coverage90"] <= 1
    (points,) = found["reliability"]
    assert sum(n for n, _, _ in points) == found["n"] == 24
    assert (model / "report/reliability.png").is_file()


def test_calibrate_then_report_on_the_map(towns, model, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("ui.calibrate.ASKED", [Asked(360.0, True), Asked(90.0, False)])
    words = ("--data", f"towns:{towns}", "--model", str(model), "--stride-m", "16", "--queries", "10")
    assert run("calibrate", "--split", "all", "--data", f"towns:{towns}", *words) in (0, None)
    fitted = read_calibration(model)
    assert fitted is not None and fitted.fitted_on.count("[60, 61]") == 2
    assert all(map(math.isfinite, (*fitted.standard, *fitted.cosine, *fitted.inside[0])))
    capsys.readouterr()
    asked = ("--unknown-heading", "--hfov-deg", "360,90", "--report", str(tmp_path / "r"))
    assert run("evaluate", "--map", *words, *asked, "--json") in (0, None)
    found = json.loads(capsys.readouterr().out)
    plots = {"error_curve.png", "error_map.png", "heading_errors.png", "reliability.png"}
    assert {path.name for path in (tmp_path / "r").iterdir()} == plots | {"result.json", "index.html"}
    kept = json.loads((tmp_path / "r/result.json").read_text())
    for errors_m, result in zip(kept["errors_m"], kept["results"], strict=True):
        assert len(errors_m) == len(kept["queries"]) == 10
        assert sum(metres < 25 for metres in errors_m) / 10 == pytest.approx(result["recall@1<25m"])
    far = sum(metres >= 25 for metres in kept["errors_m"][1])
    page = (tmp_path / "r/index.html").read_text()
    assert page.count('<div class="sheet">') >= min(far, 1) and "10 queries and 10 from outside" in page
    assert run("compare", str(tmp_path / "r"), str(tmp_path / "r"), "--json") in (0, None)
    judged = json.loads(capsys.readouterr().out)["against_first"][0]
    assert [set(way) for way in judged] == [{"recall@1<25m", "recall@1<50m"}] * 2
    assert found["n"] == found["outside"] == 10
    for result in found["results"]:
        assert {"recall@1<50m", "median_error_m", "auroc_in_gallery", "coverage90"} <= set(result)
    assert len(found["reliability"]) == 2


@pytest.mark.parametrize("widths", ["", "0", "90,", "wide", "361", "nan"])
def test_fields_of_view_that_are_none(towns, model, widths, capsys):
    words = ("evaluate", "--data", f"towns:{towns}", "--model", str(model), "--hfov-deg", widths)
    assert run(*words) == 2
    assert "--hfov-deg" in capsys.readouterr().err


def test_calibrate_refuses_what_it_cannot_use(towns, model, tiny_spec, tmp_path, capsys):
    assert run("calibrate", "--data", "cvusa:x", "--model", str(model)) == 2
    assert "towns:PATH" in capsys.readouterr().err
    save_encoder(TwinEncoder(tiny_spec), tmp_path / "seen", "knows it", frozenset({61}))
    words = ("--data", f"towns:{towns}", "--split", "all", "--model", str(tmp_path / "seen"))
    assert run("calibrate", *words) == 2
    assert "trained on the towns [61]" in capsys.readouterr().err
    assert not (tmp_path / "seen" / "calibration.json").exists()


def test_the_table_has_a_column_for_each_field_of_view():
    common = {"n": 10, "gallery": 20, "unknown_heading": True, "recall@1%_k": 1}
    results = [
        {**common, "hfov_deg": width, "recall@1": share, "recall@1%": share, "median_error_m": 3.25}
        for width, share in ((360.0, 0.5), (90.0, 0.25))
    ]
    table = score_table(results)
    assert [str(column.header) for column in table.columns] == ["figure", "360°", "90°"]
    cells = [list(column.cells) for column in table.columns]
    assert cells[1] == ["50.00%", "50.00%", "3.2"] and cells[2][0] == "25.00%"


def test_the_table_has_a_row_for_what_any_width_has():
    table = score_table([{"hfov_deg": 360.0, "a": 1.0}, {"hfov_deg": 90.0, "a": 1.0, "b": 2.0}])
    assert [list(column.cells) for column in table.columns] == [
        ["a", "b"],
        ["1.000", "-"],
        ["1.000", "2.000"],
    ]


def test_the_table_shows_intervals():
    result = {"n": 10, "gallery": 20, "unknown_heading": False, "hfov_deg": 360.0, "recall@1": 0.5}
    result["intervals"] = {"recall@1": [0.2, 0.8]}
    table = score_table([result])
    assert list(table.columns[1].cells) == ["50.00% [20.0, 80.0]"]
    said = title({"data": "towns:x", "split": "all", **result})
    assert said == "N = 10 queries, 20 tiles (towns:x, all), heading known"


def test_every_figure_says_how_it_was_made(towns, model, capsys):
    words = ["evaluate", "--data", f"towns:{towns}", "--model", str(model), "--json"]
    assert run(*words, "--dtype", "float32") in (0, None)
    found = json.loads(capsys.readouterr().out)
    assert (found["listed_pairs"], found["missing_pairs"], found["n"]) == (24, 0, 24)
    assert found["audit"] == {"missing": 0, "unreadable": 0, "size": 0, "duplicate": 0}
    assert found["protocol"]["ties"] == "against" and found["precision"] == "float32"
    low, high = found["intervals"]["recall@10"]
    assert low <= found["recall@10"] <= high
    assert found["throughput"]["images"] == 48
    assert run(*words, "--ties", "optimistic") in (0, None)
    kinder = json.loads(capsys.readouterr().out)
    assert kinder["protocol"]["ties"] == "optimistic"
    assert kinder["median_rank"] <= found["median_rank"]


def test_the_audit_is_fatal_unless_allowed(towns, model, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    copy = shutil.copytree(towns, tmp_path / "towns")
    first, second = sorted((copy / "streetview").rglob("*.jpg"))[:2]
    first.write_bytes(b"no image")
    words = ["evaluate", "--data", f"towns:{copy}", "--model", str(model), "--json"]
    assert run(*words) == 2
    assert "1 image is unreadable" in capsys.readouterr().err
    assert "geoloc-audit.csv" in [path.name for path in tmp_path.iterdir()]
    assert f"unreadable,{first}" in (tmp_path / "geoloc-audit.csv").read_text()
    second.unlink()
    assert run(*words, "--allow", "unreadable", "--audit", "here.csv") == 2
    assert "1 of 24 pairs are missing" in capsys.readouterr().err
    assert run(*words, "--allow", "all", "--audit", "here.csv") in (0, None)
    found = json.loads(capsys.readouterr().out)
    assert (found["n"], found["missing_pairs"]) == (22, 2)
    assert f"missing,{second}" in (tmp_path / "here.csv").read_text()
    assert run(*words, "--allow", "everything") == 2
    assert "--allow" in capsys.readouterr().err


def test_a_tables_photos_are_asked_of_an_orthophoto(towns, model, capsys, tmp_path):
    views = pandas.read_parquet(towns / "street_views.parquet").head(6)
    views = views.assign(street=[str(towns / name) for name in views["street"]])
    views[["street", "lon", "lat", "heading_deg"]].to_csv(tmp_path / "photos.csv", index=False)
    words = ["evaluate", "--map", "--data", f"table:{tmp_path / 'photos.csv'}", "--model", str(model)]
    orthos = ("--imagery", str(towns / views["ortho"].iloc[0]), "--stride-m", "16")
    assert run(*words, *orthos, "--hfov-deg", "360,90", "--json") in (0, None)
    found = json.loads(capsys.readouterr().out)
    assert (found["n"], found["outside"]) == (6, 0)
    assert found["protocol"]["setting"] == "map" and len(found["protocol"]["dataset_sha256"]) == 64
    assert {"recall@1<25m", "median_error_m"} <= set(found) and "auroc_in_gallery" not in found
    assert run(*words, *orthos[:2], "--stride-m", "90", "--json") in (0, None)
    assert json.loads(capsys.readouterr().out)["outside"] <= 1, "wide apart the tiles are of the same ground"
    (tmp_path / "file").touch()
    assert run(*words, *orthos, "--report", str(tmp_path / "file" / "report")) == 2
    assert "cannot be written" in (told := capsys.readouterr().err) and "mbedding" not in told
    assert run(*words) == 2
    assert "--imagery" in capsys.readouterr().err
    views.assign(lon=views["lon"] + 90)[["street", "lon", "lat", "heading_deg"]].to_csv(
        tmp_path / "photos.csv"
    )
    assert run(*words, *orthos) == 2
    assert "Not one street view was taken on the imagery" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["--map", "--ties", "optimistic"], "--ties has no say with --map"),
        (["--map", "--allow-missing"], "--allow-missing has no say with --map"),
        (["--queries", "20"], "--queries goes with --map alone"),
        (["--stride-m", "16"], "--stride-m goes with --map alone"),
    ],
)
def test_an_option_without_a_say_is_refused(towns, model, capsys, words, option):
    assert run("evaluate", "--data", f"towns:{towns}", "--model", str(model), *words) == 2
    assert option in capsys.readouterr().err


def test_a_table_takes_no_number_of_queries(model, capsys, tmp_path):
    words = ["--map", "--data", f"table:{tmp_path / 'photos.csv'}", "--imagery", "ortho.tif"]
    assert run("evaluate", "--model", str(model), *words, "--queries", "5") == 2
    assert "--queries has no say where a table's photos are asked" in capsys.readouterr().err
