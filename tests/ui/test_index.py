"""`geoloc index` as a user meets it: what it prints where, and how it exits."""

import json
import shutil

import numpy as np
import pytest
import torch
from on_disk import file_of
from rasterio.transform import from_origin
from tiny_imagery import LEFT, TOP, noise, write

from geoloc.encoder import TwinEncoder
from geoloc.model import save_encoder
from geoloc.spec import EncoderSpec
from indexing.gallery import Gallery
from ui.cli import main

SPEC = EncoderSpec(
    backbone="resnet10t",
    stage=2,
    shared=True,
    azimuth_bins=4,
    channels=8,
    street_hw=(32, 128),
    street_elevation_deg=(-45.0, 30.0),
    satellite_px=32,
    polar=True,
    footprint_m=32.0,
)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    torch.manual_seed(0)
    save_encoder(TwinEncoder(SPEC), folder / "model", "A model for tests.")
    write(folder / "ortho.tif", noise(120, 160))
    assert (
        geoloc("index", "build", folder / "ortho.tif", "--model", folder / "model", "--out", folder / "g")
        == 0
    )
    return folder


def geoloc(*words):
    try:
        main([str(word) for word in words])
    except SystemExit as end:
        return end.code or 0
    return 0


def test_build_says_what_it_made(world, tmp_path, capsys):
    code = geoloc(
        "index",
        "build",
        world / "ortho.tif",
        "--model",
        world / "model",
        "--out",
        tmp_path / "g",
        "--stride-m",
        16,
    )
    captured = capsys.readouterr()
    assert code == 0 and captured.out == "" and "tiles, 16 m apart, version" in captured.err
    with Gallery.open(tmp_path / "g") as gallery:
        assert len(gallery) > 20 and gallery.spec.weights_sha256


def test_info(world, capsys):
    assert geoloc("index", "info", world / "g", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    with Gallery.open(world / "g") as gallery:
        assert facts["tiles"] == len(gallery) and facts["dim"] == SPEC.dim
        assert facts["crs"] == ["EPSG:32632"] and facts["index"] == "Flat"
        assert facts["bounds_lonlat"] == list(gallery.bounds_lonlat)
        assert facts["version"] == gallery.manifest.version
        west, south, east, north = facts["bounds_lonlat"]
        assert west < gallery.tiles["lon"].min() < east and south < gallery.tiles["lat"].max() < north
    assert facts["stride_m"] == 4.0  # an eighth of 32 m
    assert geoloc("index", "info", world / "g") == 0
    assert "EPSG:32632" in capsys.readouterr().out


def test_verify(world, tmp_path, capsys):
    assert geoloc("index", "verify", world / "g") == 0
    assert "sound" in capsys.readouterr().out
    assert geoloc("index", "verify", world / "g", "--json") == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True
    shutil.copytree(world / "g", tmp_path / "g")
    path = file_of(tmp_path / "g", "embeddings.h5")
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert geoloc("index", "verify", tmp_path / "g", "--json") == 2
    captured = capsys.readouterr()
    assert json.loads(captured.out)["ok"] is False and captured.err.startswith("geoloc: ")
    assert "embeddings.h5 is damaged" in captured.err and captured.err.count("\n") == 1


def test_region(world, tmp_path, capsys):
    with Gallery.open(world / "g") as gallery:
        west, south, east, north = gallery.bounds_lonlat
        lon = gallery.tiles["lon"]
    middle = (west + east) / 2
    ring = [[west, south], [middle, south], [middle, north], [west, north], [west, south]]
    (tmp_path / "r.geojson").write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    build = ("index", "build", world / "ortho.tif", "--model", world / "model", "--out", tmp_path / "g")
    assert geoloc(*build, "--region", tmp_path / "r.geojson") == 0
    with Gallery.open(tmp_path / "g") as gallery:
        assert len(gallery) == (lon < middle).sum() and (gallery.tiles["lon"] < middle).all()


@pytest.mark.parametrize("factory", ["SQ8", "HNSW8", "IVF4,Flat"])
def test_index_factory(world, tmp_path, factory, capfd):
    build = ("index", "build", world / "ortho.tif", "--model", world / "model", "--out", tmp_path / "g")
    assert geoloc(*build, "--index", factory) == 0
    assert geoloc("index", "verify", tmp_path / "g") == 0
    with Gallery.open(tmp_path / "g") as gallery:
        assert gallery.manifest.index == factory
        assert (gallery.search(np.ones((1, SPEC.dim), np.float32), 3).ids >= 0).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"imagery": "missing.tif"}, "no file or folder"),
        ({"imagery": "model"}, "holds no"),
        ({"imagery": "text.tif"}, "not a GeoTIFF"),
        ({"model": "nowhere"}, "no model"),
        ({"--index": "IVFfoo"}, "FAISS factory"),
        ({"--stride-m": "0"}, "makes no sense"),
        ({"--region": "text.tif"}, "no GeoJSON"),
    ],
)
def test_refusals_are_one_line_and_exit_2(world, tmp_path, capfd, change, said):
    (world / "text.tif").write_text("hello")
    words = {"imagery": "ortho.tif", "model": "model"} | change
    options = [
        (name, world / value if name == "--region" else value)
        for name, value in change.items()
        if "--" in name
    ]
    code = geoloc(
        "index",
        "build",
        world / words["imagery"],
        "--model",
        world / words["model"],
        "--out",
        tmp_path / "g",
        *(word for option in options for word in option),
    )
    lines = [line for line in capfd.readouterr().err.splitlines() if line.strip()]
    assert code == 2 and len(lines) == 1 and said in lines[0] and lines[0].startswith("geoloc: ")
    assert not (tmp_path / "g").exists()


