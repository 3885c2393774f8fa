"""What a batch costs in memory, and what a step waits for.

A batch of 1,024 pairs by cached gradients, 32 pairs at a time, against plain training with batches of 64 and
of 1,024, each in a process of its own: printed is the most memory that each ever held, above what it held
when its model was built. Then a run of `train` as it is: the share of its time that it waits for data, and
the processor time that varying a batch takes beside that of the whole step.

Run: python tests/benchmarks/bench_train.py [--backbone test_convnext] [--bins 1] [--threads 2] [--plain-1024]

The loss compares all queries of a batch with all its tiles at every heading: with many bins that matrix is
most of what 1,024 pairs take at once, and with a chunk it is never whole. The full run adds --plain-1024.
"""

import argparse
import dataclasses
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from geoloc.encoder import TwinEncoder
from geoloc.pairs import Pair, PairTable
from geoloc.places import LonLat
from geoloc.street_view import read_rgb
from geoloc.training.augment import Varied, draw, vary
from geoloc.training.learner import Learner, optimizer_of
from geoloc.training.negatives import Negatives
from geoloc.training.objective import Objective
from geoloc.training.read_ahead import read_ahead
from geoloc.training.recipe import SMALL, TrainConfig
from geoloc.training.run_folder import read_log
from geoloc.training.step import Stepper
from geoloc.training.train import train

STEPS = 1


def recipe(backbone: str, bins: int, batch: int, chunk: int) -> TrainConfig:
    """The default one with another backbone to its third stage, and as many azimuth bins."""
    spec = dataclasses.replace(
        SMALL, backbone=backbone, stage=2, output_stride=0, azimuth_bins=bins, polar=bins > 1
    )
    return TrainConfig(spec, batch=batch, chunk=chunk, neighbours=0, precision="float32")


def parts(config: TrainConfig) -> Iterator[Varied]:
    """Batches of noise, made as `train` makes them."""
    spec, size = config.model, config.chunk or config.batch
    rng = np.random.default_rng(0)
    canvases = rng.integers(0, 256, (size, 4, spec.street_hw[0] * 3 // 2, spec.street_hw[1]), np.uint8)
    canvases[:, 3] = 255
    tiles = rng.integers(0, 256, (size, spec.satellite_px + 24, spec.satellite_px + 24, 3), np.uint8)

    def make(number: int) -> Varied:
        drawn = draw(config.batch, spec, config.augmentation, np.random.default_rng(number))
        return vary(torch.from_numpy(canvases), torch.from_numpy(tiles), spec, drawn.of(np.arange(size)))

    chunks = config.batch // size
    return read_ahead(make, range(STEPS * chunks * min(2, chunks)))


def held_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(config: TrainConfig) -> None:
    """A step or more; prints the memory above the beginning's, in MiB, and the seconds of a step."""
    torch.manual_seed(0)
    places = [Pair(Path(f"{n}.jpg"), Path(f"{n}.png"), 0.0, 360.0) for n in range(config.batch)]
    negatives = Negatives.of(PairTable("made", "train", places), config.apart_m)
    learner = Learner(TwinEncoder(config.model), Objective(config, negatives))
    learner.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    stepper = Stepper(learner, optimizer_of(learner, config), scaler, torch.float32)
    rows = np.arange(config.batch)
    coming, chunks = parts(config), config.batch // (config.chunk or config.batch)
    before, began = held_mib(), time.monotonic()
    for number in range(STEPS):
        mine = (next(coming) for _ in range(chunks * min(2, chunks)))
        stepper.step(mine, chunks, rows, number, number)
    print(held_mib() - before, (time.monotonic() - began) / STEPS)


def print_memory(arguments: argparse.Namespace) -> None:
    sizes = [(64, 0), (1024, 32)] + ([(1024, 0)] if arguments.plain_1024 else [])
    for batch, chunk in sizes:
        words = ["--measure", str(batch), str(chunk), "--backbone", arguments.backbone]
        words += ["--threads", str(arguments.threads), "--bins", str(arguments.bins)]
        said = subprocess.run(
            [sys.executable, __file__, *words], check=True, capture_output=True, text=True
        ).stdout
        mib, step_s = map(float, said.split())
        how = f"{chunk} at a time" if chunk else "plain"
        print(f"batch {batch:>5}, {how:<14} {mib:>7.0f} MiB  {batch / step_s:>6.1f} pairs/s", flush=True)


def write_pairs(folder: Path, n: int) -> list[Pair]:
    from PIL import Image

    pairs = []
    for number in range(n):
        rng = np.random.default_rng(number)
        for name, hw in (("street", (256, 1024)), ("tile", (256, 256))):
            coarse = rng.integers(0, 256, (hw[0] // 16, hw[1] // 16, 3), np.uint8)
            Image.fromarray(coarse).resize(hw[::-1]).save(folder / f"{number}_{name}.jpg")
        place = LonLat(10 + number / 1000, 50)
        street, tile = (folder / f"{number}_{name}.jpg" for name in ("street", "tile"))
        pairs.append(Pair(street, tile, 0.0, 360.0, place, place, footprint_m=76.0))
    return pairs


def print_waiting(n: int = 256) -> None:
    """The default recipe, an epoch after another has warmed it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pairs = write_pairs(folder, n + 32)
        assert read_rgb(pairs[0].street).shape == (256, 1024, 3)
        config = TrainConfig(epochs=2, neighbours=0, log_every=1, workers=0)
        began = time.process_time()
        train(
            config,
            PairTable("noise", "train", pairs[:n]),
            PairTable("noise", "val", pairs[n:]),
            folder / "run",
        )
        spent_s = time.process_time() - began
        lines = [line for line in read_log(folder / "run") if line.get("epoch") == 1]
        rate, waited = lines[-1]["pairs_per_s"], lines[-1]["waited"]
        print(f"`train`, default recipe: {rate:.1f} pairs/s, waits {waited:.2%} of the time for data")
        began = time.process_time()
        waited_s = _varying_s(config)
        print(
            f"varying a batch of {config.batch}: {waited_s:.3f} s of processor time; "
            f"a step is {config.batch / rate:.3f} s, the whole run took {spent_s:.0f} s of processor time"
        )


def _varying_s(config: TrainConfig) -> float:
    began = time.process_time()
    for _ in parts(config):
        pass
    return (time.process_time() - began) / STEPS


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="test_convnext")
    parser.add_argument("--bins", type=int, default=1, help="of azimuth: 1, 2, 4, 8 or 16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--plain-1024", action="store_true", help="takes what memory it takes")
    parser.add_argument("--measure", nargs=2, type=int, metavar=("BATCH", "CHUNK"), help="in this process")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.measure:
        measure(recipe(arguments.backbone, arguments.bins, *arguments.measure))
        return
    print(f"{arguments.backbone}, {arguments.bins} bins, canvases of 64 x 256; memory above the model's own:")
    print_memory(arguments)
    print_waiting()


if __name__ == "__main__":
    main()
