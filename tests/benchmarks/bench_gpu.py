"""What a training step reaches of a GPU: pairs/s and the share of its bf16 matrix rate, beside Sample4Geo's.

ConvNeXt-B shared by both views, tiles of 384 x 384 and street views of 140 x 768, 128 pairs a batch,
symmetric InfoNCE with label smoothing: Sample4Geo's recipe for CVUSA. Ours is the step of `geoloc train` as
a run takes it, in bfloat16, alone and with batches varied on the GPU while it works; then with torch.compile.
Theirs is their own `train`, from a checkout, as it is: float16 with a loss scale, the loop theirs, batches of
noise on the host where their loader would pin them. Weights are drawn; no speed depends on them.

The matrix rate is measured first: products of 8192 x 8192 bf16 matrices of noise. A step's work is counted as
three forward passes (PyTorch's FlopCounterMode), whatever is computed again.

Run: python tests/benchmarks/bench_gpu.py [--peer CHECKOUT] [--batch 128] [--backbone convnext_base]
"""

import argparse
import dataclasses
import importlib
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from geoloc.encoder import TwinEncoder
from geoloc.pairs import Pair, PairTable
from geoloc.places import LonLat
from geoloc.training.augment import Varied, draw, vary
from geoloc.training.compiled import compile_blocks
from geoloc.training.decoded import taller
from geoloc.training.epoch import Part, beside
from geoloc.training.learner import Learner, optimizer_of
from geoloc.training.negatives import Negatives
from geoloc.training.objective import Objective
from geoloc.training.read_ahead import read_ahead
from geoloc.training.recipe import SMALL, TrainConfig
from geoloc.training.step import Stepper, both_views

STEPS, WARM = 8, 3
SIDE = 8192


def recipe(backbone: str, batch: int) -> TrainConfig:
    """Sample4Geo's, as ours says it."""
    spec = dataclasses.replace(
        SMALL, backbone=backbone, stage=0, head="pooled", shared=True, azimuth_bins=1, polar=False,
        channels=1024, street_hw=(140, 768), satellite_px=384, output_stride=0, widths=(), depths=(),
    )  # fmt: skip
    return TrainConfig(
        spec, batch=batch, neighbours=0, precision="bfloat16", smoothing=0.1, learning_rate=1e-4
    )


