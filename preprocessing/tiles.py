"""The grid of tiles: which squares imagery is cut into, and the numbers they are known by.

The grid lies in UTM, where a metre is a metre, on whole multiples of the stride counted from the
zone's origin. So a tile's place follows from its id alone, and neither building again nor adding
imagery moves or renumbers any tile.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from jaxtyping import Bool, Float64, Int32, Int64, UInt8

from geoloc.errors import ImageryError
from geoloc.places import Tile, to_lonlat
from preprocessing.imagery import read_square
from preprocessing.source import BEYOND_DEG, Imagery, outline, project

MIN_TILE_PX = 32
"""A tile whose footprint has fewer pixels than this in the imagery shows too little to be found."""

COVERED = 0.8
"""A tile is kept if at least this share of its pixels is valid."""

BLOCK = 32
"""Tiles are cut, embedded and stored by blocks of 32 x 32, so that neighbours share reads and rows."""

_MOST_TILES = 50_000_000
_MOST_BLOCK_PX = 1 << 24
_COLUMN_BITS, _ROW_BITS = 21, 25
_COLUMN_ZERO, _ROW_ZERO = 1 << 19, 1 << 24


@dataclass(frozen=True)
class Grid:
    """Where tiles lie. A tile's pixel is footprint_m / size_px; the stride is whole pixels of it.

    crs_of_zone: (zone, CRS) pairs; a zone is 1..60 north, 61..120 south (see Imagery).
    An id packs zone, row and column into 53 bits, so that it survives JSON and JavaScript.
    Raises ImageryError where these are nonsense.
    """

    footprint_m: float
    size_px: int
    stride_px: int
    crs_of_zone: tuple[tuple[int, str], ...]

    def __post_init__(self) -> None:
        if not (0 < self.footprint_m < math.inf and self.size_px >= 1 and self.stride_px >= 1):
            raise ImageryError(
                f"Tiles of {self.footprint_m} m, {self.size_px} px, every {self.stride_px} px make no grid."
            )

    @property
    def stride_m(self) -> float:
        """Distance between the centres of neighbouring tiles."""
        return self.stride_px * self.footprint_m / self.size_px

    def crs(self, zone: int) -> str:
        """The CRS that tiles of this zone lie in. Raises ImageryError for a zone the grid lacks."""
        found = dict(self.crs_of_zone).get(zone)
        if found is None:
            raise ImageryError(f"Zone {zone} is not in this gallery; its tile id is of another gallery.")
        return found

    def ids(
        self, zone: int, columns: Int64[np.ndarray, "n"], rows: Int64[np.ndarray, "n"]
    ) -> Int64[np.ndarray, "n"]:
        """The ids of cells; a cell's column counts strides eastwards, its row northwards."""
        above = zone << _ROW_BITS + _COLUMN_BITS
        return np.asarray(above | rows + _ROW_ZERO << _COLUMN_BITS | columns + _COLUMN_ZERO)

    def cells(self, ids: Int64[np.ndarray, "n"]) -> tuple[Int64[np.ndarray, "n"], ...]:
        """Zones, columns and rows of ids."""
        columns = (ids & (1 << _COLUMN_BITS) - 1) - _COLUMN_ZERO
        rows = (ids >> _COLUMN_BITS & (1 << _ROW_BITS) - 1) - _ROW_ZERO
        return ids >> _ROW_BITS + _COLUMN_BITS, columns, rows

    def bounds(
        self, columns: Int64[np.ndarray, "n"], rows: Int64[np.ndarray, "n"]
    ) -> Float64[np.ndarray, "n 4"]:
        """(left, bottom, right, top) in metres of the zone's CRS."""
        gsd = self.footprint_m / self.size_px
        left, bottom = columns * self.stride_px * gsd, rows * self.stride_px * gsd
        return np.stack([left, bottom, left + self.footprint_m, bottom + self.footprint_m], axis=-1)

    def middles(
        self, ids: Int64[np.ndarray, "n"]
    ) -> tuple[Int64[np.ndarray, "n"], Float64[np.ndarray, "n 2"]]:
        """Zones of ids, and the centres of their tiles in metres of the zone's CRS."""
        zones, columns, rows = self.cells(ids)
        bounds = self.bounds(columns, rows)
        return zones, np.asarray((bounds[:, :2] + bounds[:, 2:]) / 2)

    def tile(self, id: int) -> Tile:
        """The tile of an id. Raises ImageryError for an id of another grid."""
        zone, column, row = (int(part[0]) for part in self.cells(np.array([id])))
        left, bottom, right, top = self.bounds(np.array([column]), np.array([row]))[0].tolist()
        return Tile(id, self.crs(zone), (left, bottom, right, top), self.size_px)


