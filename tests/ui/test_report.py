"""The report of an evaluation and `geoloc compare`, as a user runs them."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import sync_playwright

from geoloc.encoder import TwinEncoder
from geoloc.model import save_encoder
from preprocessing.towns.synth import SynthConfig, synthesize
from preprocessing.towns.town import TownConfig
from ui.cli import main

CHROMIUM = Path("/usr/bin/chromium")


def run(*words):
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    return stop.value.code


@pytest.fixture(scope="module")
def towns(tmp_path_factory):
    town = TownConfig(pairs=12, side_m=200.0, footprint_m=48.0, panorama_wh=(128, 32))
    return synthesize(SynthConfig(2, 60, town), tmp_path_factory.mktemp("two") / "towns")


def make_model(spec, folder, seed):
    torch.manual_seed(seed)
    save_encoder(TwinEncoder(spec), folder, "untrained")
    return folder


@pytest.fixture
def reports(towns, tiny_spec, tmp_path):
    """Two models, each asked the same."""
    for seed, name in enumerate(("one", "two")):
        model = make_model(tiny_spec, tmp_path / f"model-{name}", seed)
        words = ("--hfov-deg", "360,90", "--unknown-heading", "--dtype", "float32")
        data = ("evaluate", "--data", f"towns:{towns}", "--model", model)
        assert run(*data, *words, "--report", tmp_path / name) in (0, None)
    return tmp_path


def test_what_a_report_holds(reports):
    folder = reports / "one"
    names = {"audit.csv", "result.json", "index.html", "recall_curve.png", "error_curve.png", "error_map.png"}
    assert {path.name for path in folder.iterdir()} == names | {"heading_errors.png"}
    for path in folder.glob("*.png"):
        with Image.open(path) as image:
            assert image.format == "PNG" and np.asarray(image.convert("L")).std() > 5
    found = json.loads((folder / "result.json").read_text())
    assert len(found["queries"]) == found["n"] == 24
    assert [np.mean(np.array(ranks) < 1) for ranks in found["ranks"]] == [
        pytest.approx(one["recall@1"]) for one in found["results"]
    ]
    assert all(name.startswith("streetview/") for name in found["queries"])
    page = (folder / "index.html").read_text()
    assert not re.search(r"https?://|<script", page)
    assert page.count('<div class="sheet">') == 12
    assert "ranked 24 of 24" in page or "ranked 23 of 24" in page
    assert found["protocol"]["dataset_sha256"] in page


@pytest.mark.skipif(not CHROMIUM.exists(), reason="no Chromium here to open the page with")
def test_the_page_opens_in_a_browser(reports):
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--headless", "--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.goto((reports / "one/index.html").as_uri())
        widths = page.eval_on_selector_all("img", "images => images.map(image => image.naturalWidth)")
        assert len(widths) == 4 + 12 * 5 and min(widths) > 0
        for width in (1200, 390):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        browser.close()


def test_names_are_shown_as_text(tiny_spec, tmp_path):
    hostile = tmp_path / "<b>&<img src=x>.png"
    rng = np.random.default_rng(0)
    for name, wh in (
        ("t.png", (64, 64)),
        (hostile.name, (128, 32)),
        ("u.png", (64, 64)),
        ("v.png", (128, 32)),
    ):
        pixels = rng.integers(0, 256, (wh[1], wh[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    (tmp_path / "t.csv").write_text(f"photo,tile,heading\n{hostile.name},t.png,0\nv.png,u.png,0\n")
    model = make_model(tiny_spec, tmp_path / "model", 0)
    words = ("evaluate", "--data", f"table:{tmp_path / 't.csv'}", "--model", model)
    assert run(*words, "--report", tmp_path / "r") in (0, None)
    page = (tmp_path / "r/index.html").read_text()
    assert "<b>&<img" not in page
    assert not (tmp_path / "r/error_map.png").exists() and not (tmp_path / "r/heading_errors.png").exists()


def test_compare_two_models(reports, capsys):
    capsys.readouterr()
    assert run("compare", reports / "one", reports / "two/result.json", "--json") in (0, None)
    found = json.loads(capsys.readouterr().out)
    one, two = (json.loads((reports / name / "result.json").read_text()) for name in ("one", "two"))
    for way in (0, 1):
        assert {"recall@1%", "recall@1<25m"} <= set(found["against_first"][0][way])
        test = found["against_first"][0][way]["recall@5"]
        gain = two["results"][way]["recall@5"] - one["results"][way]["recall@5"]
        assert test["difference"] == pytest.approx(gain)
        assert (test["only_second"] - test["only_first"]) / 24 == pytest.approx(gain)
        assert 0 <= test["p"] <= 1
    assert run("compare", reports / "one", reports / "one") in (0, None)
    said = capsys.readouterr().out
    assert "90°, heading unknown, N = 24" in said and "+0.0% [+0.0%, +0.0%] p = 1" in said


def test_another_contest_is_refused(reports, towns, capsys, tmp_path):
    def changed(**change):
        raw = json.loads((reports / "two/result.json").read_text())
        (tmp_path / "other.json").write_text(json.dumps(raw | change))
        return run("compare", reports / "one", tmp_path / "other.json")

    raw = json.loads((reports / "two/result.json").read_text())
    assert changed(protocol=raw["protocol"] | {"ties": "optimistic"}) == 2
    assert "ties is 'optimistic', not 'against'" in capsys.readouterr().err
    assert changed(queries=raw["queries"][::-1]) == 2
    assert "other queries" in capsys.readouterr().err
    assert changed(results=[one | {"hfov_deg": 70.0} for one in raw["results"]]) == 2
    assert "in other ways" in capsys.readouterr().err
    assert run("compare", reports / "one") == 2
    assert changed(results=[one | {"hfov_deg": "90"} for one in raw["results"]]) == 2
    assert changed(errors_m=[[float("nan")] * 24] * 2) == 2
    assert changed(errors_m=[[10**400] * 24] * 2) == 2
    assert changed(results=[one | {"hfov_deg": 10**400} for one in raw["results"]]) == 2
    assert changed(model="[/red] of [bold]them") in (0, None)
    assert "[/red] of [bold]them" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "null", "[" * 100_000, '{"schema": 1, "results": [], "queries": [], "ranks": []}'],
)
def test_no_result(tmp_path, text, capsys):
    (tmp_path / "r.json").write_text(text)
    assert run("compare", tmp_path / "r.json", tmp_path / "r.json") == 2
    assert "r.json is no result" in capsys.readouterr().err
    assert run("compare", tmp_path / "gone.json", tmp_path / "r.json") == 2
    assert run("compare", "/dev/zero", "/dev/zero") == 2
