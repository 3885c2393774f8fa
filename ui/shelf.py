"""What every visitor of the page shares: the open gallery, its encoder, and pictures of its imagery."""

from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
import streamlit as st
from jaxtyping import UInt8

from geoloc.encoder import TwinEncoder
from geoloc.errors import ImageryError
from geoloc.model import trained_towns
from indexing.answer import Match, open_gallery
from indexing.gallery import Gallery
from preprocessing.imagery import read_overview
from preprocessing.remote import allowed_hosts
from preprocessing.sources import open_imagery
from ui.layers import Corners
from ui.panels import data_uri

OVERVIEW_PX = 2048
TILE_PX = 512


@dataclass(frozen=True)
class Shelf:
    """An open gallery, shared by all visitors; `lock` is held while it is read.

    towns: the synthetic ones that its model was trained on.
    """

    gallery: Gallery
    encoder: TwinEncoder
    lock: Lock
    towns: frozenset[int]


@st.cache_resource(show_spinner="Opening the gallery …", max_entries=4)
def shelf(path: str) -> Shelf:
    """Open the gallery at `path`, once."""
    gallery, encoder = open_gallery(Path(path))
    return Shelf(gallery, encoder, Lock(), trained_towns(gallery.model_dir))


@st.cache_data(show_spinner="Reading the imagery …", max_entries=64)
def backdrop(source: str) -> tuple[str, Corners] | None:
    """An image of the gallery, reduced, as a data URI with its corners; None where it has moved."""
    try:
        pixels, corners = read_overview(open_imagery(source, allowed_hosts()), OVERVIEW_PX)
    except ImageryError:
        return None
    return data_uri(pixels, OVERVIEW_PX), corners


def picture(here: Shelf, match: Match) -> str:
    """A match's tile as a data URI; an empty one where the imagery has moved."""
    return _picture(here, here.gallery.manifest.version, match.place.tile_id)


def pixels(here: Shelf, match: Match) -> UInt8[np.ndarray, "s s 3"] | None:
    """A match's tile around where it was refined to; None where the imagery has moved."""
    try:
        with here.lock:
            return here.gallery.read_around(match.tile, 0)
    except ImageryError:
        return None


@st.cache_data(show_spinner=False, max_entries=2000)
def _picture(_here: Shelf, version: str, tile_id: int) -> str:  # noqa: ARG001 - version is for the cache
    try:
        with _here.lock:
            return data_uri(_here.gallery.read_tile(tile_id), TILE_PX)
    except ImageryError:
        return "data:,"