@dataclass(frozen=True)
class Block:
    """At most 32 x 32 neighbouring cells that imagery covers, row by row from the south.

    showing: indexes into the imagery; only tiles that show a pixel of one of these are cut, None: all.
    """

    zone: int
    columns: Int64[np.ndarray, "n"]
    rows: Int64[np.ndarray, "n"]
    showing: frozenset[int] | None = None

    def only(self, cells: Bool[np.ndarray, "n"]) -> "Block":
        """The same of some cells."""
        return dataclasses.replace(self, columns=self.columns[cells], rows=self.rows[cells])


def refuse_coarse(imagery: Imagery, footprint_m: float) -> None:
    """Raise ImageryError where a tile would have fewer than MIN_TILE_PX of the imagery's pixels a side."""
    tile_px = footprint_m / imagery.gsd_m
    if tile_px < MIN_TILE_PX:
        raise ImageryError(
            f"{imagery.address} has {imagery.gsd_m:.4g} m per pixel, so a tile of this model, "
            f"{footprint_m:g} m wide, has {tile_px:.3g} of its pixels; "
            f"use {footprint_m / MIN_TILE_PX:.3g} m imagery or finer."
        )


def make_grid(
    imagery: Sequence[Imagery], footprint_m: float, size_px: int, stride_m: float | None = None
) -> Grid:
    """The grid for a set of imagery. In each UTM zone the CRS of the imagery listed first is taken.

    stride_m: rounded to whole pixels of a tile; by default an eighth of the footprint: encoders are
    trained on tiles at most that far off the camera, and find less between coarser ones. Raises
    ImageryError for a senseless stride.
    """
    stride_m = footprint_m / 8 if stride_m is None else stride_m
    if not 1 <= stride_m <= 100_000:
        raise ImageryError(f"A stride of {stride_m:g} m makes no sense; choose 1 m to 100 km.")
    stride_px = max(1, round(stride_m * size_px / footprint_m))
    first_of_zone = {zone: crs for one in reversed(imagery) for zone, crs in one.zones}
    return Grid(footprint_m, size_px, stride_px, tuple(sorted(first_of_zone.items())))


def plan_blocks(
    imagery: Sequence[Imagery], grid: Grid, region: shapely.Geometry | None = None
) -> list[Block]:
    """The cells that the imagery covers and whose centre lies in the region (lonlat), by blocks.

    Judged by the imagery's edges; the pixels have the last word. Raises ImageryError where no cell is left.
    """
    blocks = [block for zone, _ in grid.crs_of_zone for block in _plan_zone(imagery, zone, grid, region)]
    if not blocks:
        raise ImageryError(_nothing_fits(imagery, grid, region))
    return blocks


def _nothing_fits(imagery: Sequence[Imagery], grid: Grid, region: shapely.Geometry | None) -> str:
    sizes = [(one.hw[1] * one.gsd_m, one.hw[0] * one.gsd_m) for one in imagery]
    named = ", ".join(
        f"{one.address} ({w:.0f} x {h:.0f} m)" for one, (w, h) in zip(imagery[:5], sizes, strict=False)
    )
    cause = f"Tiles of this model are {grid.footprint_m:g} m wide and stand every {grid.stride_m:.4g} m: "
    if region is not None:
        return (
            f"{cause}none of them lies in both the region and {named}; give a region that meets the imagery."
        )
    if max(map(min, sizes)) < grid.footprint_m:
        return f"{cause}not one fits in {named}; give larger imagery or a model of smaller footprint."
    return f"{cause}not one on that grid fits in {named}; choose a smaller stride."


