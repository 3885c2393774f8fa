"""From a photo's file to a refined fix in a gallery of 20,000 tiles: the seconds, and where they go.

Run: python tests/benchmarks/bench_answer.py [--queries 40] [--threads 2] [--work FOLDER]

The gallery is the dense grid over four normal towns; street views are theirs, whole or cut to 90 degrees,
asked without a heading. The goal is 1 s on two cores.
"""

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from bench_headings import towns

from geoloc.model import load_encoder
from geoloc.score import Asked
from indexing import answer as steps
from indexing import trials
from indexing.build import build_gallery
from indexing.gallery import Gallery

STEPS = {
    "read and cut the street view": (trials, "as_asked"),
    "embed it": (steps, "_embed"),
    "search all headings": (Gallery, "search"),
    "weigh the evidence": (Gallery, "evidence"),
    "refine three hits": (steps, "refine"),
    "  of it reading their imagery": (Gallery, "read_around"),
    "draw the 90 % region": (steps, "likely_ground"),
}


def main() -> None:
    """Print each step's median and share, for panoramas and for 90 degrees."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--queries", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", type=Path, default=Path("data/model"))
    parser.add_argument("--work", type=Path, default=Path(".geoloc/bench-answer"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    root = towns(arguments.work / "towns", 8, 900, 10, 64.0)
    chosen = trials.town_cases(root, "all", arguments.queries)
    cases = [case for case in chosen.cases if case.inside]
    gallery_at = arguments.work / f"gallery-{load_encoder(arguments.model).spec.weights_sha256[:12]}"
    if not gallery_at.exists():
        build_gallery(chosen.imagery, arguments.model, gallery_at)
    encoder, spent = load_encoder(arguments.model), defaultdict[str, list[float]](list)
    for name, (owner, attribute) in STEPS.items():
        setattr(owner, attribute, timed(getattr(owner, attribute), spent[name]))
    with Gallery.open(gallery_at) as gallery:
        for width in (360.0, 90.0):
            trials.try_cases(cases[:3], gallery, encoder, Asked(width, True), lambda *_: None)
            for took_s in spent.values():
                took_s.clear()
            began, whole = time.perf_counter(), []

            def each(_: str, __: int, ___: int, whole: list[float] = whole) -> None:
                nonlocal began
                now = time.perf_counter()
                whole.append(now - began)
                began = now

            trials.try_cases(cases, gallery, encoder, Asked(width, True), each)
            median_s = statistics.median(whole)
            print(
                f"{len(gallery):,} tiles, {width:g} degrees, heading unknown, {arguments.threads} threads: "
                f"{1000 * median_s:.0f} ms (95 %: {1000 * sorted(whole)[int(0.95 * len(whole))]:.0f})"
            )
            for name, took_s in spent.items():
                each_s = sum(took_s) / len(whole)
                print(
                    f"  {name:<32} {1000 * each_s:6.0f} ms {100 * each_s / (sum(whole) / len(whole)):5.0f} %"
                )


def timed(step: Callable[..., Any], took_s: list[float]) -> Callable[..., Any]:
    """The step, its seconds noted."""

    def run(*arguments: Any, **named: Any) -> Any:
        began = time.perf_counter()
        try:
            return step(*arguments, **named)
        finally:
            took_s.append(time.perf_counter() - began)

    return run


if __name__ == "__main__":
    main()
