"""Two views of one image, as different as two photos of one thing may be (Chen et al. 2020, section 2.1)."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from geoloc.training.augment import Augmentation, Drawn, Queries, coloured, draw, vary_street
from geoloc.training.pretrain_recipe import PretrainConfig
from geoloc.training.unlabelled import square_px

MOST_BLUR = 1 / 112
"""Standard deviation over the side, SimCLR's 2 px of 224."""


@dataclass(frozen=True)
class TwoViews(Queries):
    """Two views of every image of a batch, ready for the encoder, each a query of one bin."""

    images: tuple[Float[Tensor, "b i h w"], Float[Tensor, "b i h w"]]


@dataclass(frozen=True)
class Crops:
    """Squares of ground that become tiles, a row per image.

    side: in pixels of the ground. middle: (x, y) off its middle, in the same. turn_rad: of the square.
    mirror: -1 or 1. blur: standard deviation in pixels of the tile, 0 for none.
    """

    side: Float[np.ndarray, " b"]
    middle: Float[np.ndarray, "b 2"]
    turn_rad: Float[np.ndarray, " b"]
    mirror: Float[np.ndarray, " b"]
    blur: Float[np.ndarray, " b"]

    def of(self, rows: Int64[np.ndarray, " c"]) -> "Crops":
        """Of some of the batch."""
        return replace(self, **{name: value[rows] for name, value in vars(self).items()})


def draw_crops(b: int, config: PretrainConfig, rng: np.random.Generator) -> Crops:
    """Squares of config.crop of a tile's area, at any angle, wholly inside the ground."""
    low, high = config.crop
    side = np.sqrt(rng.uniform(low, high, b)) * config.model.satellite_px
    turn_rad = rng.uniform(-math.pi, math.pi, b)
    across = side * (np.abs(np.cos(turn_rad)) + np.abs(np.sin(turn_rad)))
    spare = (square_px(config.model) - across).clip(0) / 2
    blurred = rng.uniform(size=b) < config.blur
    return Crops(
        side=side,
        middle=rng.uniform(-1, 1, (b, 2)) * spare[:, None],
        turn_rad=turn_rad,
        mirror=rng.choice([-1.0, 1.0], b),
        blur=blurred * rng.uniform(0.1 / 2, 1, b) * MOST_BLUR * config.model.satellite_px,
    )


def cropped(grounds: UInt8[Tensor, "b r r 3"], side_px: int, crops: Crops) -> Float[Tensor, "b 3 s s"]:
    """The squares as tiles of side_px, RGB from 0 to 1."""
    share, (x, y) = crops.side / grounds.shape[1], crops.middle.T / (grounds.shape[1] / 2)
    cos, sin = share * np.cos(crops.turn_rad), share * np.sin(crops.turn_rad)
    affine = np.stack([cos * crops.mirror, -sin, x, sin * crops.mirror, cos, y], axis=1).reshape(-1, 2, 3)
    images, device = grounds.permute(0, 3, 1, 2).float() / 255, grounds.device
    size = [len(images), 3, side_px, side_px]
    grid = F.affine_grid(torch.from_numpy(affine).float().to(device), size, align_corners=False)
    tiles = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return blurred(tiles, torch.from_numpy(crops.blur).float().to(device))


def blurred(images: Float[Tensor, "b c h w"], deviation_px: Float[Tensor, " b"]) -> Float[Tensor, "b c h w"]:
    """Each through a Gaussian of its own, cut at three of the widest's deviations; 0 leaves it as it is."""
    b, c, h, w = images.shape
    reach = math.ceil(3 * float(deviation_px.max()))
    if not reach:
        return images
    offsets = torch.arange(-reach, reach + 1, device=images.device)
    kernels = torch.exp(-((offsets / deviation_px.clamp(min=1e-3)[:, None]) ** 2) / 2)
    kernels = (kernels / kernels.sum(dim=1, keepdim=True)).repeat_interleave(c, dim=0)
    rows = F.pad(images.reshape(1, b * c, h, w), (reach,) * 4, mode="replicate")
    across = F.conv2d(rows, kernels[:, None, None, :], groups=b * c)
    return F.conv2d(across, kernels[:, None, :, None], groups=b * c).view(b, c, h, w)


def two_views(
    images: UInt8[Tensor, "c ..."], places: Int64[np.ndarray, " c"], config: PretrainConfig, step: int
) -> TwoViews:
    """Of the images that have these places in the batch of a step.

    A pure function of the seed, the step and the places.
    """
    first, second = (
        _view(images, places, config, np.random.default_rng([config.seed, 1, step, which]))
        for which in (0, 1)
    )
    b = len(places)
    return TwoViews(torch.zeros(b), torch.arange(b), torch.ones(b, 1), (first, second))


def _view(
    images: UInt8[Tensor, "c ..."],
    places: Int64[np.ndarray, " c"],
    config: PretrainConfig,
    rng: np.random.Generator,
) -> Tensor:
    drawn: Drawn = draw(config.batch, config.model, _augmentation(config), rng).of(places)
    if config.view == "street":
        return vary_street(images, config.model, drawn)[0]
    tiles = cropped(images, config.model.satellite_px, draw_crops(config.batch, config, rng).of(places))
    return coloured(tiles, config.model, drawn.satellite_style, drawn.satellite_tint)


def _augmentation(config: PretrainConfig) -> Augmentation:
    return Augmentation(
        shift_m=0.0,
        tilt_deg=config.tilt_deg,
        layouts=(1 - config.window, config.window, 0.0, 0.0),
        colour=config.colour,
        style=config.style,
    )
