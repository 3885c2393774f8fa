"""The way of a photo, online: one street view in, a place on the map out."""

from dataclasses import dataclass
from pathlib import Path

import shapely
import torch

from geoloc.encoder import TwinEncoder
from geoloc.hits import Alternative, Fix
from geoloc.locate import locate
from geoloc.model import load_encoder
from geoloc.places import Tile
from geoloc.street_view import StreetView
from geoloc.tensors import street_tensor
from indexing.gallery import Gallery


@dataclass(frozen=True)
class Match:
    """A tile that answers a street view: its place in the ranking, its bounds, and its imagery's path."""

    place: Alternative
    tile: Tile
    source: str


@dataclass(frozen=True)
class Answer:
    """A street view, where it was taken, and the tiles that say so, best first."""

    view: StreetView
    fix: Fix
    matches: tuple[Match, ...]


def open_gallery(path: Path) -> tuple[Gallery, TwinEncoder]:
    """A gallery, to be closed by the caller, and its encoder. Raises GalleryError, ModelError."""
    gallery = Gallery.open(path)
    return gallery, load_encoder(gallery.model_dir)


def answer(
    view: StreetView,
    gallery: Gallery,
    encoder: TwinEncoder,
    *,
    k: int,
    region: shapely.Geometry | None = None,
) -> Answer:
    """Find the k best tiles for `view`, those with their centre in `region` (lon, lat) where it is given.

    Raises GalleryError where no tile lies in the region.
    """
    canvas = street_tensor(view, encoder.spec)
    with torch.inference_mode():
        query = encoder.embed_street(canvas[None]).numpy()
    hits = gallery.search(query, k, region=region, headings_deg=[view.heading_deg])
    fix = locate(hits, gallery.tile, gallery.manifest.stride_m)
    return Answer(
        view,
        fix,
        tuple(Match(hit, gallery.tile(hit.tile_id), gallery.source(hit.tile_id)) for hit in fix.alternatives),
    )
