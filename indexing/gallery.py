"""Step 4: a published gallery, every byte checked before it is believed, and its search by FAISS."""

import os
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType

import geopandas
import numpy as np
import pandas
import shapely
from jaxtyping import Float, Float32, Int64, UInt8

from geoloc.errors import GalleryError, ModelError
from geoloc.hits import Hits
from geoloc.model import SPEC, read_spec
from geoloc.places import LonLat, Tile, flat_m, to_lonlat, turned_deg
from geoloc.posterior import Calibration, Evidence, read_calibration
from geoloc.spec import EncoderSpec
from indexing.blocks import SUFFIX
from indexing.manifest import EMBEDDINGS, INDEX, Manifest, Source, check_to_open
from indexing.opened import OpenSegment, open_segment
from indexing.rows import Ranges, both, count, holds, nth, rows_of
from indexing.segment import best_turns
from indexing.source import open_source
from indexing.table import rows_from, rows_inside, source_at
from indexing.versions import hold_live
from preprocessing.imagery import read_square
from preprocessing.source import Bounds, Imagery

_SAMPLE, _NORTHS = 4096, 256

Served = Callable[[Path, Manifest], Sequence[OpenSegment]]
"""Opens the segments of a gallery's version."""


def _of_files(path: Path, manifest: Manifest) -> Sequence[OpenSegment]:
    return [open_segment(path, segment, manifest.spec) for segment in manifest.segments]


