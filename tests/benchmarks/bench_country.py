"""A country as it is served: a published gallery of a million or ten million tiles, opened and asked.

Embeddings are synthetic (see tests/synthetic_tiles.py), everything else is what a build writes and a query
reads: ids of a square of ground in the order of the curve, embeddings.h5, tiles.parquet, the index that
`auto` chooses with its recall measured, manifest and version. Queries are stored tiles with noise, turned and
cut to windows (see indexing/measure.py), asked through `Gallery.search`. Of up to --hnsw tiles faiss HNSW64
of the same embeddings is built and asked beside it, as in bench_index.py, or left out where it takes more
memory than is free: 5 GB and hours for a million. `make bench` asks 100,000 and 1,000,000 tiles; ten million:

    python tests/benchmarks/bench_country.py --rows 10000000 --folder DISK    (24 GB there while it runs)
"""

import argparse
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import faiss
import numpy as np
import shapely
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench_index import KINDS, SHARES, ask, held, left_out
from synthetic_tiles import SPEC, Tiles

from indexing.build import Shelf, store_segment
from indexing.curve import row_order
from indexing.gallery import Gallery
from indexing.manifest import Manifest
from indexing.measure import Question, make_questions
from indexing.publish import install_model, publish
from indexing.table import Origins
from preprocessing.tiles import Grid

GRID = Grid(SPEC.footprint_m, SPEC.satellite_px, SPEC.satellite_px // 4, ((32, "EPSG:32632"),))


@dataclass(frozen=True)
class Served:
    """What a process that opened the gallery measured. ms: p50 and p95, by threads and kind of query."""

    open_s: float
    opened_bytes: int
    asked_bytes: int
    ms: dict[tuple[int, str], tuple[float, float]]
    region_ms: dict[float, tuple[float, float]]


def make_gallery(folder: Path, rows: int) -> Manifest:
    """Write and publish a gallery of so many tiles, and say what each step took."""
    side = int(np.ceil(rows**0.5))
    row, column = np.divmod(np.arange(rows, dtype=np.int64), side)
    ids = GRID.ids(32, column + 8000, row + 160_000)
    ids = ids[row_order(ids, GRID)]
    origins = Origins(ids, np.full(rows, "country.tif", object), np.full(rows, 0.5))
    tiles, model, work, out = Tiles(), folder / "model", folder / "g" / ".work", folder / "g"
    for path in (model, out, work):
        path.mkdir()
    (model / "weights.safetensors").write_bytes(b"not loaded")
    (model / "spec.json").write_text(SPEC.to_json())
    start = time.perf_counter()
    chunks = ((ids[a : a + 8192], tiles.some(len(ids[a : a + 8192]))) for a in range(0, rows, 8192))
    shelf = Shelf(SPEC, out, work, lambda *_: None, lambda text: print(f"  {text}", flush=True))
    stored = store_segment(GRID, origins, chunks, shelf, "auto")
    place, files = install_model(model, out, work)
    manifest = Manifest(
        "", SPEC, GRID, stored.bounds_lonlat, (), "auto", place, (stored.segment,), (*files, *stored.files)
    )
    publish(manifest, out, work)
    shutil.rmtree(work)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    took, size = time.perf_counter() - start, sum(file.bytes for file in manifest.files) / 2**30
    print(f"  {rows:,} tiles stored in {took:.0f} s, {size:.2f} GiB, peak memory {peak:.2f} GiB", flush=True)
    return manifest


def timed(ask: Callable[[Question], object], questions: list[Question]) -> tuple[float, float]:
    """p50 and p95 in ms."""
    taken = []
    for one in questions:
        start = time.perf_counter()
        ask(one)
        taken.append(1e3 * (time.perf_counter() - start))
    return float(np.percentile(taken, 50)), float(np.percentile(taken, 95))


def serve(path: Path, queries: int) -> Served:
    """Open a gallery and ask it everything."""
    before, start = held(), time.perf_counter()
    gallery = Gallery.open(path)
    open_s, opened_bytes = time.perf_counter() - start, held() - before
    questions = make_questions(gallery.segments[0].segment, 4 * queries, seed=1)

    def ask(one: Question, region: shapely.Geometry | None = None) -> None:
        known = 0.0 if len(one.turns) == 1 else None
        gallery.search(one.query[None], 10, region=region, headings_deg=[known])

    ms = {}
    for threads in (1, 2):
        faiss.omp_set_num_threads(threads)
        torch.set_num_threads(threads)
        ms |= {(threads, kind): timed(ask, questions[at::4]) for at, kind in enumerate(KINDS)}
    west, south, east, north = gallery.bounds_lonlat
    regions = {}
    for share in SHARES:
        half = share**0.5 / 2 * np.array([east - west, north - south])
        middle = np.array([west + east, south + north]) / 2
        box = shapely.box(*(middle - half), *(middle + half))
        regions[share] = timed(lambda one, box=box: ask(one, box), questions[1::4])
    return Served(open_s, opened_bytes, held() - before, ms, regions)


def beside(stored: Path, apart: Path, rows: int, queries: int) -> None:
    """Print what HNSW64 makes of the same embeddings."""
    if said := left_out("HNSW64", rows):
        print(f"  {said}", flush=True)
        return
    apart.mkdir()
    (apart / "embeddings.h5").hardlink_to(stored / "embeddings.h5")
    ask(apart, rows, ["HNSW64"], queries)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--queries", type=int, default=40, help="of each of the four kinds")
    parser.add_argument("--hnsw", type=int, default=100_000, help="the most tiles to build HNSW64 of")
    parser.add_argument("--folder", type=Path, help="where there is room: 2.4 GB for a million tiles")
    arguments = parser.parse_args()
    print(f"{SPEC.azimuth_bins} bins x {SPEC.channels} channels, {faiss.omp_get_max_threads()} threads")
    for rows in arguments.rows:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            print(f"{rows:,} tiles")
            manifest = make_gallery(Path(folder), rows)
            with ProcessPoolExecutor(1, get_context("spawn")) as apart:
                served = apart.submit(serve, Path(folder) / "g", arguments.queries).result()
            then, after = served.opened_bytes / 2**20, served.asked_bytes / 2**20
            print(
                f"  opened in {served.open_s:.2f} s; {then:,.0f} MiB resident then, {after:,.0f} MiB after "
                f"all queries, {served.asked_bytes / rows:,.0f} bytes a tile"
            )
            for kind in KINDS:
                each = (
                    f"{threads} threads {served.ms[threads, kind][0]:.1f} / {served.ms[threads, kind][1]:.1f}"
                    for threads in (1, 2)
                )
                print(f"  {kind:<12} ms p50 / p95: {', '.join(each)}")
            shares = (f"{share:.1%} {p50:.1f} / {p95:.1f}" for share, (p50, p95) in served.region_ms.items())
            print(f"  360 unknown in a region of {', '.join(shares)} ms", flush=True)
            if rows <= arguments.hnsw:
                stored = Path(folder) / "g" / manifest.segments[0].folder
                beside(stored, Path(folder) / "hnsw", rows, arguments.queries)


if __name__ == "__main__":
    main()
