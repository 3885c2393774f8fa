"""The training loop: pairs in, a model folder out, stoppable at any moment."""

import dataclasses
import json
import math
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor, nn

from geoloc.alike import alike, near
from geoloc.atomic import atomic_path, write_text
from geoloc.augment import Varied, draw, vary
from geoloc.batch_order import Alike, batch_order, lonlats_of
from geoloc.card import model_card
from geoloc.checkpoint import RunState, load_state, save_state
from geoloc.decoded import Decoded, decode_pairs
from geoloc.embed import best_device, compute_dtype
from geoloc.encoder import TwinEncoder
from geoloc.errors import DataError
from geoloc.model import load_encoder, save_encoder, trained_towns
from geoloc.objective import Objective
from geoloc.pairs import PairTable
from geoloc.recipe import TrainConfig
from geoloc.score import Asked, score_pairs

MAX_GRAD_NORM = 5.0
MINED = "mined-{}.npy"
CANDIDATES = 4
"""How many times the neighbours wanted are looked up, since each can be in one batch only."""
VALIDATION_PAIRS = 2000
VALIDATION = Asked(hfov_deg=90.0, unknown_heading=True)


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
Step = tuple[int, Int64[np.ndarray, " b"]]
"""A step's number, and the pairs of its batch."""


def train(
    config: TrainConfig,
    pairs: PairTable,
    validation: PairTable,
    run: Path,
    *,
    resume: bool = False,
    report: Report = lambda _: None,
    preparing: Callable[[str, int, int], None] = lambda *_: None,
) -> Path:
    """Train twin encoders and return the folder of the best model, RUN/model.

    RUN holds config.json, log.jsonl, checkpoint.safetensors and model/, and while it goes on the decoded
    pairs. Best is by recall@1 over the validation pairs cut to 90 degrees at unknown heading, counted
    after every epoch; the later of equals. With `resume`, goes on from the last checkpoint; on the CPU
    the weights are then those of an unbroken run. Raises DataError for a RUN that exists, or that
    another config made.
    """
    shared = (pairs.seeds | _seeds_before(config)) & validation.seeds
    if shared:
        raise DataError(f"Towns {sorted(shared)} are in training and validation both.")
    if len(pairs.pairs) < config.batch:
        raise DataError(f"{len(pairs.pairs)} pairs do not fill a batch of {config.batch}; set batch lower.")
    validation = _thinned(validation)
    device = best_device()
    torch.manual_seed(config.seed)
    encoder = load_encoder(config.start_from) if config.start_from else TwinEncoder(config.model)
    if dataclasses.replace(encoder.spec, weights_sha256="") != config.model:
        raise DataError(f"{config.start_from} is a model of another spec than the config's.")
    encoder.spec = config.model
    learner = _Learner(encoder, config)
    learner.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(
        learner.parameters(), config.learning_rate, weight_decay=config.weight_decay
    )
    _claim(run, config, resume)
    state = load_state(run, learner, optimizer) if resume else None
    state = state or RunState()
    steps_per_epoch = len(batch_order(config, pairs, 0))
    decode = partial(
        decode_pairs, folder=run / "decoded", workers=config.workers, report=partial(preparing, "decoding")
    )
    if state.step < config.epochs * steps_per_epoch:
        decoded = decode(pairs.pairs, config.model, config.augmentation.shift_m)
        unseen = decode(validation.pairs, config.model, 0.0)
    while state.step < config.epochs * steps_per_epoch:
        saved_at = time.monotonic()
        epoch = state.step // steps_per_epoch
        confused = _mine(config, pairs, decoded, encoder, run, epoch, preparing)
        order = batch_order(config, pairs, epoch, confused)[:steps_per_epoch]
        for now in _epoch(config, pairs, decoded, order, learner, optimizer, state, report):
            state = now
            if state.step % steps_per_epoch and time.monotonic() - saved_at >= config.save_every_s:
                save_state(run, learner, optimizer, state)
                saved_at = time.monotonic()
        state = _validate(config, pairs, validation, unseen, encoder, run, state)
        save_state(run, learner, optimizer, state)
    shutil.rmtree(run / "decoded", ignore_errors=True)
    for mined in run.glob(MINED.format("*")):
        mined.unlink()
    return run / "model"


class _Learner(nn.Module):
    """What is learnt: the encoders, and what the objective learns of its own."""

    def __init__(self, encoder: TwinEncoder, config: TrainConfig) -> None:
        super().__init__()
        self.encoder = encoder
        self.objective = Objective(config)


