"""A street view and a tile on the same axis of azimuths, so that a person sees why they match."""

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from geoloc.places import wrapped_deg
from geoloc.polar import polar_form
from geoloc.spec import EncoderSpec
from geoloc.street_view import StreetView
from geoloc.tensors import street_canvas

UPSCALE = 3
DIMMED = 0.35


@dataclass(frozen=True)
class Strips:
    """Pictures whose columns are azimuths, north in the middle, east to the right."""

    street: UInt8[np.ndarray, "h w 3"]
    tile: UInt8[np.ndarray, "h w 3"]


def strips(
    view: StreetView, heading_deg: float | None, tile: UInt8[np.ndarray, "s s 3"], spec: EncoderSpec
) -> Strips:
    """The view at a heading against the grid's north, and the tile in polar form, dimmed where not seen."""
    h, w = spec.street_hw
    fine = dataclasses.replace(spec, street_hw=(h * UPSCALE, w * UPSCALE))
    turned = dataclasses.replace(view, heading_deg=None if heading_deg is None else wrapped_deg(heading_deg))
    canvas = street_canvas(turned, fine)
    seen = canvas[3:].amax(dim=1, keepdim=True)
    around = polar_form(torch.from_numpy(tile.copy()).permute(2, 0, 1)[None].float() / 255, fine.street_hw)[0]
    return Strips(_picture(canvas[:3]), _picture(around * (DIMMED + (1 - DIMMED) * seen)))


def _picture(rgb: Float32[Tensor, "3 h w"]) -> UInt8[np.ndarray, "h w 3"]:
    return np.ascontiguousarray((rgb * 255).round().byte().permute(1, 2, 0).numpy())