def _plan_zone(
    imagery: Sequence[Imagery], zone: int, grid: Grid, region: shapely.Geometry | None
) -> Iterator[Block]:
    outlines = [outline(one, grid.crs(zone)) for one in imagery if zone in dict(one.zones)]
    span_m = BLOCK * grid.stride_m
    own = _union(outlines)
    if own.is_empty:
        return
    wanted = own if region is None else own & _in_zone(region, own, grid.crs(zone))
    if wanted.area / grid.stride_m**2 > _MOST_TILES:
        raise ImageryError(
            f"The imagery spans {wanted.area / 1e6:,.0f} km2, over {_MOST_TILES:,} tiles at a stride of "
            f"{grid.stride_m:g} m; build a --region of it, choose a larger stride, or check its geotransform."
        )
    beyond = _beyond(imagery, zone, grid, own)
    covered = _union([own, *beyond])
    starts: set[tuple[int, int]] = set()
    for edge in (edge & wanted.envelope for edge in outlines):
        if edge.is_empty:
            continue
        west, south, east, north = edge.bounds
        columns = range(int((west - grid.footprint_m) // span_m), int(east // span_m) + 1)
        rows = range(int((south - grid.footprint_m) // span_m), int(north // span_m) + 1)
        starts.update((row, column) for row in rows for column in columns)
    shapely.prepare(covered)
    for block_row, block_column in sorted(starts):
        rows_of, columns_of = np.divmod(np.arange(BLOCK * BLOCK), BLOCK)
        block = Block(zone, columns_of + block_column * BLOCK, rows_of + block_row * BLOCK)
        keep = _is_covered(block, grid, covered)
        if beyond:
            keep[keep] = shapely.contains_xy(own, *_middles(block, keep, grid))
        if region is not None:
            lonlat = to_lonlat(grid.crs(zone)).transform(*_middles(block, keep, grid))
            keep[keep] = shapely.contains_xy(region, *lonlat)
        if keep.any():
            yield block.only(keep)


def _union(edges: Sequence[shapely.Geometry]) -> shapely.Geometry:
    return shapely.union_all([edge if edge.is_valid else edge.buffer(0) for edge in edges])


def _beyond(
    imagery: Sequence[Imagery], zone: int, grid: Grid, own: shapely.Geometry
) -> list[shapely.Geometry]:
    """The outlines of imagery of other zones that goes on where a zone's own ends."""
    others = [outline(one, grid.crs(zone)) for one in imagery if zone not in dict(one.zones)]
    near = shapely.box(*own.bounds).buffer(grid.footprint_m) if others else own
    return [edge for edge in others if edge.intersects(near)]


def _in_zone(region: shapely.Geometry, own: shapely.Geometry, crs: str) -> shapely.Geometry:
    """What of a region (lonlat) lies about a zone's imagery, in the zone's metres."""
    around = shapely.segmentize(own.envelope, max(1.0, own.length / 64))
    degrees = shapely.transform(around, lambda xy: np.stack(to_lonlat(crs).transform(*xy.T), axis=1))
    here = shapely.segmentize(region & degrees.envelope.buffer(BEYOND_DEG), BEYOND_DEG)
    return _union([shapely.transform(here, lambda xy: np.stack(project("EPSG:4326", crs, *xy.T), axis=1))])


def _is_covered(block: Block, grid: Grid, covered: shapely.Geometry) -> np.ndarray:
    bounds = grid.bounds(block.columns, block.rows)
    around = shapely.box(*bounds[:, :2].min(axis=0), *bounds[:, 2:].max(axis=0))
    if covered.contains(around):
        return np.ones(len(bounds), bool)
    near = shapely.intersection(covered, around)
    share = shapely.area(shapely.intersection(shapely.box(*bounds.T), near)) / grid.footprint_m**2
    return np.asarray(share >= COVERED - 0.05)


def _middles(block: Block, keep: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    bounds = grid.bounds(block.columns[keep], block.rows[keep])
    return bounds[:, ::2].mean(axis=1), bounds[:, 1::2].mean(axis=1)


@dataclass(frozen=True)
class Strip:
    """Tiles that were read together. rgb: all their ground, once. corners: (x, y) of each tile's upper left
    pixel in it. sources: index into the imagery that most of each tile is of. Tiles are `size_px` wide.
    """

    ids: Int64[np.ndarray, "n"]
    sources: Int64[np.ndarray, "n"]
    corners: Int64[np.ndarray, "n 2"]
    rgb: UInt8[np.ndarray, "h w 3"]
    size_px: int

    def squares(self) -> Iterator[tuple[slice, slice]]:
        """Where in `rgb` each tile is."""
        for x, y in self.corners.tolist():
            yield slice(y, y + self.size_px), slice(x, x + self.size_px)


def cut_block(block: Block, grid: Grid, imagery: Sequence[Imagery]) -> Iterator[Strip]:
    """Every tile of a block with enough valid pixels, by row.

    Imagery is read once for as many rows of tiles as fit in memory, and overlapping tiles share that.
    The ground of a whole block is read, so that a tile's pixels are the same whichever others are cut.
    """
    width_px = (BLOCK - 1) * grid.stride_px + grid.size_px
    height = max(1, (_MOST_BLOCK_PX // width_px - grid.size_px) // grid.stride_px + 1)
    first_column, first_row = (int(cells.min()) // BLOCK * BLOCK for cells in (block.columns, block.rows))
    for start in range(first_row, first_row + BLOCK, height):
        last = min(start + height, first_row + BLOCK) - 1
        here = (block.rows >= start) & (block.rows <= last)
        if here.any():
            ends = np.array([first_column, first_column + BLOCK - 1]), np.array([start, last])
            yield _cut_strip(block.only(here), grid, imagery, *ends)


def _cut_strip(
    part: Block,
    grid: Grid,
    imagery: Sequence[Imagery],
    columns: Int64[np.ndarray, "2"],
    rows: Int64[np.ndarray, "2"],
) -> Strip:
    """The tiles of a part, on the ground of the columns and rows between these two."""
    crs, bounds, size = grid.crs(part.zone), grid.bounds(columns, rows), grid.size_px
    (left, bottom), (right, top) = bounds[0, :2].tolist(), bounds[1, 2:].tolist()
    strip = shapely.box(left, bottom, right, top)
    near = [i for i, one in enumerate(imagery) if outline(one, crs).intersects(strip)]
    h, w = (int(np.ptp(cells)) * grid.stride_px + size for cells in (rows, columns))
    rgb, owner = read_square([imagery[i] for i in near], crs, (left, bottom, right, top), (h, w))
    corners = np.stack([part.columns - columns[0], rows[1] - part.rows], axis=1) * grid.stride_px
    counts = np.stack([_counts(owner == i, corners, size) for i in range(len(near) or 1)])
    kept = counts.sum(axis=0) >= COVERED * size**2
    if part.showing is not None:
        kept &= counts[[one in part.showing for one in near]].any(axis=0)
    sources = np.array(near, np.int64)[counts[:, kept].argmax(axis=0)]
    ids = grid.ids(part.zone, part.columns, part.rows)
    return Strip(ids[kept], sources, corners[kept], rgb, size)


def _counts(
    pixels: Bool[np.ndarray, "h w"], corners: Int64[np.ndarray, "n 2"], size: int
) -> Int32[np.ndarray, "n"]:
    """How many pixels are set in each square, from a summed-area table."""
    if pixels.all():
        return np.full(len(corners), size**2, np.int32)
    table = np.zeros((pixels.shape[0] + 1, pixels.shape[1] + 1), np.int32)
    pixels.cumsum(axis=0, out=table[1:, 1:], dtype=np.int32).cumsum(axis=1, out=table[1:, 1:])
    x, y = corners.T
    return np.asarray(table[y + size, x + size] - table[y, x + size] - table[y + size, x] + table[y, x])
