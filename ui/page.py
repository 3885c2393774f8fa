"""The page: a street view, the map, and the tiles that look alike. Run by `geoloc ui` and `geoloc demo`.

Streamlit runs this file from the top at every click; what is slow is cached, what is chosen is in
st.session_state: tile_id (looked at), turn (counts clicks on the map), region, drawing, corners.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import streamlit as st
from shapely.geometry.base import BaseGeometry

from geoloc.encoder import TwinEncoder
from geoloc.errors import GeolocError, ImageryError
from indexing.gallery import Gallery
from preprocessing.imagery import read_overview
from ui import layers, panels
from ui.answer import Answer, Match, answer, open_gallery
from ui.controls import Question, ask_corners, ask_region, ask_street_view, memo
from ui.formats import to_csv, to_geojson
from ui.samples import Sample, read_samples

OVERVIEW_PX = 2048
MOST_BACKDROPS = 12
MAP_HEIGHT_PX = 520


@dataclass(frozen=True)
class Shelf:
    """An open gallery, shared by all visitors; `lock` is held while it is read."""

    gallery: Gallery
    encoder: TwinEncoder
    extents: dict[str, layers.Bounds]
    lock: Lock


@st.cache_resource(show_spinner="Opening the gallery …", max_entries=4)
def shelf(path: str) -> Shelf:
    """Open the gallery at `path` once, with the extent of each of its images in lon, lat."""
    gallery, encoder = open_gallery(Path(path))
    frame = gallery.tiles
    bounds = frame.geometry.bounds.groupby(frame["source"])
    edges = bounds.agg({"minx": "min", "miny": "min", "maxx": "max", "maxy": "max"})
    extents = {str(row[0]): (row[1], row[2], row[3], row[4]) for row in edges.itertuples()}
    return Shelf(gallery, encoder, extents, Lock())


@st.cache_data(show_spinner=False, max_entries=64)
def backdrop(source: str) -> tuple[str, layers.Corners] | None:
    """An image of the gallery, reduced, as a data URI with its corners; None where it has moved."""
    try:
        pixels, corners = read_overview(Path(source), OVERVIEW_PX)
    except ImageryError:
        return None
    return panels.data_uri(pixels, OVERVIEW_PX), corners


@st.cache_data(show_spinner=False, max_entries=2000)
def picture(_shelf: Shelf, path: str, tile_id: int) -> str:
    """A tile as a data URI; an empty one where the imagery has moved."""
    try:
        with _shelf.lock:
            return panels.data_uri(_shelf.gallery.read_tile(tile_id), 512)
    except ImageryError:
        return "data:,"


def page(gallery_path: Path, samples_table: Path | None = None) -> None:
    """Draw the whole page for one visitor, once."""
    st.set_page_config("geoloc", ":material/explore:", layout="wide")
    st.html(Path(__file__).with_name("page.css"))
    try:
        here = shelf(str(gallery_path))
        samples = [] if samples_table is None else read_samples(samples_table)
    except GeolocError as error:
        st.error(str(error))
        st.stop()
    facts = f"{len(here.gallery):,} tiles · {here.gallery.manifest.stride_m:g} m apart"
    st.html(panels.masthead("Where was this taken?", f"{gallery_path.name} · {facts}"))
    asking, showing = st.columns([3, 10], gap="medium")
    with asking:
        question, found = ask(here, samples)
    with showing:
        show(here, str(gallery_path), question, found)


def ask(here: Shelf, samples: Sequence[Sample]) -> tuple[Question | None, Answer | None]:
    """The left column: the question, and its answer, or in its place what is wrong with it."""
    question = None
    try:
        question = ask_street_view(samples)
        k = st.slider("Matches to show", 1, 50, 10, key="k")
        region = ask_region()
        if question is None:
            return None, None
        found = _answer(here, question, k, region)
    except GeolocError as error:
        st.error(str(error))
        return question, None
    _offer_downloads(found)
    return question, found


def _answer(here: Shelf, question: Question, k: int, region: BaseGeometry | None) -> Answer:
    def make() -> Answer:
        with here.lock, st.spinner("Searching …"):
            st.session_state.pop("tile_id", None)
            return answer(question.view, here.gallery, here.encoder, k=k, region=region)

    return memo("answer", (question.key, k, None if region is None else region.wkt), make)


def _offer_downloads(found: Answer) -> None:
    stem = Path(found.view.source).stem
    with st.container(horizontal=True):
        for name, text, mime in (
            ("GeoJSON", to_geojson([found]), "application/geo+json"),
            ("CSV", to_csv([found]), "text/csv"),
        ):
            st.download_button(
                name, text, f"geoloc-{stem}.{name.lower()}", mime, on_click="ignore", icon=":material/download:",
                width="stretch",
            )


def show(here: Shelf, path: str, question: Question | None, found: Answer | None) -> None:
    """The right column: the street view beside a tile, the fix, the map, and the ranked list."""
    if question is None or found is None:
        st.html(panels.empty_state() if question is None else panels.street_figure(question.view))
        draw_map(here, path, question, None, None)
        return
    chosen = next(
        (match for match in found.matches if match.place.tile_id == st.session_state.get("tile_id")),
        found.matches[0],
    )
    street, tile = st.columns([10, 4], gap="small", vertical_alignment="top")
    street.html(panels.street_figure(found.view))
    tile.html(panels.tile_figure(chosen, picture(here, path, chosen.place.tile_id), layers.seen_deg(found)))
    st.html(panels.answer_figures(found, question.reference, question.reference_name))
    atlas, ranking = st.columns([10, 4], gap="small")
    with atlas:
        draw_map(here, path, question, found, chosen)
    with ranking:
        list_matches(here, path, question, found, chosen)


def draw_map(
    here: Shelf, path: str, question: Question | None, found: Answer | None, chosen: Match | None
) -> None:
    """The map, its legend, and the tools to draw a region on it."""
    corners = ask_corners()
    turn = st.session_state.setdefault("turn", 0)
    bounds = here.gallery.bounds_lonlat
    stack = [*_backdrops(here, found), layers.extent_layer(list(here.extents.values()))]
    if found is not None and chosen is not None and question is not None:
        stack += [
            layers.image_layer(f"image-{match.place.rank}", picture(here, path, match.place.tile_id), match.tile.corners)
            for match in reversed(found.matches)
        ]
        stack += [layers.selected_layer(chosen), layers.tile_layer(found.matches, turn)]
        stack += layers.fix_layers(found.fix, layers.seen_deg(found), here.gallery.spec.footprint_m)
        if question.reference is not None:
            stack.append(layers.truth_layer(question.reference))
    stack += layers.region_layers(st.session_state.get("region"), corners)
    if st.session_state.get("drawing"):
        stack.append(layers.catcher_layer(bounds, turn))
    st.pydeck_chart(
        layers.deck(stack, layers.view_state(_focus(found, bounds, here), MAP_HEIGHT_PX * 0.92)),
        height=MAP_HEIGHT_PX, key="map", on_select=_clicked, selection_mode="single-object",
        alt="Map of the gallery with the matching tiles",
    )
    scores = None if found is None else (found.matches[-1].place.score, found.matches[0].place.score)
    named = question.reference_name if question is not None and question.reference is not None else None
    st.html(panels.legend(scores, named))


def _backdrops(here: Shelf, found: Answer | None) -> list[layers.pdk.Layer]:
    wanted = [] if found is None else [match.source for match in found.matches]
    sources = list(dict.fromkeys([*wanted, *here.extents]))[:MOST_BACKDROPS]
    drawn = [(source, backdrop(source)) for source in sources]
    if any(image is None for _, image in drawn):
        st.warning("Some of the gallery's imagery has moved, so the map shows outlines only.")
    dim = {} if found is None else {"desaturate": 0.55, "tint_color": [205, 208, 210]}
    return [layers.image_layer(f"ortho-{source}", *image, **dim) for source, image in drawn if image is not None]


def _focus(found: Answer | None, bounds: layers.Bounds, here: Shelf) -> layers.Bounds:
    if found is None:
        return bounds
    focus = st.segmented_control(
        "Map shows", ["Whole gallery", "Best fix"], default="Whole gallery", required=True, key="focus",
        label_visibility="collapsed",
    )
    return bounds if focus == "Whole gallery" else layers.around(found.fix.lonlat, 2.5 * here.gallery.spec.footprint_m)


def _clicked() -> None:
    """A click on the map looks at a tile, or sets a corner of the region being drawn."""
    selection = st.session_state["map"]["selection"]
    place, tile_id = layers.clicked_place(selection), layers.clicked_tile(selection)
    if place is None and tile_id is None:
        return
    st.session_state["turn"] += 1
    if place is not None:
        st.session_state.setdefault("corners", []).append(place)
    else:
        _look_at(tile_id)


def _look_at(tile_id: int | None) -> None:
    st.session_state["tile_id"] = tile_id


def list_matches(here: Shelf, path: str, question: Question, found: Answer, chosen: Match) -> None:
    """The ranked list; a click on a line looks at its tile."""
    scores = (found.matches[-1].place.score, found.matches[0].place.score)
    with st.container(height=MAP_HEIGHT_PX + 56, border=False, gap="xxsmall", key="ranking"):
        for match in found.matches:
            tile_id, rank = match.place.tile_id, match.place.rank
            with st.container(key=f"match-{'chosen-' if match is chosen else ''}{rank}", gap=None):
                st.html(panels.match_row(match, picture(here, path, tile_id), scores, question.reference))
                st.button(f"Look at match {rank}", key=f"look-{rank}", on_click=_look_at, args=(tile_id,))


if __name__ == "__main__":
    page(*map(Path, sys.argv[1:3]))
