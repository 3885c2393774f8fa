"""One step of training: a batch of any size, a chunk at a time through the encoders, over any processes."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from geoloc.encoder import TwinEncoder
from geoloc.errors import DataError
from geoloc.training.augment import Queries, Varied
from geoloc.training.learner import Learner
from geoloc.training.pretrain_recipe import Recipe
from geoloc.training.ranks import ALONE, Ranks
from geoloc.training.two_views import TwoViews

MAX_GRAD_NORM = 5.0
SEEDS = 2**32
"""How many seeds a config may have: what lies above tells chunks and processes apart."""

Bins = tuple[Float[Tensor, "b a c"], Float[Tensor, "b a c"]]
Encode = Callable[[TwinEncoder, Tensor, Tensor], Bins]
Ready = Varied | TwoViews


def parts_of(batch: int, chunk: int, ranks: Ranks) -> Int64[np.ndarray, "world n c"]:
    """Which places of a batch go where: by process, by chunk.

    Every chunk of the batch is divided among all processes: how many they are changes neither the
    batch nor what a batch norm sees.
    """
    return np.arange(batch).reshape(batch // (chunk or batch), ranks.world, -1).transpose(1, 0, 2)


def refuse_uneven(config: Recipe, ranks: Ranks) -> None:
    """Raise DataError where the processes cannot share a batch."""
    shared = config.chunk or config.batch
    if shared % ranks.world:
        raise DataError(
            f"{ranks.world} processes cannot share {shared} of a batch evenly; "
            "set batch, and chunk if it is used, to a multiple of them."
        )


def both_views(encoder: TwinEncoder, street: Tensor, satellite: Tensor) -> Bins:
    """The bins of a chunk."""
    return encoder.street_bins(street), encoder.satellite_bins(satellite)


@dataclass(frozen=True)
class Stepper:
    """What a step needs. recompute: the backward pass runs parts of the forward again (gradient checkpoints).

    A step first computes the loss and its gradient at the embeddings of the whole batch, then carries that
    back through the encoders. With several chunks the first is done without a graph and each chunk then
    encoded again: cached gradients (GradCache, Gao et al. 2021), equal to those of the whole batch, as long
    as the encoders treat each image alone. A batch norm does not: it sees a chunk at a time.
    """

    learner: Learner
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    precision: torch.dtype
    ranks: Ranks = ALONE
    recompute: bool = False
    encode: Encode = both_views

    @property
    def device(self) -> torch.device:
        """Where the encoders are."""
        return next(self.learner.parameters()).device

    @property
    def loss_scale(self) -> float | None:
        """float16's, as it stands."""
        return self.scaler.get_scale() if self.scaler.is_enabled() else None

    def step(
        self, parts: Iterable[Ready], chunks: int, rows: Int64[np.ndarray, " b"], seed: int, number: int
    ) -> tuple[float, float]:
        """Learn from a batch of which `parts` are this process's; the loss, and the gradient's norm.

        parts: all chunks, and if they are several all of them once more, so that none is kept. rows: the
        pairs of the whole batch, in the order of `parts_of`. number: of the step. Where loss or norm are not
        finite nothing is learnt, unless float16's scale will shrink until they are.
        """
        loss = self.gradients(parts, chunks, rows, seed)
        self.scaler.unscale_(self.optimizer)
        norm = float(nn.utils.clip_grad_norm_(self.learner.parameters(), MAX_GRAD_NORM))
        if np.isfinite([loss, norm]).all() or self.scaler.is_enabled():
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.learner.follow(number)
        return loss, norm

    def gradients(
        self, parts: Iterable[Ready], chunks: int, rows: Int64[np.ndarray, " b"], seed: int
    ) -> float:
        """The loss of a batch, and its gradient in the learner's parameters, by float16's scale."""
        coming, asked, found = iter(parts), [], []
        with nullcontext() if chunks == 1 else _without_graph(self.learner.encoder):
            for number, part in enumerate(islice(coming, chunks)):
                asked.append(Queries(part.turn, part.owner, part.windows))
                found.append(self._bins(part, number, seed))
        street, satellite = (
            self.ranks.gather(torch.cat([bins[view].detach() for bins in found])).requires_grad_()
            for view in (0, 1)
        )
        torch.manual_seed(seed)
        loss = self.learner.objective(street, satellite, self._queries(asked), rows)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        for value in self.learner.objective.parameters():
            if value.grad is not None:
                value.grad /= self.ranks.world
        again = found if chunks == 1 else (self._bins(part, i, seed) for i, part in enumerate(coming))
        start = self.ranks.rank * len(street) // self.ranks.world
        for bins in islice(again, chunks):
            here = slice(start, start := start + len(bins[0]))
            with _same_buffers(self.learner.encoder) if self.recompute else nullcontext():
                torch.autograd.backward(bins, (street.grad[here], satellite.grad[here]))  # type: ignore[index]
        self.ranks.add_gradients(self.learner.parameters())
        return float(loss.detach())

    def _bins(self, part: Ready, number: int, seed: int) -> Bins:
        """A chunk's bins; the second time the random numbers are those of the first."""
        torch.manual_seed(seed + (number * self.ranks.world + self.ranks.rank) * SEEDS)
        device = self.device
        with torch.autocast(device.type, self.precision, enabled=self.precision != torch.float32):
            one, other = part.images
            return self.encode(self.learner.encoder, one.to(device), other.to(device))

    def _queries(self, parts: list[Queries]) -> Queries:
        """What the whole batch is asked, in the order of its embeddings."""
        sizes = [len(part.turn) for part in parts]
        starts = np.cumsum([self.ranks.rank * sum(sizes), *sizes]).tolist()
        columns = (
            [part.turn for part in parts],
            [part.owner + start for part, start in zip(parts, starts, strict=False)],
            [part.windows for part in parts],
        )
        return Queries(*(self.ranks.gather(torch.cat(column).to(self.device)) for column in columns))


@contextmanager
def _without_graph(encoder: nn.Module) -> Iterator[None]:
    with torch.no_grad(), _same_buffers(encoder):
        yield


@contextmanager
def _same_buffers(encoder: nn.Module) -> Iterator[None]:
    """What is computed inside leaves no trace in the running statistics of norms."""
    kept = [value.clone() for value in encoder.buffers()]
    yield
    for value, old in zip(encoder.buffers(), kept, strict=True):
        value.copy_(old)
