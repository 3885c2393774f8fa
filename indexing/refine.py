"""Where in the tile: the best hits again on crops of the imagery around them, finer than the grid."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64, Shaped, UInt8

from geoloc.embed import device_of
from geoloc.encoder import TwinEncoder
from geoloc.errors import ImageryError
from geoloc.hits import Hits
from geoloc.locate import Refined
from geoloc.places import LonLat, Tile, to_lonlat
from indexing.embed import embed_tiles
from indexing.gallery import Gallery
from indexing.segment import best_turns
from preprocessing.tiles import Grid

MODES = 3
FINEST_M = 2.0
AROUND = 2
SAME = 0.1
"""A tile whose score on the imagery of today differs by more from the stored one shows something else."""

Scores = tuple[Float32[np.ndarray, "n"], Float32[np.ndarray, "n"]]
"""Of crops: their scores, and by how many bins the query is turned for them."""


def refine(
    gallery: Gallery,
    encoder: TwinEncoder,
    query: Float32[np.ndarray, "d"],
    hits: Hits,
    *,
    heading_deg: float | None = None,
    tolerance_deg: float = 0.0,
) -> tuple[Refined, ...]:
    """The best three separate hits of a one-query search, each moved to where the query fits best.

    Around each hit, crops half a stride apart and up to a stride off are embedded, then crops 2 m
    apart around the best of them; the place is the top of the paraboloid through the scores of that
    one and its eight neighbours. Best first; of hits that meet within a stride the best alone is left.
    Raises ImageryError where the imagery has moved, or shows something else than what was embedded.
    """
    turns = gallery.turns(heading_deg, tolerance_deg)
    found = []
    for tile_id in _separate(gallery, hits.ids[0]):
        tile = gallery.manifest.grid.tile(tile_id)
        reach = max(1, round(gallery.manifest.stride_m / tile.gsd_m))
        step = max(1, round(FINEST_M / tile.gsd_m))
        pixels = gallery.read_around(tile, reach + 2 * step)

        def scores(
            offsets: Int64[np.ndarray, "n 2"], tile: Tile = tile, pixels: np.ndarray = pixels
        ) -> Scores:
            crops = _crops(pixels, offsets, tile.size_px)
            embeddings = embed_tiles(crops, encoder, device_of(encoder)).astype(np.float32)
            return best_turns(query, embeddings, gallery.spec, turns)

        coarse = lattice(np.arange(-2, 3) * max(1, reach // 2))
        score, _ = scores(coarse)
        if abs(score[len(coarse) // 2] - hits.scores[0][hits.ids[0] == tile_id].item()) > SAME:
            raise ImageryError(
                f"{gallery.source(tile_id)} does not show what was indexed; put that back, or name the new "
                "one to geoloc index replace."
            )
        best = coarse[score.argmax()]
        fine = best + lattice(np.arange(-1, 2) * step)
        score, turn = scores(fine)
        top = int(score.argmax())
        at = fine[top] if top != 4 else best + step * paraboloid_top(score.reshape(3, 3))
        (heading,) = gallery.looks_deg(turn[[top]], heading_deg, tolerance_deg)
        found.append(Refined(tile_id, moved(tile, at), float(score[top]), float(heading)))
    apart: list[Refined] = []
    for one in sorted(found, key=lambda one: -one.score):
        if all(one.lonlat.distance_m(other.lonlat) >= gallery.manifest.stride_m for other in apart):
            apart.append(one)
    return tuple(apart)


def lifted(
    grid: Grid,
    ids: Int64[np.ndarray, "n"],
    scores: Float32[np.ndarray, "n"],
    refined: Sequence[Refined],
) -> tuple[Int64[np.ndarray, "n"], Float32[np.ndarray, "n"]]:
    """A search's hits by what `refine` found, best first.

    Tiles up to AROUND cells from a refined one show the same place: they become as much better as it did, but
    no better than it is.
    """
    better = scores.copy()
    for one in refined:
        near, (before,) = around(grid, ids, one.tile_id), scores[ids == one.tile_id]
        raised = np.minimum(scores[near] + one.score - before, one.score)
        better[near] = np.maximum(better[near], raised)
    order = np.argsort(-better, kind="stable")
    return ids[order], better[order]


def around(grid: Grid, ids: Int64[np.ndarray, "n"], tile_id: int) -> Bool[np.ndarray, " n"]:
    """Which tiles lie up to AROUND cells from a tile, in its zone."""
    zones, columns, rows = grid.cells(ids)
    (zone,), (column,), (row,) = grid.cells(np.array([tile_id]))
    return np.asarray((np.maximum(abs(columns - column), abs(rows - row)) <= AROUND) & (zones == zone))


def _separate(gallery: Gallery, ids: Int64[np.ndarray, "k"]) -> list[int]:
    """The best hits that lie two strides or more from each better one."""
    kept: list[Tile] = []
    for tile in (gallery.manifest.grid.tile(int(id)) for id in ids[ids >= 0][:64]):
        least = 2 * gallery.manifest.stride_m
        apart = (
            tile.crs != other.crs
            or max(abs(tile.bounds[0] - other.bounds[0]), abs(tile.bounds[1] - other.bounds[1])) >= least
            for other in kept
        )
        if all(apart):
            kept.append(tile)
        if len(kept) == MODES:
            break
    return [tile.id for tile in kept]


def lattice(line: Shaped[np.ndarray, " n"]) -> Shaped[np.ndarray, "nn 2"]:
    """The offsets (east, north) of a square lattice, from those along a side; row by row from the south."""
    return np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)


def _crops(
    pixels: UInt8[np.ndarray, "w w 3"], offsets: Int64[np.ndarray, "n 2"], side: int
) -> Sequence[UInt8[np.ndarray, "s s 3"]]:
    """Tiles of `side` pixels, their centres off the middle of `pixels` by offsets (east, north)."""
    spare = (pixels.shape[0] - side) // 2
    corners = [(spare - int(north), spare + int(east)) for east, north in offsets]
    return [pixels[top : top + side, left : left + side] for top, left in corners]


def paraboloid_top(scores: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "2"]:
    """Where the least-squares paraboloid through nine scores is highest: (column, row) off the middle.

    Within one step of it; 0, 0 where the scores do not bend downwards.
    """
    x, y = np.meshgrid([-1.0, 0.0, 1.0], [-1.0, 0.0, 1.0])
    terms = np.stack([x * x, x * y, y * y, x, y, np.ones((3, 3))], axis=-1).reshape(9, 6)
    (xx, xy, yy, east, north, _), *_ = np.linalg.lstsq(
        terms, scores.reshape(9).astype(np.float64), rcond=None
    )
    bend = np.array([[2 * xx, xy], [xy, 2 * yy]])
    if np.linalg.eigvalsh(bend).max() > -1e-9:
        return np.zeros(2)
    return np.asarray(np.clip(np.linalg.solve(bend, [-east, -north]), -1, 1))


def moved(tile: Tile, offset_px: Float[np.ndarray, "2"]) -> LonLat:
    """The point that lies offset_px (east, north) from the tile's centre."""
    left, bottom, right, top = tile.bounds
    x, y = (left + right) / 2 + offset_px[0] * tile.gsd_m, (bottom + top) / 2 + offset_px[1] * tile.gsd_m
    return LonLat(*to_lonlat(tile.crs).transform(x, y))
