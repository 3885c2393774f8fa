"""What every visitor of the page shares: the open gallery, its encoder, and pictures of its imagery."""

from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
import streamlit as st
from jaxtyping import UInt8

from geoloc.encoder import TwinEncoder
from geoloc.errors import GalleryError, ImageryError
from geoloc.model import trained_towns
from indexing.answer import Match, open_gallery
from indexing.gallery import Gallery
from indexing.manifest import Source, live_folder
from indexing.source import open_source
from preprocessing.imagery import read_overview
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


def _is_live(here: Shelf) -> bool:
    """Whether the gallery is still the version that is published."""
    try:
        return live_folder(here.gallery.path).name == here.gallery.manifest.version
    except GalleryError:
        return False


@st.cache_resource(show_spinner="Opening the gallery …", max_entries=4, validate=_is_live)
def shelf(path: str) -> Shelf:
    """Open the gallery at `path`, once for each version that is published."""
    gallery, encoder = open_gallery(Path(path))
    return Shelf(gallery, encoder, Lock(), trained_towns(gallery.model_dir))


def backdrop(source: Source) -> tuple[str, Corners] | None:
    """An image of the gallery, reduced, as a data URI with its corners; None where it has gone."""
    try:
        return _backdrop(source.path, source.bytes, source)
    except ImageryError:
        return None


@st.cache_data(show_spinner="Reading the imagery …", max_entries=64)
def _backdrop(path: str, bytes: int, _source: Source) -> tuple[str, Corners]:  # noqa: ARG001 - for the cache
    pixels, corners = read_overview(open_source(_source), OVERVIEW_PX)
    return data_uri(pixels, OVERVIEW_PX), corners


def picture(here: Shelf, match: Match) -> str | None:
    """A match's tile as a data URI; None where the imagery has moved or changed."""
    try:
        return _picture(here, here.gallery.manifest.version, match.place.tile_id)
    except ImageryError:
        return None


def pixels(here: Shelf, match: Match) -> UInt8[np.ndarray, "s s 3"] | None:
    """What lies around where a match was refined to; None where the imagery has moved or changed."""
    try:
        with here.lock:
            return here.gallery.read_around(match.tile.moved_to(match.place.lonlat), 0)
    except ImageryError:
        return None


@st.cache_data(show_spinner=False, max_entries=2000)
def _picture(_here: Shelf, version: str, tile_id: int) -> str:  # noqa: ARG001 - version is for the cache
    with _here.lock:
        return data_uri(_here.gallery.read_tile(tile_id), TILE_PX)
