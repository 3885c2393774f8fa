"""A table of pairs as bytes on disk, decoded once, so that no epoch waits for a JPEG again."""

import dataclasses
import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from geoloc.atomic import cannot_write, holding
from geoloc.batches import batches
from geoloc.embed import CPU
from geoloc.errors import DataError
from geoloc.pairs import Pair, read_pair_street, read_pair_tile
from geoloc.report import Report
from geoloc.spec import EncoderSpec
from geoloc.street_view import StreetView, read_street_view
from geoloc.tensors import normalise, resized, street_canvas

BATCH, GPU_BATCH = 64, 512
HELD_AT_MOST = 0.5
PART = ".part"


@dataclass(frozen=True)
class Decoded:
    """Canvases with their mask (255 where seen), and tiles with ground to spare, memory-mapped."""

    canvases: UInt8[np.ndarray, "n 4 t w"]
    tiles: UInt8[np.ndarray, "n r r 3"]

    def tensors(self, spec: EncoderSpec, device: torch.device = CPU) -> Iterator[tuple[Tensor, Tensor]]:
        """The pairs unvaried, by batches on a device: what `PairDataset` makes, to an 8-bit step."""
        rows, side = spec.street_hw[0], spec.satellite_px
        above, around = (self.canvases.shape[2] - rows) // 2, (self.tiles.shape[1] - side) // 2
        size = BATCH if device.type == "cpu" else GPU_BATCH
        for start in range(0, len(self.canvases), size):
            here = slice(start, start + size)
            seen = self.canvases[here, :, above : above + rows]
            tile = self.tiles[here, around : around + side, around : around + side]
            canvas, ground = (torch.from_numpy(np.array(part)).to(device) / 255 for part in (seen, tile))
            street = torch.cat([normalise(canvas[:, :3], spec) * canvas[:, 3:], canvas[:, 3:]], dim=1)
            yield street, normalise(ground.permute(0, 3, 1, 2), spec)


def decode_pairs(
    pairs: Sequence[Pair],
    spec: EncoderSpec,
    spare_m: float,
    folder: Path,
    *,
    headings: bool = False,
    workers: int = 0,
    report: Report = lambda *_: None,
) -> Decoded:
    """Decode every pair into two .npy files below `folder`, or take those that are there already.

    Any spec whose images have the same sizes and cover the same finds them, whatever its encoders are. Of
    several processes one decodes and the others wait; what is damaged is decoded anew. The canvases are the
    spec's at the same resolution with half as much again above and below, where there is that much sky and
    ground, so that a leaning camera finds something there. The tiles reach spare_m beyond the footprint, or
    as far as the smallest of their images does. Raises what reading the images raises, and with `headings`
    DataError for a street view of which neither the pairs nor its file say where it looks.
    """
    dataset = _PairBytes(pairs, taller(spec), spare_m, headings)
    done = folder / _key(dataset)
    found = _opened(done, dataset)
    if found is None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with holding(folder, wait=True):
                if _opened(done, dataset) is None:
                    _decode(dataset, done, workers, report)
        except OSError as cause:
            raise cannot_write(folder, cause) from cause
        found = _opened(done, dataset)
    assert found is not None
    return found


def _decode(dataset: "_PairBytes", done: Path, workers: int, report: Report) -> None:
    n, (canvas_shape, tile_shape) = len(dataset), dataset.shapes
    unfinished = done.with_name(done.name + PART)
    for left in (*done.parent.glob(f"*{PART}"), done):  # who decodes holds the folder
        shutil.rmtree(left, ignore_errors=True)
    dataset[0]  # an image that cannot be read is an error before room is taken
    try:
        unfinished.mkdir()
        canvases = _new(unfinished / "canvases.npy", (n, *canvas_shape))
        tiles = _new(unfinished / "tiles.npy", (n, *tile_shape))
        order = [range(start, min(start + BATCH, n)) for start in range(0, n, BATCH)]
        for rows, (some_canvases, some_tiles) in zip(order, batches(dataset, order, workers), strict=True):
            canvases[rows.start : rows.stop], tiles[rows.start : rows.stop] = some_canvases, some_tiles
            report(rows.stop, n)
        canvases.flush()
        tiles.flush()
        unfinished.rename(done)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _opened(done: Path, dataset: "_PairBytes") -> Decoded | None:
    """What is there; None where that is nothing, or not what it should be."""
    try:
        arrays = [np.load(done / f"{name}.npy", mmap_mode="r") for name in ("canvases", "tiles")]
    except (OSError, ValueError, EOFError):
        return None
    for array, shape in zip(arrays, dataset.shapes, strict=True):
        if array.dtype != np.uint8 or array.shape != (len(dataset), *shape):
            return None
    return Decoded(*arrays)


Taken = Callable[[Int64[np.ndarray, " c"]], UInt8[Tensor, "c ..."]]


