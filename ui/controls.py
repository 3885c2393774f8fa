"""What the page asks: which street view, what is known about it, and where to search."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import streamlit as st
from shapely.geometry.base import BaseGeometry

from geoloc.errors import GeolocError
from geoloc.places import LonLat
from geoloc.street_view import DEFAULT_HFOV_DEG, StreetView, read_street_view
from ui.regions import read_region, region_of_corners
from ui.samples import Sample, read_sample

T = TypeVar("T")
TYPES = ["jpg", "jpeg", "png", "webp", "mpo"]


@dataclass(frozen=True)
class Question:
    """A street view as the user describes it, and the place it is said to be from, if any.

    key: equal for equal questions. reference_name: what the reference is, "truth" or "GPS tag".
    """

    key: tuple[Any, ...]
    view: StreetView
    reference: LonLat | None
    reference_name: str


def memo(slot: str, key: object, make: Callable[[], T]) -> T:
    """`make()`, kept for this visitor until `key` changes."""
    if slot not in st.session_state or st.session_state[slot][0] != key:
        st.session_state[slot] = (key, make())
    value: T = st.session_state[slot][1]
    return value


def ask_street_view(samples: Sequence[Sample]) -> Question | None:
    """Let the user pick a sample or upload a file, and correct what is known about it.

    Raises ImageError for a file that is no street view.
    """
    sampled = "Sample"
    if samples:
        sampled = st.segmented_control(
            "Street view", ["Sample", "Upload"], default="Sample", required=True, key="source", width="stretch"
        )
    if samples and sampled == "Sample":
        sample = _ask_sample(samples)
        key, view = sample.path.name, memo("view", sample.path.name, lambda: read_sample(sample))
        reference, name = sample.lonlat, "truth"
    else:
        upload = st.file_uploader(
            "Photo or 360° panorama", TYPES, key="upload", help="Read in memory; never written to disk."
        )
        if upload is None:
            return None
        key = upload.file_id
        view = memo("view", key, lambda: read_street_view(upload, name=upload.name))
        reference, name = view.lonlat, "GPS tag"
        view = _ask_kind(view, key)
    view = _ask_pose(view, key)
    return Question((key, view.heading_deg, view.hfov_deg, view.is_panorama), view, reference, name)


def _ask_sample(samples: Sequence[Sample]) -> Sample:
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small", wrap=False):
        st.selectbox(
            "Sample", range(len(samples)), format_func=lambda index: samples[index].name, key="sample",
            label_visibility="collapsed",
        )
        st.button("Next", on_click=_next_sample, args=(len(samples),), key="next-sample")
    return samples[st.session_state["sample"]]


def _next_sample(count: int) -> None:
    st.session_state["sample"] = (st.session_state["sample"] + 1) % count


def _ask_kind(view: StreetView, key: str) -> StreetView:
    is_panorama = st.toggle("360° panorama", view.is_panorama, key=f"panorama-{key}")
    if is_panorama == view.is_panorama:
        return view
    hfov_deg = 360.0 if is_panorama else DEFAULT_HFOV_DEG
    return dataclasses.replace(view, is_panorama=is_panorama, hfov_deg=hfov_deg)


def _ask_pose(view: StreetView, key: str) -> StreetView:
    known = st.toggle(
        "Heading known", view.heading_deg is not None, key=f"known-{key}",
        help="Without it every heading is tried, and the best one is reported.",
    )
    heading_deg = st.number_input(
        "Heading of the image centre, ° from north", 0.0, 359.9, round(view.heading_deg or 0.0, 1), 5.0,
        format="%.1f", key=f"heading-{key}", disabled=not known,
    )
    widest = round(view.hfov_deg) if view.is_panorama else 170
    hfov_deg = st.slider(
        "Field of view, °", min(20, widest - 1), widest, round(view.hfov_deg), key=f"hfov-{key}-{view.is_panorama}",
        help="A panorama is cropped to it. Of a photo, say how wide its lens saw.",
    )
    asked = view if hfov_deg == round(view.hfov_deg) else seen_through(view, float(hfov_deg))
    if known and view.heading_deg is not None and heading_deg == round(view.heading_deg, 1):
        return asked
    return dataclasses.replace(asked, heading_deg=heading_deg if known else None)


def seen_through(view: StreetView, hfov_deg: float) -> StreetView:
    """A panorama's middle `hfov_deg`, cropped by whole columns; a photo, taken to be so wide."""
    if not view.is_panorama:
        return dataclasses.replace(view, hfov_deg=hfov_deg)
    w = view.rgb.shape[1]
    kept = min(w, max(32, round(w * hfov_deg / view.hfov_deg)))
    left = (w - kept) // 2
    return dataclasses.replace(view, rgb=view.rgb[:, left : left + kept], hfov_deg=view.hfov_deg * kept / w)


def ask_region() -> BaseGeometry | None:
    """Let the user draw or upload a region; None searches the whole gallery."""
    region: BaseGeometry | None = st.session_state.get("region")
    with st.popover("Search region" if region is None else "Search region: on", width="stretch"):
        st.toggle(
            "Draw on the map", key="drawing", on_change=_forget_corners,
            help="Click two corners for a rectangle, three or more for a polygon.",
        )
        st.file_uploader("or upload GeoJSON", ["geojson", "json"], key="region-file", on_change=_take_region_file)
        st.button("Search everywhere", on_click=_set_region, args=(None,), disabled=region is None, width="stretch")
    if "region-error" in st.session_state:
        st.error(st.session_state["region-error"])
    return region


def ask_corners() -> list[LonLat]:
    """While a region is drawn: say how, and offer to finish. Returns the corners clicked so far."""
    if not st.session_state.get("drawing"):
        return []
    corners: list[LonLat] = st.session_state.setdefault("corners", [])
    drawn = region_of_corners(corners)
    with st.container(horizontal=True, vertical_alignment="center", key="drawing-bar"):
        st.markdown("**Click corners on the map.** Two make a rectangle, three or more a polygon.")
        st.button("Search here", type="primary", on_click=_set_region, args=(drawn,), disabled=drawn is None)
        st.button("Start over", on_click=_forget_corners, disabled=not corners)
    return corners


def _set_region(region: BaseGeometry | None) -> None:
    st.session_state["region"] = region
    st.session_state["drawing"] = False
    _forget_corners()


def _forget_corners() -> None:
    st.session_state["corners"] = []


def _take_region_file() -> None:
    st.session_state.pop("region-error", None)
    upload = st.session_state["region-file"]
    if upload is None:
        return
    try:
        _set_region(read_region(upload, upload.name))
    except GeolocError as error:
        st.session_state["region-error"] = str(error)
