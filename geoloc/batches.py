"""Pairs to batches of tensors, with what training varies between epochs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from geoloc.errors import GeolocError
from geoloc.pairs import Pair, read_pair_street, read_pair_tile
from geoloc.spec import EncoderSpec
from geoloc.tensors import street_tensor, tile_tensor


@dataclass(frozen=True)
class Augmentation:
    """What is varied on a training pair, drawn for every pair and epoch.

    shift_m: how far a tile's centre may move from its place, east and north. heading_noise_deg:
    standard deviation of the heading's error. narrow: the share of street views cut to a window of
    narrow_deg. colour: strength of the brightness, contrast and tint jitter on either view.
    """

    shift_m: float = 0.0
    heading_noise_deg: float = 0.0
    narrow: float = 0.0
    narrow_deg: tuple[float, float] = (60.0, 180.0)
    colour: float = 0.0


class PairDataset(Dataset[tuple[Tensor, Tensor]]):
    """Street and satellite tensors by index; with an augmentation, a pure function of the seed."""

    def __init__(
        self,
        pairs: Sequence[Pair],
        spec: EncoderSpec,
        augmentation: Augmentation | None = None,
        seed: int = 0,
    ) -> None:
        self.pairs, self.spec, self.augmentation, self.seed = pairs, spec, augmentation, seed

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Float32[Tensor, "4 h w"], Float32[Tensor, "3 s s"]]:
        pair = self.pairs[index]
        if self.augmentation is None:
            street = street_tensor(read_pair_street(pair), self.spec)
            return street, tile_tensor(read_pair_tile(pair, self.spec), self.spec)
        rng = np.random.default_rng([self.seed, index])
        return augmented(pair, self.spec, self.augmentation, rng)


def augmented(
    pair: Pair, spec: EncoderSpec, how: Augmentation, rng: np.random.Generator
) -> tuple[Float32[Tensor, "4 h w"], Float32[Tensor, "3 s s"]]:
    """One pair, varied."""
    east_m, north_m = rng.uniform(-1, 1, 2) * how.shift_m * rng.uniform()
    turn_deg = rng.normal() * how.heading_noise_deg
    street = street_tensor(read_pair_street(pair), spec)
    street = torch.roll(street, round(turn_deg / 360 * spec.street_hw[1]), dims=2)
    if rng.uniform() < how.narrow:
        street = narrowed(street, rng.uniform(*how.narrow_deg), rng.uniform(0, 360))
    tile = tile_tensor(_tinted(read_pair_tile(pair, spec, (east_m, north_m)), how.colour, rng), spec)
    tint = torch.from_numpy(rng.normal(1, how.colour / 2, (2, 3, 1, 1)).astype(np.float32))
    return torch.cat([street[:3] * tint[0] + (tint[1] - 1) * street[3:], street[3:]]), tile


def narrowed(
    street: Float32[Tensor, "4 h w"], hfov_deg: float, centre_deg: float
) -> Float32[Tensor, "4 h w"]:
    """The same canvas with all but a window of azimuths blanked; centre_deg counts from its middle."""
    columns = street.shape[2]
    azimuth = (torch.arange(columns, dtype=torch.float64) + 0.5) / columns * 360 - 180
    across = torch.remainder(azimuth - centre_deg + 180, 360) - 180
    return street * (across.abs() <= hfov_deg / 2).float()


def _tinted(
    rgb: UInt8[np.ndarray, "h w 3"], strength: float, rng: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
    gain, lift = rng.normal(1, strength / 2, 3), rng.normal(0, strength * 64, 3)
    table = np.clip(np.arange(256)[:, None] * gain + lift, 0, 255).astype(np.uint8)
    return np.stack([table[rgb[..., band], band] for band in range(3)], axis=-1)


def batches(
    dataset: PairDataset, order: Sequence[Sequence[int]], workers: int
) -> Iterator[tuple[Float32[Tensor, "b 4 h w"], Float32[Tensor, "b 3 s s"]]]:
    """The dataset's pairs in the given batches, read ahead by worker processes."""
    loader = DataLoader(
        dataset,
        batch_sampler=list(order),  # type: ignore[arg-type]
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
    )
    try:
        yield from loader
    except GeolocError as cause:  # a worker's error arrives with its traceback in the message
        *_, last = str(cause).strip().splitlines()
        raise type(cause)(last.removeprefix(f"{type(cause).__module__}.{type(cause).__name__}: ")) from None