def test_a_gallerys_own_files_are_no_place_to_export_to(world, capsys):
    before = (world / "g" / "CURRENT").read_text()
    assert geoloc("index", "export", world / "g", world / "g" / "CURRENT", "--to", "parquet") == 2
    assert "choose another OUT" in capsys.readouterr().err
    assert (world / "g" / "CURRENT").read_text() == before


def test_no_gallery(tmp_path, capsys):
    for command in ("info", "verify"):
        assert geoloc("index", command, tmp_path) == 2
        assert "is no gallery" in capsys.readouterr().err


def test_plan_says_what_a_build_costs_and_writes_nothing(world, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ("index", "plan", world / "ortho.tif", "--model", world / "model", "--stride-m", 8)
    assert geoloc(*words, "--json") == 0
    cost = json.loads(capsys.readouterr().out)
    assert cost["tiles"] > 100 and cost["index"] == "Flat" and cost["stride_m"] == 8
    assert cost["per_km2"]["tiles"] == pytest.approx(1e6 / 64)
    assert cost["hours"] > 0 and cost["disk_bytes"] > 0 and cost["memory_bytes"] > cost["disk_bytes"]
    assert geoloc(*words, "--index", "SQ8") == 0
    said = capsys.readouterr()
    assert "SQ8" in said.out and "per km2" in said.out and "measured on" in said.out and said.err == ""
    assert list(tmp_path.iterdir()) == []
    assert geoloc(*words, "--index", "IVFfoo") == 2 and "FAISS factory" in capsys.readouterr().err


def test_build_takes_addresses_and_hosts(world, tmp_path, capfd):
    words = ("--model", world / "model", "--out", tmp_path / "g", "--stride-m", 16)
    item = {
        "id": "a",
        "type": "Feature",
        "assets": {"visual": {"type": "image/tiff", "href": "https://far.invalid/a"}},
    }
    (tmp_path / "items.json").write_text(json.dumps(item))
    for source, said in (
        (tmp_path / "items.json", "--allow-host far.invalid"),
        ("http://127.0.0.1:9/a.tif", "could not be read"),
        ("https://me:secret@far.invalid/a.tif", "holds a password"),
        (f"xyz:{tmp_path}", "holds no tiles"),
    ):
        assert geoloc("index", "build", source, *words) == 2
        lines = [line for line in capfd.readouterr().err.splitlines() if line.strip()]
        assert len(lines) == 1 and said in lines[0] and "secret" not in lines[0]
    assert not (tmp_path / "g").exists()
    assert geoloc("index", "build", world / "ortho.tif", *words, "--overlap", "newest") == 0
    assert "by the file's own date" in capfd.readouterr().err
    assert geoloc("index", "build", world / "ortho.tif", *words, "--overlap", "oldest") == 2


def test_a_gallery_grows_shrinks_and_is_cleared(world, tmp_path, capsys):
    shutil.copytree(world / "g", tmp_path / "g")
    write(tmp_path / "east.tif", noise(120, 100), transform=from_origin(LEFT + 160, TOP, 1, 1))
    with Gallery.open(tmp_path / "g") as gallery:
        west, south, east, north = gallery.bounds_lonlat
        tiles = len(gallery)
    middle = (west + east) / 2
    ring = [[west, south], [middle, south], [middle, north], [west, north], [west, south]]
    (tmp_path / "r.geojson").write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    for words in (
        ("add", tmp_path / "g", tmp_path / "east.tif"),
        ("replace", tmp_path / "g", world / "ortho.tif"),
        ("remove", tmp_path / "g", "--region", tmp_path / "r.geojson"),
        ("compact", tmp_path / "g"),
    ):
        assert geoloc("index", *words) == 0
        captured = capsys.readouterr()
        assert captured.out == "" and "tiles, 4 m apart, version" in captured.err
    assert geoloc("index", "info", tmp_path / "g", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert len(facts["segments"]) == 1 and facts["removed"] == 0 and len(facts["versions"]) >= 5
    assert 0 < facts["tiles"] != tiles and len(facts["sources"]) == 2
    assert geoloc("index", "gc", tmp_path / "g", "--json") == 0
    cleared = json.loads(capsys.readouterr().out)
    assert len(cleared["deleted"]) == len(facts["versions"]) - 1 and cleared["bytes"] > 0
    assert geoloc("index", "gc", tmp_path / "g") == 0
    assert "0 old versions deleted" in capsys.readouterr().out
    assert geoloc("index", "verify", tmp_path / "g") == 0


def test_what_cannot_be_changed_is_one_line_and_exit_2(world, tmp_path, capfd):
    (tmp_path / "all.geojson").write_text(
        json.dumps({"type": "Polygon", "coordinates": [[[8, 47], [10, 47], [10, 49], [8, 49], [8, 47]]]})
    )
    for words, said in (
        (("add", tmp_path, world / "ortho.tif"), "is no gallery"),
        (("add", world / "g", tmp_path / "missing.tif"), "no file or folder"),
        (("remove", world / "g", "--region", tmp_path / "all.geojson"), "every tile of the gallery"),
        (("compact", tmp_path), "is no gallery"),
        (("gc", tmp_path), "is no gallery"),
    ):
        assert geoloc("index", *words) == 2
        lines = [line for line in capfd.readouterr().err.splitlines() if line.strip()]
        assert len(lines) == 1 and said in lines[0] and lines[0].startswith("geoloc: ")
