"""Embedding images of a published model's size: `embed_views` against a loop like Sample4Geo's `predict`.

The baseline reads through a DataLoader of four processes and computes in float32, 128 images at a time, as
that repository's evaluation does without a GPU. Both use the same backbone, weights and files. Printed are
images a second and their ratio, where the time goes, how far the embeddings differ, and the machine's matrix
product beside the FLOPs that the backbone spends; and what batches of several sizes cost.

Run: python tests/benchmarks/bench_extract.py [--backbone convnext_base.fb_in22k_ft_in1k_384]

By default two minutes of two cores; the full run is --images 64 --rounds 3.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from geoloc.embed import best_device, compute_dtype, embed_views
from geoloc.encoder import TwinEncoder, pooled_channels
from geoloc.lineup import View
from geoloc.spec import EncoderSpec
from geoloc.street_view import read_rgb
from geoloc.tensors import tile_tensor


class Files(Dataset[Tensor]):
    """Tiles one by one, as the peers' datasets give them."""

    def __init__(self, paths: list[Path], spec: EncoderSpec) -> None:
        self.paths, self.spec = paths, spec

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        return tile_tensor(read_rgb(self.paths[index]), self.spec)


def predict(encoder: TwinEncoder, paths: list[Path]) -> np.ndarray:
    """The peers' loop: loader processes, float32, no_grad, a list that is joined at the end."""
    loader = DataLoader(Files(paths, encoder.spec), batch_size=128, num_workers=4)
    with torch.no_grad():
        parts = [F.normalize(encoder.satellite(images)[:, :, 0], dim=-1) for images in loader]
    return torch.cat(parts).numpy()


def write_images(folder: Path, n: int) -> list[Path]:
    """Noise of several scales at CVUSA's size."""
    paths = []
    for number in range(n):
        rng = np.random.default_rng(number)
        layers = [
            Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).resize((750, 750))
            for side in (6, 40, 250)
        ]
        mixed = sum(np.asarray(layer, np.float32) for layer in layers) / 3
        paths.append(folder / f"{number}.jpg")
        Image.fromarray(mixed.astype(np.uint8)).save(paths[-1], quality=92)
    return paths


def peak_tflops(dtype: torch.dtype) -> float:
    """What a square matrix product reaches here."""
    left, right = (torch.randn(2048, 2048).to(dtype) for _ in range(2))
    taken = []
    for _ in range(5):
        began = time.perf_counter()
        left @ right
        taken.append(time.perf_counter() - began)
    return float(2 * 2048**3 / min(taken) / 1e12)


def print_batches(encoder: TwinEncoder, images: Tensor, dtype: torch.dtype) -> None:
    """What geoloc.embed's batch size rests on: the cost of an image by batch, and whether embeddings move."""
    alone = None
    for size in (1, 4, 16, 64):
        began = time.process_time()
        with torch.inference_mode(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            parts = [encoder.embed_satellite(some).float() for some in images.split(size)]
        spent_ms = (time.process_time() - began) / len(images) * 1000
        found = torch.cat(parts)
        alone = found if alone is None else alone
        moved = float((found - alone).abs().max())
        print(
            f"batches of {size}: {spent_ms:.1f} ms of processor time an image; embeddings move by {moved:.0e}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="convnext_base.fb_in22k_ft_in1k_384")
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    spec = EncoderSpec(
        arguments.backbone, 0, True, 1, pooled_channels(arguments.backbone), (140, 768), (-90.0, 90.0), 384,
        False, 174.0, interpolation="bilinear-plain", head="pooled", street_layout="whole",
    )  # fmt: skip
    encoder = TwinEncoder(spec).eval()
    with torch.no_grad():
        for name, value in encoder.named_parameters():
            if name.endswith("gamma"):  # of layers that begin near the identity, so that images differ
                value.fill_(0.3)
    with FlopCounterMode(display=False) as flops, torch.no_grad():
        encoder.satellite(torch.zeros(1, 3, 384, 384))
    each = flops.get_total_flops() / 1e9
    with tempfile.TemporaryDirectory() as folder:
        paths = write_images(Path(folder), arguments.images)
        views = [View(path) for path in paths]
        ratios, rates = [], []
        for _ in range(arguments.rounds):
            plain = TwinEncoder(spec).eval()
            plain.load_state_dict(encoder.state_dict())
            began = time.perf_counter()
            theirs = predict(plain, paths)
            peer = len(paths) / (time.perf_counter() - began)
            (ours,), took = embed_views(encoder, views, "satellite", precision="auto")
            rates.append((peer, took.images / took.wall_s, took))
            ratios.append(took.images / took.wall_s / peer)
    middle = sorted(range(len(ratios)), key=ratios.__getitem__)[len(ratios) // 2]
    peer, rate, took = rates[middle]
    dtype = compute_dtype("auto", best_device())
    print(f"{arguments.backbone}, {len(paths)} images of 750 px, {each:.1f} GFLOP each")
    print(f"a loop like predict: {peer:.2f} images/s")
    print(f"embed_views in {dtype}: {rate:.2f} images/s, ratio {ratios[middle]:.2f}")
    print(f"ratios of {len(ratios)} rounds: {', '.join(f'{ratio:.2f}' for ratio in sorted(ratios))}")
    spent = {"decode": took.decode_s, "resize": took.resize_s, "forward": took.forward_s}
    print("of the wall time: " + ", ".join(f"{name} {s / took.wall_s:.1%}" for name, s in spent.items()))
    peaks = ", ".join(f"{peak_tflops(one):.3f} in {one}" for one in {torch.float32: 0, dtype: 0})
    print(f"TFLOP/s: {each * rate / 1000:.3f} spent; a matrix product reaches {peaks}")
    distance = 1 - (ours.astype(np.float64) * theirs).sum(axis=1)
    apart = 1 - theirs @ theirs.T
    print_batches(encoder, torch.randn(arguments.images, 3, 384, 384), dtype)
    print(f"cosine distance to float32: at most {distance.max():.1e}; of images {np.median(apart):.3f}")


if __name__ == "__main__":
    main()
