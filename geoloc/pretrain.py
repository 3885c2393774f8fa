"""Pre-training on images that belong to no pair: the encoder of one view learns to know an image again."""

import math
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from geoloc.agreement import Agreement, representation
from geoloc.card import pretrained_card
from geoloc.checkpoint import CHECKPOINT, RunState, load_state, save_state
from geoloc.embed import Side, best_device, compute_dtype
from geoloc.encoder import TwinEncoder
from geoloc.errors import DataError
from geoloc.learner import Learner, fused, set_rate
from geoloc.model import save_encoder
from geoloc.pretrain_recipe import PretrainConfig
from geoloc.pretrained import first_encoder, with_their_norm
from geoloc.ranks import Ranks, all_ranks, norms_over_all
from geoloc.read_ahead import Timed, read_ahead
from geoloc.run import Preparing, Progress, Report
from geoloc.run_folder import claim, cut_log, log, refuse_taken
from geoloc.step import Bins, Stepper, parts_of, refuse_uneven
from geoloc.two_views import TwoViews, two_views
from geoloc.unlabelled import Unlabelled, stored
from geoloc.validate import seeds_before

DECODED = "decoded"
Part = tuple[int, Int64[np.ndarray, " c"], Int64[np.ndarray, " c"]]
"""A step's number, places in its batch, and the images that have them."""


def pretrain(
    config: PretrainConfig,
    images: Sequence[Unlabelled],
    run: Path,
    *,
    resume: bool = False,
    report: Report = lambda _: None,
    preparing: Preparing = lambda *_: None,
) -> Path:
    """Train one view's encoder by SimCLR (Chen et al. 2020, section 2) and return a model folder, RUN/model.

    The model has both encoders, the other one as it began; `train` goes on from it with start_from. RUN is as
    `train` leaves it, the model is the last epoch's. With `resume`, goes on from the last checkpoint; on the
    CPU the weights are then those of an unbroken run. Under torchrun every process takes its share of every
    batch. Raises DataError for too few images, for a RUN that exists, or that another config made, and where
    the loss is no number any more; what reading the images raises, and then RUN is not there.
    """
    _refuse_few(sum(one.planned for one in images), config.batch)
    config = with_their_norm(config)
    with all_ranks() as ranks:
        refuse_uneven(config, ranks)
        refuse_taken(run, config, resume)
        read = partial(
            stored, images, config.view, config.model, run / DECODED, partial(preparing, "decoding")
        )
        try:
            decoded = ranks.in_turn(read)
            _refuse_few(len(decoded), config.batch)
        except BaseException:
            _tidy(run)
            raise
        _pretrain(config, images, decoded, run, ranks, resume, report)
        if ranks.first:
            shutil.rmtree(run / DECODED, ignore_errors=True)
    return run / "model"


def _refuse_few(images: int, batch: int) -> None:
    if not images:
        raise DataError("There are no images to learn from; check the paths.")
    if images < batch:
        raise DataError(f"{images:,} images do not fill a batch of {batch}; set batch lower or add images.")


def _tidy(run: Path) -> None:
    """Leave nothing of a run that did not begin."""
    if not (run / CHECKPOINT).exists():
        shutil.rmtree(run / DECODED, ignore_errors=True)
        with suppress(OSError):
            run.rmdir()


def _pretrain(
    config: PretrainConfig,
    images: Sequence[Unlabelled],
    decoded: UInt8[np.ndarray, "n ..."],
    run: Path,
    ranks: Ranks,
    resume: bool,
    report: Report,
) -> None:
    device = best_device()
    learner = _learner(config, begun=resume and (run / CHECKPOINT).exists())
    learner.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(
        [{"params": [one for one in learner.parameters() if one.requires_grad], "scale": 1.0}],
        config.learning_rate,
        weight_decay=config.weight_decay,
        fused=fused(device),
    )
    if ranks.first:
        claim(run, config, resume, ranks.world, device)
    ranks.wait()
    state = (load_state(run, learner, optimizer) if resume else None) or RunState()
    if ranks.first:
        cut_log(run, state.step)
    stepper = _stepper(config, learner, optimizer, state, ranks)
    seeds = seeds_before(config).union(*(one.seeds for one in images))
    saved_at = time.monotonic()
    per_epoch = len(decoded) // config.batch
    while state.step < config.epochs * per_epoch:
        for now in _epoch(config, decoded, stepper, state, run, report):
            state = now
            due = time.monotonic() - saved_at >= config.save_every_s
            if ranks.first and due and state.step % per_epoch:
                save_state(run, learner, optimizer, state)
                saved_at = time.monotonic()
        state = state.validated({"step": state.step, "loss": state.mean_loss})
        if ranks.first:
            card = pretrained_card(config, [one.name for one in images], len(decoded), seeds, state.log)
            save_encoder(learner.encoder, run / "model", card, seeds)
            log(run, state.log[-1])
            save_state(run, learner, optimizer, state)
            saved_at = time.monotonic()
    ranks.wait()