class Gallery:
    """The live version of a gallery. Open it with `Gallery.open`; it stays on that version.

    manifest: what the version says about itself. model_dir: the model that made it.
    """

    def __init__(self, path: Path, manifest: Manifest, segments: Sequence[OpenSegment], held: int) -> None:
        self.path = path
        self.manifest = manifest
        self.model_dir = path / manifest.model
        self._open_segments: Sequence[OpenSegment] | None = segments
        self._imagery: dict[str, Imagery] = {}
        self._let_go = weakref.finalize(self, os.close, held)

    @classmethod
    def open(cls, path: Path, served: Served | None = None) -> "Gallery":
        """Open the version that CURRENT names, after `check_to_open` of every file.

        Until it is closed `gc` leaves the version alone. served: what serves its embeddings instead of its
        files, which then are not looked at. Raises GalleryError, with cause and remedy, for
        anything missing, damaged or inconsistent; that no tile is there twice, `verify` says.
        """
        manifest, held = hold_live(path)
        try:
            elsewhere = (EMBEDDINGS, INDEX, INDEX + SUFFIX) if served else ()
            check_to_open(path, [file for file in manifest.files if not file.name.endswith(elsewhere)])
            if read_spec(path / manifest.model) != manifest.spec:
                raise GalleryError(
                    f"{path}: {manifest.model}/{SPEC} is not the manifest's; build the gallery again."
                )
            return cls(path, manifest, (served or _of_files)(path, manifest), held)
        except BaseException:
            os.close(held)
            raise

    def __enter__(self) -> "Gallery":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the indexes and the version go; the gallery cannot be searched any more."""
        for one in self._open_segments or ():
            one.segment.close()
        self._open_segments = None
        self._let_go()

    def __len__(self) -> int:
        return self.manifest.rows

    @property
    def spec(self) -> EncoderSpec:
        """The spec of the model that embedded the tiles; queries must be of the same."""
        return self.manifest.spec

    @property
    def bounds_lonlat(self) -> Bounds:
        """(west, south, east, north) of all tiles, in degrees."""
        return self.manifest.bounds_lonlat

    @cached_property
    def tiles(self) -> geopandas.GeoDataFrame:
        """One row per tile, see `make_table`; geometry is the footprint in EPSG:4326."""
        tables = [segment.tiles for segment in self.segments]
        return tables[0] if len(tables) == 1 else pandas.concat(tables, ignore_index=True)

    @cached_property
    def calibration(self) -> Calibration | None:
        """How sure the gallery's model may be of its scores, None where it was never calibrated."""
        return read_calibration(self.model_dir)

    @cached_property
    def north_deg(self) -> float:
        """The true azimuth of the grid's north: midway between the least and the most of tiles all over.

        A grid of UTM zones leans by up to 3 degrees to either side, so no tile is more than that off it.
        """
        ids = np.concatenate([one.all_ids[rows] for one, rows in self._spread(_NORTHS)])
        norths = [self.manifest.grid.tile(id).north_deg for id in ids.tolist()]
        return (min(norths) + max(norths)) / 2

    def lonlats(self, ids: Int64[np.ndarray, "n"]) -> Float[np.ndarray, "n 2"]:
        """The centres of tiles of its grid: (lon, lat) in degrees, a row for each."""
        grid = self.manifest.grid
        zones, middles = grid.middles(ids)
        lonlats = np.empty((len(ids), 2))
        for zone in np.unique(zones).tolist():
            here = zones == zone
            lonlats[here] = np.stack(to_lonlat(grid.crs(zone)).transform(*middles[here].T), axis=1)
        return lonlats

    @cached_property
    def _centres(self) -> tuple[Int64[np.ndarray, "n"], Float[np.ndarray, "n 2"]]:
        """The ids of all tiles, and their centres."""
        ids = np.concatenate([one.all_ids[rows_of(one.kept)] for one in self.segments])
        return ids, self.lonlats(ids)

    def nearest(self, place: LonLat) -> int:
        """The id of the tile whose centre lies nearest."""
        ids, lonlats = self._centres
        return int(ids[flat_m(lonlats, place).argmin()])

    def tile(self, id: int) -> Tile:
        """The tile of an id. Raises GalleryError for an id that is not in this gallery."""
        self._row(id)
        return self.manifest.grid.tile(id)

    def source(self, id: int) -> str:
        """The path of the imagery that most of the tile was cut from."""
        segment, row = self._row(id)
        return source_at(segment.table, row)

    def read_tile(self, id: int) -> UInt8[np.ndarray, "s s 3"]:
        """The tile's pixels, read from the imagery as the build read them.

        Raises ImageryError where the imagery has moved or changed, GalleryError for an unknown id.
        """
        return self.read_around(self.tile(id), 0)

    def read_around(self, tile: Tile, spare_px: int) -> UInt8[np.ndarray, "w w 3"]:
        """The tile's pixels and spare_px more of the same size on every side, black beyond the imagery.

        Raises ImageryError where that has moved or changed.
        """
        spare_m = spare_px * tile.gsd_m
        left, bottom, right, top = tile.bounds
        bounds = left - spare_m, bottom - spare_m, right + spare_m, top + spare_m
        lon, lat = to_lonlat(tile.crs).transform(*np.array(bounds)[[[0, 0, 2, 2], [1, 3, 3, 1]]])
        around = shapely.box(min(lon), min(lat), max(lon), max(lat))
        touching = [s for s in self.manifest.sources if shapely.box(*s.bounds_lonlat).intersects(around)]
        imagery = [self._open_imagery(source) for source in touching]
        side_px = tile.size_px + 2 * spare_px
        rgb, _ = read_square(imagery, tile.crs, bounds, (side_px, side_px))
        return rgb

    def _open_imagery(self, source: Source) -> Imagery:
        if source.path not in self._imagery:
            self._imagery[source.path] = open_source(source)
        return self._imagery[source.path]

    def _row(self, id: int) -> tuple[OpenSegment, int]:
        """Where a tile is, looked for from end to end: 8 ms in ten million, which take a second to sort."""
        for segment in self.segments:
            for row in np.flatnonzero(segment.all_ids == id).tolist():
                if holds(segment.kept, row):
                    return segment, row
        raise GalleryError(f"Tile {id} is not in this gallery; it may be of another one.")

    def search(
        self,
        queries: Float32[np.ndarray, "q d"],
        k: int,
        *,
        region: shapely.Geometry | None = None,
        source: str | None = None,
        headings_deg: Sequence[float | None] | None = None,
        tolerance_deg: float = 0.0,
    ) -> Hits:
        """The k best tiles for each query, best first; of equal scores the lower id comes first.

        region: in lonlat; only tiles whose centre lies inside. source: a glob; only tiles cut from imagery
        whose path matches. headings_deg: a known heading means that the query lies on its canvas by it: it is
        searched as it is, and turned by whole azimuth bins up to tolerance_deg either way, to the nearest
        bin; no answer is further off. Where it is None the query is searched in each of the `a` turns. A tile
        keeps its best score and that turn as its heading (DSM, Shi 2020), between bins by a parabola.
        What is answered is scored from the stored embeddings, whatever the index left of them. Scores are
        cosines over the azimuths that the query shows. Raises ModelError for queries of another model,
        GalleryError where no tile is left.
        """
        known = [None] * len(queries) if headings_deg is None else headings_deg
        self._check_queries(queries, k, known)
        only = self._rows_where(region, source)
        hits = [
            self._search_one(query, k, heading, tolerance_deg, only)
            for query, heading in zip(queries, known, strict=True)
        ]
        ids, scores, headings = (
            (np.stack(part) for part in zip(*hits, strict=True))
            if hits
            else (np.empty((0, k), dtype) for dtype in (np.int64, np.float32, np.float32))
        )
        return Hits(ids, scores, headings)

    def turns(self, heading_deg: float | None, tolerance_deg: float) -> Int64[np.ndarray, "t"]:
        """By how many bins to roll a query: every way, or those within the tolerance of a known heading."""
        bins = self.spec.azimuth_bins
        reach = round(tolerance_deg * bins / 360)
        if heading_deg is None or 2 * reach + 1 >= bins:
            return np.arange(bins)
        return np.arange(-reach, reach + 1) % bins

    def looks_deg(
        self, turn: Float32[np.ndarray, "n"], heading_deg: float | None, tolerance_deg: float
    ) -> Float[np.ndarray, "n"]:
        """Where a query looks that fits `turn` bins on, clockwise from the grid's north.

        Within the tolerance of a known heading; NaN where neither that nor azimuth bins say it.
        """
        bins = self.spec.azimuth_bins
        if heading_deg is None:
            return np.asarray(turn * 360 / bins % 360) if bins > 1 else np.full(len(turn), np.nan)
        off_deg = np.clip(turned_deg(turn * 360 / bins, 0.0), -tolerance_deg, tolerance_deg)
        return np.asarray((heading_deg + off_deg) % 360)

    def _search_one(
        self,
        query: Float32[np.ndarray, "d"],
        k: int,
        heading_deg: float | None,
        tolerance_deg: float,
        only: Sequence[Ranges],
    ) -> tuple[Int64[np.ndarray, "k"], Float32[np.ndarray, "k"], Float32[np.ndarray, "k"]]:
        """Ids, scores and headings of the k best tiles of all segments over the query's turns."""
        turns = self.turns(heading_deg, tolerance_deg)
        found = [one.search(query, turns, k, rows) for one, rows in zip(self.segments, only, strict=True)]
        id, score, turn = (np.concatenate(part) for part in zip(*found, strict=True))
        best = np.lexsort((id, -score.round(6)))[:k]
        score = np.minimum.accumulate(score[best])
        heading = self.looks_deg(turn[best], heading_deg, tolerance_deg)
        pad = (0, k - len(best))
        return (
            np.pad(id[best], pad, constant_values=-1),
            np.pad(score, pad, constant_values=-np.inf).astype(np.float32),
            np.pad(heading, pad, constant_values=np.nan).astype(np.float32),
        )

    @property
    def segments(self) -> Sequence[OpenSegment]:
        """Where the tiles are. Raises GalleryError once the gallery is closed."""
        if self._open_segments is None:
            raise GalleryError(f"{self.path} was closed; open the gallery again to search it.")
        return self._open_segments

    @cached_property
    def _sample(self) -> Float32[np.ndarray, "s d"]:
        """Embeddings of at most 4,096 tiles, spread evenly over the rows."""
        return np.concatenate([one.segment.read(rows) for one, rows in self._spread(_SAMPLE)])

    def _spread(self, most: int) -> Iterator[tuple[OpenSegment, Int64[np.ndarray, "m"]]]:
        """Of every segment some rows, at most so many in all, spread evenly."""
        wanted, before = np.linspace(0, len(self) - 1, min(len(self), most)).astype(np.int64), 0
        for one in self.segments:
            here = np.unique(wanted[(wanted >= before) & (wanted < before + count(one.kept))]) - before
            yield one, nth(one.kept, here)
            before += count(one.kept)

    def evidence(
        self,
        query: Float32[np.ndarray, "d"],
        ids: Int64[np.ndarray, "k"],
        scores: Float32[np.ndarray, "k"],
        *,
        region: shapely.Geometry | None = None,
        source: str | None = None,
        heading_deg: float | None = None,
        tolerance_deg: float = 0.0,
    ) -> Evidence:
        """What a search says about a query, for `Calibration.posterior`; ids and scores of its hits."""
        turns = self.turns(heading_deg, tolerance_deg)
        bins = self.spec.azimuth_bins
        seen = (query.reshape(bins, -1) != 0).any(axis=1).sum()
        found = ids >= 0
        return Evidence(
            scores=scores[found].astype(np.float64),
            rival=self.rival(ids[found], scores[found]),
            background=best_turns(query, self._sample, self.spec, turns)[0].astype(np.float64),
            tiles=sum(map(count, self._rows_where(region, source))),
            seen_deg=360 * float(seen) / bins,
            span_deg=360 * (len(turns) - 1) / bins if len(turns) < bins else 360.0,
        )

    def rival(self, ids: Int64[np.ndarray, "k"], scores: Float32[np.ndarray, "k"]) -> float:
        """The score of the best tile that does not show the place of the first, or else of the last."""
        lonlats = self.lonlats(ids)
        elsewhere = scores[flat_m(lonlats, LonLat(*lonlats[0])) > self.spec.footprint_m / 2]
        return float(elsewhere[0] if len(elsewhere) else scores[-1])

    def _check_queries(
        self, queries: Float32[np.ndarray, "q d"], k: int, headings_deg: Sequence[float | None]
    ) -> None:
        if queries.ndim != 2 or queries.shape[1] != self.spec.dim:
            raise ModelError(
                f"The query's embedding is {queries.shape[-1]} numbers long, this gallery's {self.spec.dim}; "
                "embed it with the model in the gallery."
            )
        if not np.isfinite(queries).all():
            raise ModelError("The query's embedding holds infinities or no numbers; the model is damaged.")
        if k < 1 or len(headings_deg) != len(queries):
            raise GalleryError("A search wants k of at least 1 and one heading, or None, per query.")

    def _rows_where(self, region: shapely.Geometry | None, source: str | None) -> list[Ranges]:
        """Of every segment the rows of tiles in the region, from that source."""
        rows = [one.kept for one in self.segments]
        if region is not None:
            rows = [
                both(some, rows_inside(one.table, region))
                for some, one in zip(rows, self.segments, strict=True)
            ]
            if not any(map(len, rows)):
                west, south, east, north = self.bounds_lonlat
                raise GalleryError(
                    "No tile of the gallery lies in the region; "
                    f"draw one within {west:.4f}, {south:.4f}, {east:.4f}, {north:.4f}."
                )
        if source is not None:
            rows = [
                both(some, rows_from(one.table, source))
                for some, one in zip(rows, self.segments, strict=True)
            ]
            if not any(map(len, rows)):
                known = sorted(one.path for one in self.manifest.sources)
                raise GalleryError(
                    f"No tile asked for was cut from imagery like {source!r}; the gallery is of "
                    f"{', '.join(known[:3])}{f' and {len(known) - 3} others' if len(known) > 3 else ''}."
                )
        return rows
