"""What pre-training buys: a linear probe of frozen features, and training on 1, 10 and 100 % of the pairs.

Run: python tests/benchmarks/bench_pretrain.py [--minutes 0.3] [--towns 6] [--pairs-per-town 60]
     [--shares 0.01 0.1 1] [--seeds 0] [--longer] [--work FOLDER] [--set KEY=VALUE ...]

Both encoders are pre-trained by `geoloc pretrain`, the satellite's on orthophotos, then the street's on
panoramas, for so many minutes each and without pairs. On towns of other seeds:

- probe: logistic regression from an encoder's representation to what the town's plan says for nothing. Of a
  tile: the surface that most of its middle 16 m is of, and whether a road crosses its middle 32 m. Of a
  panorama: whether facades fill more of it than of the median one. Fitted on half of the towns, right answers
  counted on the other half; beside it the same of untrained encoders, of the mean colours, and the share
  of the commonest answer.
- training: recall@1 at unknown heading, from scratch and from the pre-trained encoders, on a share of the
  pairs. Each run has as many minutes, and sees those of a small share more often. The pre-training comes on
  top: with --longer a third run trains from scratch for as long as pre-training and training took together.

By default some five minutes of two idle cores; the real one is --minutes 10 --towns 24 --pairs-per-town 260
--longer, and several seeds.
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import rasterio
import torch
import torch.nn.functional as F
from bench_headings import Enough, towns
from PIL import Image

from geoloc.atomic import write_text
from geoloc.embed import Side
from geoloc.encoder import TwinEncoder
from geoloc.model import load_encoder
from geoloc.pairs import PairTable
from geoloc.score import Asked, evaluate_table
from geoloc.street_view import read_street_view
from geoloc.tensors import street_tensor, tile_tensor
from geoloc.training.agreement import representation
from geoloc.training.config import read_config
from geoloc.training.pretrain import pretrain
from geoloc.training.pretrain_recipe import PretrainConfig
from geoloc.training.recipe import SMALL, TrainConfig
from geoloc.training.run import Progress, Report
from geoloc.training.train import train
from preprocessing.datasets.towns import read_towns
from preprocessing.towns.raster import lay_ground
from preprocessing.towns.scene import Surface
from preprocessing.towns.table import TABLE, read_rows
from preprocessing.towns.town import TownConfig, plan_town
from preprocessing.unlabelled import open_unlabelled

TRIAL_STEPS = 8
PROBES_PER_TOWN = 200
WIDTHS_DEG = (360.0, 180.0, 90.0)
FOOTPRINT_M, UNSEEN_SEED = 64.0, 900
GREEN, BARE, WATER, ROAD, PAVED, ROOF = range(6)
S = Surface
GROUPS = {
    GREEN: (S.GRASS, S.TRUNK, S.HEDGE, S.FENCE, S.CROWN, S.CROP, S.CEREAL, S.STUBBLE, S.SCRUB, S.LITTER),
    BARE: (S.DIRT, S.GRAVEL, S.SOIL, S.SAND, S.ROCK),
    WATER: (S.WATER,),
    ROAD: (S.ASPHALT, S.LANE_MARKING, S.ZEBRA, S.YELLOW_MARKING),
    PAVED: (S.PAVEMENT, S.KERB, S.PARKING, S.DRIVEWAY, S.PATH, S.CONCRETE),
    ROOF: (S.ROOF_TILE, S.ROOF_FLAT, S.ROOF_METAL),
}
GROUP_OF = np.full(256, GREEN, np.uint8)
for group, surfaces in GROUPS.items():
    GROUP_OF[list(surfaces)] = group


def main() -> None:
    """Pre-train, probe, train; whatever is measured is kept in WORK/results.jsonl."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=0.3, help="of each pre-training and each training")
    parser.add_argument("--towns", type=int, default=6)
    parser.add_argument("--pairs-per-town", type=int, default=60)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.01, 0.1, 1.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--longer", action="store_true")
    parser.add_argument("--work", type=Path, default=Path(".geoloc/bench-pretrain"))
    parser.add_argument("--set", nargs="*", default=[], help="settings of the pre-training")
    arguments = parser.parse_args()
    pairs, unseen = arguments.pairs_per_town, max(2, arguments.towns // 4)
    root = towns(arguments.work / f"train-{arguments.towns}-{pairs}", arguments.towns, 3000, pairs, 80.0)
    other = towns(arguments.work / f"unseen-{unseen}-{pairs}", unseen, UNSEEN_SEED, pairs, FOOTPRINT_M)
    tiles, canvases = probe_tiles(other, pairs), probe_canvases(other)
    for seed in arguments.seeds:
        runs = arguments.work / f"run-{seed}-{time.time_ns()}"
        models = pretrained(root, runs, seed, arguments)
        torch.manual_seed(seed)
        encoders = {"untrained": TwinEncoder(SMALL).eval(), "pre-trained": load_encoder(models["street"])}
        for side, (images, labels, half) in (("satellite", tiles), ("street", canvases)):
            known = {name: features_of(encoder, side, images) for name, encoder in encoders.items()}
            for label, values in labels.items():
                what = f"probe {label}"
                for name, features in {**known, "mean colours": colours(images)}.items():
                    tell(arguments.work, seed, what, name, probe(features, values, half))
                commonest = values[half] == np.bincount(values[~half]).argmax()
                tell(arguments.work, seed, what, "commonest", float(commonest.mean()))
        recipe = TrainConfig(neighbours=0, seed=seed)
        warm = dataclasses.replace(recipe, start_from=models["street"])
        for share in arguments.shares:
            tries = [("from scratch", recipe, 1), ("pre-trained", warm, 1)]
            for name, told, times in [*tries, ("longer", recipe, 3)] if arguments.longer else tries:
                run = runs / f"{name}-{share:g}".replace(" ", "-")
                for what, figure in trained(told, root, other, run, share, times * arguments.minutes * 60):
                    tell(arguments.work, seed, f"{share:.0%} of the pairs, {what}", name, figure)


def tell(work: Path, seed: int, what: str, who: str, figure: float) -> None:
    """Print a figure, and keep it."""
    print(f"seed {seed}  {what:<44} {who:<14} {100 * figure:6.1f} %", flush=True)
    kept = work / "results.jsonl"
    line = json.dumps({"seed": seed, "what": what, "who": who, "figure": figure}) + "\n"
    write_text(kept, (kept.read_text() if kept.exists() else "") + line)


def pretrained(root: Path, runs: Path, seed: int, arguments: argparse.Namespace) -> dict[Side, Path]:
    """The models after the satellite encoder has learnt, and after the street encoder has as well."""
    base = read_config(PretrainConfig(seed=seed, model=SMALL), None, arguments.set)
    models: dict[Side, Path] = {}
    for view in ("satellite", "street"):
        config = dataclasses.replace(base, view=view, start_from=models.get("satellite"))
        images = [open_unlabelled(str(root), view, SMALL, FOOTPRINT_M / 4)]

        def go(epochs: int, run: Path, report: Report, config=config, images=images) -> Path:
            return pretrain(dataclasses.replace(config, epochs=epochs), images, run, report=report)

        epochs = epochs_in(arguments.minutes * 60, go, runs / f"{view}-trial")
        began = time.monotonic()
        models[view] = go(epochs, runs / view, lambda _: None)
        print(f"{view}: {epochs} epochs of pre-training in {(time.monotonic() - began) / 60:.1f} minutes")
    return models


def epochs_in(seconds: float, go: Callable[[int, Path, Report], Path], run: Path) -> int:
    """How many epochs fit in the time, judged by a few steps of a trial; one at least."""
    steps: list[tuple[float, int]] = []

    def stop(now: Progress) -> None:
        steps.append((time.monotonic(), now.steps))
        if len(steps) == TRIAL_STEPS:
            raise Enough

    with suppress(Enough):
        go(100, run, stop)
    step_s = (steps[-1][0] - steps[1][0]) / (len(steps) - 2)
    return max(1, round(seconds / step_s / (steps[0][1] / 100)))


Probes = tuple[torch.Tensor, dict[str, np.ndarray], np.ndarray]
"""Images as the encoder takes them, labels by name, and which images are of the half that is counted."""


def probe_tiles(root: Path, pairs: int) -> Probes:
    """Tiles anywhere on the orthophotos, labelled by the plan that the towns were drawn from."""
    images, surface, road, town = [], [], [], []
    for number, seed in enumerate(sorted({row["town_seed"] for row in read_rows(root / TABLE)})):
        plan = plan_town(TownConfig(pairs=pairs, footprint_m=FOOTPRINT_M), seed)
        groups = GROUP_OF[lay_ground(plan).surface]
        with rasterio.open(root / "ortho" / f"town-{seed}.tif") as photo:
            rgb = photo.read().transpose(1, 2, 0)
        half, rng = round(FOOTPRINT_M / plan.gsd_m / 2), np.random.default_rng(seed)
        for y, x in rng.integers(half, len(groups) - half, (PROBES_PER_TOWN, 2)):
            images.append(tile_tensor(rgb[y - half : y + half, x - half : x + half], SMALL))
            near, wide = (groups[y - r : y + r, x - r : x + r].ravel() for r in (half // 4, half // 2))
            surface.append(np.bincount(near).argmax())
            road.append((wide == ROAD).mean() > 0.05)
            town.append(number)
    labels = {"surface": np.array(surface), "road": np.array(road).astype(int)}
    return torch.stack(images), labels, np.array(town) % 2 == 1


def probe_canvases(root: Path) -> Probes:
    """Panoramas, labelled by their own map of surfaces."""
    rows = read_rows(root / TABLE)
    images, facades = [], []
    for row in rows:
        how = {"hfov_deg": row["hfov_deg"], "heading_deg": row["heading_deg"]}
        images.append(street_tensor(read_street_view(root / row["street"], **how), SMALL))
        surfaces = np.asarray(Image.open(root / f"streetview/annotations/{row['id']:07d}.png"))
        facades.append((surfaces == Surface.FACADE).mean())
    many, odd = np.array(facades) > np.median(facades), [row["town_seed"] % 2 == 1 for row in rows]
    return torch.stack(images), {"facades": many.astype(int)}, np.array(odd)


def features_of(encoder: TwinEncoder, side: Side, images: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return torch.cat([representation(encoder, side, some) for some in images.split(64)]).clone()


def colours(images: torch.Tensor) -> torch.Tensor:
    """The mean and the deviation of each channel."""
    return torch.cat([images[:, :3].mean(dim=(2, 3)), images[:, :3].std(dim=(2, 3))], dim=1)


def probe(features: torch.Tensor, labels: np.ndarray, half: np.ndarray) -> float:
    """The share that logistic regression gets right on one half, fitted on the other."""
    here, there = torch.from_numpy(~half), torch.from_numpy(half)
    mean, deviation = features[here].mean(dim=0), features[here].std(dim=0).clamp(min=1e-6)
    scaled, wanted = (features - mean) / deviation, torch.from_numpy(labels)
    linear = torch.nn.Linear(scaled.shape[1], int(wanted.max()) + 1)
    for value in linear.parameters():
        torch.nn.init.zeros_(value)
    optimizer = torch.optim.LBFGS(linear.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        found = F.cross_entropy(linear(scaled[here]), wanted[here]) + 1e-3 * linear.weight.square().sum()
        found.backward()
        return found

    optimizer.step(loss)
    return float((linear(scaled[there]).argmax(dim=1) == wanted[there]).float().mean())


def trained(
    recipe: TrainConfig, root: Path, unseen: Path, run: Path, share: float, seconds: float
) -> list[tuple[str, float]]:
    """Train on a share of the pairs for the time, and score: recall@1 at each width."""
    known = read_towns(root, "train")
    kept = np.random.default_rng(0).permutation(len(known.pairs))[: max(8, round(share * len(known.pairs)))]
    few = [known.pairs[row] for row in kept] * (len(known.pairs) // len(kept))
    table: PairTable = dataclasses.replace(known, pairs=few)
    recipe = dataclasses.replace(recipe, batch=min(recipe.batch, len(kept)))

    def go(epochs: int, run: Path, report: Report) -> Path:
        told = dataclasses.replace(recipe, epochs=epochs)
        return train(told, table, read_towns(root, "val"), run, report=report)

    model = go(epochs_in(seconds, go, run.with_name(run.name + "-trial")), run, lambda _: None)
    asked = [Asked(width, unknown_heading=True) for width in WIDTHS_DEG]
    scored = evaluate_table(load_encoder(model), read_towns(unseen), asked).scored
    return [
        (f"recall@1 at {width:g}", one.figures.values["recall@1"])
        for width, one in zip(WIDTHS_DEG, scored, strict=True)
    ]


if __name__ == "__main__":
    main()
