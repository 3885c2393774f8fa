"""Exact ranks of CVACT's test set in size: 92,802 queries against 92,802 tiles of 1,024 numbers.

Prints the memory that ranking takes above the embeddings, and its time against the machine's floor: that of
the matrix product alone, measured on blocks of the same shape. The full run is the default,
some minutes of two cores; `--rows` makes it smaller.
"""

import argparse
import os
import threading
import time
from pathlib import Path

import numpy as np
import torch

from geoloc.embed import best_device
from geoloc.recall import QUERIES, ROWS, ranks


def unit_rows(n: int, d: int, seed: int) -> np.ndarray:
    """Random unit vectors, made a block at a time."""
    rng = np.random.default_rng(seed)
    rows = np.empty((n, d), np.float32)
    for start in range(0, n, 4096):
        block = rng.standard_normal((min(4096, n - start), d), np.float32)
        rows[start : start + 4096] = block / np.linalg.norm(block, axis=1, keepdims=True)
    return rows


def product_s(d: int) -> float:
    """Seconds of one block's matrix product, the median of seven."""
    left, right, out = (
        torch.randn(shape, device=best_device()) for shape in ((QUERIES, d), (ROWS, d), (QUERIES, ROWS))
    )
    taken = []
    for _ in range(7):
        began = time.perf_counter()
        torch.mm(left, right.T, out=out)[0, 0].item()
        taken.append(time.perf_counter() - began)
    return float(np.median(taken))


class Watch(threading.Thread):
    """The most memory that this process has held since it was started, by looking fifty times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.over = threading.Event()
        self.first = self.most = self._held()
        self.start()

    def run(self) -> None:
        while not self.over.wait(0.02):
            self.most = max(self.most, self._held())

    @staticmethod
    def _held() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=92_802)
    parser.add_argument("--dim", type=int, default=1024)
    arguments = parser.parse_args()
    n, d = arguments.rows, arguments.dim
    gallery = unit_rows(n, d, 0)
    queries = unit_rows(n, d, 1)
    queries += 0.13 * gallery
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    before = product_s(d)
    watch = Watch()
    began = time.perf_counter()
    rank, _ = ranks(queries, gallery, np.arange(n), device=best_device())
    took = time.perf_counter() - began
    watch.over.set()
    above = (watch.most - watch.first) / 2**20
    blocks = n / QUERIES * n / ROWS
    floor = (before + product_s(d)) / 2 * blocks
    tera = 2 * n * n * d / 1e12
    print(f"{n:,} x {n:,} at {d:,} on {best_device()}: median rank {np.median(rank) + 1:.0f}")
    print(f"memory above the embeddings: {above:,.0f} MiB ({n * n * 4 / 2**20:,.0f} MiB would be the matrix)")
    print(f"the matrix product alone: {floor:.1f} s, {tera / floor:.3f} TFLOP/s")
    print(f"time: {took:.1f} s, {took / floor:.2f} times the product alone")


if __name__ == "__main__":
    main()
