"""A published gallery: opened with every byte checked, searched by FAISS, its tiles read afresh."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType

import faiss
import geopandas
import numpy as np
import shapely
from jaxtyping import Bool, Float32, Int64, UInt8

from geoloc.errors import GalleryError, ImageryError, ModelError
from geoloc.hits import Hits
from geoloc.model import SPEC, read_spec
from geoloc.places import Tile
from geoloc.spec import EncoderSpec
from indexing.embeddings import read_ids
from indexing.faiss_index import read_index, search_rows
from indexing.manifest import Manifest, Source, check_file, live_folder, read_manifest
from indexing.table import read_table
from preprocessing.geotiff import Imagery, open_imagery
from preprocessing.imagery import read_square

_SPARE = 16  # more hits than asked for, so that equal scores around the k-th are ordered by id


class Gallery:
    """The live version of a gallery. Open it with `Gallery.open`; it stays on that version.

    manifest: what the version says about itself. model_dir: the model that made it.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, ids: Int64[np.ndarray, "n"], index: faiss.Index
    ) -> None:
        self.folder = folder
        self.manifest = manifest
        self.model_dir = folder / "model"
        self._ids = ids
        self._row_of_sorted = np.argsort(ids)
        self._index: faiss.Index | None = index
        self._imagery: dict[str, Imagery] = {}

    @classmethod
    def open(cls, path: Path) -> "Gallery":
        """Open the version that CURRENT names, after checking every file against its hash.

        Raises GalleryError, with cause and remedy, for anything missing, damaged or inconsistent.
        """
        folder = live_folder(path)
        manifest = read_manifest(folder)
        for file in manifest.files:
            check_file(folder, file)
        spec, rows = manifest.spec, manifest.rows
        if read_spec(folder / "model") != spec:
            raise GalleryError(f"{folder}: model/{SPEC} is not the manifest's; build the gallery again.")
        ids = read_ids(folder / "embeddings.h5", spec, rows)
        if len(np.unique(ids)) != rows:
            raise GalleryError(f"{folder} has tiles of the same id; build the gallery again.")
        return cls(folder, manifest, ids, read_index(folder / "index.faiss", spec.dim, rows))

    def __enter__(self) -> "Gallery":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the index go; the gallery cannot be searched any more."""
        self._index = None

    def __len__(self) -> int:
        return self.manifest.rows

    @property
    def spec(self) -> EncoderSpec:
        """The spec of the model that embedded the tiles; queries must be of the same."""
        return self.manifest.spec

    @property
    def bounds_lonlat(self) -> tuple[float, float, float, float]:
        """(west, south, east, north) of all tiles, in degrees."""
        return self.manifest.bounds_lonlat

    @cached_property
    def tiles(self) -> geopandas.GeoDataFrame:
        """One row per tile, see `make_table`; geometry is the footprint in EPSG:4326."""
        return read_table(self.folder / "tiles.parquet")

    def tile(self, id: int) -> Tile:
        """The tile of an id. Raises GalleryError for an id that is not in this gallery."""
        self._row(id)
        return self.manifest.grid.tile(id)

    def source(self, id: int) -> str:
        """The path of the imagery that most of the tile was cut from."""
        return str(self.tiles["source"].iat[self._row(id)])

    def read_tile(self, id: int) -> UInt8[np.ndarray, "s s 3"]:
        """The tile's pixels, read from the imagery as the build read them.

        Raises ImageryError where the imagery has moved or changed, GalleryError for an unknown id.
        """
        tile = self.tile(id)
        lon, lat = zip(*((corner.lon, corner.lat) for corner in tile.corners), strict=True)
        around = shapely.box(min(lon), min(lat), max(lon), max(lat))
        touching = [s for s in self.manifest.sources if shapely.box(*s.bounds_lonlat).intersects(around)]
        imagery = [self._open_imagery(source) for source in touching]
        rgb, _ = read_square(imagery, tile.crs, tile.bounds, (tile.size_px, tile.size_px))
        return rgb

    def _open_imagery(self, source: Source) -> Imagery:
        if source.path not in self._imagery:
            path = Path(source.path)
            self._imagery[source.path] = open_imagery(path)
            if path.stat().st_size != source.bytes:
                raise ImageryError(f"{path} is not the file it was; build the gallery again.")
        return self._imagery[source.path]

    def _row(self, id: int) -> int:
        at = int(np.searchsorted(self._ids, id, sorter=self._row_of_sorted))
        row = int(self._row_of_sorted[at]) if at < len(self) else -1
        if row < 0 or self._ids[row] != id:
            raise GalleryError(f"Tile {id} is not in this gallery; it may be of another one.")
        return row

    def search(
        self,
        queries: Float32[np.ndarray, "q d"],
        k: int,
        *,
        region: shapely.Geometry | None = None,
        headings_deg: Sequence[float | None] | None = None,
    ) -> Hits:
        """The k best tiles for each query, best first; of equal scores the lower id comes first.

        region: in lonlat; only tiles whose centre lies inside. headings_deg: a known heading means that
        the query lies on its canvas by it: it is searched as it is, and the heading is handed back.
        Where it is None the query is searched as if it looked each of the `a` ways, by rolling its
        azimuth bins, and a tile keeps its best score and that way as its heading (DSM, Shi 2020).
        Raises ModelError for queries of another model, GalleryError for a region without tiles.
        """
        if self._index is None:
            raise GalleryError(f"{self.folder} was closed; open the gallery again to search it.")
        self._check_queries(queries, k, headings_deg)
        only = None if region is None else self._centres_in(region)
        headings = np.array([None] * len(queries) if headings_deg is None else headings_deg, np.float32)
        unknown = np.isnan(headings)
        ids = np.full((len(queries), k), -1, np.int64)
        scores, turns = np.full(ids.shape, -np.inf, np.float32), np.full(ids.shape, np.nan, np.float32)
        for group, bins in ((unknown, self.spec.azimuth_bins), (~unknown, 1)):
            for query in np.flatnonzero(group):
                ids[query], scores[query], turns[query] = self._search_turned(queries[query], k, bins, only)
        given = np.where(unknown, 0, headings)[:, None]
        return Hits(ids, scores, (turns + given) % 360)

    def _search_turned(
        self, query: Float32[np.ndarray, "d"], k: int, bins: int, only: Bool[np.ndarray, "n"] | None
    ) -> tuple[Int64[np.ndarray, "k"], Float32[np.ndarray, "k"], Float32[np.ndarray, "k"]]:
        """Ids, scores and turns in degrees of the k best tiles over the query's first `bins` turns.

        A tile among the k best overall is among the k best of its own best turn, so k of each suffice.
        """
        assert self._index is not None
        by_bin = query.reshape(self.spec.azimuth_bins, self.spec.channels)
        copies = np.stack([np.roll(by_bin, turn, axis=0).ravel() for turn in range(bins)])
        wanted = min(len(self), k + _SPARE)
        score, row = map(np.ravel, search_rows(self._index, copies, wanted, only))
        turn_deg = np.repeat(np.arange(bins) * 360 / self.spec.azimuth_bins, wanted)[row >= 0]
        score, id = score[row >= 0], self._ids[row[row >= 0]]
        order = np.lexsort((turn_deg, id, -score))
        first = np.sort(np.unique(id[order], return_index=True)[1])[:k]
        best = order[first]
        pad = k - len(best)
        return (
            np.pad(id[best], (0, pad), constant_values=-1),
            np.pad(score[best], (0, pad), constant_values=-np.inf),
            np.pad(turn_deg[best].astype(np.float32), (0, pad), constant_values=np.nan),
        )

    def _check_queries(
        self, queries: Float32[np.ndarray, "q d"], k: int, headings_deg: Sequence[float | None] | None
    ) -> None:
        if queries.ndim != 2 or queries.shape[1] != self.spec.dim:
            raise ModelError(
                f"The query's embedding is {queries.shape[-1]} numbers long, this gallery's {self.spec.dim}; "
                "embed it with the model in the gallery."
            )
        if not np.isfinite(queries).all():
            raise ModelError("The query's embedding holds infinities or no numbers; the model is damaged.")
        if k < 1 or (headings_deg is not None and len(headings_deg) != len(queries)):
            raise GalleryError("A search wants k of at least 1 and one heading, or None, per query.")

    def _centres_in(self, region: shapely.Geometry) -> Bool[np.ndarray, "n"]:
        shapely.prepare(region)
        inside = np.asarray(shapely.contains_xy(region, self.tiles["lon"], self.tiles["lat"]))
        if not inside.any():
            west, south, east, north = self.bounds_lonlat
            raise GalleryError(
                "No tile of the gallery lies in the region; "
                f"draw one within {west:.4f}, {south:.4f}, {east:.4f}, {north:.4f}."
            )
        return inside
