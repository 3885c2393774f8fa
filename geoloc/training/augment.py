"""What training varies on a batch of pairs: place, heading, tilt, field of view, colours."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from geoloc.encoder import seen_bins
from geoloc.spec import EncoderSpec
from geoloc.tensors import azimuths_deg, elevations_deg, normalise
from geoloc.training.style import Style, draw_style, restyle

LAYOUTS = ((1, (360.0, 360.0)), (1, (110.0, 240.0)), (2, (75.0, 105.0)), (3, (55.0, 75.0)))
"""Windows that a panorama is cut to: how many, spread evenly, and between how many degrees wide each."""

PARTS = (2, 4)
"""Of a panorama that is left whole, a half and a quarter are asked to be told apart as well."""


@dataclass(frozen=True)
class Augmentation:
    """What is varied on a training pair, drawn for every pair and step.

    shift_m: how far the tile's centre may move from its place, east and north; 3 is better than 6 on maps of
    tiles 8 m apart (docs/study.md). tilt_deg: up to how far the camera leans, to any side, seldom so far.
    layouts: the shares of LAYOUTS: panoramas left whole, cut to one wide window, to two of about 90 degrees,
    to three of about 65; every window is a query of its own, so one pass of an encoder with azimuth bins
    answers several. photo: the share of the narrow windows whose top and bottom are cut as a lens would, at
    a half height of photo_half_deg. colour: strength of the jitter of brightness, contrast and tint on
    either view. style: of what `Style` does to each view on its own: tones, colours, season, light,
    sharpness, noise, a hole, JPEG. turn_deg: how far a canvas may be turned from north, either way: by
    default to any heading, which an embedding of one bin learns and one of many bins searches; 0 leaves
    north in the middle, as the field trains what it scores with headings known. rotate, mirror: the shares
    of pairs whose tile and canvas are rotated by one to three quarters, and mirrored east to west, both
    alike (Sample4Geo: 0.75 and 0.5).
    """

    shift_m: float = 3.0
    tilt_deg: float = 10.0
    layouts: tuple[float, float, float, float] = (0.3, 0.15, 0.275, 0.275)
    photo: float = 0.4
    photo_half_deg: tuple[float, float] = (20.0, 45.0)
    colour: float = 0.3
    style: float = 0.0
    turn_deg: float = 180.0
    rotate: float = 0.0
    mirror: float = 0.0


@dataclass(frozen=True)
class Queries:
    """What a batch of b street views is asked: query i is view owner[i] seen through windows[i], azimuth bins
    that the view shows.

    turn: by how many bins each canvas must be rolled to lie as its tile does.
    """

    turn: Float[Tensor, " b"]
    owner: Int64[Tensor, " q"]
    windows: Float[Tensor, "q a"]


@dataclass(frozen=True)
class Varied(Queries):
    """A batch ready for the encoders."""

    street: Float[Tensor, "b 4 h w"]
    satellite: Float[Tensor, "b 3 s s"]

    @property
    def images(self) -> tuple[Tensor, Tensor]:
        """What the encoders take."""
        return self.street, self.satellite


@dataclass(frozen=True)
class Drawn:
    """What chance decides for a batch, before a pixel is touched: any part of it can be varied on its own.

    Every array's rows are the batch's. quarters: by how many both views are rotated clockwise; mirror: -1
    where both are mirrored first, else 1. Windows are those that a canvas is cut to, as many as counts
    says; parts: the first bins of the half and of the quarter that whole panoramas are asked for as well.
    """

    turn: Float[np.ndarray, " b"]
    lean_rad: Float[np.ndarray, " b"]
    towards_rad: Float[np.ndarray, " b"]
    whole: Bool[np.ndarray, " b"]
    counts: Int64[np.ndarray, " b"]
    hfov_deg: Float[np.ndarray, "b n"]
    centre_deg: Float[np.ndarray, "b n"]
    half_height_deg: Float[np.ndarray, "b n"]
    pitch_deg: Float[np.ndarray, "b n"]
    street_tint: Float[np.ndarray, "b 2 3"]
    satellite_tint: Float[np.ndarray, "b 2 3"]
    off_px: Float[np.ndarray, "b 2"]
    quarters: Int64[np.ndarray, " b"]
    mirror: Float[np.ndarray, " b"]
    parts: tuple[int, ...]
    street_style: Style | None
    satellite_style: Style | None

    def of(self, rows: Int64[np.ndarray, " c"]) -> "Drawn":
        """Of some of the batch."""
        parts: dict[str, Any] = {
            name: value.of(rows) if isinstance(value, Style) else value[rows]
            for name, value in vars(self).items()
            if isinstance(value, Style | np.ndarray)
        }
        return replace(self, **parts)


def draw(b: int, spec: EncoderSpec, how: Augmentation, rng: np.random.Generator) -> Drawn:
    """All that chance decides for a batch of b pairs."""
    bins = spec.azimuth_bins
    turn = rng.uniform(-1, 1, b) * how.turn_deg * bins / 360
    lean_rad = np.radians(rng.uniform(0, 1, b) ** 2 * how.tilt_deg)
    towards_rad = rng.uniform(-math.pi, math.pi, b)
    layout = rng.choice(len(LAYOUTS), b, p=np.array(how.layouts) / sum(how.layouts))
    counts = np.array([count if bins > 1 else 1 for count, _ in LAYOUTS])[layout]
    low, high = np.array([widths for _, widths in LAYOUTS])[layout].T
    start = rng.uniform(0, 360, b)
    windows = []
    for number in range(counts.max(initial=1)):
        hfov = rng.uniform(low, high)
        centre = start + number * 360 / counts + rng.uniform(-10, 10, b)
        half = np.where(
            (rng.uniform(size=b) < how.photo) & (layout >= 2), rng.uniform(*how.photo_half_deg, b), 90
        )
        windows.append((hfov, centre, half, rng.normal(0, 4, b)))
    hfov_deg, centre_deg, half_height_deg, pitch_deg = np.array(windows).transpose(1, 2, 0)
    return Drawn(
        turn=turn,
        lean_rad=lean_rad,
        towards_rad=towards_rad,
        whole=layout == 0,
        counts=counts,
        hfov_deg=hfov_deg,
        centre_deg=centre_deg,
        half_height_deg=half_height_deg,
        pitch_deg=pitch_deg,
        parts=tuple(int(rng.integers(bins)) for _ in PARTS) if bins >= max(PARTS) else (),
        street_tint=_tint(b, how.colour, 0.5, rng),
        off_px=rng.uniform(-1, 1, (b, 2)) * how.shift_m * spec.satellite_px / spec.footprint_m,
        satellite_tint=_tint(b, how.colour, 1.0, rng),
        street_style=draw_style(b, how.style, rng) if how.style else None,
        satellite_style=draw_style(b, how.style, rng) if how.style else None,
        quarters=np.where(rng.uniform(size=b) < how.rotate, rng.integers(1, 4, b), 0),
        mirror=np.where(rng.uniform(size=b) < how.mirror, -1.0, 1.0),
    )


def _tint(b: int, strength: float, lift: float, rng: np.random.Generator) -> Float[np.ndarray, "b 2 3"]:
    """By what each channel is multiplied, and what is added to it."""
    gain = rng.normal(1, strength / 2, (b, 3))
    return np.stack([gain, rng.normal(0, lift * strength, (b, 3))], axis=1)


def vary(
    canvases: UInt8[Tensor, "b 4 t w"], tiles: UInt8[Tensor, "b r r 3"], spec: EncoderSpec, drawn: Drawn
) -> Varied:
    """Vary decoded pairs (see `decode_pairs`) as drawn, on the device they are on.

    Canvases are taller, tiles wider than the spec's.
    """
    street, owners, windows = vary_street(canvases, spec, drawn)
    return Varied(
        street=street,
        satellite=vary_tiles(tiles, spec, drawn),
        turn=torch.from_numpy(-drawn.turn).float().to(street.device),
        owner=owners,
        windows=windows,
    )


def vary_tiles(tiles: UInt8[Tensor, "b r r 3"], spec: EncoderSpec, drawn: Drawn) -> Float[Tensor, "b 3 s s"]:
    """The tiles of `vary` alone."""
    moved = _rotated(_moved(tiles, spec, drawn.off_px), drawn).permute(0, 3, 1, 2) / 255
    return coloured(moved, spec, drawn.satellite_style, drawn.satellite_tint)


def vary_street(
    canvases: UInt8[Tensor, "b 4 t w"], spec: EncoderSpec, drawn: Drawn
) -> tuple[Float[Tensor, "b 4 h w"], Int64[Tensor, " q"], Float[Tensor, "q a"]]:
    """The canvases of `vary`, and the owners and windows of the queries in them.

    A view that is narrow itself is left as it is where the windows would leave nothing of it.
    """
    street = _tilted(canvases, spec, drawn)
    masks, owners, windows = _cut(spec, drawn, street.device)
    seen = street[:, 3:] * masks[:, None]
    seen = torch.where(seen.flatten(1).any(dim=1)[:, None, None, None], seen, street[:, 3:])
    shown = seen_bins(seen[:, 0], spec.azimuth_bins)[owners]
    windows = torch.where((windows * shown).any(dim=1, keepdim=True), windows * shown, shown)
    colours = coloured(street[:, :3], spec, drawn.street_style, drawn.street_tint)
    return torch.cat([colours * seen, seen], dim=1), owners, windows


def coloured(
    images: Float[Tensor, "b 3 h w"], spec: EncoderSpec, style: Style | None, tint: Float[np.ndarray, "b 2 3"]
) -> Float[Tensor, "b 3 h w"]:
    """RGB from 0 to 1 in its style, normalised and tinted."""
    styled = images if style is None else restyle(images, style)
    return _tinted(normalise(styled, spec), tint)


def _tilted(canvases: UInt8[Tensor, "b 4 t w"], spec: EncoderSpec, drawn: Drawn) -> Float[Tensor, "b 4 h w"]:
    """The canvases as a camera sees them that is turned and leans towards any azimuth.

    Of a place that is mirrored and rotated: azimuths are those of the tile beside it.
    """
    (b, _, tall, w), device = canvases.shape, canvases.device
    h = spec.street_hw[0]
    turn_deg = drawn.turn * 360 / spec.azimuth_bins + drawn.quarters * 90
    lean, towards, turned, mirror = (
        torch.from_numpy(value).float().to(device)[:, None, None]
        for value in (drawn.lean_rad, drawn.towards_rad, np.radians(turn_deg), drawn.mirror)
    )
    up = torch.deg2rad(elevations_deg(spec)).float().to(device)[None, :, None]
    across = torch.deg2rad(azimuths_deg(spec)).float().to(device)[None, None, :] - towards
    ahead, side, top = up.cos() * across.cos(), up.cos() * across.sin(), up.sin().expand(1, h, w)
    source_up = torch.asin((top * lean.cos() - ahead * lean.sin()).clamp(-1, 1))
    source_across = torch.atan2(side.expand(b, h, w), ahead * lean.cos() + top * lean.sin())
    x_px = torch.remainder(mirror * (source_across + towards - turned) / (2 * math.pi) + 0.5, 1) * w
    rows_per_rad = h / math.radians(spec.street_elevation_deg[1] - spec.street_elevation_deg[0])
    middle = math.radians(sum(spec.street_elevation_deg) / 2)
    y = (middle - source_up) * rows_per_rad / tall * 2
    images = canvases.float() / 255
    ring = torch.cat([images[..., -1:], images, images[..., :1]], dim=3)
    grid = torch.stack([(x_px + 1) / (w + 2) * 2 - 1, y], dim=3)
    street = F.grid_sample(ring, grid, align_corners=False)
    seen = (street[:, 3:] > 0.5).float()
    return torch.cat([street[:, :3] / street[:, 3:].clamp(min=0.5), seen], dim=1)


def _cut(
    spec: EncoderSpec, drawn: Drawn, device: torch.device
) -> tuple[Float[Tensor, "b h w"], Int64[Tensor, " q"], Float[Tensor, "q a"]]:
    """What is left of every canvas, and the queries in it: whose they are, and their azimuth bins."""
    b, bins = len(drawn.turn), spec.azimuth_bins
    left = torch.zeros(b, *spec.street_hw, device=device)
    owners, windows = [], []
    for number in range(drawn.hfov_deg.shape[1]):
        here = torch.from_numpy(np.flatnonzero(number < drawn.counts)).to(device)
        window = (drawn.hfov_deg, drawn.centre_deg, drawn.half_height_deg, drawn.pitch_deg)
        columns = (torch.from_numpy(value[:, number]).to(device)[here] for value in window)
        mask = window_mask(spec, *columns)
        left[here] = torch.maximum(left[here], mask)
        owners.append(here)
        windows.append(seen_bins(mask, bins))
    whole = torch.from_numpy(np.flatnonzero(drawn.whole)).to(device)
    for first, parts in zip(drawn.parts, PARTS, strict=False):
        part = torch.arange(bins, device=device) < bins // parts
        owners.append(whole)
        windows.append(torch.roll(part, first).float().expand(len(whole), bins))
    return left, torch.cat(owners), torch.cat(windows)


def window_mask(
    spec: EncoderSpec,
    hfov_deg: Float[Tensor, " b"],
    centre_deg: Float[Tensor, " b"],
    half_height_deg: Float[Tensor, " b"],
    pitch_deg: Float[Tensor, " b"],
) -> Float[Tensor, "b h w"]:
    """1 where a canvas is seen through a window of azimuths, its top and bottom straight as a lens's.

    half_height_deg: at its middle, above and below pitch_deg; 90 leaves whole columns.
    """
    azimuths, elevations = (at(spec).to(hfov_deg.device) for at in (azimuths_deg, elevations_deg))
    across = torch.remainder(azimuths[None] - centre_deg[:, None] + 180, 360) - 180
    rise = torch.deg2rad(elevations).tan()[None, :, None]
    flat = torch.rad2deg(torch.atan(rise / torch.deg2rad(across).cos().clamp(min=1e-3)[:, None, :]))
    inside = (flat - pitch_deg[:, None, None]).abs() <= half_height_deg[:, None, None]
    open_top = (half_height_deg >= 90)[:, None, None]
    seen = (across.abs() <= hfov_deg[:, None] / 2)[:, None, :] & (inside | open_top)
    return seen.float()


def _moved(
    tiles: UInt8[Tensor, "b r r 3"], spec: EncoderSpec, off_px: Float[np.ndarray, "b 2"]
) -> UInt8[Tensor, "b s s 3"]:
    """Tiles of the spec's size, cut off_px or less off the middle of larger ones."""
    side, spare, device = spec.satellite_px, tiles.shape[1] - spec.satellite_px, tiles.device
    corners = np.clip(np.rint(spare / 2 + off_px), 0, spare).astype(int)
    across, down = corners.T[:, :, None] + np.arange(side)
    rows, columns = (torch.from_numpy(value).to(device) for value in (down, across))
    each = torch.arange(len(tiles), device=device)[:, None, None]
    return tiles[each, rows[:, :, None], columns[:, None, :]]


def _rotated(tiles: UInt8[Tensor, "b s s 3"], drawn: Drawn) -> UInt8[Tensor, "b s s 3"]:
    """The same tiles, mirrored and then rotated in place as drawn."""
    for quarters, mirrored in np.unique(np.stack([drawn.quarters, drawn.mirror], axis=1), axis=0):
        if (quarters, mirrored) != (0, 1):
            alike = (drawn.quarters == quarters) & (drawn.mirror == mirrored)
            here = torch.from_numpy(np.flatnonzero(alike)).to(tiles.device)
            some = tiles[here].flip(2) if mirrored < 0 else tiles[here]
            tiles[here] = torch.rot90(some, -int(quarters), dims=(1, 2))
    return tiles


def _tinted(images: Float[Tensor, "b 3 h w"], tint: Float[np.ndarray, "b 2 3"]) -> Float[Tensor, "b 3 h w"]:
    gain, lift = torch.from_numpy(tint).float().to(images.device)[..., None, None].unbind(dim=1)
    return images * gain + lift
