"""What a step minimises: a loss over the embeddings of a batch, whatever computed them and on how many."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from geoloc.azimuth import correlate
from geoloc.errors import DataError
from geoloc.training.augment import Queries
from geoloc.training.losses import heading_infonce, heading_infonce_in_parts
from geoloc.training.losses_pairs import (
    Contrast,
    batch_hard_triplet,
    contrasts,
    lifted_structure,
    multi_similarity,
    nt_xent,
    soft_margin_triplet,
)
from geoloc.training.losses_places import (
    Cosines,
    Labels,
    Out,
    arcface,
    cosface,
    identification,
    proxy_anchor,
    proxy_nca,
    proxy_nca_pp,
    sphereface,
)
from geoloc.training.negatives import Negatives
from geoloc.training.recipe import LOWEST_TEMPERATURE, TrainConfig

OVER_PAIRS: dict[str, Callable[[Contrast, Contrast], Tensor]] = {
    "multi-similarity": multi_similarity,
    "lifted-structure": lifted_structure,
}
OVER_PLACES: dict[str, Callable[[Cosines, Labels, Out], Tensor]] = {
    "sphereface": sphereface,
    "cosface": cosface,
    "arcface": arcface,
    "proxy-nca": proxy_nca,
    "proxy-nca++": proxy_nca_pp,
    "proxy-anchor": proxy_anchor,
}
MAX_LEARNT = 2**28
"""Numbers in the vectors of all places: 4 GiB with their gradients and moments."""


@dataclass(frozen=True)
class AskedBins:
    """The queries of a batch: unit vectors where their windows are, and 0 elsewhere. See `Varied`."""

    bins: Float[Tensor, "q a c"]
    windows: Float[Tensor, "q a"]
    owner: Int64[Tensor, " q"]
    turn: Float[Tensor, " q"]

    @classmethod
    def of(cls, street: Float[Tensor, "b a c"], batch: Queries) -> "AskedBins":
        """What a batch asks of the bins of its street views."""
        owner, windows = batch.owner.to(street.device), batch.windows.to(street.device)
        asking = street.index_select(0, owner)  # the gradient of street[owner] is summed in any order
        bins = F.normalize((asking * windows[:, :, None]).flatten(1), dim=1)
        return cls(bins.view(-1, *street.shape[1:]), windows, owner, batch.turn.to(street.device)[owner])

    def scores(self, satellite: Float[Tensor, "b a c"]) -> Float[Tensor, "q b a"]:
        """The cosine of every query with every tile at every heading."""
        return correlate(self.bins, satellite) / self.length[:, None, None]

    @property
    def length(self) -> Float[Tensor, " q"]:
        """Of what a query is compared with: so many bins of norm 1."""
        return self.windows.sum(dim=1).clamp(min=1).sqrt()


class Objective(nn.Module):
    """The config's loss, and what of it is learnt: a temperature, as its logarithm; a vector for each place.

    negatives: of the table of pairs that is trained on. A place's vector has azimuth bins as tiles have: a
    query is turned to its true heading and compared with as much of it as its window shows. Raises DataError
    for more places than memory is likely to hold.
    """

    steps: Tensor

    def __init__(self, config: TrainConfig, negatives: Negatives) -> None:
        super().__init__()
        self.config, self.negatives = config, negatives
        spec = config.model
        if config.loss in ("infonce", "nt-xent"):
            self.log_temperature = nn.Parameter(torch.tensor(config.temperature).log())
        if config.loss in OVER_PLACES or config.loss == "bnneck":
            if negatives.places * spec.dim > MAX_LEARNT:
                raise DataError(
                    f"loss={config.loss} learns {negatives.places:,} places x {spec.dim:,} numbers, over "
                    f"{MAX_LEARNT:,}; choose loss=infonce, fewer pairs or a smaller model.channels."
                )
            self.places = nn.Parameter(torch.randn(negatives.places, spec.azimuth_bins, spec.channels))
        if config.loss == "bnneck":
            nn.init.normal_(self.places, std=0.001)
            self.neck = nn.BatchNorm1d(spec.channels, track_running_stats=False)
            self.neck.bias.requires_grad_(False)
        if len(config.hardest) > 1:
            self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(
        self,
        street: Float[Tensor, "b a c"],
        satellite: Float[Tensor, "b a c"],
        batch: Queries,
        rows: Int64[np.ndarray, " b"],
    ) -> Float[Tensor, ""]:
        """The loss of the bins of both views; rows: which pairs of the table they are."""
        close, asked = self.negatives.close(rows, rows).to(street.device), AskedBins.of(street, batch)
        if self.config.loss in OVER_PLACES:
            return self._over_places(asked, satellite, rows)
        if self.config.loss == "infonce":
            return self._infonce(asked, satellite, close)
        scores, owner = asked.scores(satellite), asked.owner
        anchors = contrasts(scores, owner, asked.turn, close)
        if self.config.loss == "triplet":
            return soft_margin_triplet(*anchors, self.config.loss_weight, self._hardest())
        if self.config.loss == "nt-xent":
            apart = ~close[owner]
            within = correlate(asked.bins, asked.bins).amax(dim=2)
            tiles = correlate(satellite, satellite).amax(dim=2) / satellite.shape[1]
            view = anchors[0].beside(within, apart[:, owner])
            return nt_xent(view, anchors[1].beside(tiles.index_select(0, owner), apart), self._temperature())
        if self.config.loss == "bnneck":
            return self._identification(asked, satellite, rows) + batch_hard_triplet(*anchors)
        return OVER_PAIRS[self.config.loss](*anchors)

    def _infonce(
        self, asked: AskedBins, satellite: Float[Tensor, "b a c"], close: Bool[Tensor, "b b"]
    ) -> Float[Tensor, ""]:
        """With a chunk, of that many queries at a time."""
        how = asked.owner, asked.turn, self._temperature(), close, self.config.smoothing
        if not self.config.chunk:
            return heading_infonce(asked.scores(satellite), *how)

        def scores(
            rows: slice, bins: Float[Tensor, "q a c"], satellite: Float[Tensor, "b a c"]
        ) -> Float[Tensor, "m b a"]:
            some = AskedBins(bins[rows], asked.windows[rows], asked.owner[rows], asked.turn[rows])
            return some.scores(satellite)

        return heading_infonce_in_parts(scores, asked.bins, satellite, *how, self.config.chunk)

    def _temperature(self) -> Float[Tensor, ""]:
        return self.log_temperature.exp().clamp(min=LOWEST_TEMPERATURE)

    def _hardest(self) -> float:
        """The share of triplets that is kept now: one of `hardest` after another, over the run."""
        shares = self.config.hardest
        if len(shares) == 1:
            return shares[0]
        steps = self.config.epochs * (len(self.negatives.place) // self.config.batch)
        now = min(int(self.steps) * len(shares) // steps, len(shares) - 1)
        self.steps += 1
        return shares[now]

    def _over_places(
        self, asked: AskedBins, satellite: Float[Tensor, "b a c"], rows: Int64[np.ndarray, " b"]
    ) -> Float[Tensor, ""]:
        loss, places = OVER_PLACES[self.config.loss], F.normalize(self.places, dim=2).flatten(1).T
        label, out = self._known(rows, asked.owner.device)
        from_street = asked_north(asked)[0].flatten(1) @ places / asked.length[:, None]
        from_tile = satellite.flatten(1) @ places / satellite.shape[1]
        street = loss(from_street, label[asked.owner], out[asked.owner])
        return (street + loss(from_tile, label, out)) / 2

    def _identification(
        self, asked: AskedBins, satellite: Float[Tensor, "b a c"], rows: Int64[np.ndarray, " b"]
    ) -> Float[Tensor, ""]:
        """The neck (Luo et al. 2019, section 3.5) normalises channels alike in all bins that are seen of both
        views; what follows it is a linear classifier without bias.
        """
        bins, windows = asked_north(asked)
        bins, seen = bins * asked.length[:, None, None], windows > 0
        necked = self.neck(torch.cat([bins[seen], satellite.flatten(0, 1)]))
        street = torch.zeros_like(bins)
        street[seen] = necked[: int(seen.sum())] * windows[seen][:, None]
        tiles = necked[int(seen.sum()) :].view(len(satellite), -1)
        label, out = self._known(rows, asked.owner.device)
        weights = self.places.flatten(1).T
        from_street = identification(street.flatten(1) @ weights, label[asked.owner], out[asked.owner])
        return (from_street + identification(tiles @ weights, label, out)) / 2

    def _known(
        self, rows: Int64[np.ndarray, " b"], device: torch.device
    ) -> tuple[Int64[Tensor, " b"], Bool[Tensor, "b p"]]:
        """Each pair's place, and the other places that are too near it."""
        label = torch.from_numpy(self.negatives.place[rows])
        out = self.negatives.close_places(rows).scatter(1, label[:, None], False)
        return label.to(device), out.to(device)


def asked_north(asked: AskedBins) -> tuple[Float[Tensor, "q a c"], Float[Tensor, "q a"]]:
    """The bins and windows of queries, turned to their true heading as tiles lie, between two bins both."""
    below, part = asked.turn.floor().long(), (asked.turn - asked.turn.floor())[:, None]
    a = asked.windows.shape[1]
    here = (torch.arange(a, device=below.device) - below[:, None]) % a
    before = (here - 1) % a
    windows = (1 - part) * asked.windows.gather(1, here) + part * asked.windows.gather(1, before)
    rows = torch.arange(len(here), device=below.device)[:, None]
    bins = (1 - part)[:, :, None] * asked.bins[rows, here] + part[:, :, None] * asked.bins[rows, before]
    return bins, windows
