"""What cameras, seasons, light and archives do to a picture: a style for every image of a batch.

Styles wide enough that a real one is among them: domain randomisation (Tobin et al. 2017).
"""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor

from geoloc.training.jpeg import jpeg

LUMA = np.array([0.299, 0.587, 0.114])
LIGHT_HW = (3, 4)
NOISE_LENGTH = 1 << 16


@dataclass(frozen=True)
class Style:
    """One row per image, of RGB from 0 to 1.

    curve: the exponent of its tones. mix: its colours' linear map. season: what is added to a colour, times
    how green that is (2G - R - B). light: gains on a coarse grid, the last column next to the first.
    detail: by how much what a 3 x 3 mean takes away is stressed; -1 leaves the mean. noise: standard
    deviation. hole: (x, y, width, height) in shares of the image, and fill its colour. quality: JPEG's, 0
    without. seed: of the noise.
    """

    curve: Float64[np.ndarray, " b"]
    mix: Float64[np.ndarray, "b 3 3"]
    season: Float64[np.ndarray, "b 3"]
    light: Float64[np.ndarray, "b 3 4"]
    detail: Float64[np.ndarray, " b"]
    noise: Float64[np.ndarray, " b"]
    hole: Float64[np.ndarray, "b 4"]
    fill: Float64[np.ndarray, "b 3"]
    quality: Int64[np.ndarray, " b"]
    seed: Int64[np.ndarray, " b"]

    def of(self, rows: Int64[np.ndarray, " c"]) -> "Style":
        """Of some of the batch."""
        return replace(self, **{name: value[rows] for name, value in vars(self).items()})


def draw_style(b: int, strength: float, rng: np.random.Generator) -> Style:
    """Styles for b images. strength: from 0, all as they are, to 1, which leaves them barely recognisable."""
    saturation = 1 + strength * rng.uniform(-1, 0.6, b)[:, None, None]
    mix = saturation * np.eye(3) + (1 - saturation) * LUMA + rng.normal(0, 0.12 * strength, (b, 3, 3))
    some = rng.uniform(size=(3, b)) < 0.5 * strength
    size = rng.uniform(0.03, 0.25, (b, 2)) * some[0][:, None]
    return Style(
        curve=np.exp(rng.normal(0, 0.5 * strength, b)),
        mix=mix,
        season=rng.normal(0, 0.8 * strength, (b, 3)),
        light=np.exp(rng.normal(0, 0.3 * strength, (b, *LIGHT_HW))),
        detail=strength * rng.uniform(-1, 1, b),
        noise=0.06 * strength * rng.uniform(0, 1, b) * some[1],
        hole=np.concatenate([rng.uniform(0, 1, (b, 2)) * (1 - size), size], axis=1),
        fill=rng.uniform(0, 1, (b, 3)),
        quality=np.where(some[2], rng.integers(20, 90, b), 0),
        seed=rng.integers(NOISE_LENGTH, size=b),
    )


def restyle(images: Float[Tensor, "b 3 h w"], style: Style) -> Float[Tensor, "b 3 h w"]:
    """The images, 0 to 1, each in its style."""
    (b, _, h, w), device = images.shape, images.device
    curve, season, detail, noise, fill = (
        torch.from_numpy(value).float().to(device).view(b, -1, 1, 1)
        for value in (style.curve, style.season, style.detail, style.noise, style.fill)
    )
    toned = images.clamp(0, 1) ** curve
    mixed = torch.einsum("bkc,bchw->bkhw", torch.from_numpy(style.mix).float().to(device), toned)
    green = (2 * mixed[:, 1:2] - mixed[:, :1] - mixed[:, 2:]).clamp(min=0)
    light = torch.from_numpy(np.concatenate([style.light, style.light[:, :, :1]], axis=2)).float()
    lit = F.interpolate(light[:, None].to(device), (h, w), mode="bilinear", align_corners=True)
    seen = mixed.addcmul_(season, green).mul_(lit)
    seen = (
        seen.addcmul_(detail, seen - _soft(seen))
        .addcmul_(noise, _grain(style.seed, (h, w), device))
        .clamp_(0, 1)
    )
    x, y, width, height = torch.from_numpy(style.hole).float().to(device)[:, :, None, None].unbind(dim=1)
    across = (torch.arange(w, device=device)[None, None, :] + 0.5) / w - x
    down = (torch.arange(h, device=device)[None, :, None] + 0.5) / h - y
    hidden = (across >= 0) & (across < width) & (down >= 0) & (down < height)
    return _compressed(torch.where(hidden[:, None], fill, seen), style.quality)


def _soft(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """The mean over 3 x 3 pixels, the border repeated; by sums, a third of avg_pool2d's time."""
    for dim in (2, 3):
        last = images.shape[dim] - 1
        before = torch.cat([images.narrow(dim, 0, 1), images.narrow(dim, 0, last)], dim)
        after = torch.cat([images.narrow(dim, 1, last), images.narrow(dim, last, 1)], dim)
        images = before.add_(images).add_(after).div_(3)
    return images


def _grain(
    seeds: Int64[np.ndarray, " b"], hw: tuple[int, int], device: torch.device
) -> Float[Tensor, "b 1 h w"]:
    """Noise of unit deviation, grey: an image's own place on one long strip of it, cheaper than its own."""
    h, w = hw
    within = torch.arange(h * w, device=device)
    where = (torch.from_numpy(seeds).to(device)[:, None] + within) % NOISE_LENGTH
    return _strip(device)[where].view(-1, 1, h, w)


@cache
def _strip(device: torch.device) -> Float32[Tensor, " n"]:
    noise = np.random.default_rng(0).standard_normal(NOISE_LENGTH).astype(np.float32)
    return torch.from_numpy(noise).to(device)


def _compressed(
    images: Float[Tensor, "b 3 h w"], quality: Int64[np.ndarray, " b"]
) -> Float[Tensor, "b 3 h w"]:
    rows = np.flatnonzero(quality)
    if len(rows):
        where = torch.from_numpy(rows).to(images.device)
        images[where] = jpeg(images[where], torch.from_numpy(quality[rows]).to(images.device))
    return images
