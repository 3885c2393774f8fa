"""Tiles a second when they are cut from strips, beside a plain loop that reads each by itself.

Run: OMP_NUM_THREADS=1 python tests/benchmarks/bench_build.py
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
from rasterio.enums import Resampling
from rasterio.transform import from_origin
from rasterio.vrt import WarpedVRT
from rasterio.windows import from_bounds

from preprocessing.geotiff import opened
from preprocessing.sources import open_imagery
from preprocessing.tiles import cut_block, make_grid, plan_blocks


def one_by_one(path, grid, ids):
    """The plain loop: a warped read per tile."""
    for id in ids:
        tile = grid.tile(id)
        left, _, _, top = tile.bounds
        size = {"width": tile.size_px, "height": tile.size_px}
        place = from_origin(left, top, tile.gsd_m, tile.gsd_m)
        with (
            opened(str(path)) as dataset,
            WarpedVRT(
                dataset, crs=tile.crs, transform=place, resampling=Resampling.bilinear, **size
            ) as warped,
        ):
            warped.read(window=from_bounds(*tile.bounds, place))


def main() -> None:
    """Print both rates and their ratio, for 0.5 m web mercator, 64 m tiles of 128 px every 20 m."""
    path = Path(tempfile.mkdtemp()) / "a.tif"
    values = np.random.default_rng(0).integers(0, 255, (3, 1600, 1600), np.uint8)
    shape = {"count": 3, "height": 1600, "width": 1600, "dtype": "uint8", "tiled": True}
    place = {"crs": "EPSG:3857", "transform": from_origin(1e6, 6e6, 0.5, 0.5)}
    with rasterio.open(path, "w", driver="GTiff", **shape, **place) as dataset:
        dataset.write(values)
    start = time.perf_counter()
    one = open_imagery(path)
    grid = make_grid([one], 64, 128, 20)
    ids = [id for block in plan_blocks([one], grid) for id, _, _ in cut_block(block, grid, [one])]
    strips_s = time.perf_counter() - start
    some = ids[:: max(1, len(ids) // 100)]
    start = time.perf_counter()
    one_by_one(path, grid, some)
    loop_s = (time.perf_counter() - start) / len(some) * len(ids)
    print(
        f"{len(ids)} tiles: by strips {len(ids) / strips_s:,.0f} tiles/s, "
        f"one by one {len(ids) / loop_s:,.0f} tiles/s, ratio {loop_s / strips_s:.1f}"
    )


if __name__ == "__main__":
    main()