def _learner(config: PretrainConfig, begun: bool) -> Learner:
    encoder = first_encoder(config, begun).requires_grad_(False)
    (encoder.street if config.view == "street" else encoder.satellite).requires_grad_(True)
    return Learner(encoder, Agreement(config.model.channels, config.projection, config.temperature))


def _stepper(
    config: PretrainConfig, learner: Learner, optimizer: torch.optim.Optimizer, state: RunState, ranks: Ranks
) -> Stepper:
    device = best_device()
    norms_over_all(learner.encoder, ranks)
    precision = compute_dtype(config.precision, device)
    scaler = torch.amp.GradScaler(
        device.type, enabled=precision == torch.float16, init_scale=state.loss_scale
    )
    return Stepper(learner, optimizer, scaler, precision, ranks, encode=partial(_both, config.view))


def _both(view: Side, encoder: TwinEncoder, first: Tensor, second: Tensor) -> Bins:
    """Each image of both views as one bin; a batch norm sees them together."""
    one, other = representation(encoder, view, torch.cat([first, second]))[:, None].chunk(2)
    return one, other


def _epoch(
    config: PretrainConfig,
    decoded: UInt8[np.ndarray, "n ..."],
    stepper: Stepper,
    state: RunState,
    run: Path,
    report: Report,
) -> Iterator[RunState]:
    """The rest of the epoch that `state` stands in, one step at a time."""
    ranks, per_epoch = stepper.ranks, len(decoded) // config.batch
    epoch, done = divmod(state.step, per_epoch)
    shuffled = np.random.default_rng([config.seed, epoch]).permutation(len(decoded))
    order = shuffled[: per_epoch * config.batch].reshape(per_epoch, config.batch)[done:]
    once = parts_of(config.batch, config.chunk, ranks)[ranks.rank]
    needed = once if len(once) == 1 else np.concatenate([once, once])
    jobs = ((step, places, rows[places]) for step, rows in enumerate(order, state.step) for places in needed)
    coming = Timed(read_ahead(partial(_varied, config, decoded), jobs))
    stepper.learner.train()
    began, first, steps = time.monotonic(), state.step, config.epochs * per_epoch
    for rows in order:
        rate = set_rate(stepper.optimizer, config, state.step, steps)
        mine = (next(coming) for _ in needed)
        loss, norm = stepper.step(mine, len(once), rows, config.seed + state.step, state.step)
        if not (math.isfinite(loss) and (math.isfinite(norm) or stepper.scaler.is_enabled())):
            raise DataError(
                f"The loss became {loss} and its gradient {norm} at step {state.step}; the last checkpoint "
                "is kept. Start anew with a lower learning_rate, or with precision=float32."
            )
        state = state.stepped(loss, stepper.loss_scale or state.loss_scale)
        took_s = time.monotonic() - began
        per_s = (state.step - first) * config.batch / took_s
        if ranks.first and state.step % config.log_every == 0:
            line = {"step": state.step, "epoch": epoch, "loss": loss, "learning_rate": rate}
            line |= {"gradient_norm": norm, "images_per_s": per_s, "waited": coming.waited_s / took_s}
            log(run, line)
        if ranks.first:
            report(Progress(epoch, state.step, steps, state.mean_loss, per_s, None))
        yield state


def _varied(config: PretrainConfig, decoded: UInt8[np.ndarray, "n ..."], part: Part) -> TwoViews:
    """A part of the batch of a step."""
    step, places, rows = part
    return two_views(decoded[rows], places, config, step)
