"""What is learnt, and how fast which part of it: encoders, objective, their moving average, the optimizer."""

import copy
import math
from itertools import chain
from typing import Any

import torch
from torch import nn

from geoloc.encoder import TwinEncoder
from geoloc.errors import DataError
from geoloc.spec import WHOLE_HEADS, EncoderSpec
from geoloc.torchvision_mend import mend_torchvision
from geoloc.training.pretrain_recipe import Recipe

mend_torchvision()
import timm  # noqa: E402 (importable only after the mend)


class Learner(nn.Module):
    """The encoders, the objective and what it learns of its own, and with `ema` the encoders' moving average.

    Frozen parts do not learn, nor do the statistics of their norms move.
    """

    def __init__(self, encoder: TwinEncoder, objective: nn.Module, ema: float = 0.0) -> None:
        super().__init__()
        self.encoder = encoder
        self.objective = objective
        self.decay = ema
        self.average = copy.deepcopy(encoder).requires_grad_(False) if ema else None

    @property
    def kept(self) -> TwinEncoder:
        """The encoders to validate and to keep: the averaged ones where they are averaged."""
        return self.average or self.encoder

    def train(self, mode: bool = True) -> "Learner":
        """As torch's, but what does not learn stays in evaluation mode."""
        super().train(mode)
        for module in self.modules():
            own = list(module.parameters())
            if own and not any(one.requires_grad for one in own):
                module.eval()
        return self

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Move the average towards the encoders: by 1 - ema, in the first steps by more.

        With min(ema, (1 + step) / (10 + step)) in ema's place, as TensorFlow's, so that the
        average soon forgets where it began.
        """
        if self.average is None:
            return
        part = 1 - min(self.decay, (1 + step) / (10 + step))
        both = list(zip(_values(self.average), _values(self.encoder), strict=True))
        numbers = [(mine, theirs) for mine, theirs in both if mine.is_floating_point()]
        averages, values = ([pair[at] for pair in numbers] for at in (0, 1))
        torch._foreach_lerp_(averages, values, part)  # as torch's own averages do: few launches
        for mine, theirs in both:
            if not mine.is_floating_point():
                mine.copy_(theirs)


def _values(module: nn.Module) -> chain[torch.Tensor]:
    return chain(module.parameters(), module.buffers())


def freeze(encoder: TwinEncoder, frozen: int) -> None:
    """Take the first `frozen` stages of the backbones out of training; the stem is the first.

    -1 leaves the last stage alone in it. Raises DataError where a backbone has no more than that.
    """
    for backbone in backbones(encoder) if frozen else []:
        stages = _layers(backbone, encoder.spec, coarse=True)
        count = max(stages.values()) + 1
        if frozen < 0:
            frozen += count
        if frozen > count:
            raise DataError(f"{encoder.spec.backbone} has {count} stages here; set frozen lower.")
        for name, value in backbone.named_parameters():
            value.requires_grad_(stages[name] >= frozen)


def optimizer_of(learner: Learner, config: Recipe, layer_decay: float = 1.0) -> torch.optim.Optimizer:
    """AdamW over what learns, fused on a GPU.

    Every group's `scale` times the learning rate is its own: with a layer_decay of d, d to the power of how
    many layers lie between it and the head, by timm's count of layers (BEiT, Bao et al. 2022).
    """
    depth: dict[nn.Parameter, int] = {}
    for backbone in backbones(learner.encoder) if layer_decay < 1 else []:
        layers = _layers(backbone, config.model, coarse=False)
        below = 1 + _last(layers, backbone, config.model)
        depth |= {value: max(0, below - layers[name]) for name, value in backbone.named_parameters()}
    groups: dict[int, list[nn.Parameter]] = {}
    for value in learner.parameters():
        if value.requires_grad:
            groups.setdefault(depth.get(value, 0), []).append(value)
    return torch.optim.AdamW(
        [{"params": values, "scale": layer_decay**far} for far, values in groups.items()],
        config.learning_rate,
        weight_decay=config.weight_decay,
        fused=fused(next(learner.parameters()).device),
    )


def fused(device: torch.device) -> bool | None:
    """What AdamW is told on a device. On the CPU nothing: its fused kernel rounds otherwise."""
    return True if device.type == "cuda" else None


def set_rate(optimizer: torch.optim.Optimizer, config: Recipe, step: int, steps: int) -> float:
    """Linear warm-up, then half a cosine to 0; returns the rate of the head's layers."""
    ramp = max(1, round(config.warmup * steps))
    if step < ramp:
        share = (step + 1) / ramp
    else:
        share = (1 + math.cos(math.pi * (step - ramp) / max(1, steps - ramp))) / 2
    for group in optimizer.param_groups:
        group["lr"] = config.learning_rate * share * group["scale"]
    return config.learning_rate * share


def plain_name(name: str) -> str:
    """A tensor's name in a backbone, the same whether timm built it whole or for its feature maps."""
    return name.removeprefix("model.").replace(".", "_")


def backbones(encoder: TwinEncoder) -> list[nn.Module]:
    """Each once: a shared one is both views'."""
    views = [encoder.street] if encoder.spec.shared else [encoder.street, encoder.satellite]
    return [view.backbone for view in views]  # type: ignore[misc]


def _layers(backbone: nn.Module, spec: EncoderSpec, *, coarse: bool) -> dict[str, int]:
    """The layer of each of a backbone's parameters, from 0 at the image; coarse: by stages."""
    whole = backbone
    if spec.head not in WHOLE_HEADS:
        sizes = {"channels": spec.widths, "layers": spec.depths}
        how: dict[str, Any] = {name: value for name, value in sizes.items() if value}
        with torch.device("meta"):
            whole = timm.create_model(spec.backbone, pretrained=False, **how)
    if not hasattr(whole, "group_matcher"):
        raise DataError(f"timm does not say what {spec.backbone}'s layers are; set layer_decay=1, frozen=0.")
    found = timm.models.group_parameters(whole, whole.group_matcher(coarse=coarse), reverse=True)  # type: ignore[operator]
    by_name = {plain_name(name): layer for name, layer in found.items()}
    return {name: by_name[plain_name(name)] for name, _ in backbone.named_parameters()}


def _last(layers: dict[str, int], backbone: nn.Module, spec: EncoderSpec) -> int:
    """The layer that the head is fed by; timm keeps some that come after it."""
    if spec.head in WHOLE_HEADS:
        return max(layers.values())
    tapped = plain_name(backbone.feature_info.info[spec.stage]["module"])  # type: ignore[union-attr, index, arg-type]
    fed = (layer for name, layer in layers.items() if plain_name(name).startswith(f"{tapped}_"))
    return max(fed, default=max(layers.values()))


def checkpointed(encoder: TwinEncoder) -> None:
    """Have the backbones forget what their stages computed and compute it again in the backward pass.

    Raises DataError for a backbone that timm cannot do that with.
    """
    for backbone in backbones(encoder):
        whole = getattr(backbone, "model", backbone)  # timm wraps some for their feature maps
        try:
            whole.set_grad_checkpointing(True)  # type: ignore[operator]
        except (AttributeError, AssertionError) as cause:
            raise DataError(
                f"timm cannot recompute {encoder.spec.backbone}; set recompute=false, and a chunk instead."
            ) from cause
