"""Any field of view at unknown heading: our recipe, two baselines and ablations, trained for the same time.

Run: python tests/benchmarks/bench_headings.py [--minutes 5] [--ablations] [--work FOLDER]

Every recipe trains on the same pairs for the same wall-clock time and is scored on towns of other
seeds: each street view against 1,200 tiles. The baselines see the same augmentation (random headings
and fields of view). `pooled triplet` is the soft-margin triplet over one pooled vector; `Sample4Geo`
is that paper's recipe: one backbone for both views, pooled, symmetric InfoNCE, neighbours by position
as hard negatives (not its second stage, mining by similarity). At known heading a pooled vector gains
nothing, at unknown heading it loses nothing.
"""

import argparse
import dataclasses
import time
from pathlib import Path

from geoloc.model import load_encoder
from geoloc.recipe import SMALL, TrainConfig
from geoloc.score import Asked, evaluate_table
from geoloc.train import Progress, train
from preprocessing.datasets.towns import read_towns
from preprocessing.towns.synth import SynthConfig, synthesize
from preprocessing.towns.town import TownConfig

POOLED = dataclasses.replace(SMALL, azimuth_bins=1, channels=512, polar=False)
OURS = TrainConfig()
BASELINES = {
    "ours": OURS,
    "pooled triplet": dataclasses.replace(OURS, model=POOLED, loss="triplet", neighbours=0),
    "Sample4Geo": dataclasses.replace(OURS, model=dataclasses.replace(POOLED, shared=True)),
}
ABLATIONS = {
    "16 bins": dataclasses.replace(OURS, model=dataclasses.replace(SMALL, azimuth_bins=16)),
    "8 bins": dataclasses.replace(OURS, model=dataclasses.replace(SMALL, azimuth_bins=8)),
    "no polar form, 1 bin": dataclasses.replace(OURS, model=POOLED),
    "triplet over headings": dataclasses.replace(OURS, loss="triplet"),
    "no position jitter": dataclasses.replace(
        OURS, augmentation=dataclasses.replace(OURS.augmentation, shift_m=0.0)
    ),
    "no neighbours": dataclasses.replace(OURS, neighbours=0),
}
WIDTHS_DEG = (360.0, 180.0, 90.0, 70.0)
TRIAL_STEPS = 12


class Enough(Exception):
    """Raised to stop the trial run."""


def main() -> None:
    """Print a line per recipe: epochs, and recall@1 at each field of view, heading unknown, then known."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--ablations", action="store_true")
    parser.add_argument("--work", type=Path, default=Path(".geoloc/bench-headings"))
    parser.add_argument("--pairs", type=Path, help="towns to train on; made below --work by default")
    arguments = parser.parse_args()
    root = arguments.pairs or towns(arguments.work / "train", 24, 2000, 260, 80.0)
    unseen = read_towns(towns(arguments.work / "unseen", 6, 900, 200, 64.0))
    print(f"{arguments.minutes:g} minutes each; N = {len(unseen.pairs):,}; recall@1, heading unknown | known")
    for name, config in {**BASELINES, **(ABLATIONS if arguments.ablations else {})}.items():
        run = arguments.work / f"run-{name.replace(' ', '-')}-{time.time_ns()}"
        epochs, config = budget(config, root, run, arguments.minutes * 60)
        encoder = load_encoder(train(config, read_towns(root, "train"), read_towns(root, "val"), run))
        asked = [Asked(width, unknown) for unknown in (True, False) for width in WIDTHS_DEG]
        scored = evaluate_table(encoder, unseen, asked).scored
        scores = [f"{one.figures.values['recall@1']:.3f}" for one in scored]
        print(f"{name:<24} {epochs:5.2f} epochs  {' '.join(scores[:4])} | {' '.join(scores[4:])}", flush=True)


def towns(out: Path, count: int, seed: int, pairs: int, footprint_m: float) -> Path:
    """A set of towns, made once."""
    town = TownConfig(pairs=pairs, footprint_m=footprint_m)
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
