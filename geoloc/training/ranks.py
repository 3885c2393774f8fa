"""The processes of one run, as torchrun starts them: which one this is, and what they tell each other."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from geoloc.errors import DataError, GeolocError, first_line

PATIENCE = timedelta(hours=12)
"""How long processes wait for one that decodes, mines or validates; one that died is noticed at once."""
STARTED_BY_TORCHRUN = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"}

Made = TypeVar("Made")


@dataclass(frozen=True)
class Ranks:
    """One process's place among `world`; it is alone unless torchrun started it. Only rank 0 writes."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def wait(self) -> None:
        """Until all have come here. Raises GeolocError when one is gone."""
        if self.world > 1:
            with _together():
                dist.barrier()

    def in_turn(self, make: Callable[[], Made]) -> Made:
        """What `make` makes, by the first alone, then by the others, who find its files there."""
        if not self.first:
            self.wait()
        made = make()
        if self.first:
            self.wait()
        return made

    def gather(self, rows: Tensor) -> Tensor:
        """The rows of every process in order of rank, how many each may have; without gradients."""
        if self.world == 1:
            return rows
        with _together():
            counts = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(self.world)]
            dist.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
            padded = rows.new_zeros(max(int(n) for n in counts), *rows.shape[1:])
            padded[: len(rows)] = rows
            parts = [torch.empty_like(padded) for _ in counts]
            dist.all_gather(parts, padded)
        return torch.cat([part[: int(n)] for part, n in zip(parts, counts, strict=True)])

    def add(self, tensor: Tensor) -> None:
        """Replace a tensor by its sum over the processes."""
        if self.world > 1:
            with _together():
                dist.all_reduce(tensor)

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its sum over the processes, in one message."""
        found = [one.grad for one in parameters if one.grad is not None]
        if self.world > 1 and found:
            flat = torch.cat([gradient.flatten() for gradient in found])
            self.add(flat)
            for gradient, total in zip(found, torch.split(flat, [g.numel() for g in found]), strict=True):
                gradient.copy_(total.view(gradient.shape))


ALONE = Ranks()


def writes() -> bool:
    """Whether this process is the one of its run that writes; true of one that torchrun did not start."""
    return not _of_torchrun() or os.environ["RANK"] == "0"


def _of_torchrun() -> bool:
    return os.environ.keys() >= STARTED_BY_TORCHRUN and os.environ["WORLD_SIZE"] != "1"


@contextmanager
def all_ranks() -> Iterator[Ranks]:
    """Join the other processes where torchrun started this one.

    Over NCCL with a GPU each, else over gloo. Raises DataError for more processes than GPUs.
    """
    if not _of_torchrun():
        yield ALONE
        return
    if torch.cuda.is_available():
        own = int(os.environ["LOCAL_RANK"])
        if own >= torch.cuda.device_count():
            raise DataError(f"There are {torch.cuda.device_count()} GPUs; lower --nproc-per-node to that.")
        torch.cuda.set_device(own)
    try:
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    except RuntimeError as cause:
        raise GeolocError(
            f"The processes of this run do not find each other ({first_line(cause)}); check MASTER_ADDR and "
            "MASTER_PORT, and that all were started."
        ) from cause
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


@contextmanager
def _together() -> Iterator[None]:
    try:
        yield
    except RuntimeError as cause:
        raise GeolocError(
            f"Another process of this run is gone, so this one stops ({first_line(cause)}); what that one "
            "said is above. Start them all again with --resume: the run goes on from its last checkpoint."
        ) from cause


def norms_over_all(encoder: nn.Module, ranks: Ranks) -> None:
    """Make batch norms take their statistics over the parts of all processes, as one process would.

    torch's own SyncBatchNorm wants GPUs; this one is the same on any device. In evaluation nothing changes.
    """
    for module in encoder.modules():
        if ranks.world > 1 and isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.forward = partial(_norm_over_all, module, ranks)  # type: ignore[method-assign]


def _norm_over_all(
    norm: nn.modules.batchnorm._BatchNorm, ranks: Ranks, images: Float[Tensor, "b c *hw"]
) -> Float[Tensor, "b c *hw"]:
    if not norm.training:
        return type(norm).forward(norm, images)
    scale, shift = norm.weight, norm.bias
    if scale is None:
        wide = torch.promote_types(images.dtype, torch.float32)
        scale = torch.ones(images.shape[1], dtype=wide, device=images.device)
        shift = torch.zeros_like(scale)
    normed, mean, variance = _NormOverAll.apply(images, scale, shift, norm.eps, ranks)  # type: ignore[no-untyped-call]
    _remember(norm, mean, variance, ranks.world * images.numel() // images.shape[1])
    for after in ("drop", "act"):  # timm's layers do these within the norm
        normed = getattr(norm, after, nn.Identity())(normed)
    return normed  # type: ignore[no-any-return]


def _remember(norm: nn.modules.batchnorm._BatchNorm, mean: Tensor, variance: Tensor, n: int) -> None:
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked.add_(1)
    part = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean, part)
    norm.running_var.lerp_(variance * n / max(1, n - 1), part)


class _NormOverAll(torch.autograd.Function):
    """A batch norm of equally many images in every process, by the kernels of torch's own.

    Backwards it is first one whose statistics stand, then what the gradient does to those is taken off: that
    is a multiple of the images and a shift, by sums over all processes (Ioffe and Szegedy 2015).
    """

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, weight: Tensor, bias: Tensor, eps: float, ranks: Ranks
    ) -> tuple[Tensor, Tensor, Tensor]:
        _, own_mean, own_invstd = torch.native_batch_norm(images, weight, bias, None, None, True, 0.0, eps)
        means, variances = ranks.gather(torch.stack([own_mean, own_invstd.pow(-2) - eps])[None]).unbind(dim=1)
        mean, variance = means.mean(dim=0), variances.mean(dim=0) + means.var(dim=0, correction=0)
        ctx.save_for_backward(images, weight, mean, variance)
        ctx.eps, ctx.ranks = eps, ranks
        ctx.mark_non_differentiable(mean, variance)
        return F.batch_norm(images, mean, variance, weight, bias, eps=eps), mean, variance

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        images, weight, mean, variance = ctx.saved_tensors
        standing, by_weight, by_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, images, weight, mean, variance, None, None, False, ctx.eps, [True, True, True]
        )
        sums = torch.stack([by_weight, by_bias]).to(mean.dtype)
        ctx.ranks.add(sums)
        along, of_images = sums / (ctx.ranks.world * images.numel() // images.shape[1])
        invstd = (variance + ctx.eps).rsqrt()
        slope = -weight * invstd * invstd * along
        shift = -weight * invstd * of_images - slope * mean
        slope, shift = (one.view(-1, *(1 for _ in images.shape[2:])) for one in (slope, shift))
        return (standing + (images * slope + shift)).to(images.dtype), by_weight, by_bias, None, None
