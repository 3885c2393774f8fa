"""A million tiles: recall@10 against exact search, ms per query, memory and time, index by index.

Embeddings are synthetic (see tests/synthetic_tiles.py), queries are stored tiles with noise, turned and cut
to windows (see indexing/measure.py). Each index is opened in a process of its own, as a gallery opens it:
hash, read, ids. `depth` is what recall@10 >= 99 % takes. HNSW64 is asked beside them on the same vectors, or
on fewer beside the same scan: it takes 5 GB and hours for a million. What takes more memory than is free is
left out, and the table says so. `make bench` runs 100,000 rows; for the table of the README

    python tests/benchmarks/bench_index.py --rows 1000000 --hnsw-rows 1000000
"""

import argparse
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import faiss
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from synthetic_tiles import SPEC, chunks

from indexing.durable import sha256_of
from indexing.embeddings import read_embeddings, read_ids, write_embeddings
from indexing.faiss_index import fill_index, read_index
from indexing.measure import Question, deep_enough, exact_scores, make_questions
from indexing.plan import index_bytes
from indexing.segment import Segment

KINDS = ("360 known", "360 unknown", "90 known", "90 unknown")
SHARES = (0.001, 0.01, 0.1)


@dataclass(frozen=True)
class Served:
    """What a process that opened an index measured; ms by threads and kind: p50, p95 and CPU time."""

    open_s: float
    resident: int
    depth: int
    recall: tuple[float, float]
    ms: dict[tuple[int, str], tuple[float, float, float]]
    region_ms: list[float]


def held() -> int:
    """Bytes of memory that are this process's own."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("RssAnon:")[1].split()[0])


def open_segment(folder: Path, rows: int) -> Segment:
    """As a gallery does, the index's bytes against their hash."""
    sha256_of(folder / "index.faiss")
    index = read_index(folder / "index.faiss", SPEC.dim, rows)
    return Segment(folder / "embeddings.h5", SPEC, rows, index, 256)


def timed(segment: Segment, questions: list[Question], only=None) -> tuple[float, float, float]:
    """p50 and p95 in ms, and the mean of the process's CPU time."""
    taken, cpu = [], time.process_time()
    for one in questions:
        start = time.perf_counter()
        segment.search(one.query, one.turns, 10, segment.every if only is None else only)
        taken.append(1e3 * (time.perf_counter() - start))
    cpu_ms = 1e3 * (time.process_time() - cpu) / len(questions)
    return float(np.percentile(taken, 50)), float(np.percentile(taken, 95)), cpu_ms


def serve(folder: Path, rows: int, questions: list[Question], best: np.ndarray) -> Served:
    """Open an index and ask it everything."""
    before, start = held(), time.perf_counter()
    segment = open_segment(folder, rows)
    ids = read_ids(folder / "embeddings.h5", SPEC, rows)
    open_s = time.perf_counter() - start
    depth, recall = deep_enough(segment, questions, best)
    segment = Segment(segment.embeddings, SPEC, rows, segment.index, depth)
    ms = {}
    for threads in (1, 2):
        faiss.omp_set_num_threads(threads)
        torch.set_num_threads(threads)
        ms |= {(threads, kind): timed(segment, questions[at::4]) for at, kind in enumerate(KINDS)}
    resident = held() - before
    regions = [np.array([[rows // 3, rows // 3 + max(1, int(share * rows))]]) for share in SHARES]
    region_ms = [timed(segment, questions[1::4], only)[0] for only in regions]
    assert len(ids) == rows
    return Served(open_s, resident, depth, (recall.known_heading, recall.unknown_heading), ms, region_ms)


def compare(folder: Path, rows: int, factories: list[str], queries: int) -> None:
    """Write so many embeddings, and print what each index makes of them."""
    path = folder / "embeddings.h5"
    start = time.perf_counter()
    write_embeddings(path, SPEC, rows, chunks(rows))
    size, took = path.stat().st_size / 2**30, time.perf_counter() - start
    print(f"\n{rows:,} rows, {size:.2f} GiB, written in {took:.0f} s")
    ask(folder, rows, factories, queries)


def ask(folder: Path, rows: int, factories: list[str], queries: int) -> None:
    """Print what each index makes of the embeddings in a folder, where memory allows it."""
    path = folder / "embeddings.h5"
    start = time.perf_counter()
    bare = Segment(path, SPEC, rows, faiss.IndexFlatIP(1), 256)
    questions = make_questions(bare, 4 * queries, seed=1)
    best = exact_scores(bare, questions)
    print(f"exact search of {len(questions)} queries: {time.perf_counter() - start:.0f} s", flush=True)
    for factory in factories:
        if said := left_out(factory, rows):
            print(said, flush=True)
            continue
        start = time.perf_counter()
        index = fill_index(
            factory, SPEC.dim, rows, lambda: (some for _, some in read_embeddings(path, SPEC, rows))
        )
        build_s = time.perf_counter() - start
        faiss.write_index(index, str(folder / "index.faiss"))
        del index
        with ProcessPoolExecutor(1, get_context("spawn")) as apart:
            show(factory, rows, build_s, apart.submit(serve, folder, rows, questions, best).result())


def left_out(factory: str, rows: int) -> str:
    """Why an index of so many rows is not built: it would leave less than a tenth of the memory free."""
    taken, free = index_bytes(factory, SPEC.dim, rows), free_bytes()
    if taken < 0.9 * free:
        return ""
    return f"{factory}: left out, {rows:,} rows take {taken / 2**30:.1f} GiB and {free / 2**30:.1f} are free"


def free_bytes() -> int:
    """Bytes of memory that this machine can still give."""
    return 1024 * int(Path("/proc/meminfo").read_text().split("MemAvailable:")[1].split()[0])


def show(factory: str, rows: int, build_s: float, served: Served) -> None:
    """A paragraph of figures."""
    known, unknown = served.recall
    print(
        f"{factory}: recall@10 {known:.4f} known, {unknown:.4f} unknown at depth {served.depth}; "
        f"{served.resident / rows:,.0f} bytes a tile resident ({served.resident / 2**20:,.0f} MiB); "
        f"built in {build_s:.0f} s, opened in {served.open_s:.2f} s"
    )
    for kind in KINDS:
        each = (
            f"{threads} threads {served.ms[threads, kind][0]:.1f} / {served.ms[threads, kind][1]:.1f}"
            for threads in (1, 2)
        )
        print(f"  {kind:<12} ms p50 / p95: {', '.join(each)}; CPU {served.ms[1, kind][2]:.1f} ms")
    shares = (f"{share:.1%} {ms:.1f}" for share, ms in zip(SHARES, served.region_ms, strict=True))
    print(f"  360 unknown in a region of {', '.join(shares)} ms", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--hnsw-rows", type=int, default=100_000, help="0 leaves HNSW64 out")
    parser.add_argument("--queries", type=int, default=40, help="of each of the four kinds")
    parser.add_argument(
        "--factories", nargs="+", default=["Scan64", "Scan32", "IVF1024,SQ8", "IVF1024,RaBitQ4"]
    )
    parser.add_argument("--folder", type=Path, help="where there is room: 2 GB for a million rows")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        together = ["HNSW64"] if arguments.hnsw_rows == arguments.rows else []
        compare(Path(folder), arguments.rows, arguments.factories + together, arguments.queries)
        if arguments.hnsw_rows and not together:
            compare(Path(folder), arguments.hnsw_rows, ["Scan64", "HNSW64"], arguments.queries)


if __name__ == "__main__":
    main()
