"""Pre-training on images that belong to no pair: the encoder of one view learns to know an image again."""

import hashlib
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from geoloc.embed import Side
from geoloc.encoder import TwinEncoder
from geoloc.errors import DataError
from geoloc.model import save_encoder
from geoloc.report import StageReport
from geoloc.training.agreement import Agreement, representation
from geoloc.training.card import pretrained_card
from geoloc.training.checkpoint import CHECKPOINT, RunState, ended_epochs, save_state
from geoloc.training.decoded import Taken, at_hand
from geoloc.training.epoch import Lesson, Part, rest_of_epoch, take_up
from geoloc.training.learner import Learner
from geoloc.training.pretrain_recipe import PretrainConfig
from geoloc.training.pretrained import first_encoder, with_their_norm
from geoloc.training.ranks import all_ranks
from geoloc.training.run import Report, Run
from geoloc.training.run_folder import (
    DECODED,
    IMAGES,
    alone,
    give_up,
    log,
    refuse_other_data,
    refuse_taken,
    seeds_before,
)
from geoloc.training.step import Bins, Stepper, refuse_uneven
from geoloc.training.two_views import TwoViews, two_views
from geoloc.training.unlabelled import Unlabelled, named, stored


def pretrain(
    config: PretrainConfig,
    images: Sequence[Unlabelled],
    run: Path,
    *,
    resume: bool = False,
    report: Report = lambda _: None,
    preparing: StageReport = lambda *_: None,
) -> Path:
    """Train one view's encoder by SimCLR (Chen et al. 2020, section 2) and return a model folder, RUN/model.

    The model has both encoders, the other one as it began; `train` goes on from it with start_from. RUN is as
    `train` leaves it, the model is the last epoch's. With `resume`, goes on from the last checkpoint; on the
    CPU the weights are then those of an unbroken run. Under torchrun every process takes its share of every
    batch. Raises DataError for too few images, for a RUN that exists, that another process trains in, or that
    another config made, and where the loss is no number any more; what reading the images raises, and then
    RUN is not there.
    """
    _refuse_few(sum(one.planned for one in images), config.batch)
    config = with_their_norm(config)
    data, before = {"trained on": _described(images)}, seeds_before(config, run / IMAGES if resume else None)
    with all_ranks() as ranks, alone(run, ranks.first):
        refuse_uneven(config, ranks)
        learner = _learner(config, begun=resume and (run / CHECKPOINT).exists())
        if ranks.first:
            refuse_taken(run, config, resume)
            refuse_other_data(run / IMAGES, data)
        if resume and len(ended_epochs(run)) == config.epochs:
            if ranks.first:
                shutil.rmtree(run / DECODED, ignore_errors=True)
            return run / "model"
        told = Run(config, run, ranks, report, preparing, run / IMAGES, data, before)
        stepper, state = take_up(told, learner, partial(_both, config.view), resume=resume)
        read = partial(
            stored, images, config.view, config.model, run / DECODED, partial(preparing, "decoding")
        )
        try:
            decoded = ranks.in_turn(read)
            _refuse_few(len(decoded), config.batch)
        except BaseException:
            if ranks.first and not (run / CHECKPOINT).exists():
                give_up(run)
            raise
        _pretrain(told, config, stepper, state, images, decoded)
        if ranks.first:
            shutil.rmtree(run / DECODED, ignore_errors=True)
    return run / "model"


def _described(images: Sequence[Unlabelled]) -> dict[str, Any]:
    seeds = sorted(frozenset().union(*(one.seeds for one in images)))
    contents = "".join(one.contents for one in images).encode("utf-8", "surrogateescape")
    return {
        "name": [one.name for one in images],
        "images": [one.planned for one in images],
        "seeds": seeds,
        "sha256": hashlib.sha256(contents).hexdigest(),
    }


def _refuse_few(images: int, batch: int) -> None:
    if not images:
        raise DataError("There are no images to learn from; check the paths.")
    if images < batch:
        raise DataError(f"{images:,} images do not fill a batch of {batch}; set batch lower or add images.")


def _pretrain(
    run: Run,
    config: PretrainConfig,
    stepper: Stepper,
    state: RunState,
    images: Sequence[Unlabelled],
    decoded: UInt8[np.ndarray, "n ..."],
) -> None:
    learner = stepper.learner
    seeds = run.before.union(*(one.seeds for one in images))
    per_epoch, images_at_hand = len(decoded) // config.batch, at_hand(decoded, stepper.device)
    while state.step < config.epochs * per_epoch:
        rng = np.random.default_rng([config.seed, state.step // per_epoch])
        order = rng.permutation(len(decoded))[: per_epoch * config.batch].reshape(per_epoch, config.batch)
        lesson = Lesson(order, partial(_vary, config, images_at_hand), partial(named, images))
        state = rest_of_epoch(run, lesson, stepper, state)
        state = state.ended()
        if run.ranks.first:
            card = pretrained_card(config, [one.name for one in images], len(decoded), seeds, state.log)
            save_encoder(learner.encoder, run.folder / "model", card, seeds)
            log(run.folder, state.log[-1])
            save_state(run.folder, learner, stepper.optimizer, state)
    run.ranks.wait()


def _learner(config: PretrainConfig, begun: bool) -> Learner:
    encoder = first_encoder(config, begun).requires_grad_(False)
    (encoder.street if config.view == "street" else encoder.satellite).requires_grad_(True)
    return Learner(encoder, Agreement(config.model.channels, config.projection, config.temperature))


def _both(view: Side, encoder: TwinEncoder, first: Tensor, second: Tensor) -> Bins:
    """Each image of both views as one bin; a batch norm sees them together."""
    one, other = representation(encoder, view, torch.cat([first, second]))[:, None].chunk(2)
    return one, other


def _vary(config: PretrainConfig, images: Taken, part: Part) -> TwoViews:
    return two_views(images(part.rows), part.places, config, part.step)
