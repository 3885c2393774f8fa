"""What a step minimises: a loss over the embeddings of a batch, whatever computed them and on how many."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from geoloc.augment import Queries
from geoloc.azimuth import correlate
from geoloc.losses import heading_infonce, heading_triplet
from geoloc.recipe import TrainConfig

LOWEST_TEMPERATURE = 0.01


class Objective(nn.Module):
    """The config's loss, and what of it is learnt: the temperature, as its logarithm."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.config = config
        self.log_temperature = nn.Parameter(torch.tensor(config.temperature).log())

    def forward(
        self,
        street: Float[Tensor, "b a c"],
        satellite: Float[Tensor, "b a c"],
        batch: Queries,
        close: Bool[Tensor, "b b"],
    ) -> Float[Tensor, ""]:
        """The loss of the bins of both views; close: pairs that are no negatives of each other."""
        device = street.device
        owner, windows = batch.owner.to(device), batch.windows.to(device)
        queries = F.normalize((street[owner] * windows[:, :, None]).flatten(1), dim=1)
        scores = correlate(queries.view(-1, *street.shape[1:]), satellite)
        scores = scores / windows.sum(dim=1).clamp(min=1).sqrt()[:, None, None]
        turn = batch.turn.to(device)[owner]
        if self.config.loss == "triplet":
            return heading_triplet(scores, owner, turn, self.config.loss_weight, close)
        temperature = self.log_temperature.exp().clamp(min=LOWEST_TEMPERATURE)
        return heading_infonce(scores, owner, turn, temperature, close)
