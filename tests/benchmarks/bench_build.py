"""Tiles a second of a build, beside the encoder's forward alone and beside a plain loop; and a cost curve.

Run: python tests/benchmarks/bench_build.py            four sample towns side by side, with the shipped model
     python tests/benchmarks/bench_build.py --curve    a build of 10^3 to 10^6 tiles of a very small encoder

Both are the full run; the first, which `make bench` takes, is some minutes of two cores, the curve two.
"""

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import torch
from rasterio.enums import Resampling
from rasterio.transform import from_origin
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from geoloc.cores import cores
from geoloc.embed import compute_dtype
from geoloc.model import load_encoder
from geoloc.tensors import tile_tensor
from indexing.embed import embed_blocks, single_threaded
from preprocessing.sources import open_imagery
from preprocessing.tiles import make_grid, plan_blocks

sys.path.append(str(Path(__file__).parents[1]))
from fake_encoder import SPEC, FakeEncoder
from tiny_imagery import UTM, noise

DATA = Path(__file__).parents[2] / "data"
SIZES = (1_000, 10_000, 100_000, 1_000_000)
BATCHES = (16, 32, 64)


@dataclass(frozen=True)
class Rate:
    """Tiles a second by the clock, and by the time of all processors: what others do slows only the first."""

    by_clock: float
    by_processor: float


class Stopwatch:
    """Started when made."""

    def __init__(self) -> None:
        self.clock, self.processor = time.perf_counter(), time.process_time()

    def rate(self, tiles: int) -> Rate:
        clock_s, processor_s = time.perf_counter() - self.clock, time.process_time() - self.processor
        return Rate(tiles / clock_s, tiles / processor_s)


def median(rates) -> Rate:
    """Of both."""
    return Rate(
        *(float(np.median([getattr(rate, by) for rate in rates])) for by in ("by_clock", "by_processor"))
    )


def build_rate(encoder, one, grid) -> Rate:
    """Step 2: read, cut, embedded and written."""
    blocks = plan_blocks([one], grid)
    with tempfile.TemporaryDirectory() as work:
        watch = Stopwatch()
        embed_blocks(blocks, grid, [one], encoder, Path(work), lambda *_: None)
        kept = watch.rate(1)
        tiles = sum(len(np.load(path)["ids"]) for path in Path(work).iterdir())
    return Rate(tiles * kept.by_clock, tiles * kept.by_processor)


def loop_rate(encoder, path, grid, ids) -> Rate:
    """The plain loop: a warped read per tile, then the batch of 64 through the encoder, in float32."""
    watch = Stopwatch()
    for first in range(0, len(ids), 64):
        with rasterio.open(path) as dataset, torch.inference_mode():
            tensors = [
                tile_tensor(_read(dataset, grid.tile(id)), encoder.spec) for id in ids[first : first + 64]
            ]
            encoder.embed_satellite(torch.stack(tensors)).half().numpy()
    return watch.rate(len(ids))


def _read(dataset, tile):
    left, _, _, top = tile.bounds
    place = from_origin(left, top, tile.gsd_m, tile.gsd_m)
    size = {"width": tile.size_px, "height": tile.size_px}
    with WarpedVRT(dataset, crs=tile.crs, transform=place, resampling=Resampling.bilinear, **size) as warped:
        return warped.read([1, 2, 3]).transpose(1, 2, 0)


