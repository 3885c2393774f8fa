"""What the page asks: which street view, what is known about it, and where to search."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import shapely
import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from geoloc.errors import GeolocError, ImageError
from geoloc.places import LonLat
from geoloc.street_view import DEFAULT_HFOV_DEG, WIDEST_PHOTO, StreetView, narrowed, read_street_view
from indexing.answer import TOLERANCE_DEG
from indexing.region import parse_region
from ui.clicks import region_of_corners
from ui.panels import compass
from ui.samples import Sample, read_sample

T = TypeVar("T")
MOST_HFOV_DEG = 179
TYPES = ["jpg", "jpeg", "png", "webp", "mpo"]


@dataclass(frozen=True)
class Question:
    """A street view, and the place it is said to be from, if any.

    key: names the file. reference_name: what the reference is, "truth" or "GPS tag". tolerance_deg: how far
    off a known heading may be.
    """

    key: str
    view: StreetView
    reference: LonLat | None
    reference_name: str
    tolerance_deg: float = TOLERANCE_DEG


def memo(slot: str, key: object, make: Callable[[], T]) -> T:
    """`make()`, kept for this visitor until `key` changes."""
    if slot not in st.session_state or st.session_state[slot][0] != key:
        st.session_state[slot] = (key, make())
    value: T = st.session_state[slot][1]
    return value


def ask_street_view(samples: Sequence[Sample]) -> Question | None:
    """Let the user pick a sample or upload a file; the question is as the file itself would ask it.

    Raises ImageError for a file that is no street view.
    """
    sampled = "Sample" if samples else "Upload"
    if samples:
        sampled = st.segmented_control(
            "Street view", ["Sample", "Upload"], default="Sample", required=True, key="source",
            width="stretch",
        )  # fmt: skip
    if sampled == "Sample":
        sample = _ask_sample(samples)
        name = sample.path.name
        return Question(name, memo("view", name, lambda: read_sample(sample)), sample.lonlat, "truth")
    upload = st.file_uploader(
        "Photo or 360° panorama", TYPES, key="upload", help="It is read in memory and never written to disk."
    )
    if upload is None:
        return None
    view, doubt = memo("view", upload.file_id, lambda: _read_upload(upload))
    if doubt:
        st.warning(f"{doubt} Its metadata is left aside here; say below what you know.")
    return Question(upload.file_id, _ask_kind(view, upload.file_id), view.lonlat, "GPS tag")


def _read_upload(upload: UploadedFile) -> tuple[StreetView, str]:
    """A file's street view, and what in its metadata cannot be true; then none of that is believed."""
    try:
        return read_street_view(upload, name=upload.name), ""
    except ImageError as error:
        upload.seek(0)
        return read_street_view(upload, name=upload.name, metadata=False), str(error)


def _ask_sample(samples: Sequence[Sample]) -> Sample:
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small", wrap=False):
        st.selectbox(
            "Sample", range(len(samples)), format_func=lambda index: samples[index].name, key="sample",
            label_visibility="collapsed",
        )  # fmt: skip
        st.button("Next", on_click=_next_sample, args=(len(samples),), key="next-sample")
    return samples[int(st.session_state["sample"])]


def _next_sample(count: int) -> None:
    st.session_state["sample"] = (st.session_state["sample"] + 1) % count


def ask_pose(question: Question) -> Question:
    """Let the user correct what is known of the street view: its heading and field of view."""
    view, key = question.view, question.key
    known = st.toggle(
        "Heading known",
        view.heading_deg is not None,
        key=f"known-{key}",
        help="Without it every heading is tried, and the best one is reported.",
    )
    heading_deg, tolerance_deg = view.heading_deg or 0.0, TOLERANCE_DEG
    if known:
        with st.container(horizontal=True, vertical_alignment="center", gap="small", wrap=False):
            dial = st.empty()
            heading_deg = st.slider(
                "Heading, ° from north", 0.0, 359.9, min(359.9, heading_deg), 0.1, format="%.0f°",
                key=f"heading-{key}", help="Of the image centre, clockwise from true north.",
            )  # fmt: skip
        tolerance_deg = st.slider(
            "Give or take, °", 0, 90, round(TOLERANCE_DEG), key=f"tolerance-{key}",
            help="How far off the heading may be. A phone's compass is easily 20° off.",
        )  # fmt: skip
        dial.html(compass(heading_deg, tolerance_deg))
    width_known = _is_known_panorama(view) or st.toggle(
        "Field of view known",
        view.hfov_known,
        key=f"hfov-known-{key}",
        help="Without it the usual ones are tried, and the one that fits best is reported.",
    )
    if width_known:
        view = _ask_width(view, key)
    return dataclasses.replace(
        question,
        view=dataclasses.replace(view, heading_deg=heading_deg if known else None, hfov_known=width_known),
        tolerance_deg=float(tolerance_deg),
    )


