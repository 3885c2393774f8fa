"""The page in a real browser: upload a panorama, click a tile on the map, download the GeoJSON."""

import json
import math
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import shapely
from small_world import World

from geoloc.places import LonLat
from geoloc.street_view import read_street_view
from indexing.answer import Answer, Match, answer, open_gallery
from ui import layers
from ui.page import MAP_FIT_PX
from ui.serve import free_port

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox",
    "--enable-unsafe-swiftshader",
    "--use-angle=swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


@pytest.fixture
def served(world: World, tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The address of `geoloc ui` on the gallery, and its process."""
    port = free_port()
    words = [sys.executable, "-m", "ui.cli", "ui", str(world.gallery), "--port", str(port)]
    log = tmp_path / "log"
    with log.open("wb") as errors, subprocess.Popen(words, stdout=errors, stderr=errors) as process:
        try:
            _await_port(port, process, log)
            yield f"http://127.0.0.1:{port}", process
        finally:
            process.kill()


def _await_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        assert process.poll() is None, log.read_text()
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise AssertionError(log.read_text())


@pytest.fixture
def tab() -> Iterator["playwright.Page"]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(40_000)
        yield page
        browser.close()


def _expected(world: World) -> tuple[Answer, layers.Bounds]:
    gallery, encoder = open_gallery(world.gallery)
    with gallery:
        found = answer(read_street_view(world.panorama), gallery, encoder, k=10)
        return found, gallery.bounds_lonlat


def _exposed(found: Answer) -> Match:
    """A match, not the first, whose middle no better match covers on the map."""
    shapes = [shapely.Polygon([(c.lon, c.lat) for c in match.tile.corners]) for match in found.matches]
    for rank, match in enumerate(found.matches[1:], start=1):
        middle = shapely.Point(match.place.lonlat.lon, match.place.lonlat.lat)
        if not any(shape.contains(middle) for shape in shapes[:rank]):
            return match
    raise AssertionError("every match is covered by a better one")


def _offset_px(place: LonLat, bounds: layers.Bounds) -> tuple[float, float]:
    """From the middle of the map, right and down; web mercator."""
    state = layers.view_state(bounds, MAP_FIT_PX)
    world_px = 512 * 2**state.zoom
    down, middle = (math.asinh(math.tan(math.radians(lat))) for lat in (place.lat, state.latitude))
    return (place.lon - state.longitude) / 360 * world_px, (middle - down) / (2 * math.pi) * world_px


def _click_on_map(tab: "playwright.Page", offset_px: tuple[float, float], caption: str) -> None:
    """Click until the tile beside the street view is the one with `caption`: the map draws late."""
    box = tab.locator(".stDeckGlJsonChart").bounding_box()
    x, y = box["x"] + box["width"] / 2 + offset_px[0], box["y"] + box["height"] / 2 + offset_px[1]
    for _ in range(6):
        tab.mouse.move(x + 3, y)
        tab.mouse.move(x, y)
        tab.wait_for_timeout(1000)
        tab.mouse.click(x, y)
        try:
            tab.locator(".tile figcaption", has_text=caption).wait_for(timeout=4000)
            return
        except playwright.TimeoutError:
            continue
    raise AssertionError(f"clicking at {x:.0f}, {y:.0f} did not bring {caption}")


def test_upload_click_download(
    world: World, served: tuple[str, subprocess.Popen[bytes]], tab: "playwright.Page", tmp_path: Path
) -> None:
    address, process = served
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("websocket", lambda socket: asked.append(socket.url))
    tab.goto(address)
    tab.set_input_files("input[type=file]", world.panorama)
    tab.locator(".street img").wait_for()
    assert "120° SE" in tab.locator(".street figcaption").inner_text()
    tab.locator(".strips").wait_for()
    tab.locator(".stDeckGlJsonChart canvas").first.wait_for()
    found, bounds = _expected(world)
    target = _exposed(found)
    assert "Match 1" in tab.locator(".tile figcaption").inner_text()
    _click_on_map(tab, _offset_px(target.place.lonlat, bounds), f"Match {target.place.rank}")
    with tab.expect_download() as download:
        tab.get_by_role("button", name="GeoJSON").click()
    saved = tmp_path / "answer.geojson"
    download.value.save_as(saved)
    assert download.value.suggested_filename == "geoloc-panorama-01.geojson"
    assert tab.locator(".strips img").count() == 2
    features = json.loads(saved.read_text())["features"]
    assert [feature["properties"]["tile_id"] for feature in features[1:]] == [
        match.place.tile_id for match in found.matches
    ]
    _assert_stayed_home(asked)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130


def _assert_stayed_home(asked: list[str]) -> None:
    assert len(asked) > 10
    home = ("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:")
    assert [url for url in asked if not url.startswith(home)] == []
