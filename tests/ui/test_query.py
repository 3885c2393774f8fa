import contextlib
import io
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_world import World

from geoloc.errors import ImageError, ImageryError
from geoloc.street_view import StreetView, read_street_view
from indexing.answer import SWEPT_HFOV_DEG, answer, open_gallery
from preprocessing.remote import allowed_hosts
from ui.cli import main


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as done:
        main(["query", *map(str, words)])
    out, err = capsys.readouterr()
    return int(done.value.code or 0), out, err


def test_a_photo_is_answered(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(
        capsys, world.panorama, world.photo, "--gallery", world.gallery, "-k", 3, "--format", "json"
    )
    assert code == 0
    queries = json.loads(out)["queries"]
    assert [len(query["hits"]) for query in queries] == [3, 3]
    assert {hit["source"] for query in queries for hit in query["hits"]} == {str(world.ortho.resolve())}


@pytest.mark.parametrize(
    ("format", "begins"), [("table", ""), ("json", "{"), ("geojson", "{"), ("csv", "photo,rank")]
)
def test_every_format_writes_to_standard_output(
    world: World, capsys: pytest.CaptureFixture[str], format: str, begins: str
) -> None:
    code, out, _ = run(capsys, world.panorama, "--gallery", world.gallery, "--format", format)
    assert code == 0
    assert out.startswith(begins)
    assert "panorama-01.jpg" in out


def test_a_broken_photo_is_one_line_and_the_others_are_answered(
    world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(world.panorama.read_bytes()[:700])
    code, out, err = run(capsys, broken, world.panorama, "--gallery", world.gallery, "--format", "json")
    assert code == 2
    answered = json.loads(out)
    assert [query["photo"] for query in answered["queries"]] == [str(world.panorama)]
    assert [one["photo"] for one in answered["failed"]] == [str(broken)]
    assert answered["failed"][0]["error"] in err.replace("\\n", "\n")
    assert next(line for line in err.splitlines() if line.strip()).startswith(f"geoloc: {broken}")
    assert "Traceback" not in err


def test_all_photos_broken_is_json_without_answers(
    world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    gone = tmp_path / "gone.jpg"
    code, out, _ = run(capsys, gone, "--gallery", world.gallery, "--format", "json")
    assert code == 2
    said = json.loads(out)
    assert said["queries"] == [] and said["failed"][0]["photo"] == str(gone)


def test_a_sky_among_photos_does_not_keep_the_others(
    world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    gpano = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description xmlns:GPano="http://ns.google.com/photos/1.0/panorama/" '
        b'GPano:ProjectionType="equirectangular" GPano:FullPanoWidthPixels="720" '
        b'GPano:FullPanoHeightPixels="360" GPano:CroppedAreaImageWidthPixels="720" '
        b'GPano:CroppedAreaImageHeightPixels="64" GPano:CroppedAreaLeftPixels="0" '
        b'GPano:CroppedAreaTopPixels="0"/></rdf:RDF></x:xmpmeta>'
    )
    sky = tmp_path / "sky.jpg"
    Image.new("RGB", (720, 64), (120, 160, 220)).save(sky, xmp=gpano)
    code, out, err = run(capsys, sky, world.panorama, "--gallery", world.gallery, "--format", "csv")
    assert code == 2 and "shows nothing between" in err
    assert {line.split(",")[0] for line in out.splitlines()[1:]} == {str(world.panorama)}


def test_a_view_of_nothing_but_sky_is_refused(world: World) -> None:
    sky = StreetView(np.full((64, 720, 3), 200, np.uint8), "sky.png", None, 0.0, 360.0, True, 74.0)
    gallery, encoder = open_gallery(world.gallery)
    with gallery, pytest.raises(ImageError, match="shows nothing between"):
        answer(sky, gallery, encoder, k=1)


def test_nothing_is_written_where_nothing_was_found(
    world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    broken = tmp_path / "two\nlines.jpg"
    broken.write_bytes(b"no image")
    code, out, err = run(capsys, broken, "--gallery", world.gallery, "--format", "csv")
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("format", ["table", "json", "geojson", "csv"])
def test_a_name_that_is_no_text(world: World, tmp_path: Path, format: str) -> None:
    """Standard output as a program has it: UTF-8, and strict."""
    odd = tmp_path / os.fsdecode(b"\xff.jpg")
    odd.write_bytes(world.panorama.read_bytes())
    out = io.TextIOWrapper(io.BytesIO(), "utf-8")
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit) as done:
        main(["query", str(odd), "--gallery", str(world.gallery), "--format", format])
    out.flush()
    text = out.buffer.getvalue().decode()  # type: ignore[attr-defined]
    assert not done.value.code
    assert r"\udcff.jpg" in text.replace("\n", "")
    assert format not in ("json", "geojson") or json.loads(text)


def test_the_callers_heading_overrules_the_files(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(
        capsys, world.panorama, "--gallery", world.gallery, "--heading-deg", 405, "--format", "json"
    )
    assert json.loads(out)["queries"][0]["hits"][0]["heading_deg"] == 45


def test_region_keeps_hits_inside(world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    _, out, _ = run(capsys, world.panorama, "--gallery", world.gallery, "--format", "json", "-k", 50)
    hits = json.loads(out)["queries"][0]["hits"]
    lon, lat = hits[-1]["lon"], hits[-1]["lat"]
    ring = [[lon + dx * 1e-4, lat + dy * 1e-4] for dx, dy in ((-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1))]
    region = tmp_path / "region.geojson"
    region.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    code, out, _ = run(
        capsys, world.panorama, "--gallery", world.gallery, "--format", "json", "--region", region
    )
    assert code == 0
    (found,) = json.loads(out)["queries"]
    assert found["fix"]["narrowed"]
    assert [hit["tile_id"] for hit in found["hits"]] == [hits[-1]["tile_id"]]
    for place in (*found["hits"], found["fix"]):
        assert abs(place["lon"] - lon) <= 1e-4 + 1e-8 and abs(place["lat"] - lat) <= 1e-4 + 1e-8


def test_imagery_that_has_moved_is_said(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def moved(*_: object, **__: object) -> None:
        raise ImageryError("gone")

    monkeypatch.setattr("indexing.answer.refine", moved)
    code, out, err = run(capsys, world.panorama, "--gallery", world.gallery, "--format", "csv")
    assert code == 0 and len(out.splitlines()) == 11
    assert err == "geoloc: Places are centres of tiles: gone\n"


def test_stopped_among_photos_it_writes_what_it_has(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def once(view: StreetView, *rest: object, **how: object) -> object:
        if view.source == str(world.photo):
            raise KeyboardInterrupt
        return answer(view, *rest, **how)  # type: ignore[arg-type]

    monkeypatch.setattr("ui.query.answer", once)
    code, out, _ = run(capsys, world.panorama, world.photo, "--gallery", world.gallery, "--format", "json")
    assert code == 130
    assert [one["photo"] for one in json.loads(out)["queries"]] == [str(world.panorama)]


def test_no_photo_is_kept_in_memory_once_it_is_answered(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = []
    monkeypatch.setattr("ui.query._write", lambda answers, *_: kept.extend(answers))
    with pytest.raises(SystemExit):
        main(["query", str(world.panorama), str(world.photo), "--gallery", str(world.gallery)])
    assert len(kept) == 2
    assert all(one.view.rgb.nbytes < 5000 and one.view.rgb.base is None for one in kept)
    assert {round(one.view.hfov_deg) for one in kept} == {360, 80}


def test_a_name_cannot_command_the_terminal(
    world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    odd = tmp_path / "a\x1b[2Jb.jpg"
    odd.write_bytes(world.panorama.read_bytes())
    code, out, _ = run(capsys, odd, "--gallery", world.gallery)
    assert code == 0 and "\x1b" not in out and "\\x1b[2Jb.jpg" in out.replace("\n", "")


def test_an_answer_is_computed_where_the_encoder_is(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever else there may be a GPU."""
    gallery, encoder = open_gallery(world.gallery)
    named = [one for name, one in sys.modules.items() if name.startswith(("geoloc", "indexing"))]
    for module in named:
        if hasattr(module, "best_device"):
            monkeypatch.setattr(module, "best_device", lambda: torch.device("meta"))
    with gallery:
        assert answer(read_street_view(world.photo), gallery, encoder, k=3).refined


def test_the_width_of_a_part_of_a_panorama_is_found_among_those_tried(world: World, tmp_path: Path) -> None:
    with Image.open(world.panorama) as whole:
        whole.crop((0, 0, 171, 64)).save(tmp_path / "part.jpg")
    view = read_street_view(tmp_path / "part.jpg")
    gallery, encoder = open_gallery(world.gallery)
    with gallery:
        found = answer(view, gallery, encoder, k=3)
        told = answer(replace(found.view, hfov_known=True), gallery, encoder, k=3)
    assert found.view.hfov_deg in SWEPT_HFOV_DEG and not found.view.hfov_known
    assert (told.fix.tile_id, told.fix.lonlat) == (found.fix.tile_id, found.fix.lonlat)


def test_hosts_that_are_named_are_trusted(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEOLOC_ALLOW_HOSTS", "one.example")
    run(capsys, world.panorama, "--gallery", world.gallery, "--allow-host", "two.example:8080")
    assert allowed_hosts() == {"two.example:8080", "one.example"}


@pytest.mark.parametrize("option", ["--gallery", "--region"])
def test_a_missing_file_is_one_line_and_exit_2(
    world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path, option: str
) -> None:
    given = {"--gallery": world.gallery, option: tmp_path / "missing"}
    words = [word for pair in given.items() for word in pair]
    code, out, err = run(capsys, world.panorama, *words)
    assert (code, out) == (2, "")
    assert err.startswith("geoloc: ") and len(err.splitlines()) == 1
