"""`geoloc evaluate` on a handful of generated images in every dataset's official layout and sizes."""

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from geoloc.encoder import TwinEncoder
from geoloc.model import save_encoder
from ui.cli import main

N = 6


@pytest.fixture
def model(tiny_spec, tmp_path):
    torch.manual_seed(0)
    save_encoder(TwinEncoder(tiny_spec), tmp_path / "model", "untrained")
    return tmp_path / "model"


def picture(path: Path, wh: tuple[int, int], seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 8, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize(wh).save(path, quality=60)


def evaluate(capsys, model, *words):
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", "--model", str(model), "--json", *words])
    said = capsys.readouterr()
    assert stop.value.code in (0, None), said.err
    return json.loads(said.out)


def cvusa(root: Path) -> None:
    (root / "splits").mkdir()
    lines = []
    for number in range(N):
        names = f"bingmap/19/{number:07d}.jpg", f"streetview/panos/{number:07d}.jpg"
        picture(root / names[0], (750, 750), number)
        picture(root / names[1], (1232, 224), 100 + number)
        lines.append(f"{names[0]},{names[1]},streetview/annotations/{number:07d}.png\n")
    for split in ("train", "val"):
        (root / f"splits/{split}-19zl.csv").write_text("".join(lines))


def cvact(root: Path) -> None:
    ids = [f"pano{number:02d}" for number in range(N)]
    utm = np.stack([693_000.0 + 4 * np.arange(N), np.full(N, 6_090_000.0)], axis=1)
    every = np.arange(1, N + 1)[:, None]
    sets = {"trainSet": {"trainInd": every}, "valSet": {"valInd": every}, "valSetAll": {"valInd": every}}
    savemat(root / "ACT_data.mat", {"panoIds": np.array(ids), "utm": utm, **sets})
    for folder in ("ANU_data_small", "ANU_data_test"):
        for seed, name in enumerate(ids):
            picture(root / folder / f"streetview/{name}_grdView.jpg", (1664, 832), seed)
            picture(root / folder / f"satview_polish/{name}_satView_polish.jpg", (1200, 1200), 50 + seed)


def vigor(root: Path) -> None:
    for city, name in enumerate(("Chicago", "NewYork", "SanFrancisco", "Seattle")):
        lists = root / "splits" / name
        lists.mkdir(parents=True)
        tiles = [f"satellite_{40 + city + n / 1000}_-90.0.png" for n in range(N)]
        panoramas = [f"p{n},{40 + city + n / 1000:.6f},-90.000000,.jpg" for n in range(N - 1)]
        for n, tile in enumerate(tiles):
            picture(root / name / "satellite" / tile, (640, 640), 10 * city + n)
        lines = []
        for n, panorama in enumerate(panoramas):
            picture(root / name / "panorama" / panorama, (2048, 1024), 100 + 10 * city + n)
            near = [tiles[(n + k) % N] for k in range(4)]
            lines.append(" ".join([panorama, *(f"{tile} 0.0 0.0" for tile in near)]) + "\n")
        (lists / "satellite_list.txt").write_text("\n".join(tiles))
        for listing in ("same_area_balanced_test", "same_area_balanced_train", "pano_label_balanced"):
            (lists / f"{listing}__corrected.txt").write_text("".join(lines))
            (lists / f"{listing}.txt").write_text("".join(lines[:2]))


def university1652(root: Path) -> None:
    for number in range(N):
        where = f"{number:04d}"
        picture(root / f"test/gallery_satellite/{where}/{where}.jpg", (512, 512), number)
        for shot in range(3):
            seed = 100 + 10 * number + shot
            picture(root / f"test/gallery_drone/{where}/image-{shot}.jpeg", (512, 512), seed)
            if number < 4:
                picture(root / f"test/query_drone/{where}/image-{shot}.jpeg", (512, 512), seed)
        if number < 4:
            picture(root / f"test/query_satellite/{where}/{where}.jpg", (512, 512), number)
            picture(root / f"test/query_street/{where}/1.jpg", (700, 500), 300 + number)


@pytest.mark.parametrize("split", ["train", "val"])
def test_cvusa(tmp_path, model, capsys, split):
    cvusa(tmp_path)
    found = evaluate(capsys, model, "--data", f"cvusa:{tmp_path}", "--split", split)
    assert (found["n"], found["gallery"], found["split"]) == (N, N, split)
    assert "median_error_m" not in found and "hit_rate" not in found


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_cvact_prints_both_protocols(tmp_path, model, capsys, split):
    cvact(tmp_path)
    found = evaluate(capsys, model, "--data", f"cvact:{tmp_path}", "--split", split)
    assert found["n"] == found["gallery"] == N
    assert found["protocol"]["lenient"] == "<5m"
    assert found["recall@1<5m"] >= found["recall@1"]
    assert set(found["intervals"]) >= {"recall@1", "recall@1<5m", "recall@1%<5m", "recall@1<25m"}
    assert found["median_error_m"] < 4 * N


@pytest.mark.parametrize(
    ("split", "n", "gallery"), [("same-test", 20, 24), ("cross-test", 10, 12), ("cross-train", 10, 10)]
)
def test_vigor(tmp_path, model, capsys, split, n, gallery):
    vigor(tmp_path)
    words = ["--data", f"vigor:{tmp_path}", "--split", split]
    found = evaluate(capsys, model, *words)
    assert (found["n"], found["gallery"]) == (n, gallery)
    assert found["recall@1"] <= found["hit_rate"] <= 1
    assert found["median_error_m"] >= 0
    original = evaluate(capsys, model, *words, "--labels", "original")
    assert original["protocol"]["labels"] == "original" != found["protocol"]["labels"]
    assert original["n"] == n * 2 // 5


@pytest.mark.parametrize(
    ("split", "n", "gallery"),
    [("drone-satellite", 12, 6), ("satellite-drone", 4, 18), ("street-satellite", 4, 6)],
)
def test_university_1652(tmp_path, model, capsys, split, n, gallery):
    university1652(tmp_path)
    words = ["--data", f"university1652:{tmp_path}", "--split", split, "--report", str(tmp_path / "report")]
    found = evaluate(capsys, model, *words)
    assert (found["n"], found["gallery"]) == (n, gallery)
    kept = json.loads((tmp_path / "report/result.json").read_text())
    assert len(kept["ranks"][0]) == n and kept["mAP"] == found["mAP"]
    assert "Worst failures" in (tmp_path / "report/index.html").read_text()
    assert 0 < found["mAP"] <= 1
    low, high = found["intervals"]["mAP"]
    assert low <= found["mAP"] <= high


def test_a_table_with_headings_and_without(tmp_path, model, capsys):
    for number in range(4):
        picture(tmp_path / f"s{number}.jpg", (256, 64), number)
        picture(tmp_path / f"t{number}.png", (64, 64), 9 + number)
    rows = [f"s{n}.jpg,t{n}.png,{n}.5,50,{n}.5,50" for n in range(4)]
    (tmp_path / "t.csv").write_text("\n".join(["photo,tile,lon,lat,tile_lon,tile_lat", *rows]))
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", "--model", str(model), "--data", f"table:{tmp_path / 't.csv'}"])
    assert stop.value.code == 2
    assert "4 street views have no heading" in capsys.readouterr().err
    found = evaluate(capsys, model, "--data", f"table:{tmp_path / 't.csv'}", "--unknown-heading")
    assert found["n"] == 4 and "median_heading_error_deg" not in found
    (tmp_path / "t.csv").write_text(
        "\n".join(["photo,tile,heading,lat", *(f"s{n}.jpg,t{n}.png,{n},50" for n in range(4))])
    )
    assert evaluate(capsys, model, "--data", f"table:{tmp_path / 't.csv'}")["n"] == 4


def test_photos_narrower_than_asked_are_counted(tmp_path, model, capsys):
    for number in range(3):
        picture(tmp_path / f"s{number}.jpg", (256, 192), number)
        picture(tmp_path / f"t{number}.png", (64, 64), 9 + number)
    rows = [f"s{n}.jpg,t{n}.png,{n},{hfov}" for n, hfov in enumerate((60, 100, 60))]
    (tmp_path / "t.csv").write_text("\n".join(["photo,tile,heading,hfov_deg", *rows]))
    words = ["evaluate", "--model", str(model), "--data", f"table:{tmp_path / 't.csv'}", "--json"]
    with contextlib.suppress(SystemExit):
        main([*words, "--hfov-deg", "90,360"])
    said = capsys.readouterr()
    assert json.loads(said.out)["n"] == 3
    assert said.err.count("2 of 3 street views are narrower than 90 degrees") == 1
    assert "360 degrees: they" not in said.err
