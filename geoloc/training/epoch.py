"""A run taken up where it stands, and an epoch's steps: batches varied ahead, learnt from, logged, kept."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, NoReturn, TypeVar

import numpy as np
import torch
from jaxtyping import Int64

from geoloc.embed import best_device, compute_dtype
from geoloc.errors import DataError
from geoloc.training.checkpoint import CHECKPOINT, RunState, load_state, save_state
from geoloc.training.depthwise import wide_depthwise_in_float32
from geoloc.training.learner import Learner, optimizer_of, set_rate
from geoloc.training.ranks import norms_over_all
from geoloc.training.read_ahead import Timed, read_ahead
from geoloc.training.run import Progress, Run
from geoloc.training.run_folder import blame, claim, cut_log, log, note_data
from geoloc.training.step import Encode, Ready, Stepper, parts_of

Made = TypeVar("Made", bound=Ready)


@dataclass(frozen=True)
class Part:
    """A part of a step's batch: places in it, and the rows of what is learnt from that have them."""

    step: int
    places: Int64[np.ndarray, " c"]
    rows: Int64[np.ndarray, " c"]


@dataclass(frozen=True)
class Lesson:
    """What an epoch learns from.

    order: the rows of every batch. vary: a part made ready for the encoders, a pure function of the part.
    name: what a row is, for the person who looks for the batch that broke a run.
    """

    order: Int64[np.ndarray, "steps b"]
    vary: Callable[[Part], Ready]
    name: Callable[[int], dict[str, Any]]


def take_up(
    run: Run,
    learner: Learner,
    encode: Encode,
    *,
    resume: bool,
    layer_decay: float = 1.0,
    recompute: bool = False,
) -> tuple[Stepper, RunState]:
    """Claim the run's folder for a learner, or with `resume` put it where the last checkpoint left it.

    Raises DataError for a folder that holds another run, ModelError for a damaged checkpoint.
    """
    config, ranks, device = run.config, run.ranks, best_device()
    torch.backends.cudnn.benchmark = True  # every step has the same sizes
    learner.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = optimizer_of(learner, config, layer_decay)
    if ranks.first:
        claim(run.folder, config, resume, ranks.world, device)
        note_data(run.notes, run.data, run.before)
    ranks.wait()
    state = (load_state(run.folder, learner, optimizer) if resume else None) or RunState()
    if ranks.first:
        cut_log(run.folder, state.step)
    norms_over_all(learner.encoder, ranks)
    precision = compute_dtype(config.precision, device)
    if device.type == "cpu" and precision == torch.bfloat16:
        wide_depthwise_in_float32(learner.encoder)
    half = precision == torch.float16
    scaler = torch.amp.GradScaler(device.type, enabled=half, init_scale=state.loss_scale)
    return Stepper(learner, optimizer, scaler, precision, ranks, recompute, encode), state


def rest_of_epoch(run: Run, lesson: Lesson, stepper: Stepper, state: RunState) -> RunState:
    """Take the steps of the epoch that `state` stands in, from there on.

    Within it the first process writes a checkpoint every save_every_s. Raises DataError where loss or
    gradient are no numbers any more.
    """
    config, ranks, order = run.config, run.ranks, lesson.order
    steps = config.epochs * len(order)
    epoch, done = divmod(state.step, len(order))
    parts = parts_of(config.batch, config.chunk, ranks)
    once = parts[ranks.rank]
    needed = once if len(once) == 1 else np.concatenate([once, once])
    jobs = (
        Part(step, places, rows[places])
        for step, rows in enumerate(order[done:], state.step)
        for places in needed
    )
    coming = Timed(read_ahead(beside(lesson.vary, stepper.device), jobs))
    stepper.learner.train()
    began = saved_at = time.monotonic()
    first = state.step
    for rows in order[done:, parts.ravel()]:
        rate = set_rate(stepper.optimizer, config, state.step, steps)
        mine = (next(coming) for _ in needed)
        loss, norm = stepper.step(mine, len(once), rows, config.seed + state.step, state.step)
        still_scaling = (stepper.loss_scale or 0.0) >= 1
        if not (math.isfinite(loss) and (math.isfinite(norm) or still_scaling)):
            _stop(run, state.step, loss, norm, [lesson.name(row) for row in rows.tolist()])
        state = state.stepped(loss, stepper.loss_scale or state.loss_scale)
        if not ranks.first:
            continue
        took_s = time.monotonic() - began
        per_s = (state.step - first) * config.batch / took_s
        if state.step % config.log_every == 0:
            line: dict[str, Any] = {"step": state.step, "epoch": epoch, "loss": loss, "learning_rate": rate}
            line |= {"gradient_norm": norm if math.isfinite(norm) else None}
            line |= {"pairs_per_s": per_s, "waited": coming.waited_s / took_s}
            log(run.folder, line)
        run.report(Progress(epoch, state.step, steps, state.mean_loss, per_s, state.recall_at_1))
        if time.monotonic() - saved_at >= config.save_every_s and state.step % len(order):
            save_state(run.folder, stepper.learner, stepper.optimizer, state)
            saved_at = time.monotonic()
    return state


def beside(make: Callable[[Part], Made], device: torch.device) -> Callable[[Part], Made]:
    """What makes the same, on a GPU in a stream of its own: neither it nor the step waits for the other."""
    if device.type == "cpu":
        return make
    own, steps = _stream_beside(device), torch.cuda.current_stream(device)

    def made(part: Part) -> Made:
        with torch.cuda.stream(own):
            ready = make(part)
        own.synchronize()
        for one in (*ready.images, ready.turn, ready.owner, ready.windows):
            one.record_stream(steps)
        return ready

    return made


@cache
def _stream_beside(device: torch.device) -> torch.cuda.Stream:
    """One for all epochs: torch keeps memory apart for every stream that there was."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _stop(run: Run, step: int, loss: float, norm: float, batch: list[dict[str, Any]]) -> NoReturn:
    path = blame(run.folder, step, loss, norm, batch, run.ranks.first)
    what, value = ("gradient", norm) if math.isfinite(loss) else ("loss", loss)
    kept = (
        "the last checkpoint is kept" if (run.folder / CHECKPOINT).exists() else "there is no checkpoint yet"
    )
    raise DataError(
        f"The {what} became {value} at step {step}; {path} names the batch, and {kept}. "
        "Look at what is in it, or start anew with a lower learning_rate, or with precision=float32."
    )