def _ask_width(view: StreetView, key: str) -> StreetView:
    now = max(2, round(view.hfov_deg))
    cropped = _is_known_panorama(view)
    widest = now if cropped else 360 if view.is_panorama else MOST_HFOV_DEG
    hfov_deg = st.slider(
        "Field of view, °",
        min(20, now - 1),
        widest,
        now,
        key=f"hfov-{key}-{view.is_panorama}-{cropped}",
        help="A panorama is cropped to it. Of a part of one, say how much it spans; of a photo, how wide its "
        "lens saw.",
    )
    return view if hfov_deg == now else seen_through(view, float(hfov_deg))


def _ask_kind(view: StreetView, key: str) -> StreetView:
    known = _is_known_panorama(view)
    is_whole = st.toggle("It is a 360° panorama", known, key=f"panorama-{key}")
    if is_whole == known:
        return view
    h, w = view.rgb.shape[:2]
    is_panorama = is_whole or w / h > WIDEST_PHOTO
    hfov_deg = 360.0 if is_panorama else DEFAULT_HFOV_DEG
    return dataclasses.replace(view, is_panorama=is_panorama, hfov_deg=hfov_deg, hfov_known=is_whole)


def _is_known_panorama(view: StreetView) -> bool:
    return view.is_panorama and view.hfov_known


def seen_through(view: StreetView, hfov_deg: float) -> StreetView:
    """The middle of a panorama of known width; any other view, taken to be so wide."""
    if _is_known_panorama(view):
        return narrowed(view, hfov_deg)
    return dataclasses.replace(view, hfov_deg=hfov_deg)


def ask_region() -> shapely.Geometry | None:
    """Let the user draw or upload a region; None searches the whole gallery."""
    region: shapely.Geometry | None = st.session_state.get("region")
    with st.popover("Search region" if region is None else "Search region: on", width="stretch"):
        st.button("Draw on the map", on_click=_draw, args=(True,), width="stretch", icon=":material/draw:")
        st.file_uploader(
            "or upload GeoJSON",
            ["geojson", "json"],
            key="region-file",
            on_change=_take_region_file,
            max_upload_size=16,
        )
        st.button(
            "Search everywhere", on_click=_search_in, args=(None,), disabled=region is None, width="stretch"
        )
    if "region-error" in st.session_state:
        st.error(st.session_state["region-error"])
    return region


def ask_corners() -> list[LonLat]:
    """While a region is drawn: say how, and offer to finish. Returns the corners clicked so far."""
    if not st.session_state.get("drawing"):
        return []
    corners: list[LonLat] = st.session_state["corners"]
    drawn = region_of_corners(corners)
    with st.container(
        horizontal=True, vertical_alignment="center", key="drawing-bar", width="content", gap="xsmall"
    ):
        st.markdown("**Click corners:** two for a box, more for a polygon", width="content")
        st.button("Search here", type="primary", on_click=_search_in, args=(drawn,), disabled=drawn is None)
        st.button("Cancel", on_click=_draw, args=(False,))
    return corners


def _draw(drawing: bool) -> None:
    st.session_state["drawing"], st.session_state["corners"] = drawing, []


def _search_in(region: shapely.Geometry | None, from_file: bool = False) -> None:
    st.session_state.pop("region-error", None)
    st.session_state["region"], st.session_state["region-from-file"] = region, from_file
    _draw(False)


def _take_region_file() -> None:
    st.session_state.pop("region-error", None)
    upload = st.session_state["region-file"]
    if upload is None:
        if st.session_state.get("region-from-file"):
            _search_in(None)
        return
    try:
        _search_in(parse_region(upload.getvalue()), from_file=True)
    except GeolocError as error:
        st.session_state["region-error"] = str(error)
