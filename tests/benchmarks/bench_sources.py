"""Tiles a second cut out of every kind of source, beside the same image as a GeoTIFF, and bytes off a server.

Run: OMP_NUM_THREADS=1 python tests/benchmarks/bench_sources.py
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from range_server import serving
from tiny_pyramid import COLUMNS, ROWS, make_pyramid, to_folder, to_mbtiles, to_pmtiles

from preprocessing.imagery import read_square
from preprocessing.source import Imagery
from preprocessing.sources import open_all
from preprocessing.tiles import cut_block, make_grid, plan_blocks

FOOTPRINT_M, TILE_PX, STRIDE_M = 64.0, 128, 8.0


def rate(one: Imagery) -> float:
    """Tiles a second, the best of three."""
    grid = make_grid([one], FOOTPRINT_M, TILE_PX, STRIDE_M)
    rates = []
    for _ in range(3):
        start = time.perf_counter()
        blocks = plan_blocks([one], grid)
        count = sum(len(strip.ids) for block in blocks for strip in cut_block(block, grid, [one]))
        rates.append(count / (time.perf_counter() - start))
    return max(rates)


def main() -> None:
    """Print what one tile costs of a file on a server, and each kind's rate beside the GeoTIFF's."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    folder = Path(tempfile.mkdtemp())
    pyramid = make_pyramid(folder)
    kinds = {
        "GeoTIFF": pyramid.ortho,
        "tile folder": f"xyz:{to_folder(pyramid, folder / 'xyz')}",
        "MBTiles": to_mbtiles(pyramid, folder / "a.mbtiles"),
        "PMTiles": to_pmtiles(pyramid, folder / "a.pmtiles", leaves=True),
    }
    with serving(folder) as served:
        kinds["GeoTIFF on a server"] = f"{served.url}/ortho.tif"
        opened = {kind: open_all([word], (), "listed", 64.0)[0] for kind, word in kinds.items()}
        fetched = served.bytes
        far = opened["GeoTIFF on a server"]
        read_square([far], far.utm, _middle(far), (TILE_PX, TILE_PX))
        size = pyramid.ortho.stat().st_size
        print(f"to open {fetched:,} bytes, for one tile {served.bytes - fetched:,} more, of {size:,}")
        rates = {kind: rate(one) for kind, one in opened.items()}
    side = (COLUMNS[1] - COLUMNS[0]) * 256, (ROWS[1] + 1 - ROWS[0]) * 256
    print(f"{side[0]} x {side[1]} px of map tiles as PNG, 64 m tiles every 8 m:")
    for kind, tiles_s in rates.items():
        print(f"{kind:<22}{tiles_s:8,.0f} tiles/s, {tiles_s / rates['GeoTIFF']:.2f} of the GeoTIFF's")


def _middle(one: Imagery) -> tuple[float, float, float, float]:
    """The bounds of a tile around the middle."""
    grid = make_grid([one], FOOTPRINT_M, TILE_PX, STRIDE_M)
    (block, *_) = plan_blocks([one], grid)
    middle = len(block.rows) // 2
    return grid.tile(int(grid.ids(block.zone, block.columns, block.rows)[middle])).bounds


if __name__ == "__main__":
    main()
