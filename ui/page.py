"""The page: a street view, the map, and the tiles that look alike. Run by `geoloc ui` and `geoloc demo`.

Streamlit runs this file from the top at every click. What is slow is cached; what a visitor chose is
in st.session_state: tile_id (looked at), turn (counts clicks on the map), region, drawing, corners.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydeck as pdk
import shapely
import streamlit as st
from jaxtyping import UInt8

from geoloc.errors import GeolocError
from geoloc.places import LonLat
from indexing.answer import Answer, Match, answer
from preprocessing.source import Bounds
from ui import layers, panels
from ui.clicks import clicked_place, clicked_tile, region_of_corners
from ui.controls import Question, ask_corners, ask_pose, ask_region, ask_street_view, memo
from ui.formats import to_csv, to_geojson
from ui.panels import data_uri
from ui.samples import Sample, read_samples
from ui.shelf import TILE_PX, Shelf, backdrop, picture, pixels, shelf
from ui.strips import strips

CSS = Path(__file__).with_name("page.css")
MOST_BACKDROPS = 12
MAP_HEIGHT_PX = 460
MAP_FIT_PX = 0.9 * MAP_HEIGHT_PX
LAYERS = ("Matches", "Probability")
DIM = {"desaturate": 0.5, "tint_color": [225, 227, 228]}


@dataclass(frozen=True)
class Sight:
    """What is looked at: a question, its answer, and the match chosen from it."""

    question: Question
    found: Answer
    chosen: Match

    @property
    def reference(self) -> LonLat | None:
        """Where the street view is said to be from."""
        return self.question.reference

    @property
    def scores(self) -> tuple[float, float]:
        """The lowest and the highest."""
        return self.found.matches[-1].place.score, self.found.matches[0].place.score


def page(gallery_path: Path, samples_table: Path | None = None) -> None:
    """Draw the whole page for one visitor, once."""
    st.set_page_config("geoloc", str(panels.MARK), layout="wide")
    st.html(CSS)
    try:
        here = shelf(str(gallery_path))
        samples = [] if samples_table is None else read_samples(samples_table)
    except GeolocError as error:
        st.error(str(error))
        st.stop()
    stride_m = here.gallery.manifest.stride_m
    tiles = f"{len(here.gallery):,} tiles · {stride_m:.3g} m apart"
    origin = " · model trained on synthetic towns" if here.towns else ""
    st.html(panels.masthead(f"{gallery_path.name} · {tiles}{origin}"))
    asking, showing = st.columns([3, 10], gap="medium")
    with asking:
        sight = ask(here, samples)
    with showing:
        show(here, sight)


def ask(here: Shelf, samples: Sequence[Sample]) -> Sight | None:
    """The left column: the question is put and answered, or what is wrong with it is said."""
    picker, adjust = st.container(key="picker", gap="small"), st.container(key="adjust", gap="small")
    try:
        with picker:
            question = ask_street_view(samples)
        with adjust:
            question = None if question is None else ask_pose(question)
            k = st.slider("Matches to show", 1, 50, 10, key="k")
            region = ask_region()
            if question is None:
                return None
            found = _answer(here, question, k, region)
            _offer_downloads(found)
    except GeolocError as error:
        picker.error(str(error))
        return None
    looked_at = (match for match in found.matches if match.place.tile_id == st.session_state.get("tile_id"))
    return Sight(question, found, next(looked_at, found.matches[0]))


def _answer(here: Shelf, question: Question, k: int, region: shapely.Geometry | None) -> Answer:
    def make() -> Answer:
        st.session_state.pop("tile_id", None)
        with st.spinner("Searching …"), here.lock:
            return answer(
                question.view, here.gallery, here.encoder, k=k, region=region,
                tolerance_deg=question.tolerance_deg,
            )  # fmt: skip

    view = question.view
    seen = (view.rgb.shape, view.hfov_deg, view.hfov_known, view.is_panorama)
    pose = (view.heading_deg, question.tolerance_deg, seen)
    version = here.gallery.manifest.version
    return memo("answer", (version, question.key, pose, k, None if region is None else region.wkt), make)


def _offer_downloads(found: Answer) -> None:
    name = f"geoloc-{Path(found.view.source).stem}"
    common: dict[str, Any] = {"on_click": "ignore", "icon": ":material/download:", "width": "stretch"}
    with st.container(horizontal=True):
        st.download_button(
            "GeoJSON", to_geojson([found]), f"{name}.geojson", "application/geo+json", **common
        )
        st.download_button("CSV", to_csv([found]), f"{name}.csv", "text/csv", **common)


def show(here: Shelf, sight: Sight | None) -> None:
    """The right column: the street view beside a tile, the fix, the map, and the ranked list."""
    if sight is None:
        st.html(panels.empty_state())
        draw_map(here, None)
        return
    if sight.found.unrefined:
        st.warning(f"Places are centres of tiles: {sight.found.unrefined}")
    street, tile = st.columns([10, 4], gap="small")
    if warning := panels.notice(sight.found):
        street.html(warning)
    street.html(panels.street_figure(sight.found.view))
    street.html(panels.answer_figures(sight.found, sight.reference, sight.question.reference_name))
    shown = pixels(here, sight.chosen)
    image = None if shown is None else data_uri(shown, TILE_PX)
    tile.html(panels.tile_figure(sight.chosen, image, layers.seen_deg(sight.found)))
    atlas, ranking = st.columns([10, 4], gap="small")
    with atlas:
        draw_map(here, sight)
    with ranking:
        list_matches(here, sight)
    if shown is not None and here.gallery.spec.polar:
        explain(here, sight, shown)


def explain(here: Shelf, sight: Sight, shown: UInt8[np.ndarray, "s s 3"]) -> None:
    """The street view and what is around the place by azimuth, so that a person sees why they match."""
    heading_deg = sight.chosen.place.heading_deg
    turn_deg = None if heading_deg is None else heading_deg - sight.chosen.tile.north_deg
    pair = strips(sight.found.view, turn_deg, shown, here.gallery.spec)
    with st.expander("Why it matches", expanded=True):
        st.html(panels.strips_figure(sight.chosen, pair))


def draw_map(here: Shelf, sight: Sight | None) -> None:
    """The map under its legend, and while a region is drawn the tools for that."""
    turn = st.session_state.setdefault("turn", 0)
    corners, focus = _toolbar(here, sight)
    stack = _imagery_layers(here, sight)
    if sight is not None:
        if _heat(sight):
            stack += layers.certainty_layers(sight.found, here.gallery.manifest.stride_m)
        else:
            stack += [layers.selected_layer(sight.chosen), layers.tile_layer(sight.found.matches, turn)]
        stack += layers.fix_layers(sight.found, here.gallery.spec.footprint_m)
        stack += [] if sight.reference is None else [layers.truth_layer(sight.reference)]
    region = region_of_corners(corners) or st.session_state.get("region")
    stack += layers.region_layers(region, corners)
    if st.session_state.get("drawing"):
        stack.append(layers.catcher_layer(focus, turn))
    st.pydeck_chart(
        layers.deck(stack, layers.view_state(focus, MAP_FIT_PX)),
        height=MAP_HEIGHT_PX,
        key="map",
        on_select=_clicked,
        alt="Map of the gallery with the matching tiles",
    )


def _imagery_layers(here: Shelf, sight: Sight | None) -> list[pdk.Layer]:
    """The orthophotos, dimmed under an answer; the gallery's outline; the matches in full colour."""
    sources = {source.path: source for source in here.gallery.manifest.sources}
    extents = [source.bounds_lonlat for source in sources.values()]
    matches = () if sight is None or _heat(sight) else sight.found.matches
    paths = list(dict.fromkeys([*(match.source for match in matches), *sources]))
    images = {path: backdrop(sources[path]) for path in paths[:MOST_BACKDROPS]}
    if None in images.values():
        st.warning("Some of the gallery's imagery has moved or changed; its place on the map stays empty.")
    if len(paths) > MOST_BACKDROPS:
        st.caption(f"{MOST_BACKDROPS} of {len(paths):,} images are drawn; all of the gallery is searched.")
    pictures = [(match, picture(here, match)) for match in reversed(matches)]
    style = {} if sight is None else DIM
    return [
        *(layers.image_layer(f"ortho-{path}", *image, style) for path, image in images.items() if image),
        *layers.extent_layers(extents, here.gallery.bounds_lonlat),
        *(
            layers.image_layer(f"match-{match.place.rank}", image, match.tile.corners)
            for match, image in pictures
            if image is not None
        ),
    ]