def floor_rate(encoder, batch, dtype, side_by_side) -> Rate:
    """The forward of backbone and head alone, on ready polar tensors.

    side_by_side: as the build does it, one thread for each processor; else all processors on one batch.
    """
    workers = cores() if side_by_side else 1
    images = torch.randn(batch, 3, *encoder.spec.street_hw)

    def forward(times):
        with torch.inference_mode(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            for _ in range(times):
                encoder.satellite(images)

    times = 512 // batch
    with single_threaded() if side_by_side else nullcontext(), ThreadPoolExecutor(workers) as pool:
        list(pool.map(forward, [1] * workers))
        watch = Stopwatch()
        list(pool.map(forward, [times] * workers))
        return watch.rate(workers * times * batch)


def floors(encoder) -> dict:
    """The rate of every batch size, number format and way, to take the best of."""
    dtypes = {torch.float32, compute_dtype("auto", torch.device("cpu"))}
    return {
        (batch, str(dtype), way): floor_rate(encoder, batch, dtype, way == "side by side")
        for batch in BATCHES
        for dtype in dtypes
        for way in ("side by side", "all on one")
    }


def four_towns(folder: Path) -> Path:
    """The sample town's orthophoto twice across and twice down: one town alone is mostly edge."""
    with rasterio.open(DATA / "town" / "ortho.tif") as town:
        rgb, profile = np.tile(town.read(), (1, 2, 2)), town.profile
    profile.update(height=rgb.shape[1], width=rgb.shape[2])
    with rasterio.open(folder / "ortho.tif", "w", **profile) as towns:
        towns.write(rgb)
    return folder / "ortho.tif"


def throughput(rounds: int, path: Path) -> None:
    """Print the three rates, in turns so that they share whatever else the machine does, and their ratios."""
    encoder, one = load_encoder(DATA / "model"), open_imagery(path)
    for share in (4, 8):
        spec = encoder.spec
        grid = make_grid([one], spec.footprint_m, spec.satellite_px, spec.footprint_m / share)
        ids = np.concatenate([grid.ids(b.zone, b.columns, b.rows) for b in plan_blocks([one], grid)])
        some = ids[:: len(ids) // 128][:128].tolist()
        rounds_of = [_round(encoder, one, grid, path, some) for _ in range(rounds)]
        build, loop = (median([one[i] for one in rounds_of]) for i in (0, 1))
        forward = {key: median([one[2][key] for one in rounds_of]) for key in rounds_of[0][2]}
        print(f"stride = footprint / {share}, {len(ids):,} tiles, medians of {rounds} rounds")
        for by in ("by_clock", "by_processor"):
            best = max(forward, key=lambda key, by=by: getattr(forward[key], by))
            made, alone, plain = (getattr(rate, by) for rate in (build, forward[best], loop))
            print(
                f"  tiles/s {by}: build {made:.0f}; forward alone {alone:.0f} {best}, "
                f"ratio {made / alone:.2f}; "
                f"plain loop {plain:.0f}, ratio {made / plain:.1f}",
                flush=True,
            )


def _round(encoder, one, grid, path, some):
    build, forward = build_rate(encoder, one, grid), floors(encoder)
    with single_threaded():
        lone = loop_rate(encoder, path, grid, some)
    loop = loop_rate(encoder, path, grid, some)
    return build, max(lone, loop, key=lambda rate: rate.by_clock), forward


def _curve_imagery(tiles: int, folder: Path) -> Path:
    """Noise that so many tiles can be cut from, written some rows at a time."""
    side_px = round((tiles**0.5 - 1) * 4 + SPEC.footprint_m)
    path = folder / "a.tif"
    shape = {"count": 3, "height": side_px, "width": side_px, "dtype": "uint8", "tiled": True}
    place = {"crs": UTM, "transform": from_origin(500_000, 5_300_000, 1, 1)}
    with rasterio.open(path, "w", driver="GTiff", **shape, **place) as dataset:
        for top in range(0, side_px, 256):
            rows = min(256, side_px - top)
            dataset.write(noise(rows, side_px), window=Window(0, top, side_px, rows))
    return path


def _curve_point(path: Path, tiles: int, pipe) -> None:
    """In a process of its own, for its peak memory: the embedding step, then the whole build."""
    from indexing.build import build_gallery

    folder = path.parent
    model = folder / "model"
    model.mkdir()
    (model / "weights.safetensors").write_bytes(b"not loaded")
    (model / "spec.json").write_text(SPEC.to_json())
    one = open_imagery(path)
    grid = make_grid([one], SPEC.footprint_m, SPEC.satellite_px, 4)
    rate = build_rate(FakeEncoder(), one, grid).by_clock
    embedding_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.perf_counter()
    build_gallery([path], model, folder / "g", stride_m=4, encoder=FakeEncoder())
    took_s = time.perf_counter() - start
    whole_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    pipe.send((rate, embedding_mb, tiles / took_s, whole_mb))


def curve(most: int) -> None:
    """Print tiles/s and peak memory by the number of tiles; the encoder is one random projection."""
    context = multiprocessing.get_context("spawn")
    print("a random projection to 24 numbers in place of the encoder, 16 px tiles, stride = footprint / 8")
    for tiles in (size for size in SIZES if size <= most):
        here, there = context.Pipe()
        with tempfile.TemporaryDirectory() as folder:
            path = _curve_imagery(tiles, Path(folder))
            process = context.Process(target=_curve_point, args=(path, tiles, there))
            process.start()
            there.close()
            rate, embedding_mb, whole_rate, whole_mb = here.recv()
            process.join()
        print(
            f"{tiles:>9,} tiles: embedding {rate:,.0f} tiles/s, peak {embedding_mb:,.0f} MB; "
            f"whole build {whole_rate:,.0f} tiles/s, peak {whole_mb:,.0f} MB",
            flush=True,
        )


def main() -> None:
    """One of the two."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--curve", action="store_true")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--most", type=int, default=SIZES[-1])
    given = arguments.parse_args()
    if given.curve:
        curve(given.most)
        return
    with tempfile.TemporaryDirectory() as folder:
        throughput(given.rounds, four_towns(Path(folder)))


if __name__ == "__main__":
    main()
