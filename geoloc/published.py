"""Published weights as geoloc models."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy._core.multiarray import scalar
from torch import Tensor

from geoloc.encoder import TwinEncoder, pooled_channels
from geoloc.errors import ModelError
from geoloc.spec import EncoderSpec

NUMPY_SCALARS: list[Any] = [
    scalar,
    (scalar, "numpy.core.multiarray.scalar"),
    np.dtype,
    np.dtypes.Float64DType,
]
"""What TransGeo's checkpoints hold beside tensors, their best accuracy so far; data, no code."""

Dataset = Literal["cvusa", "cvact", "vigor"]
MAX_BYTES = 8 * 2**30
SAMPLE4GEO_BACKBONE = "convnext_base.fb_in22k_ft_in1k_384"
TRANSGEO_BACKBONE = "deit_small_distilled_patch16_224"
FOOTPRINT_M = {"cvusa": 174.0, "cvact": 146.0, "vigor": 71.0}
"""Of the datasets' tiles, at their middle latitude: zoom 19, 750 px, 39 degrees; zoom 20, 1,200 px, 35.3
degrees; zoom 20, 640 px, 42 degrees."""


@dataclass(frozen=True)
class Imported:
    """An encoder with published weights, and the card that says where they are from."""

    encoder: TwinEncoder
    card: str


def import_sample4geo(file: Path, dataset: Dataset, backbone: str = SAMPLE4GEO_BACKBONE) -> Imported:
    """Sample4Geo (Deuser et al. 2023): one pooled timm backbone for both views, saved as a state dict.

    Tiles are squashed to 384 x 384 px, panoramas to 140 x 768 (VIGOR's to 384 x 768), by four pixels
    without averaging, as its OpenCV does. Raises ModelError for a file that is no such checkpoint.
    """
    state = read_checkpoint(file)
    temperature = state.pop("logit_scale", None)
    weights = {
        f"{view}.backbone.{name.removeprefix('model.')}": value
        for view in ("street", "satellite")
        for name, value in state.items()
    }
    spec = EncoderSpec(
        backbone=backbone,
        stage=0,
        shared=True,
        azimuth_bins=1,
        channels=pooled_channels(backbone),
        street_hw=(384, 768) if dataset == "vigor" else (140, 768),
        street_elevation_deg=(-90.0, 90.0),
        satellite_px=384,
        polar=False,
        footprint_m=FOOTPRINT_M[dataset],
        interpolation="bilinear-plain",
        head="pooled",
        street_layout="whole",
    )
    encoder = _filled(spec, weights, file)
    scale = (
        f"{float(temperature):.4f}"
        if temperature is not None and temperature.numel() == 1
        else "not in the file"
    )
    card = (
        f"# Sample4Geo for {dataset}\n\n"
        f"Imported from `{file.name}`: the weights of {backbone} as Sample4Geo published them "
        "(Deuser, Habel, Oswald: Sample4Geo: Hard Negative Sampling For Cross-View Geo-Localisation, ICCV "
        f"2023), with its sizes and its resizing. logit_scale: {scale}.\n\n"
        "It knows neither headings nor how sure it is. The licence is that of the weights' authors.\n"
    )
    return Imported(encoder, card)


