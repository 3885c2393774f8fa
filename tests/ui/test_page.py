"""The page without a browser: uploads, corrections, errors. AppTest cannot see the map; test_browser does."""

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import shapely
import streamlit as st
from PIL import ExifTags, Image
from small_world import PLACE, World, write_sample
from streamlit.testing.v1 import AppTest

from geoloc.places import LonLat
from geoloc.street_view import StreetView, read_street_view
from indexing.answer import Answer, answer, open_gallery
from indexing.gallery import Gallery
from indexing.likely import Likely
from indexing.remove import remove_region
from ui import panels
from ui.controls import seen_through
from ui.shelf import pixels, shelf


@pytest.fixture(autouse=True)
def main_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """AppTest leaves its script behind as __main__, and processes begun later would run it."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


def _script(gallery: str, samples: str | None) -> None:
    from pathlib import Path

    from ui.page import page

    page(Path(gallery), Path(samples) if samples else None)


def opened(gallery: Path, samples: Path | None = None) -> AppTest:
    app = AppTest.from_function(
        _script, args=(str(gallery), str(samples) if samples else None), default_timeout=60
    )
    return app.run()


def upload(app: AppTest, name: str, content: bytes) -> AppTest:
    app.file_uploader(key="upload").set_value((name, content, "image/jpeg"))
    return app.run()


def html(app: AppTest) -> str:
    return "".join(element.value for element in app.get("html"))


def test_without_a_street_view_the_page_says_what_to_do(world: World) -> None:
    app = opened(world.gallery)
    assert not app.exception and not app.error
    assert "Where was this taken?" in html(app)
    assert len(app.download_button) == 0


@pytest.mark.parametrize("seeds", [frozenset(), frozenset({7})])
def test_the_page_says_what_the_model_was_trained_on(
    world: World, monkeypatch: pytest.MonkeyPatch, seeds: frozenset[int]
) -> None:
    monkeypatch.setattr("ui.shelf.trained_towns", lambda _: seeds)
    shelf.clear()
    assert ("trained on synthetic towns" in html(opened(world.gallery))) == bool(seeds)
    shelf.clear()


def test_an_upload_is_answered(world: World) -> None:
    app = upload(opened(world.gallery), "pano.jpg", world.panorama.read_bytes())
    assert not app.exception and not app.error
    shown = html(app)
    assert "120° SE" in shown and "360° field of view" in shown and "from GPS tag" in shown
    assert app.session_state["answer"][1].view.source == "pano.jpg"
    assert len(app.download_button) == 2


def test_the_users_corrections_reach_the_search(world: World) -> None:
    app = upload(opened(world.gallery), "photo.jpg", world.photo.read_bytes())
    (known,) = (toggle for toggle in app.toggle if toggle.key.startswith("known-"))
    (hfov,) = (slider for slider in app.slider if slider.key.startswith("hfov-"))
    known.set_value(False)
    hfov.set_value(60)
    app.slider(key="k").set_value(3)
    app.run()
    found = app.session_state["answer"][1]
    assert (found.view.heading_deg, found.view.hfov_deg, len(found.matches)) == (None, 60, 3)
    assert found.fix.heading_deg is not None
    assert "heading unknown" in html(app)


@pytest.mark.parametrize(("hfov_deg", "is_panorama"), [(7.0, False), (150.0, False), (40.0, True)])
def test_any_field_of_view_can_be_shown(
    world: World, tmp_path: Path, hfov_deg: float, is_panorama: bool
) -> None:
    path = tmp_path / "view.jpg"
    write_sample(path, hfov_deg=hfov_deg, is_panorama=is_panorama)
    app = upload(opened(world.gallery), "view.jpg", path.read_bytes())
    assert not app.exception and not app.error
    assert app.session_state["answer"][1].view.hfov_deg == pytest.approx(hfov_deg, rel=0.05)


def test_samples_are_offered_with_their_truth(world: World) -> None:
    app = opened(world.gallery, world.table)
    assert not app.exception and not app.error
    assert app.selectbox(key="sample").options == ["Panorama 01", "Photo 01"]
    assert "from truth" in html(app)
    app.button(key="next-sample").click().run()
    found = app.session_state["answer"][1]
    assert not found.view.is_panorama
    assert found.view.hfov_deg == 80


def test_looking_at_another_match_keeps_the_answer(world: World) -> None:
    app = opened(world.gallery, world.table)
    before = app.session_state["answer"][1]
    app.button(key="look-4").click().run()
    assert app.session_state["answer"][1] is before
    assert app.session_state["tile_id"] == before.matches[3].place.tile_id
    assert "<b>Match 4</b>" in html(app)


@pytest.mark.parametrize(("length", "says"), [(0, "empty"), (20, "no image"), (900, "damaged")])
def test_a_bad_upload_is_one_sentence(world: World, length: int, says: str) -> None:
    app = upload(opened(world.gallery), "bad.jpg", world.panorama.read_bytes()[:length])
    assert not app.exception
    (error,) = app.error
    assert says in error.value and error.value.startswith("bad.jpg")


def test_a_region_is_uploaded_and_forgotten(world: World) -> None:
    app = opened(world.gallery, world.table)
    place = app.session_state["answer"][1].matches[4].place
    ring = [
        [place.lonlat.lon + x * 1e-4, place.lonlat.lat + y * 1e-4] for x, y in ((-1, -1), (1, -1), (0, 2))
    ]
    region = {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
    uploader = app.file_uploader(key="region-file")
    uploader.set_value(("region.geojson", json.dumps(region).encode(), "application/geo+json"))
    app.run()
    assert not app.exception and not app.error
    assert app.session_state["answer"][1].fix.tile_id == place.tile_id
    uploader = app.file_uploader(key="region-file")
    uploader.set_value(("region.geojson", b"{}", "application/geo+json"))
    app.run()
    assert not app.exception and len(app.error) == 1
    assert app.session_state["answer"][1].fix.tile_id == place.tile_id
    next(button for button in app.button if button.label == "Search everywhere").click().run()
    assert len(app.session_state["answer"][1].matches) == 10


def test_a_region_without_tiles_is_one_sentence(world: World) -> None:
    app = opened(world.gallery, world.table)
    ring = [[0, 0], [1, 0], [1, 1], [0, 0]]
    region = json.dumps({"type": "Polygon", "coordinates": [ring]}).encode()
    app.file_uploader(key="region-file").set_value(("region.geojson", region, "application/geo+json"))
    app.run()
    assert not app.exception
    (error,) = app.error
    assert "region" in error.value


def test_a_region_is_forgotten_with_its_file_and_an_error_once_it_is_mended(world: World) -> None:
    app = opened(world.gallery, world.table)
    place = app.session_state["answer"][1].matches[4].place
    corners = ((-1, -1), (1, -1), (0, 2), (-1, -1))
    ring = [[place.lonlat.lon + x * 1e-4, place.lonlat.lat + y * 1e-4] for x, y in corners]
    region = json.dumps({"type": "Polygon", "coordinates": [ring]}).encode()
    for content in (b"{}", region):
        app.file_uploader(key="region-file").set_value(("r.geojson", content, "application/geo+json"))
        app.run()
    assert not app.error and len(app.session_state["answer"][1].matches) < 10
    app.file_uploader(key="region-file").set_value([])
    app.run()
    assert len(app.session_state["answer"][1].matches) == 10


def test_a_field_of_view_is_known_when_the_user_says_so(world: World, tmp_path: Path) -> None:
    path = tmp_path / "bare.jpg"
    Image.open(world.photo).save(path)
    app = upload(opened(world.gallery), "bare.jpg", path.read_bytes())
    assert not app.session_state["answer"][1].view.hfov_known
    (known,) = (toggle for toggle in app.toggle if toggle.key.startswith("hfov-known-"))
    known.set_value(True)
    app.run()
    view = app.session_state["answer"][1].view
    assert view.hfov_known and view.hfov_deg == 70


@pytest.mark.parametrize("by_shape", [False, True])
def test_a_part_of_a_panorama_is_as_wide_as_the_user_says(
    world: World, tmp_path: Path, by_shape: bool
) -> None:
    """One whose shape tells nothing, and one that goes all around until the user knows better."""
    path = tmp_path / "part.jpg"
    with Image.open(world.panorama) as whole:
        whole.crop((0, 0, 256 if by_shape else 212, 64)).save(path)
    app = upload(opened(world.gallery), "part.jpg", path.read_bytes())
    (around,) = (toggle for toggle in app.toggle if toggle.key.startswith("panorama-"))
    assert around.value == by_shape == app.session_state["answer"][1].view.hfov_known
    app = around.set_value(False).run()
    assert not app.session_state["answer"][1].view.hfov_known
    (known,) = (toggle for toggle in app.toggle if toggle.key.startswith("hfov-known-"))
    app = known.set_value(True).run()
    (hfov,) = (slider for slider in app.slider if slider.key.startswith("hfov-"))
    assert (hfov.value, hfov.max) == (360, 360)
    app = hfov.set_value(240).run()
    view = app.session_state["answer"][1].view
    assert (view.hfov_deg, view.hfov_known, view.is_panorama) == (240, True, True)
    assert view.rgb.shape[1] == (256 if by_shape else 212)
    (around,) = (toggle for toggle in app.toggle if toggle.key.startswith("panorama-"))
    app = around.set_value(True).run()
    view = app.session_state["answer"][1].view
    assert (view.hfov_deg, view.hfov_known, view.is_panorama) == (360, True, True)


def test_metadata_that_cannot_be_true_is_said_and_left_aside(world: World, tmp_path: Path) -> None:
    path, exif = tmp_path / "odd.jpg", Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm] = 5000
    Image.open(world.photo).save(path, exif=exif)
    app = upload(opened(world.gallery), "odd.jpg", path.read_bytes())
    assert not app.exception and not app.error
    (warning,) = app.warning
    assert "cannot" in warning.value or "impossible" in warning.value
    assert app.session_state["answer"][1].view.hfov_known is False


def test_a_new_version_of_the_gallery_is_shown_to_the_next_visitor(world: World, tmp_path: Path) -> None:
    gallery = Path(shutil.copytree(world.gallery, tmp_path / "gallery"))
    before = html(opened(gallery, world.table))
    with Gallery.open(gallery) as tiles:
        west, south, east, north = tiles.bounds_lonlat
    half = {"type": "Polygon", "coordinates": [[[west, south], [east, south], [east, north], [west, south]]]}
    (tmp_path / "half.geojson").write_text(json.dumps(half))
    remove_region(gallery, tmp_path / "half.geojson")
    after = html(opened(gallery, world.table))
    assert "tiles ·" in before and before.split(" tiles ·")[0] != after.split(" tiles ·")[0]
    shutil.rmtree(gallery)
    (error,) = opened(gallery, world.table).error
    assert "no gallery" in error.value


def test_imagery_in_another_place_is_said_and_nothing_breaks(world: World) -> None:
    gone = world.ortho.with_suffix(".gone")
    world.ortho.rename(gone)
    shelf.clear()
    st.cache_data.clear()
    try:
        app = opened(world.gallery, world.table)
    finally:
        gone.rename(world.ortho)
        shelf.clear()
    assert not app.exception and not app.error
    assert sorted(warning.value.split(":")[0] for warning in app.warning) == [
        "Places are centres of tiles",
        "Some of the gallery's imagery has moved or changed; its place on the map stays empty.",
    ]
    assert "data:," not in html(app)


def test_why_it_matches_is_shown_around_the_place_not_the_tile(world: World) -> None:
    here = shelf(str(world.gallery))
    gallery, encoder = open_gallery(world.gallery)
    with gallery:
        found = answer(read_street_view(world.panorama), gallery, encoder, k=3)
        best = found.matches[0]
        tile = best.tile.moved_to(best.place.lonlat)
        assert tile.center.distance_m(best.place.lonlat) < 1e-3 and tile.gsd_m == best.tile.gsd_m
        assert np.array_equal(pixels(here, best), gallery.read_around(tile, 0))


def test_a_missing_gallery_is_one_sentence(tmp_path: Path) -> None:
    app = opened(tmp_path / "nowhere")
    assert not app.exception
    assert len(app.error) == 1


def test_the_page_speaks_of_what_was_searched_and_of_what_the_circle_holds(world: World) -> None:
    gallery, encoder = open_gallery(world.gallery)
    with gallery:
        found = answer(read_street_view(world.panorama), gallery, encoder, k=3)
    likely = Likely(shapely.Point(), 0.62, 800.0)
    found = dataclasses.replace(found, fix=dataclasses.replace(found.fix, in_gallery=0.3), likely=likely)
    assert "Probably not in this gallery." in panels.notice(found)
    figures = panels.answer_figures(found, None, "")
    assert ">In this gallery<" in figures and "holds at least 62%, if it is here" in figures
    narrowed = dataclasses.replace(found, narrowed=True, likely=dataclasses.replace(likely, holds=0.9))
    assert "Probably not among the tiles searched." in panels.notice(narrowed)
    figures = panels.answer_figures(narrowed, None, "")
    assert ">Among the tiles searched<" in figures and "holds 90 %, if it is here" in figures


def test_a_panorama_is_cropped_and_a_photo_reinterpreted(panorama: StreetView) -> None:
    cropped = seen_through(panorama, 90)
    assert cropped.rgb.shape == (128, 128, 3) and cropped.hfov_deg == pytest.approx(90)
    assert np.array_equal(cropped.rgb, panorama.rgb[:, 192:320])
    photo = StreetView(panorama.rgb, "photo", None, 0.0, 70.0, False)
    part = dataclasses.replace(panorama, hfov_known=False)
    for view in (photo, part):
        assert seen_through(view, 90).rgb is view.rgb and seen_through(view, 90).hfov_deg == 90


def test_the_ruler_of_a_panorama_is_linear_and_of_a_photo_a_tangent() -> None:
    rgb = np.zeros((32, 64, 3), np.uint8)
    ring = {label: x for x, label in panels.ruler(StreetView(rgb, "", None, 0.0, 360.0, True))}
    assert ring["N"] == 0.5 and ring["E"] == 0.75 and ring["W"] == 0.25
    turned = {label: x for x, label in panels.ruler(StreetView(rgb, "", None, 90.0, 360.0, True))}
    assert turned["E"] == 0.5
    photo = {label: x for x, label in panels.ruler(StreetView(rgb, "", None, None, 90.0, False))}
    assert photo["0°"] == 0.5
    assert photo["+30°"] == pytest.approx(0.5 + np.tan(np.radians(30)) / 2)


@pytest.mark.parametrize(
    ("heading_deg", "text"),
    [(0, "0° N"), (359.6, "0° N"), (44, "44° NE"), (337.4, "337° NW"), (190, "190° S")],
)
def test_bearing(heading_deg: float, text: str) -> None:
    assert panels.bearing(heading_deg) == text


@pytest.mark.parametrize(
    ("distance_m", "text"),
    [(0, "0.0 m"), (6.24, "6.2 m"), (48.3, "48 m"), (3141, "3.1 km"), (1.2e7, "12,000 km")],
)
def test_distance(distance_m: float, text: str) -> None:
    assert panels.distance_text(distance_m) == text


def test_words_from_outside_are_escaped(panorama: StreetView, answered: Answer) -> None:
    view = StreetView(panorama.rgb, "<script>alert(1)</script>.jpg", None, None, 360.0, True)
    assert "<script>" not in panels.street_figure(view)
    assert "<script>" not in panels.masthead("<script>")
    assert "<script>" not in panels.answer_figures(answered, PLACE, "<script>")


def test_figures_say_how_far_off_the_fix_is(answered: Answer) -> None:
    assert "Error" not in panels.answer_figures(answered, None, "truth")
    here = answered.fix.lonlat
    assert ">0.0 m<" in panels.answer_figures(answered, LonLat(here.lon, here.lat), "truth")