def at_hand(images: UInt8[np.ndarray, "n ..."], device: torch.device) -> Taken:
    """Rows of images as tensors on a device.

    A GPU holds all of them where they take at most half of the memory that it has free, so that no step
    waits for a copy.
    """
    if device.type == "cpu" or images.nbytes > torch.cuda.mem_get_info(device)[0] * HELD_AT_MOST:
        return lambda rows: torch.from_numpy(images[rows]).to(device)
    held = torch.empty(images.shape, dtype=torch.uint8, device=device)
    for start in range(0, len(images), BATCH):
        held[start : start + BATCH] = torch.from_numpy(np.array(images[start : start + BATCH])).to(device)
    return lambda rows: held[torch.from_numpy(rows).to(device)]


def nothing_decoded(spec: EncoderSpec, spare_m: float) -> Decoded:
    """No pair, of the sizes that `decode_pairs` gives where the images reach far enough."""
    side = _with_spare(spec, spare_m)
    return Decoded(
        np.empty((0, 4, *taller(spec).street_hw), np.uint8), np.empty((0, side, side, 3), np.uint8)
    )


def decode_photos(
    paths: Sequence[Path], spec: EncoderSpec, report: Report = lambda *_: None
) -> UInt8[np.ndarray, "n 4 t w"]:
    """Street views that no tile belongs to, as the canvases of `Decoded`. Raises ImageError."""
    tall = taller(spec)
    canvases = np.empty((len(paths), 4, *tall.street_hw), np.uint8)
    for number, path in enumerate(paths):
        canvases[number] = canvas_bytes(read_street_view(path), tall).numpy()
        report(number + 1, len(paths))
    return canvases


def canvas_bytes(view: StreetView, spec: EncoderSpec) -> UInt8[Tensor, "4 h w"]:
    """The canvas of a street view, and its mask, 255 where seen."""
    return (street_canvas(view, spec) * 255).round().byte()


def _new(path: Path, shape: tuple[int, ...]) -> np.memmap:
    """An .npy file whose room on the disk is taken at once: a full disk is an error now, no crash later."""
    array = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    with path.open("r+b") as file:
        blank = bytes(1 << 22)
        file.seek(array.offset)
        for start in range(0, array.nbytes, len(blank)):
            file.write(blank[: array.nbytes - start])
    return array


def taller(spec: EncoderSpec) -> EncoderSpec:
    """The spec with a canvas of half as many rows again, as far as there is sky and ground."""
    (h, w), (low, high) = spec.street_hw, spec.street_elevation_deg
    row_deg = (high - low) / h
    rows = max(0, min(h // 4, int((90 - high) / row_deg), int((low + 90) / row_deg)))
    elevation_deg = low - rows * row_deg, high + rows * row_deg
    return dataclasses.replace(spec, street_hw=(h + 2 * rows, w), street_elevation_deg=elevation_deg)


def _with_spare(spec: EncoderSpec, spare_m: float) -> int:
    """Pixels of a side with so much to spare on either side."""
    return round(spec.satellite_px * (1 + 2 * spare_m / spec.footprint_m))


def _key(dataset: "_PairBytes") -> str:
    spec = dataset.spec
    what = (
        spec.street_hw, spec.street_elevation_deg, spec.satellite_px, spec.footprint_m, spec.interpolation,
        dataset.spare_m, dataset.asks_files,
    )  # fmt: skip
    digest = hashlib.sha256(repr(what).encode())
    for pair in dataset.pairs:
        digest.update(f"{pair.heading_deg} {pair.hfov_deg} {pair.footprint_m}".encode())
        for path in (pair.street, pair.satellite):
            changed = path.stat().st_mtime_ns if path.exists() else ""
            digest.update(f"{path.resolve()} {changed}".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


class _PairBytes(Dataset[tuple[Tensor, Tensor]]):
    def __init__(self, pairs: Sequence[Pair], spec: EncoderSpec, spare_m: float, headings: bool) -> None:
        self.pairs, self.spec = pairs, spec
        self.asks_files = headings and any(pair.heading_deg is None for pair in pairs)
        reach_m = min(pair.footprint_m or spec.footprint_m for pair in pairs)
        self.spare_m = min(spare_m, max(0.0, reach_m - spec.footprint_m) / 2)

    @property
    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Of a canvas and of a tile."""
        side_px = _with_spare(self.spec, self.spare_m)
        return (4, *self.spec.street_hw), (side_px, side_px, 3)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        pair, spec = self.pairs[index], self.spec
        view = read_pair_street(pair)
        if self.asks_files and view.heading_deg is None:
            raise DataError(
                f"{pair.street} has no heading, so nothing says which part of its tile it shows; give "
                "heading_deg, or train a model that knows none: --set model.azimuth_bins=1."
            )
        side_px = _with_spare(spec, self.spare_m)
        tile = resized(read_pair_tile(pair, spec.footprint_m, self.spare_m), (side_px, side_px), spec)
        return canvas_bytes(view, spec), torch.from_numpy(np.array(tile))
