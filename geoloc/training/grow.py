"""A small model's knowledge in a larger one, before the first step (Net2Net, Chen et al. 2016)."""

import torch
from torch import Tensor

from geoloc.encoder import TwinEncoder
from geoloc.errors import ModelError
from geoloc.spec import EncoderSpec


def grown(small: TwinEncoder, spec: EncoderSpec) -> TwinEncoder:
    """An encoder of a spec with larger widths and depths that answers as `small` does (their section 2).

    Old weights are a corner of the new. What they compute hears nothing of the new channels, which listen at
    random (torch's seed) and are heard once the weights that read them leave 0; unlike copies of old channels
    they need no noise to be told apart. A new block adds nothing until its last norm's weight leaves 0.
    Raises ModelError where the larger backbone has no room for the smaller, or answers otherwise.
    """
    large, old = TwinEncoder(spec), small.state_dict()
    new = large.state_dict()
    try:
        large.load_state_dict(new | {name: _corner(value, new[name]) for name, value in old.items()})
    except (KeyError, ValueError) as cause:
        raise ModelError(
            f"A {spec.backbone} of widths {small.spec.widths or 'as they are'} and depths "
            f"{small.spec.depths or 'as they are'} is no part of one of {spec.widths or 'as they are'} and "
            f"{spec.depths or 'as they are'}: {cause}. None may shrink."
        ) from cause
    large.eval()
    street = torch.randn(2, 4, *spec.street_hw)
    tiles = torch.randn(2, 3, spec.satellite_px, spec.satellite_px)
    with torch.no_grad():
        same = torch.allclose(large.street_bins(street), small.street_bins(street), rtol=1e-3, atol=1e-3)
        same &= torch.allclose(large.satellite_bins(tiles), small.satellite_bins(tiles), rtol=1e-3, atol=1e-3)
    if not same:
        raise ModelError(
            f"{spec.backbone} does not grow to widths {spec.widths} without answering otherwise; "
            "leave the width of its first stage as it is."
        )
    return large


def _corner(old: Tensor, new: Tensor) -> Tensor:
    """`new` with `old` where its first indices are, and 0 where old outputs would read new inputs."""
    if old.ndim != new.ndim or any(a > b for a, b in zip(old.shape, new.shape, strict=True)):
        raise ValueError(f"{tuple(old.shape)} does not fit into {tuple(new.shape)}")
    new = new.clone()
    if new.ndim > 1:
        new[: old.shape[0], old.shape[1] :] = 0
    new[tuple(slice(side) for side in old.shape)] = old
    return new
