"""Batches of places that the encoder takes for each other, looked up once every few epochs."""

from functools import partial

import numpy as np

from geoloc.atomic import atomic_path
from geoloc.embed import compute_dtype, device_of
from geoloc.encoder import TwinEncoder
from geoloc.training.alike import alike
from geoloc.training.batch_order import Alike
from geoloc.training.decoded import Decoded
from geoloc.training.negatives import Negatives
from geoloc.training.run import PairRun

MINED = "mined-{}.npy"
CANDIDATES = 4
"""How many times the neighbours wanted are looked up, since each can be in one batch only."""


def mine(
    run: PairRun, decoded: Decoded, negatives: Negatives, encoder: TwinEncoder, epoch: int
) -> Alike | None:
    """Which pairs are taken for each other in this epoch; None before there is anything to learn it from.

    Kept in the run's folder, so that one that goes on within the epoch finds what it began with.
    """
    config = run.config
    if not config.mine_every or not (config.start_from or epoch >= config.mine_every):
        return None
    path = run.folder / MINED.format(epoch // config.mine_every * config.mine_every)
    if not path.exists():
        encoder.eval()
        device = device_of(encoder)
        found = alike(
            encoder, decoded.tensors(config.model, device), negatives,
            CANDIDATES * config.neighbours, seed=config.seed + epoch,
            dtype=compute_dtype(config.precision, device), report=partial(run.preparing, "mining"),
        )  # fmt: skip
        with atomic_path(path) as temporary:
            np.save(temporary, found)
    return np.load(path)  # type: ignore[no-any-return]


def forget(run: PairRun) -> None:
    """Remove what was mined."""
    for mined in run.folder.glob(MINED.format("*")):
        mined.unlink()
