"""An epoch's steps: batches varied ahead, learnt from, watched and logged."""

import math
import time
from collections.abc import Iterator
from functools import partial
from typing import NoReturn

import numpy as np
from jaxtyping import Int64

from geoloc.augment import Varied, draw, vary
from geoloc.checkpoint import RunState
from geoloc.decoded import Decoded
from geoloc.errors import DataError
from geoloc.learner import set_rate
from geoloc.read_ahead import Timed, read_ahead
from geoloc.recipe import TrainConfig
from geoloc.run import Progress, Run
from geoloc.run_folder import blame, log
from geoloc.step import Stepper, parts_of

Part = tuple[int, Int64[np.ndarray, " c"], Int64[np.ndarray, " c"]]
"""A step's number, places in its batch, and the pairs that have them."""


def epoch_steps(
    run: Run, decoded: Decoded, order: Int64[np.ndarray, "steps b"], stepper: Stepper, state: RunState
) -> Iterator[RunState]:
    """The rest of the epoch that `state` stands in, one step at a time.

    Raises DataError where loss or gradient are no numbers any more.
    """
    config, ranks = run.config, run.ranks
    steps = config.epochs * len(order)
    epoch, done = divmod(state.step, len(order))
    parts = parts_of(config.batch, config.chunk, ranks)
    once = parts[ranks.rank]
    needed = once if len(once) == 1 else np.concatenate([once, once])
    jobs = (
        (step, places, rows[places])
        for step, rows in enumerate(order[done:], state.step)
        for places in needed
    )
    coming = Timed(read_ahead(partial(_vary, config, decoded), jobs))
    stepper.learner.train()
    began, first = time.monotonic(), state.step
    for rows in order[done:, parts.ravel()]:
        rate = set_rate(stepper.optimizer, config, state.step, steps)
        mine = (next(coming) for _ in needed)
        loss, norm = stepper.step(mine, len(once), rows, config.seed + state.step, state.step)
        if not (math.isfinite(loss) and (math.isfinite(norm) or stepper.scaler.is_enabled())):
            _stop(run, state.step, loss, norm, rows)
        state = state.stepped(loss, stepper.loss_scale or state.loss_scale)
        took_s = time.monotonic() - began
        per_s = (state.step - first) * config.batch / took_s
        if ranks.first and state.step % config.log_every == 0:
            line = {"step": state.step, "epoch": epoch, "loss": loss, "learning_rate": rate}
            line |= {"gradient_norm": norm, "pairs_per_s": per_s, "waited": coming.waited_s / took_s}
            log(run.folder, line)
        if ranks.first:
            run.report(Progress(epoch, state.step, steps, state.mean_loss, per_s, state.recall_at_1))
        yield state


def _vary(config: TrainConfig, decoded: Decoded, part: Part) -> Varied:
    """A part of the batch of a step, a pure function of the seed, the step's number and the part."""
    step, places, rows = part
    rng = np.random.default_rng([config.seed, 1, step])
    drawn = draw(config.batch, config.model, config.augmentation, rng).of(places)
    return vary(decoded.canvases[rows], decoded.tiles[rows], config.model, drawn)


def _stop(run: Run, step: int, loss: float, norm: float, rows: Int64[np.ndarray, " b"]) -> NoReturn:
    path = blame(run.folder, step, loss, norm, [run.pairs.pairs[row] for row in rows], run.ranks.first)
    what, value = ("gradient", norm) if math.isfinite(loss) else ("loss", loss)
    raise DataError(
        f"The {what} became {value} at step {step}; {path} names the batch, and the last checkpoint is kept. "
        "Look at its pairs, or start anew with a lower learning_rate, or with precision=float32."
    )
