"""The way of a photo, online: one street view in, a place on the map out."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
import torch
from jaxtyping import Float32, Int64

from geoloc.embed import best_device, device_of
from geoloc.encoder import TwinEncoder
from geoloc.errors import ImageError, ImageryError
from geoloc.hits import Alternative, Fix, Hits, ProbabilityMap
from geoloc.locate import Refined, locate
from geoloc.model import load_encoder
from geoloc.places import LonLat, Tile, wrapped_deg
from geoloc.posterior import Evidence
from geoloc.street_view import StreetView
from geoloc.tensors import street_tensor
from indexing.gallery import Gallery
from indexing.likely import Likely, likely_ground
from indexing.milvus import SCHEME, open_served
from indexing.refine import lifted, refine

TOLERANCE_DEG = 20.0
DEPTH = 1000
USUAL_HFOV_DEG = (55.0, 65.0, 75.0, 90.0)
SWEPT_HFOV_DEG = (120.0, 150.0, 180.0, 240.0, 300.0, 360.0)
"""What is tried where nothing says the field of view: of a photo, and of a part of a panorama."""


@dataclass(frozen=True)
class Match:
    """A tile that answers a street view: its place in the ranking, its bounds, and its imagery's path.

    probability: that the place lies nearest to this tile's centre; None without a calibration.
    """

    place: Alternative
    tile: Tile
    source: str
    probability: float | None = None


@dataclass(frozen=True)
class Answer:
    """A street view as it was searched, where it was taken, and the tiles that say so, best first.

    refined: the best hits moved off the tiles' grid; none where the imagery cannot be read, as unrefined
    says. ids, evidence: of all the tiles that were weighed, not only of the matches. likely: the ground that
    holds the place with 90 %, if it is in the gallery; None without a calibration. tolerance_deg: how far off
    a known heading was taken to be. narrowed: to a region or source; "in the gallery" then means among the
    tiles searched.
    """

    view: StreetView
    fix: Fix
    matches: tuple[Match, ...]
    refined: tuple[Refined, ...]
    ids: Int64[np.ndarray, " n"]
    evidence: Evidence
    likely: Likely | None
    tolerance_deg: float
    narrowed: bool
    unrefined: str = ""


def open_gallery(path: Path | str) -> tuple[Gallery, TwinEncoder]:
    """A gallery, to be closed by the caller, and its encoder; milvus:URI is one that Milvus serves.

    Raises GalleryError, ModelError.
    """
    gallery = open_served(str(path)) if str(path).startswith(SCHEME) else Gallery.open(Path(path))
    return gallery, load_encoder(gallery.model_dir).to(best_device())


def answer(
    view: StreetView,
    gallery: Gallery,
    encoder: TwinEncoder,
    *,
    k: int,
    region: shapely.Geometry | None = None,
    source: str | None = None,
    tolerance_deg: float = TOLERANCE_DEG,
) -> Answer:
    """Find the k best tiles for `view`, of those in `region` (lon, lat) and from `source`, see `search`.

    tolerance_deg: how far off a known heading may be. Moving the fix off the tiles' grid is most of the
    work. A field of view that nothing says is the tried one whose best tile stands out most. Raises
    ImageError for a view of nothing but sky or ground, GalleryError where no tile is left.
    """
    heading_deg = None if view.heading_deg is None else view.heading_deg - gallery.north_deg
    asked = _Asked(heading_deg, tolerance_deg, region, source)
    seen = _moved(_best_width(view, gallery, encoder, asked, max(k, DEPTH)), gallery, encoder, asked)
    hits, ids, refined = seen.hits, seen.ids, seen.refined
    known, grid = gallery.calibration, gallery.manifest.grid
    posterior = None if known is None else known.posterior(seen.evidence)
    fix = locate(
        Hits(hits.ids[:, :k], hits.scores[:, :k], hits.headings_deg[:, :k]),
        grid.tile,
        gallery.manifest.stride_m,
        refined=refined,
        map=None if posterior is None else ProbabilityMap(ids, gallery.lonlats(ids), posterior),
    )
    likely, probable = None, dict[int, float]()
    if known and fix.map:
        likely = likely_ground(grid, fix.map, refined, known.scatter(seen.evidence), region)
        probable = dict(zip(ids.tolist(), fix.map.posterior.tiles.tolist(), strict=True))
        fix = dataclasses.replace(fix, radius_m=likely.radius_m)
    matches = (
        Match(hit, grid.tile(hit.tile_id), gallery.source(hit.tile_id), probable.get(hit.tile_id))
        for hit in fix.alternatives
    )
    return Answer(
        view=seen.view,
        fix=fix,
        matches=tuple(matches),
        refined=refined,
        ids=ids,
        evidence=seen.evidence,
        likely=likely,
        tolerance_deg=tolerance_deg,
        narrowed=region is not None or source is not None,
        unrefined=seen.unrefined,
    )


@dataclass(frozen=True)
class _Asked:
    """How a gallery is searched. heading_deg: clockwise from the grid's north; None: every heading is."""

    heading_deg: float | None
    tolerance_deg: float
    region: shapely.Geometry | None
    source: str | None


