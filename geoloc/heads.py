"""Pooling heads: a backbone's feature map to one vector of as many numbers as `out` says."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from geoloc.errors import ModelError

Features = Float[Tensor, "b c h w"]
Vector = Float[Tensor, "b o"]
SPATIAL_HEADS, MAX_CELLS = 8, 2048
"""As many as in SAFA; each weighs every cell of the map by all others, 34 M numbers at MAX_CELLS."""
PARTS = 4
"""Strips of a map. PCB has 6 of a standing person; LPN (Wang et al. 2021) has 4 rings of a place."""


class Pool(nn.Module):
    """A feature map to one vector of `out` numbers."""

    def __init__(self, out: int) -> None:
        super().__init__()
        self.out = out

    def forward(self, features: Features) -> Vector:
        """Pool maps of the size that the head was made for."""
        return self._pooled(features)

    def _pooled(self, features: Features) -> Vector:
        raise NotImplementedError


class Average(Pool):
    """The mean of each channel."""

    def _pooled(self, features: Features) -> Vector:
        return features.mean(dim=(2, 3))


class Max(Pool):
    """The highest value of each channel."""

    def _pooled(self, features: Features) -> Vector:
        return features.amax(dim=(2, 3))


class Mixed(Pool):
    """w max + (1 - w) mean, w learnt (Lee et al. 2016, eq. 2), as the sigmoid of a number: 1/2 at first."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.logit = nn.Parameter(torch.zeros(()))

    def _pooled(self, features: Features) -> Vector:
        share = self.logit.sigmoid()
        return share * features.amax(dim=(2, 3)) + (1 - share) * features.mean(dim=(2, 3))


class GeM(Pool):
    """(mean x^p)^(1/p) of what is above 0, p learnt from 3 (Radenović et al. 2018, eq. 3)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.p = nn.Parameter(torch.tensor(3.0))

    def _pooled(self, features: Features) -> Vector:
        with torch.autocast(features.device.type, enabled=False):  # powers of small numbers are smaller still
            p = self.p.clamp(min=0.1)
            return (features.float().clamp(min=1e-6) ** p).mean(dim=(2, 3)) ** (1 / p)


class SpatialHeads(Pool):
    """SAFA's spatial-aware heads (Shi et al. 2019, eq. 2 to 4): the map's highest channel through two linear
    layers, without anything between them, is a mask of its cells; a head is every channel's sum over the
    masked map. Eight of them, one after another. Started as in the authors' code.
    """

    def __init__(self, channels: int, hw: tuple[int, int]) -> None:
        super().__init__(SPATIAL_HEADS * channels)
        cells = hw[0] * hw[1]
        if not 2 <= cells <= MAX_CELLS:
            raise ModelError(
                f"head 'safa' wants feature maps of 2 to {MAX_CELLS:,} cells, not {hw[0]} x {hw[1]}: take a "
                "deeper stage or other images."
            )
        self.hw = hw
        self.inner = nn.Parameter(torch.empty(cells, cells // 2, SPATIAL_HEADS))
        self.inner_bias = nn.Parameter(torch.full((cells // 2, SPATIAL_HEADS), 0.1))
        self.outer = nn.Parameter(torch.empty(cells // 2, cells, SPATIAL_HEADS))
        self.outer_bias = nn.Parameter(torch.full((cells, SPATIAL_HEADS), 0.1))
        for weights in (self.inner, self.outer):
            nn.init.trunc_normal_(weights, std=0.005, a=-0.01, b=0.01)

    def _pooled(self, features: Features) -> Vector:
        if features.shape[2:] != self.hw:
            features = F.adaptive_avg_pool2d(features, self.hw)
        cells = features.flatten(2)
        mask = torch.einsum("bi,ijd->bjd", cells.amax(dim=1), self.inner) + self.inner_bias
        mask = torch.einsum("bjd,jid->bid", mask, self.outer) + self.outer_bias
        return torch.einsum("bci,bid->bdc", cells, mask).flatten(1)


class Parts(Pool):
    """PCB's part strips (Sun et al. 2018, section 3.1): the mean of each of 4 strips of rows, brought to a
    fourth of the numbers by a linear layer of its own. Of a panorama a strip is a band of elevations, of a
    tile in polar form a ring of ranges.
    """

    def __init__(self, channels: int, hw: tuple[int, int], out: int) -> None:
        super().__init__(out)
        if hw[0] < PARTS or out % PARTS:
            raise ModelError(
                f"head 'parts' wants {PARTS} rows of features or more and channels that {PARTS} divides, not "
                f"{hw[0]} rows and {out} channels: take an earlier stage or other channels."
            )
        self.strips = nn.Conv1d(PARTS * channels, out, kernel_size=1, groups=PARTS)

    def _pooled(self, features: Features) -> Vector:
        strips = F.adaptive_avg_pool2d(features, (PARTS, 1))[..., 0]
        return self.strips(strips.transpose(1, 2).flatten(1)[:, :, None])[:, :, 0]  # type: ignore[no-any-return]


def pooling(head: str, channels: int, hw: tuple[int, int], out: int) -> Pool:
    """The head of that name for maps of hw cells. Raises ModelError for maps it cannot pool."""
    if head == "safa":
        return SpatialHeads(channels, hw)
    if head == "parts":
        return Parts(channels, hw, out)
    return {"average": Average, "max": Max, "mixed": Mixed, "gem": GeM}[head](channels)