def matrix_rate() -> float:
    """bf16 FLOP/s of a large product, the median of ten."""
    one, other = (torch.randn(SIDE, SIDE, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        one @ other
    took = []
    for _ in range(10):
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        began.record()
        one @ other
        ended.record()
        torch.cuda.synchronize()
        took.append(began.elapsed_time(ended) / 1000)
    return float(2 * SIDE**3 / np.median(took))


def flop_of_a_pair(config: TrainConfig) -> float:
    """Of a training step: three times those of the forward pass."""
    spec = config.model
    with torch.device("meta"):
        encoder = TwinEncoder(spec)
        street = torch.empty(1, 4, *spec.street_hw)
        satellite = torch.empty(1, 3, spec.satellite_px, spec.satellite_px)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        both_views(encoder, street, satellite)
    return 3.0 * float(counter.get_total_flops())


def pairs_per_s(step: Callable[[], object], batch: int) -> float:
    """Of a step, its first few left out."""
    for _ in range(WARM):
        step()
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(STEPS):
        step()
    torch.cuda.synchronize()
    return STEPS * batch / (time.perf_counter() - began)


def stepper_of(config: TrainConfig, compiled: bool) -> Stepper:
    """As `take_up` makes it."""
    torch.manual_seed(0)
    places = [
        Pair(Path(f"{n}.jpg"), Path(f"{n}.png"), 0.0, 360.0, LonLat(n / 10, 0.0)) for n in range(config.batch)
    ]
    negatives = Negatives.of(PairTable("made", "train", places), config.apart_m)
    learner = Learner(TwinEncoder(config.model), Objective(config, negatives)).cuda()
    learner.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    if compiled:
        compile_blocks(learner.encoder)
    scaler = torch.amp.GradScaler("cuda", enabled=False)
    return Stepper(learner, optimizer_of(learner, config), scaler, torch.bfloat16)


def batches(config: TrainConfig) -> Iterator[Varied]:
    """Noise, varied on the GPU, a batch ahead."""
    spec, rng = config.model, np.random.default_rng(0)
    canvases = torch.randint(0, 256, (config.batch, 4, *taller(spec).street_hw), dtype=torch.uint8).cuda()
    side = spec.satellite_px + 72
    tiles = torch.randint(0, 256, (config.batch, side, side, 3), dtype=torch.uint8).cuda()
    styled = dataclasses.replace(config.augmentation, style=0.3)

    def make(_: Part) -> Varied:
        return vary(canvases, tiles, spec, draw(config.batch, spec, styled, rng))

    nothing = np.empty(0, np.int64)
    parts = (Part(number, nothing, nothing) for number in range(1000))
    return read_ahead(beside(make, torch.device("cuda")), parts)


def ours(config: TrainConfig, compiled: bool) -> list[float]:
    """Pairs/s of the same batch again and again, and of batches varied as it goes."""
    stepper = stepper_of(config, compiled)
    coming, rows, number = batches(config), np.arange(config.batch), iter(range(1000))
    same = next(coming)

    def step(varied: bool) -> None:
        stepper.step([next(coming) if varied else same], 1, rows, 0, next(number))

    return [pairs_per_s(partial(step, varied), config.batch) for varied in (False, True)]


def theirs(checkout: Path, config: TrainConfig, recompute: bool) -> list[float]:
    """Pairs/s of Sample4Geo's own train()."""
    sys.path.insert(0, str(checkout))
    trainer, model, loss = (
        importlib.import_module(f"sample4geo.{name}") for name in ("trainer", "model", "loss")
    )
    spec = config.model
    network = model.TimmModel(spec.backbone, pretrained=False, img_size=spec.satellite_px)
    network.set_grad_checkpointing(recompute)
    network.to("cuda")
    query = torch.randn(config.batch, 3, *spec.street_hw).pin_memory()
    reference = torch.randn(config.batch, 3, spec.satellite_px, spec.satellite_px).pin_memory()
    told = SimpleNamespace(verbose=False, device="cuda", gpu_ids=(0,), clip_grad=100.0, scheduler="cosine")
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    criterion = loss.InfoNCE(torch.nn.CrossEntropyLoss(label_smoothing=0.1), device="cuda")
    scaler = torch.amp.GradScaler("cuda", init_scale=2.0**10)
    ids = torch.arange(config.batch)
    epoch = partial(
        trainer.train,
        told,
        network,
        loss_function=criterion,
        optimizer=optimizer,
        scheduler=schedule,
        scaler=scaler,
    )

    def step(steps: int) -> None:
        loader: list[tuple[Tensor, Tensor, Tensor]] = [(query, reference, ids)] * steps
        epoch(dataloader=loader)

    step(WARM)
    torch.cuda.synchronize()
    began = time.perf_counter()
    step(STEPS)
    torch.cuda.synchronize()
    return [STEPS * config.batch / (time.perf_counter() - began - 0.1)]  # their loop sleeps so long first


def main() -> None:
    """Print a line for each way of taking a step."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer", type=Path, help="a checkout of Sample4Geo")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--backbone", default="convnext_base")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("skipped: there is no GPU here that PyTorch can use")
        return
    torch.backends.cudnn.benchmark = True
    config = recipe(arguments.backbone, arguments.batch)
    rate, flop = matrix_rate(), flop_of_a_pair(config)
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}")
    print(f"bf16 matrix rate {rate / 1e12:.0f} TFLOP/s; a pair is {flop / 1e9:.0f} GFLOP", flush=True)
    ways: dict[str, Callable[[], list[float]]] = {}
    if arguments.peer:
        ways["Sample4Geo"] = lambda: theirs(arguments.peer, config, recompute=False)
        ways["Sample4Geo, recomputing"] = lambda: theirs(arguments.peer, config, recompute=True)
    ways["ours"] = lambda: ours(config, compiled=False)
    ways["ours, compiled"] = lambda: ours(config, compiled=True)
    found: dict[str, float] = {}
    for name, way in ways.items():
        torch.cuda.reset_peak_memory_stats()
        began = time.perf_counter()
        try:
            rates = way()
        except torch.OutOfMemoryError:
            print(f"{name:<26} does not fit {arguments.batch} pairs", flush=True)
            continue
        finally:
            torch.cuda.empty_cache()
        gib, took_s = torch.cuda.max_memory_allocated() / 2**30, time.perf_counter() - began
        for what, per_s in zip((name, f"{name}, varied"), rates, strict=False):
            found[what] = per_s
            print(f"{what:<26} {per_s:>6.0f} pairs/s, {per_s * flop / rate:>6.1%} of the rate", flush=True)
        print(f"{'':<26} {gib:>6.1f} GiB at most; {took_s:.0f} s with what comes before", flush=True)
    peers = [per_s for name, per_s in found.items() if name.startswith("Sample4Geo")]
    mine = [per_s for name, per_s in found.items() if name.startswith("ours")]
    if peers and mine:
        print(f"the best of ours over the best of Sample4Geo's: {max(mine) / max(peers):.2f} x")


if __name__ == "__main__":
    main()