@dataclass(frozen=True)
class _Seen:
    """A street view as wide as it is taken to be, its embedding, and what the search says of it.

    ids, evidence: of all tiles that are listed, best first, as refined moved them.
    """

    view: StreetView
    query: Float32[np.ndarray, " d"]
    hits: Hits
    ids: Int64[np.ndarray, " n"]
    evidence: Evidence
    refined: tuple[Refined, ...] = ()
    unrefined: str = ""


def _best_width(view: StreetView, gallery: Gallery, encoder: TwinEncoder, asked: _Asked, depth: int) -> _Seen:
    """The view at its field of view, or at the tried one whose best tile stands out most."""
    tried = SWEPT_HFOV_DEG if view.is_panorama else USUAL_HFOV_DEG
    widths = (view.hfov_deg,) if view.hfov_known else tried
    views = [dataclasses.replace(view, hfov_deg=width) for width in widths]
    queries = _embed(views, asked.heading_deg, encoder)
    if not queries.any():
        low, high = encoder.spec.street_elevation_deg
        raise ImageError(
            f"{view.source} shows nothing between {low:g} and {high:g} degrees of elevation, where the model "
            "looks; give a photo that shows the horizon."
        )
    hits = gallery.search(
        queries, depth, region=asked.region, source=asked.source,
        headings_deg=[asked.heading_deg] * len(views), tolerance_deg=asked.tolerance_deg,
    )  # fmt: skip
    weighed = [
        gallery.evidence(
            query, ids, scores, region=asked.region, source=asked.source,
            heading_deg=asked.heading_deg, tolerance_deg=asked.tolerance_deg,
        )
        for query, ids, scores in zip(queries, hits.ids, hits.scores, strict=True)
    ]  # fmt: skip
    best = max(range(len(views)), key=lambda row: weighed[row].standardised(weighed[row].scores)[0])
    ids = hits.ids[best][hits.ids[best] >= 0]
    return _Seen(views[best], queries[best], _row(hits, best), ids, weighed[best])


def _moved(seen: _Seen, gallery: Gallery, encoder: TwinEncoder, asked: _Asked) -> _Seen:
    """The best hits moved off the tiles' grid, none out of the region, and all weighed again.

    As it is where the imagery cannot be read.
    """
    try:
        refined = refine(
            gallery, encoder, seen.query, seen.hits,
            heading_deg=asked.heading_deg, tolerance_deg=asked.tolerance_deg,
        )  # fmt: skip
    except ImageryError as error:
        return dataclasses.replace(seen, unrefined=str(error))
    if asked.region is not None:
        refined = tuple(_within(one, asked.region) for one in refined)
    grid, scores = gallery.manifest.grid, seen.hits.scores[0][: len(seen.ids)]
    ids, scores = lifted(grid, seen.ids, scores, refined)
    evidence = dataclasses.replace(
        seen.evidence, scores=scores.astype(np.float64), rival=gallery.rival(ids, scores)
    )
    return dataclasses.replace(seen, ids=ids, evidence=evidence, refined=refined)


def _embed(
    views: list[StreetView], heading_deg: float | None, encoder: TwinEncoder
) -> Float32[np.ndarray, "q d"]:
    turned = None if heading_deg is None else wrapped_deg(heading_deg)
    canvases = [street_tensor(dataclasses.replace(view, heading_deg=turned), encoder.spec) for view in views]
    with torch.inference_mode():
        batch = torch.stack(canvases).to(device_of(encoder))
        return np.asarray(encoder.embed_street(batch).cpu().numpy())


def _within(one: Refined, region: shapely.Geometry) -> Refined:
    """Moved back into a region (lon, lat) that refining moved it out of."""
    point = shapely.Point(one.lonlat.lon, one.lonlat.lat)
    if region.covers(point):
        return one
    back = shapely.get_point(shapely.shortest_line(region, point), 0)
    return dataclasses.replace(one, lonlat=LonLat(back.x, back.y))


def _row(hits: Hits, row: int) -> Hits:
    only = slice(row, row + 1)
    return Hits(hits.ids[only], hits.scores[only], hits.headings_deg[only])