def import_transgeo(file: Path, dataset: Dataset, backbone: str = TRANSGEO_BACKBONE) -> Imported:
    """TransGeo (Zhu et al. 2022), first stage: two distilled transformers whose two classifiers' mean embeds.

    Its second stage crops tiles by attention maps that only its own code makes; those weights have another
    shape and are refused. Images are squashed, averaging, to 112 x 616 and 256 x 256 px (VIGOR 320 x 640
    and 320 x 320); of CVACT's panoramas the middle half. Raises ModelError for a file that is no such
    checkpoint.
    """
    state = read_checkpoint(file)
    views = {"query_net": "street.backbone", "reference_net": "satellite.backbone"}
    weights = {
        f"{views.get(net, net)}.{rest}": value
        for name, value in state.items()
        for net, _, rest in [name.partition(".")]
    }
    outputs = weights.get("street.backbone.head.bias")
    if outputs is None or outputs.ndim != 1:
        raise ModelError(f"{file} lacks query_net.head.bias; it is no checkpoint of TransGeo's.")
    spec = EncoderSpec(
        backbone=backbone,
        stage=0,
        shared=False,
        azimuth_bins=1,
        channels=len(outputs),
        street_hw=(320, 640) if dataset == "vigor" else (112, 616),
        street_elevation_deg=(-90.0, 90.0),
        satellite_px=320 if dataset == "vigor" else 256,
        polar=False,
        footprint_m=FOOTPRINT_M[dataset],
        head="pooled",
        street_layout="centre" if dataset == "cvact" else "whole",
    )
    card = (
        f"# TransGeo for {dataset}, first stage\n\n"
        f"Imported from `{file.name}` (Zhu, Shah, Chen: TransGeo: Transformer Is All You Need for Cross-view "
        "Image Geo-localization, CVPR 2022), with its sizes and its resizing.\n\n"
        "It knows neither headings nor how sure it is. The licence is that of the weights' authors.\n"
    )
    return Imported(_filled(spec, weights, file), card)


def read_checkpoint(file: Path) -> dict[str, Tensor]:
    """The tensors of a `torch.save`d state dict by name; nothing in the file is executed.

    It may lie under "state_dict" beside a training's other state. Names lose DataParallel's `module.`.
    Raises ModelError for what is no such file.
    """
    try:
        if not file.is_file():
            raise ModelError(f"{file} cannot be read: it is no file.")
        if file.stat().st_size > MAX_BYTES:
            raise ModelError(f"{file} is over {MAX_BYTES >> 30} GiB; that is no checkpoint of one model.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is wrong with a file is said below
            with torch.serialization.safe_globals(NUMPY_SCALARS):
                raw: Any = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as cause:
        raise ModelError(f"{file} cannot be read: {cause.strerror or cause}.") from cause
    except ModelError:
        raise
    except Exception as cause:  # torch raises what it likes for a foreign or hostile file
        raise ModelError(
            f"{file} is no state dict of tensors that torch.save wrote; take it again from its source."
        ) from cause
    if isinstance(raw, dict) and isinstance(raw.get("state_dict"), dict):
        raw = raw["state_dict"]
    if not isinstance(raw, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) and _plain(value) for name, value in raw.items()
    ):
        raise ModelError(f"{file} holds other things than tensors by name; give the weights alone.")
    state = {name.removeprefix("module."): value for name, value in raw.items()}
    if not all(bool(value.float().isfinite().all()) for value in state.values()):
        raise ModelError(f"{file} holds infinities or no numbers; take it again from its source.")
    return state


def _plain(value: Tensor) -> bool:
    """Whether a tensor is dense, of real numbers, and has all of them in the file."""
    return (
        value.layout is torch.strided
        and value.device.type == "cpu"
        and not (value.is_quantized or value.is_complex())
        and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    )


def _filled(spec: EncoderSpec, weights: dict[str, Tensor], file: Path) -> TwinEncoder:
    encoder = TwinEncoder(spec)
    wanted = {name: value.shape for name, value in encoder.state_dict().items()}
    given = {name: value.shape for name, value in weights.items()}
    for what, names in (
        ("lacks", set(wanted) - set(given)),
        ("has besides", set(given) - set(wanted)),
        ("has another shape of", {name for name in set(given) & set(wanted) if given[name] != wanted[name]}),
    ):
        if names:
            own = sorted({name.partition(".backbone.")[2] for name in names})
            raise ModelError(
                f"{file} does not fit {spec.backbone}: it {what} {', '.join(own[:5])}"
                f"{' and more' if len(own) > 5 else ''}; name its --backbone."
            )
    encoder.load_state_dict({name: value.float() for name, value in weights.items()})
    return encoder.eval()