def _toolbar(here: Shelf, sight: Sight | None) -> tuple[list[LonLat], Bounds]:
    """What stands above the map: the legend, or the tools to draw a region; and which part to show.

    Returns the corners drawn so far, and the bounds to show.
    """
    if sight is not None and not st.session_state.get("drawing"):
        name = None if sight.reference is None else sight.question.reference_name
        st.html(panels.legend(sight.scores, name, heat=_heat(sight)))
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        corners = ask_corners()
        if sight is None:
            return corners, here.gallery.bounds_lonlat
        if sight.found.fix.map is not None:
            st.segmented_control(
                "Map layer",
                LAYERS,
                default=LAYERS[0],
                required=True,
                key="layer",
                label_visibility="collapsed",
            )
        focus = st.segmented_control(
            "Map shows",
            ["Gallery", "Best fix"],
            default="Gallery",
            required=True,
            key="focus",
            label_visibility="collapsed",
        )
    if focus == "Gallery":
        return corners, here.gallery.bounds_lonlat
    return corners, layers.around(sight.found.fix.lonlat, 2.5 * here.gallery.spec.footprint_m)


def _heat(sight: Sight) -> bool:
    """Whether the map shows probabilities instead of matches."""
    return sight.found.fix.map is not None and st.session_state.get("layer") == LAYERS[1]


def _clicked() -> None:
    """A click on the map looks at a tile, or sets a corner of the region being drawn."""
    selection = st.session_state["map"]["selection"]
    place, tile_id = clicked_place(selection), clicked_tile(selection)
    if place is not None:
        st.session_state["corners"].append(place)
    elif tile_id is not None:
        _look_at(tile_id)
    else:
        return
    st.session_state["turn"] += 1


def _look_at(tile_id: int) -> None:
    st.session_state["tile_id"] = tile_id


def list_matches(here: Shelf, sight: Sight) -> None:
    """The ranked list; a click on a line looks at its tile."""
    with st.container(height=MAP_HEIGHT_PX + 56, border=False, gap="xxsmall", key="ranking"):
        for match in sight.found.matches:
            place = match.place
            chosen = "chosen-" if match is sight.chosen else ""
            with st.container(key=f"match-{chosen}{place.rank}", gap=None):
                st.html(panels.match_row(match, picture(here, match), sight.scores, sight.reference))
                st.button(
                    f"Look at match {place.rank}",
                    key=f"look-{place.rank}",
                    on_click=_look_at,
                    args=(place.tile_id,),
                )


if __name__ == "__main__":
    page(*map(Path, sys.argv[1:3]))
