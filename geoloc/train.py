"""The training loop: pairs in, a model folder out, stoppable at any moment, on any number of processes."""

import shutil
import time
from functools import partial
from pathlib import Path

import torch

from geoloc.batch_order import batch_order
from geoloc.checkpoint import CHECKPOINT, RunState, load_state, save_state
from geoloc.decoded import Decoded, decode_pairs
from geoloc.embed import best_device, compute_dtype
from geoloc.epoch import epoch_steps
from geoloc.errors import DataError
from geoloc.learner import Learner, checkpointed, freeze, optimizer_of
from geoloc.mine import forget, mine
from geoloc.negatives import Negatives
from geoloc.objective import Objective
from geoloc.pairs import PairTable
from geoloc.pretrained import first_encoder, with_their_norm
from geoloc.ranks import all_ranks, norms_over_all
from geoloc.recipe import TrainConfig
from geoloc.run import Preparing, Report, Run
from geoloc.run_folder import claim, cut_log
from geoloc.step import Stepper, both_views, refuse_uneven
from geoloc.validate import seeds_before, thinned, validate


def train(
    config: TrainConfig,
    pairs: PairTable,
    validation: PairTable,
    run: Path,
    *,
    resume: bool = False,
    report: Report = lambda _: None,
    preparing: Preparing = lambda *_: None,
) -> Path:
    """Train twin encoders and return the folder of the best model, RUN/model.

    RUN holds config.json, environment.jsonl, log.jsonl, checkpoint.safetensors and model/, and while it goes
    on the decoded pairs. Best is by recall@1 over the validation pairs cut to 90 degrees at unknown
    heading, counted after every epoch; the later of equals. With `resume`, goes on from the last checkpoint;
    on the CPU the weights are then those of an unbroken run. Under torchrun every process takes its
    share of every batch and the first alone writes and reports; the weights are those of one process, to
    rounding. Raises DataError for a RUN that exists, or that another config made, and where loss or gradient
    are no numbers any more; GeolocError when another process is gone.
    """
    shared = (pairs.seeds | seeds_before(config)) & validation.seeds
    if shared:
        raise DataError(f"Towns {sorted(shared)} are in training and validation both.")
    if len(pairs.pairs) < config.batch:
        raise DataError(f"{len(pairs.pairs)} pairs do not fill a batch of {config.batch}; set batch lower.")
    config = with_their_norm(config)
    with all_ranks() as ranks:
        refuse_uneven(config, ranks)
        _train(Run(config, pairs, thinned(validation), run, ranks, report, preparing), resume)
    return run / "model"


def _train(run: Run, resume: bool) -> None:
    config, ranks, device = run.config, run.ranks, best_device()
    learner = _learner(config, run.pairs, begun=resume and (run.folder / CHECKPOINT).exists())
    learner.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = optimizer_of(learner, config)
    if ranks.first:
        claim(run.folder, config, resume, ranks.world, device)
    ranks.wait()
    state = (load_state(run.folder, learner, optimizer) if resume else None) or RunState()
    if ranks.first:
        cut_log(run.folder, state.step)
    steps_per_epoch = len(batch_order(config, run.pairs, 0))
    if state.step < config.epochs * steps_per_epoch:
        decoded = _decoded(run, run.pairs, config.augmentation.shift_m)
        unseen = _decoded(run, run.validation, 0.0)
        stepper = _stepper(run, learner, optimizer, state)
    while state.step < config.epochs * steps_per_epoch:
        saved_at = time.monotonic()
        epoch = state.step // steps_per_epoch
        confused = ranks.in_turn(partial(mine, run, decoded, learner.encoder, epoch))
        order = batch_order(config, run.pairs, epoch, confused)[:steps_per_epoch]
        for now in epoch_steps(run, decoded, order, stepper, state):
            state = now
            due = time.monotonic() - saved_at >= config.save_every_s
            if ranks.first and due and state.step % steps_per_epoch:
                save_state(run.folder, learner, optimizer, state)
                saved_at = time.monotonic()
        if ranks.first:
            state = validate(run, unseen, learner.kept, state)
            save_state(run.folder, learner, optimizer, state)
    ranks.wait()
    if ranks.first:
        shutil.rmtree(run.folder / "decoded", ignore_errors=True)
        forget(run)


def _learner(config: TrainConfig, pairs: PairTable, begun: bool) -> Learner:
    encoder = first_encoder(config, begun)
    freeze(encoder, config.frozen)
    if config.recompute:
        checkpointed(encoder)
    return Learner(encoder, Objective(config, Negatives.of(pairs, config.apart_m)), config.ema)


def _stepper(run: Run, learner: Learner, optimizer: torch.optim.Optimizer, state: RunState) -> Stepper:
    config, device = run.config, best_device()
    norms_over_all(learner.encoder, run.ranks)
    precision = compute_dtype(config.precision, device)
    return Stepper(
        learner=learner,
        optimizer=optimizer,
        scaler=torch.amp.GradScaler(
            device.type, enabled=precision == torch.float16, init_scale=state.loss_scale
        ),
        precision=precision,
        ranks=run.ranks,
        recompute=config.recompute,
        encode=torch.compile(both_views) if config.compiled else both_views,
    )


def _decoded(run: Run, table: PairTable, spare_m: float) -> Decoded:
    return run.ranks.in_turn(
        partial(
            decode_pairs, table.pairs, run.config.model, spare_m, run.folder / "decoded",
            workers=run.config.workers, report=partial(run.preparing, "decoding"),
        )
    )  # fmt: skip
