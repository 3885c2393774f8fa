"""Any field of view at any heading: our recipe and two baselines, trained for the same time.

Run: python tests/benchmarks/bench_headings.py [--minutes 1] [--towns 6] [--presets easy normal hard]
     [--map-queries 150] [--model data/model] [--work FOLDER]

By default six minutes of two cores; the full run is --minutes 20 --towns 24 --presets easy normal hard
--map-queries 150.

Every recipe trains on the same pairs for the same wall-clock time and is scored on towns of other
seeds: each street view against 1,200 tiles, and with --map-queries in a dense gallery of half of the towns.
The baselines see the same augmentation (random headings and fields of view). `pooled triplet` is the
soft-margin triplet over one pooled vector; `Sample4Geo` is that paper's recipe: one backbone for both views,
pooled, symmetric InfoNCE with a learnt temperature and smoothed labels, neighbours by position and later by
similarity as hard negatives. At known heading a pooled vector gains nothing, at unknown heading it
loses nothing. --model scores trained models beside them; --minutes 0 trains none. Ablations are in
bench_study.py: bins, polar form, loss, jitter.
"""

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from geoloc.model import load_encoder
from geoloc.score import Asked, evaluate_table
from geoloc.training.recipe import SMALL, TrainConfig
from geoloc.training.run import Progress
from geoloc.training.train import train
from indexing.build import build_gallery
from indexing.gallery import Gallery
from indexing.trials import figures_of, town_cases, try_cases
from preprocessing.datasets.towns import read_towns
from preprocessing.towns.synth import SynthConfig, synthesize
from preprocessing.towns.town import TownConfig

POOLED = dataclasses.replace(SMALL, azimuth_bins=1, channels=512, polar=False)
OURS = TrainConfig()
BASELINES = {
    "ours": OURS,
    "pooled triplet": dataclasses.replace(OURS, model=POOLED, loss="triplet", neighbours=0),
    "Sample4Geo": dataclasses.replace(
        OURS, model=dataclasses.replace(POOLED, shared=True), smoothing=0.1, mine_every=2
    ),
}
WIDTHS_DEG = (360.0, 180.0, 90.0, 70.0)
FIGURES = (
    "recall@1", "recall@5", "recall@10", "recall@1%", "heading<5deg", "median_heading_error_deg",
    "map recall@1<25m", "map recall@1<50m", "map median_error_m", "map heading<5deg",
)  # fmt: skip
TRIAL_STEPS = 12


class Enough(Exception):
    """Raised to stop the trial run."""


def main() -> None:
    """Train what is to be trained, and print a row per model, preset, setting and heading."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=1.0, help="of training for each recipe")
    parser.add_argument("--work", type=Path, default=Path(".geoloc/bench-headings"))
    parser.add_argument("--towns", type=int, default=6, help="to train on, of 260 pairs each")
    parser.add_argument("--pairs", type=Path, help="towns to train on; made below --work by default")
    parser.add_argument("--model", type=Path, nargs="*", default=[], help="trained models to score as well")
    parser.add_argument("--presets", nargs="*", default=["normal"], choices=["easy", "normal", "hard"])
    parser.add_argument("--map-queries", type=int, default=0, help="also a dense map, asked so many times")
    arguments = parser.parse_args()
    recipes = BASELINES if arguments.minutes else {}
    train_towns = arguments.work / f"train-{arguments.towns}"
    root = arguments.pairs or (towns(train_towns, arguments.towns, 2000, 260, 80.0) if recipes else Path())
    models = {str(model): model for model in arguments.model}
    for name, config in recipes.items():
        run = arguments.work / f"run-{name.replace(' ', '-')}-{time.time_ns()}"
        epochs, config = budget(config, root, run, arguments.minutes * 60)
        print(f"{name}: {epochs:.2f} epochs in {arguments.minutes:g} minutes", flush=True)
        models[name] = train(config, read_towns(root, "train"), read_towns(root, "val"), run)
    print(f"{'model':<22} {'towns':<7} {'heading':<8} {'figure':<22}", *(f"{w:>6g}" for w in WIDTHS_DEG))
    for name, model in models.items():
        for preset in arguments.presets:
            unseen = towns(arguments.work / f"unseen-{preset}", 6, 900, 200, 64.0, preset)
            for heading, figures in scored(model, unseen, arguments.map_queries):
                for figure in FIGURES:
                    if any(figure in at_width for at_width in figures):
                        cells = (f"{at_width.get(figure, float('nan')):6.3f}" for at_width in figures)
                        print(f"{name:<22} {preset:<7} {heading:<8} {figure:<22}", *cells, flush=True)


def scored(model: Path, unseen: Path, map_queries: int) -> Iterator[tuple[str, list[dict[str, float]]]]:
    """For either heading, the figures at each field of view: of pairs, and of the map under map_*."""
    encoder, pairs = load_encoder(model), read_towns(unseen)
    for unknown in (True, False):
        asked = [Asked(width, unknown) for width in WIDTHS_DEG]
        figures = [dict(one.figures.values) for one in evaluate_table(encoder, pairs, asked).scored]
        if map_queries:
            for row, values in zip(figures, on_map(model, unseen, asked, map_queries), strict=True):
                row |= {f"map {name}": value for name, value in values.items() if isinstance(value, float)}
        yield ("unknown" if unknown else "known"), figures


def on_map(model: Path, unseen: Path, asked: list[Asked], queries: int) -> list[dict[str, Any]]:
    """What `geoloc evaluate --map` scores: half of the towns as one dense gallery, asked from both halves."""
    encoder, chosen = load_encoder(model), town_cases(unseen, "all", queries)
    with tempfile.TemporaryDirectory() as folder:
        build_gallery(chosen.imagery, model, Path(folder) / "gallery")
        with Gallery.open(Path(folder) / "gallery") as gallery:
            return [
                figures_of(try_cases(chosen.cases, gallery, encoder, one, lambda *_: None)) for one in asked
            ]


def towns(
    out: Path, count: int, seed: int, pairs: int, footprint_m: float, difficulty: str = "normal"
) -> Path:
    """A set of towns, made once."""
    town = TownConfig(pairs=pairs, footprint_m=footprint_m, difficulty=difficulty)
    return synthesize(SynthConfig(count, seed, town), out, workers=2)


def budget(config: TrainConfig, root: Path, run: Path, seconds: float) -> tuple[float, TrainConfig]:
    """The config with as many epochs as fit in the time, judged by a few steps, and that number.

    Less than one epoch is one over a part of the pairs, so there is at least one.
    """
    times: list[float] = []

    def stop(now: Progress) -> None:
        times.append(time.monotonic())
        if now.step == TRIAL_STEPS:
            raise Enough

    pairs = read_towns(root, "train")
    try:
        train(config, pairs, read_towns(root, "val"), run.with_name(run.name + "-trial"), report=stop)
    except Enough:
        step_s = (times[-1] - times[2]) / (len(times) - 3)
    epochs = max(1, round(seconds / step_s * config.batch / len(pairs.pairs)))
    return epochs, dataclasses.replace(config, epochs=epochs)


if __name__ == "__main__":
    main()