def _thinned(table: PairTable) -> PairTable:
    """At most VALIDATION_PAIRS of the pairs, spread evenly: enough to choose an epoch by."""
    step = max(1, math.ceil(len(table.pairs) / VALIDATION_PAIRS))
    return dataclasses.replace(table, pairs=table.pairs[::step])


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
    decoded: Decoded,
    order: Int64[np.ndarray, "steps b"],
    learner: _Learner,
    optimizer: torch.optim.Optimizer,
    state: RunState,
    report: Report,
) -> Iterator[RunState]:
    """The rest of the epoch that `state` stands in, one step at a time."""
    steps = len(order)
    epoch, done = divmod(state.step, steps)
    order = order[done:]
    lonlats = lonlats_of(table)
    device = next(learner.parameters()).device
    precision = compute_dtype(config.precision, device)
    scaler = torch.amp.GradScaler(
        device.type, enabled=precision == torch.float16, init_scale=state.loss_scale
    )
    learner.train()
    began, first = time.monotonic(), state.step
    make = partial(_vary, config, decoded)
    for rows, batch in zip(order, read_ahead(make, enumerate(order, state.step)), strict=True):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * _rate(state.step, config.epochs * steps, config.warmup)
        torch.manual_seed(config.seed + state.step)
        close = near(lonlats[rows], lonlats[rows], config.apart_m).to(device)
        loss = _step(learner, optimizer, scaler, precision, batch, close)
        if not math.isfinite(loss):
            raise DataError(
                f"The loss became {loss} at step {state.step}; the last checkpoint is kept. "
                "Start anew with a lower learning_rate, or with precision=float32."
            )
        state = state.stepped(loss, scaler.get_scale() if scaler.is_enabled() else state.loss_scale)
        rate = (state.step - first) * config.batch / (time.monotonic() - began)
        report(Progress(epoch, state.step, config.epochs * steps, state.mean_loss, rate, state.recall_at_1))
        yield state


def _vary(config: TrainConfig, decoded: Decoded, numbered: Step) -> Varied:
    """The batch of a step, a pure function of the seed and the step's number."""
    step, rows = numbered
    rng = np.random.default_rng([config.seed, 1, step])
    drawn = draw(len(rows), config.model, config.augmentation, rng)
    return vary(decoded.canvases[rows], decoded.tiles[rows], config.model, drawn)


def read_ahead(make: Callable[[Step], Varied], steps: Iterable[Step]) -> Iterator[Varied]:
    """make(step) for every step in order, each made in a thread while the one before it is used."""
    with ThreadPoolExecutor(1) as pool:
        coming: deque[Future[Varied]] = deque()
        for step in steps:
            coming.append(pool.submit(make, step))
            if len(coming) > 1:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()


def _step(
    learner: _Learner,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    precision: torch.dtype,
    batch: Varied,
    close: Bool[Tensor, "b b"],
) -> float:
    device, encoder = close.device, learner.encoder
    with torch.autocast(device.type, precision, enabled=precision != torch.float32):
        street = encoder.street_bins(batch.street.to(device))
        satellite = encoder.satellite_bins(batch.satellite.to(device))
    loss = learner.objective(street, satellite, batch, close)
    optimizer.zero_grad()
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(learner.parameters(), MAX_GRAD_NORM)
    scaler.step(optimizer)
    scaler.update()
    return float(loss.detach())


def _mine(
    config: TrainConfig,
    table: PairTable,
    decoded: Decoded,
    encoder: TwinEncoder,
    run: Path,
    epoch: int,
    preparing: Callable[[str, int, int], None],
) -> Alike | None:
    """Which pairs are taken for each other in this epoch; None before there is anything to learn it from.

    Kept in RUN, so that a run that goes on within the epoch finds what it began with.
    """
    if not config.mine_every or not (config.start_from or epoch >= config.mine_every):
        return None
    mined = epoch // config.mine_every * config.mine_every
    path = run / MINED.format(mined)
    if not path.exists():
        encoder.eval()
        device = next(encoder.parameters()).device
        found = alike(
            encoder, decoded.tensors(config.model), lonlats_of(table), CANDIDATES * config.neighbours,
            apart_m=config.apart_m, seed=config.seed + epoch,
            dtype=compute_dtype(config.precision, device), report=partial(preparing, "mining"),
        )  # fmt: skip
        with atomic_path(path) as temporary:
            np.save(temporary, found)
    return np.load(path)  # type: ignore[no-any-return]


def _rate(step: int, steps: int, warmup: float) -> float:
    ramp = max(1, round(warmup * steps))
    if step < ramp:
        return (step + 1) / ramp
    return (1 + math.cos(math.pi * (step - ramp) / max(1, steps - ramp))) / 2


def _seeds_before(config: TrainConfig) -> frozenset[int]:
    return trained_towns(config.start_from) if config.start_from else frozenset()


def _validate(
    config: TrainConfig,
    table: PairTable,
    validation: PairTable,
    unseen: Decoded,
    encoder: TwinEncoder,
    run: Path,
    state: RunState,
) -> RunState:
    """Score the epoch just ended, keep the model if it is the best so far, and log the line."""
    encoder.eval()
    scores = score_pairs(encoder, validation, VALIDATION, unseen.tensors(config.model))
    state = state.validated({"step": state.step, "loss": state.mean_loss, **scores})
    if state.best:
        seeds = table.seeds | _seeds_before(config)
        card = model_card(config, dataclasses.replace(table, seeds=seeds), validation, scores, state.log)
        save_encoder(encoder, run / "model", card, seeds)
    write_text(run / "log.jsonl", "".join(json.dumps(line) + "\n" for line in state.log))
    return state
