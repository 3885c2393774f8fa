"""What an epoch was good for: scores on pairs not trained on, and the best model kept."""

import dataclasses
import math

from geoloc.encoder import TwinEncoder
from geoloc.errors import DataError
from geoloc.model import save_encoder
from geoloc.pairs import PairTable
from geoloc.score import Asked, score_pairs
from geoloc.training.augment import Augmentation
from geoloc.training.card import model_card
from geoloc.training.checkpoint import RunState
from geoloc.training.decoded import Decoded
from geoloc.training.run import PairRun
from geoloc.training.run_folder import log

VALIDATION_PAIRS = 2000
ASKED_DEG = (360.0, 180.0, 90.0, 90.0)
"""Of validation pairs, by the narrowest of LAYOUTS that is trained."""
FORGOT, SURE = 0.1, 20
"""A run has diverged where less than this share of the most pairs found is found, if those were so many."""


def thinned(table: PairTable) -> PairTable:
    """At most VALIDATION_PAIRS of the pairs, spread evenly: enough to choose an epoch by."""
    step = max(1, math.ceil(len(table.pairs) / VALIDATION_PAIRS))
    return dataclasses.replace(table, pairs=table.pairs[::step])


def asked_as_trained(how: Augmentation) -> Asked:
    """How validation pairs are asked: cut as narrow as is trained, 90 degrees at the least, and at unknown
    heading where canvases are turned to any.
    """
    narrowest = max(layout for layout, share in enumerate(how.layouts) if share)
    return Asked(ASKED_DEG[narrowest], unknown_heading=how.turn_deg == 180)


def validate(run: PairRun, unseen: Decoded, encoder: TwinEncoder, state: RunState) -> RunState:
    """Score the epoch just ended, keep the model if it is the best so far, and log the line.

    Raises DataError where almost nothing of what an earlier epoch found is found any more: the losses are
    of unit vectors and bounded, so a run that diverges seldom ends in what is no number.
    """
    config = run.config
    encoder.eval()
    asked = asked_as_trained(config.augmentation)
    scores = score_pairs(encoder, run.validation, asked, unseen.tensors(config.model)).values
    state = state.ended(**scores)
    if state.best:
        seeds = run.pairs.seeds | run.before
        table = dataclasses.replace(run.pairs, seeds=seeds)
        card = model_card(config, table, run.validation, asked, scores, state.log)
        save_encoder(encoder, run.folder / "model", card, seeds)
    log(run.folder, state.log[-1])
    _refuse_forgotten(run, state)
    return state


def passed(run: PairRun, state: RunState) -> RunState:
    """Log the line of an epoch just ended that is not scored."""
    state = state.ended()
    log(run.folder, state.log[-1])
    return state


def _refuse_forgotten(run: PairRun, state: RunState) -> None:
    best = max(reversed(state.scored), key=lambda line: line["recall@1"])
    now, most = state.log[-1]["recall@1"], best["recall@1"]
    if now < FORGOT * most and most * len(run.validation.pairs) >= SURE:
        raise DataError(
            f"The run has diverged: at step {state.step} it finds {now:.1%} of the validation pairs, at step "
            f"{best['step']} it found {most:.1%}. {run.folder / 'model'} is the model of then; start anew "
            "with a lower learning_rate, from that model if you like (start_from)."
        )
