"""The training loop: pairs in, a model folder out, stoppable at any moment."""

import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from geoloc.atomic import write_text
from geoloc.batches import PairDataset, batches
from geoloc.card import model_card
from geoloc.checkpoint import RunState, load_state, save_state
from geoloc.embed import best_device, embed_pairs
from geoloc.encoder import TwinEncoder
from geoloc.errors import DataError
from geoloc.losses import over_windows, soft_margin_triplet
from geoloc.model import load_encoder, save_encoder, trained_towns
from geoloc.pairs import PairTable
from geoloc.recall import figures, ranks
from geoloc.recipe import TrainConfig


@dataclass(frozen=True)
class Progress:
    """Where a run stands, reported after every step."""

    epoch: int
    step: int
    steps: int
    loss: float
    pairs_per_s: float
    recall_at_1: float | None


Report = Callable[[Progress], None]


def train(
    config: TrainConfig,
    pairs: PairTable,
    validation: PairTable,
    run: Path,
    *,
    resume: bool = False,
    report: Report = lambda _: None,
) -> Path:
    """Train twin encoders and return the folder of the best model, RUN/model.

    RUN holds config.json, log.jsonl, checkpoint.safetensors and model/. Best is by recall@1 over
    the validation pairs at known heading, counted after every epoch; the later of equals. With
    `resume`, goes on from the last checkpoint; on the CPU the weights are then those of an
    unbroken run. Raises DataError for a RUN that exists, or that another config made.
    """
    shared = (pairs.seeds | _seeds_before(config)) & validation.seeds
    if shared:
        raise DataError(f"Towns {sorted(shared)} are in training and validation both.")
    if len(pairs.pairs) < config.batch:
        raise DataError(f"{len(pairs.pairs)} pairs do not fill a batch of {config.batch}; set batch lower.")
    device = best_device()
    torch.manual_seed(config.seed)
    encoder = load_encoder(config.start_from) if config.start_from else TwinEncoder(config.model)
    if dataclasses.replace(encoder.spec, weights_sha256="") != config.model:
        raise DataError(f"{config.start_from} is a model of another spec than the config's.")
    encoder.spec = config.model
    encoder.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(
        encoder.parameters(), config.learning_rate, weight_decay=config.weight_decay
    )
    _claim(run, config, resume)
    state = load_state(run, encoder, optimizer) if resume else None
    state = state or RunState()
    steps_per_epoch = len(pairs.pairs) // config.batch
    while state.step < config.epochs * steps_per_epoch:
        saved_at = time.monotonic()
        for now in _epoch(config, pairs, encoder, optimizer, state, report):
            state = now
            if state.step % steps_per_epoch and time.monotonic() - saved_at >= config.save_every_s:
                save_state(run, encoder, optimizer, state)
                saved_at = time.monotonic()
        state = _validate(config, pairs, validation, encoder, run, state)
        save_state(run, encoder, optimizer, state)
    return run / "model"


def _claim(run: Path, config: TrainConfig, resume: bool) -> None:
    path = run / "config.json"
    text = json.dumps(dataclasses.asdict(config), indent=2, default=str) + "\n"
    if path.exists() and not resume:
        raise DataError(f"{run} holds a run already; go on with --resume or choose another --out.")
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise DataError(f"{run} was begun with other settings (see {path}); choose another --out.")
    write_text(path, text)


def _epoch(
    config: TrainConfig,
    table: PairTable,
    encoder: TwinEncoder,
    optimizer: torch.optim.Optimizer,
    state: RunState,
    report: Report,
) -> Iterator[RunState]:
    """The rest of the epoch that `state` stands in, one step at a time."""
    steps = len(table.pairs) // config.batch
    epoch, done = divmod(state.step, steps)
    shuffled = np.random.default_rng([config.seed, epoch]).permutation(len(table.pairs))
    order = shuffled[: steps * config.batch].reshape(steps, config.batch).tolist()[done:]
    dataset = PairDataset(table.pairs, config.model, config.augmentation, config.seed * 100_003 + epoch)
    device = next(encoder.parameters()).device
    precision = _precision(config, device)
    scaler = torch.amp.GradScaler(
        device.type, enabled=precision == torch.float16, init_scale=state.loss_scale
    )
    encoder.train()
    began, first = time.monotonic(), state.step
    for street, satellite in batches(dataset, order, config.workers):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * _rate(state.step, config.epochs * steps, config.warmup)
        torch.manual_seed(config.seed + state.step)
        loss = _step(config, encoder, optimizer, scaler, precision, street.to(device), satellite.to(device))
        if not math.isfinite(loss):
            raise DataError(
                f"The loss became {loss} at step {state.step}; the last checkpoint is kept. "
                "Start anew with a lower learning_rate, or with precision=float32."
            )
        state = state.stepped(loss, scaler.get_scale() if scaler.is_enabled() else state.loss_scale)
        rate = (state.step - first) * config.batch / (time.monotonic() - began)
        report(Progress(epoch, state.step, config.epochs * steps, state.mean_loss, rate, state.recall_at_1))
        yield state


def _step(
    config: TrainConfig,
    encoder: TwinEncoder,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    precision: torch.dtype,
    street: Tensor,
    satellite: Tensor,
) -> float:
    with torch.autocast(street.device.type, precision, enabled=precision != torch.float32):
        street_vectors, satellite_vectors = encoder.embed_street(street), encoder.embed_satellite(satellite)
    loss = over_windows(
        street_vectors.float(),
        satellite_vectors.float(),
        config.model.azimuth_bins,
        config.windows,
        partial(soft_margin_triplet, weight=config.loss_weight),
    )
    optimizer.zero_grad()
    scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
    scaler.step(optimizer)
    scaler.update()
    return float(loss.detach())


def _rate(step: int, steps: int, warmup: float) -> float:
    ramp = max(1, round(warmup * steps))
    if step < ramp:
        return (step + 1) / ramp
    return (1 + math.cos(math.pi * (step - ramp) / max(1, steps - ramp))) / 2


def _precision(config: TrainConfig, device: torch.device) -> torch.dtype:
    if config.precision != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[
            config.precision
        ]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else torch.float32


def _seeds_before(config: TrainConfig) -> frozenset[int]:
    return trained_towns(config.start_from) if config.start_from else frozenset()


def _validate(
    config: TrainConfig,
    table: PairTable,
    validation: PairTable,
    encoder: TwinEncoder,
    run: Path,
    state: RunState,
) -> RunState:
    """Score the epoch just ended, keep the model if it is the best so far, and log the line."""
    encoder.eval()
    street, satellite = embed_pairs(encoder, validation.pairs, workers=config.workers)
    rank, _, _ = ranks(street, satellite, np.arange(len(street)))
    scores = figures(rank, len(satellite))
    state = state.validated({"step": state.step, "loss": state.mean_loss, **scores})
    if state.best:
        card = model_card(config, table, validation, scores, state.log)
        save_encoder(encoder, run / "model", card, table.seeds | _seeds_before(config))
    write_text(run / "log.jsonl", "".join(json.dumps(line) + "\n" for line in state.log))
    return state
