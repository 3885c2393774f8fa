"""Images to a matrix of embeddings: decoded and resized in threads while the encoder works."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from geoloc.cores import cores
from geoloc.encoder import TwinEncoder
from geoloc.errors import ModelError
from geoloc.lineup import View
from geoloc.pairs import read_tile_image
from geoloc.report import Report
from geoloc.spec import EncoderSpec
from geoloc.street_view import read_street_view
from geoloc.tensors import street_tensor, tile_tensor

Change = Callable[[int, Tensor], Tensor]
Precision = Literal["auto", "float32", "bfloat16", "float16"]
Side = Literal["street", "satellite"]
BATCH, CPU_BATCH_PX = 64, 16 * 384**2
"""Images to embed at a time, and on a CPU their pixels at most: larger batches are no faster there and want
more memory (tests/benchmarks/bench_extract.py). Nothing is timed while scoring, so that the same command
prints the same figures.
"""
AHEAD = 2
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Throughput:
    """images embedded in wall_s seconds. decode_s and resize_s: of processor time, over all threads;
    forward_s: while the encoder was at work.
    """

    images: int
    wall_s: float
    decode_s: float
    resize_s: float
    forward_s: float

    def __add__(self, other: "Throughput") -> "Throughput":
        return Throughput(
            self.images + other.images,
            self.wall_s + other.wall_s,
            self.decode_s + other.decode_s,
            self.resize_s + other.resize_s,
            self.forward_s + other.forward_s,
        )


def device_of(encoder: nn.Module) -> torch.device:
    """Where an encoder is, and its images must be."""
    return next(chain(encoder.parameters(), encoder.buffers())).device


def best_device() -> torch.device:
    """The accelerator that is there, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def compute_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """What to compute in: `auto` is bfloat16 where the device has it, else float16 on a GPU, else float32."""
    if precision != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[precision]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else torch.float32


def batch_size(hw: tuple[int, int], device: torch.device) -> int:
    """How many images of a size to embed at a time."""
    return min(BATCH, max(1, CPU_BATCH_PX // (hw[0] * hw[1]))) if device.type == "cpu" else BATCH


def embed_views(
    encoder: TwinEncoder,
    views: Sequence[View],
    side: Side,
    *,
    changes: Sequence[Change] = (lambda _, image: image,),
    precision: Precision = "float32",
    report: Report = lambda *_: None,
) -> tuple[list[Float32[np.ndarray, "n d"]], Throughput]:
    """Embeddings of all views by one of the encoders, once for every change, and what it took.

    changes: each is called as change(i, tensor) on view i before it is embedded. report: called with
    views done and views in all. Raises what reading the images raises, and ModelError for embeddings
    that are no numbers.
    """
    device, spec = device_of(encoder), encoder.spec
    hw = spec.street_hw if side == "street" else spec.tile_hw
    encoder = encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    matrices = [np.empty((len(views), spec.dim), np.float32) for _ in changes]
    began, forward_s, spent = time.monotonic(), 0.0, np.zeros(2)
    done = 0
    for tensors, seconds in _read_ahead(views, spec, side, batch_size(hw, device)):
        started = time.monotonic()
        rows = slice(done, done + len(tensors))
        for matrix, change in zip(matrices, changes, strict=True):
            changed = [change(row, tensor) for row, tensor in enumerate(tensors, done)]
            matrix[rows] = _forward(encoder, torch.stack(changed).to(device), side, precision).numpy()
        forward_s += time.monotonic() - started
        spent += seconds
        done = rows.stop
        report(done, len(views))
    if not all(np.isfinite(matrix).all() for matrix in matrices):
        raise ModelError("The model's embeddings are not numbers; take it again from its source.")
    decode_s, resize_s = spent.tolist()
    return matrices, Throughput(len(views), time.monotonic() - began, decode_s, resize_s, forward_s)


def embed_pairs(
    encoder: TwinEncoder, loaded: Iterable[tuple[Tensor, Tensor]], change: Change = lambda _, canvas: canvas
) -> tuple[Float32[np.ndarray, "n d"], Float32[np.ndarray, "n d"]]:
    """Embeddings of pairs whose canvases and tiles are at hand as batches of tensors."""
    device = device_of(encoder)
    streets, tiles, done = [], [], 0
    for canvases, satellite in loaded:
        changed = torch.stack([change(row, canvas) for row, canvas in enumerate(canvases, done)])
        streets.append(_forward(encoder, changed.to(device), "street", "float32").numpy())
        tiles.append(_forward(encoder, satellite.to(device), "satellite", "float32").numpy())
        done += len(canvases)
    return np.concatenate(streets), np.concatenate(tiles)


def _forward(
    encoder: TwinEncoder, batch: Float[Tensor, "b i h w"], side: Side, precision: Precision
) -> Float[Tensor, "b d"]:
    embed = encoder.embed_street if side == "street" else encoder.embed_satellite
    dtype = compute_dtype(precision, batch.device)
    with torch.inference_mode(), torch.autocast(batch.device.type, dtype, enabled=dtype != torch.float32):
        return embed(batch).float().cpu()


def _read_ahead(
    views: Sequence[View], spec: EncoderSpec, side: Side, batch: int
) -> Iterator[tuple[list[Tensor], Float[np.ndarray, " 2"]]]:
    """Tensors by batches, and the seconds spent on decoding and on resizing them."""
    read = _read_street if side == "street" else _read_satellite
    coming: deque[list[Future[tuple[Tensor, float, float]]]] = deque()
    with ThreadPoolExecutor(cores()) as pool:
        try:
            for start in range(0, len(views), batch):
                coming.append([pool.submit(read, view, spec) for view in views[start : start + batch]])
                if len(coming) > AHEAD:
                    yield _gathered(coming.popleft())
            while coming:
                yield _gathered(coming.popleft())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _gathered(
    batch: list[Future[tuple[Tensor, float, float]]],
) -> tuple[list[Tensor], Float[np.ndarray, " 2"]]:
    tensors, decode_s, resize_s = zip(*(future.result() for future in batch), strict=True)
    return list(tensors), np.array([sum(decode_s), sum(resize_s)])


def _read_street(view: View, spec: EncoderSpec) -> tuple[Tensor, float, float]:
    began = time.thread_time()
    image = read_street_view(view.path, hfov_deg=view.hfov_deg, heading_deg=view.heading_deg)
    decoded = time.thread_time()
    return street_tensor(image, spec), decoded - began, time.thread_time() - decoded


def _read_satellite(view: View, spec: EncoderSpec) -> tuple[Tensor, float, float]:
    began = time.thread_time()
    covers_m = view.footprint_m if spec.street_layout == "canvas" else None
    image = read_tile_image(view.path, covers_m, spec.footprint_m)
    decoded = time.thread_time()
    return tile_tensor(image, spec), decoded - began, time.thread_time() - decoded
