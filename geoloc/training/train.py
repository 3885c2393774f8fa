"""The training loop: pairs in, a model folder out, stoppable at any moment, on any number of processes."""

import shutil
from functools import partial
from pathlib import Path

import numpy as np

from geoloc.atomic import make_folder
from geoloc.errors import DataError, GeolocError
from geoloc.pairs import PairTable
from geoloc.report import StageReport
from geoloc.training.augment import Varied, draw, vary
from geoloc.training.batch_order import batch_order
from geoloc.training.checkpoint import CHECKPOINT, save_state
from geoloc.training.compiled import compile_blocks
from geoloc.training.decoded import Decoded, Taken, at_hand, decode_pairs
from geoloc.training.epoch import Lesson, Part, rest_of_epoch, take_up
from geoloc.training.learner import Learner, checkpointed, freeze
from geoloc.training.mine import forget, mine
from geoloc.training.negatives import Negatives
from geoloc.training.objective import Objective
from geoloc.training.pretrained import first_encoder, with_their_norm
from geoloc.training.ranks import all_ranks
from geoloc.training.recipe import TrainConfig
from geoloc.training.run import PairRun, Report
from geoloc.training.run_folder import (
    DECODED,
    PAIRS,
    alone,
    described,
    give_up,
    refuse_other_data,
    refuse_taken,
    seeds_before,
)
from geoloc.training.step import both_views, refuse_uneven
from geoloc.training.validate import asked_as_trained, passed, thinned, validate


def train(
    config: TrainConfig,
    pairs: PairTable,
    validation: PairTable,
    run: Path,
    *,
    resume: bool = False,
    keep_decoded: Path | None = None,
    report: Report = lambda _: None,
    preparing: StageReport = lambda *_: None,
) -> Path:
    """Train twin encoders and return the folder of the best model, RUN/model.

    RUN holds config.json, pairs.json, environment.jsonl, log.jsonl, checkpoint.safetensors and model/, and
    while it goes on the decoded pairs; keep_decoded holds them in its stead, and for other runs on the same
    pairs. Best is by recall@1 over the validation pairs, asked as is trained (`asked_as_trained`: by default
    cut to 90 degrees at unknown heading), counted every validate_every epochs; the later of equals. With
    `resume`, goes on from the last checkpoint; on a CPU, with as many threads, to an unbroken run's weights.
    Under torchrun every process takes its share of every batch and the first alone writes and reports; the
    weights are those of one process, to rounding. Raises DataError for a RUN that exists, that another
    process trains in, or that another config or other pairs made, where loss or gradient are no numbers any
    more, and where it has forgotten what it found; GeolocError when another process is gone; what reading the
    images raises, and a RUN that had not begun is then not there.
    """
    before = seeds_before(config, run / PAIRS if resume else None)
    shared = (pairs.seeds | before) & validation.seeds
    if shared:
        raise DataError(f"Towns {sorted(shared)} are in training and validation both.")
    if len(pairs.pairs) < config.batch:
        raise DataError(f"{len(pairs.pairs)} pairs do not fill a batch of {config.batch}; set batch lower.")
    config = with_their_norm(config)
    if keep_decoded:
        if keep_decoded.resolve().is_relative_to(run.resolve()):
            raise DataError(f"{keep_decoded} lies in {run}, which forgets it; keep decoded pairs elsewhere.")
        make_folder(keep_decoded)
    with all_ranks() as ranks, alone(run, ranks.first):
        refuse_uneven(config, ranks)
        unseen = thinned(validation)
        data = {"trained on": described(pairs), "validated on": described(unseen)}
        _train(
            PairRun(
                config, run, ranks, report, preparing, run / PAIRS, data, before, pairs, unseen, keep_decoded
            ),
            resume,
        )
    return run / "model"


def _train(run: PairRun, resume: bool) -> None:
    config, ranks = run.config, run.ranks
    negatives = Negatives.of(run.pairs, config.apart_m)
    steps_per_epoch = len(batch_order(config, negatives, 0))
    learner = _learner(config, negatives, begun=resume and (run.folder / CHECKPOINT).exists())
    if config.compiled:
        compile_blocks(learner.encoder)
    if ranks.first:
        refuse_taken(run.folder, config, resume)
        refuse_other_data(run.notes, run.data)
    stepper, state = take_up(
        run, learner, both_views, resume=resume, layer_decay=config.layer_decay, recompute=config.recompute
    )
    if state.step < config.epochs * steps_per_epoch:
        many, asked = config.model.azimuth_bins > 1, asked_as_trained(config.augmentation)
        try:
            decoded = _decoded(run, run.pairs, config.augmentation.shift_m, headings=many)
            unseen = _decoded(run, run.validation, 0.0, headings=many and not asked.unknown_heading)
        except GeolocError:
            if ranks.first and not (run.folder / CHECKPOINT).exists():
                give_up(run.folder)
            raise
        canvases, tiles = (at_hand(some, stepper.device) for some in (decoded.canvases, decoded.tiles))
    while state.step < config.epochs * steps_per_epoch:
        epoch = state.step // steps_per_epoch
        confused = ranks.in_turn(partial(mine, run, decoded, negatives, learner.encoder, epoch))
        order = batch_order(config, negatives, epoch, confused)[:steps_per_epoch]
        lesson = Lesson(order, partial(_vary, config, canvases, tiles), partial(_name, run.pairs))
        state = rest_of_epoch(run, lesson, stepper, state)
        if ranks.first:
            due = (epoch + 1) % config.validate_every == 0 or epoch + 1 == config.epochs
            state = validate(run, unseen, learner.kept, state) if due else passed(run, state)
            save_state(run.folder, learner, stepper.optimizer, state)
    ranks.wait()
    if ranks.first:
        shutil.rmtree(run.folder / DECODED, ignore_errors=True)
        forget(run)


def _learner(config: TrainConfig, negatives: Negatives, begun: bool) -> Learner:
    encoder = first_encoder(config, begun)
    freeze(encoder, config.frozen)
    if not any(weight.requires_grad for weight in encoder.parameters()):
        raise DataError(f"frozen={config.frozen} leaves nothing of the encoders to learn; set it lower.")
    if config.recompute:
        checkpointed(encoder)
    return Learner(encoder, Objective(config, negatives), config.ema)


def _vary(config: TrainConfig, canvases: Taken, tiles: Taken, part: Part) -> Varied:
    rng = np.random.default_rng([config.seed, 1, part.step])
    drawn = draw(config.batch, config.model, config.augmentation, rng).of(part.places)
    return vary(canvases(part.rows), tiles(part.rows), config.model, drawn)


def _name(table: PairTable, row: int) -> dict[str, str]:
    pair = table.pairs[row]
    return {"street": str(pair.street), "satellite": str(pair.satellite)}


def _decoded(run: PairRun, table: PairTable, spare_m: float, headings: bool) -> Decoded:
    return run.ranks.in_turn(
        partial(
            decode_pairs, table.pairs, run.config.model, spare_m, run.keep_decoded or run.folder / DECODED,
            headings=headings, workers=run.config.workers, report=partial(run.preparing, "decoding"),
        )
    )  # fmt: skip
