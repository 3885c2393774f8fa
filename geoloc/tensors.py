"""Step 2: pixels to tensors, by the spec that travels with the weights."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float32, Float64, UInt8
from PIL import Image
from torch import Tensor

from geoloc.spec import EncoderSpec
from geoloc.street_view import StreetView


def street_tensor(view: StreetView, spec: EncoderSpec) -> Float32[Tensor, "4 h w"]:
    """A street view on the spec's canvas, its RGB normalised; see `street_canvas`.

    Of a street_layout without a canvas: the image, or the middle half of its height, squashed to its size.
    """
    if spec.street_layout != "canvas":
        rgb = view.rgb
        if spec.street_layout == "centre":
            rgb = rgb[len(rgb) // 4 : len(rgb) - len(rgb) // 4]
        squashed = normalise(_unit(resized(rgb, spec.street_hw, spec)), spec)
        return torch.cat([squashed, torch.ones(1, *spec.street_hw)])
    canvas = street_canvas(view, spec)
    return torch.cat([normalise(canvas[:3], spec) * canvas[3:], canvas[3:]])


def street_canvas(view: StreetView, spec: EncoderSpec) -> Float32[Tensor, "4 h w"]:
    """A street view on the spec's canvas: RGB from 0 to 1, and a mask of what the view shows.

    The canvas is equirectangular and 360 degrees wide, azimuth growing to the right, its centre
    looking north; a view without a heading lies as if it looked north. Rows run from
    street_elevation_deg's top to its bottom. Pixels outside the view are 0 in all four channels.
    """
    down, across = _reduction(view, spec)
    pixels = np.asarray(Image.fromarray(view.rgb).reduce((across, down)))
    h, w = pixels.shape[:2]
    x, y, seen = _where_in_view(view, spec)
    x_px, y_px = x * view.rgb.shape[1] / across - 0.5, y * view.rgb.shape[0] / down - 0.5
    ring = view.is_panorama and view.hfov_deg >= 360
    border = "wrap" if ring else "edge"
    padded = np.pad(pixels, ((0, 0), (1, 1), (0, 0)), mode=border)  # type: ignore[call-overload]
    image = torch.from_numpy(np.ascontiguousarray(padded)).permute(2, 0, 1)[None].float() / 255
    grid = torch.stack([(x_px + 1.5) / (w + 2) * 2 - 1, (y_px + 0.5) / h * 2 - 1], dim=-1)[None]
    sampled = F.grid_sample(image, grid.float(), padding_mode="border", align_corners=False)[0]
    return torch.cat([sampled * seen, seen[None]])


def tile_tensor(rgb: UInt8[np.ndarray, "h w 3"], spec: EncoderSpec) -> Float32[Tensor, "3 s s"]:
    """A north-up tile of the spec's footprint: resized and normalised."""
    return ground_tensor(resized(rgb, (spec.satellite_px, spec.satellite_px), spec), spec)


def ground_tensor(rgb: UInt8[np.ndarray, "h w 3"], spec: EncoderSpec) -> Float32[Tensor, "3 h w"]:
    """Ground of any size at the resolution of tiles, normalised; a tile cut from it is its `tile_tensor`."""
    return normalise(_unit(rgb), spec)


def resized(
    rgb: UInt8[np.ndarray, "h w 3"], hw: tuple[int, int], spec: EncoderSpec
) -> UInt8[np.ndarray, "a b 3"]:
    """The image in another size, by the spec's interpolation."""
    if rgb.shape[:2] == hw:
        return rgb
    if spec.interpolation == "bilinear":
        return np.asarray(Image.fromarray(rgb).resize(hw[::-1], Image.Resampling.BILINEAR))
    image = torch.from_numpy(rgb.copy()).permute(2, 0, 1)[None].float()
    plain = F.interpolate(image, hw, mode="bilinear", align_corners=False, antialias=False)
    return np.asarray(plain[0].permute(1, 2, 0).round().byte().numpy())


def _unit(rgb: UInt8[np.ndarray, "h w 3"]) -> Float32[Tensor, "3 h w"]:
    return torch.from_numpy(rgb.copy()).permute(2, 0, 1).float() / 255


def normalise(rgb: Float32[Tensor, "*b 3 h w"], spec: EncoderSpec) -> Float32[Tensor, "*b 3 h w"]:
    """RGB from 0 to 1, by the mean and the deviation that the backbone is used to."""
    mean = torch.tensor(spec.mean, device=rgb.device)[:, None, None]
    std = torch.tensor(spec.std, device=rgb.device)[:, None, None]
    return (rgb - mean) / std


def azimuths_deg(spec: EncoderSpec) -> Float64[Tensor, " w"]:
    """Of the canvas's columns, clockwise from its middle."""
    columns = spec.street_hw[1]
    return (torch.arange(columns, dtype=torch.float64) + 0.5) / columns * 360 - 180


def elevations_deg(spec: EncoderSpec) -> Float64[Tensor, " h"]:
    """Of the canvas's rows, above the horizon."""
    rows, (low, high) = spec.street_hw[0], spec.street_elevation_deg
    return high - (torch.arange(rows, dtype=torch.float64) + 0.5) / rows * (high - low)


def _reduction(view: StreetView, spec: EncoderSpec) -> tuple[int, int]:
    """How many rows and columns of the view to average into one, so that the canvas does not alias."""
    h, w = view.rgb.shape[:2]
    view_px_per_deg = w / view.hfov_deg if view.is_panorama else math.radians(_focal_px(view, w))
    low, high = spec.street_elevation_deg
    across = int(view_px_per_deg / (spec.street_hw[1] / 360))
    down = int(view_px_per_deg / (spec.street_hw[0] / (high - low)))
    return max(1, min(down, h)), max(1, min(across, w))


def _focal_px(view: StreetView, w: int) -> float:
    return w / 2 / math.tan(math.radians(view.hfov_deg) / 2)


def _where_in_view(
    view: StreetView, spec: EncoderSpec
) -> tuple[Float64[Tensor, "h w"], Float64[Tensor, "h w"], Float32[Tensor, "h w"]]:
    """For every canvas pixel its x and y in the view, as fractions of width and height, and if it is in."""
    full_h, full_w = view.rgb.shape[:2]
    across_deg = torch.remainder(azimuths_deg(spec) - (view.heading_deg or 0.0) + 180, 360) - 180
    up_deg, across_deg = torch.meshgrid(elevations_deg(spec), across_deg, indexing="ij")
    if view.is_panorama:
        deg_per_px = view.hfov_deg / full_w
        x = across_deg / view.hfov_deg
        y = (view.elevation_deg - up_deg) / (deg_per_px * full_h)
        ahead = torch.ones_like(x, dtype=torch.bool)
    else:
        up, across = torch.deg2rad(up_deg), torch.deg2rad(across_deg)
        pitch = math.radians(view.elevation_deg)
        forward, right, top = up.cos() * across.cos(), up.cos() * across.sin(), up.sin()
        depth = forward * math.cos(pitch) + top * math.sin(pitch)
        rise = top * math.cos(pitch) - forward * math.sin(pitch)
        ahead = depth > 1e-6
        focal = _focal_px(view, full_w)
        x = torch.where(ahead, right / depth * focal / full_w, 2.0)
        y = torch.where(ahead, -rise / depth * focal / full_h, 2.0)
    seen = ahead & (x.abs() <= 0.5) & (y.abs() <= 0.5)
    return x + 0.5, y + 0.5, seen.float()
