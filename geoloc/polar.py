"""The polar form of a tile, whose columns are azimuths like a panorama's (Shi et al. 2019, SAFA)."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


@lru_cache(maxsize=8)
def polar_grid(hw: tuple[int, int]) -> Float[Tensor, "h w 2"]:
    """Where each polar pixel samples the tile: (x, y) from -1 to 1, x to the east, y to the south.

    SAFA's equations taken at pixel centres, as the street canvas is: row i of H lies at radius
    (H - i - 1/2) / H of the tile's half side (the top row is the rim), column j of W at azimuth
    360 (j + 1/2) / W - 180 degrees clockwise from north (the middle looks north). SAFA's own code
    has i + 1 and j in their place: half a pixel further in, half a column further left.
    """
    h, w = hw
    row, column = (torch.arange(n, dtype=torch.float64, device="cpu") for n in hw)  # kept for all devices
    radius = (h - row - 0.5) / h
    azimuth = 2 * torch.pi * (column + 0.5) / w
    x = -radius[:, None] * torch.sin(azimuth)
    y = radius[:, None] * torch.cos(azimuth)
    return torch.stack([x, y], dim=-1).float()


def polar_form(tiles: Float[Tensor, "b c s s"], hw: tuple[int, int]) -> Float[Tensor, "b c h w"]:
    """North-up tiles to polar form, bilinear."""
    grid = polar_grid(hw).to(tiles)
    return F.grid_sample(
        tiles, grid.expand(len(tiles), -1, -1, -1), padding_mode="border", align_corners=False
    )
