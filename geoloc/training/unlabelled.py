"""Images of one view that belong to no pair, as bytes on disk: decoded once, for pre-training."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from geoloc.atomic import atomic_path
from geoloc.cores import cores
from geoloc.embed import Side
from geoloc.lineup import View
from geoloc.pairs import read_tile_image
from geoloc.report import Report
from geoloc.spec import EncoderSpec
from geoloc.street_view import read_street_view
from geoloc.tensors import resized
from geoloc.training.decoded import canvas_bytes, taller

SOME = 64
Images = UInt8[np.ndarray, "b ..."]


@dataclass(frozen=True)
class Unlabelled:
    """Images of one view.

    name: what they are, for people. planned: how many they are; of imagery, at most. key: another text where
    they are others, or lie elsewhere; contents: only where they are others. read: them in order, some at a
    time, of `image_shape`. seeds: of synthetic towns. files: what each was read from, nothing for imagery.
    """

    name: str
    planned: int
    key: str
    contents: str
    read: Callable[[], Iterator[Images]]
    seeds: frozenset[int] = frozenset()
    files: tuple[Path, ...] = ()


def square_px(spec: EncoderSpec) -> int:
    """The side of the ground that views of a tile are cut from: half a tile more than a tile's."""
    return spec.satellite_px + 2 * (spec.satellite_px // 4)


def image_shape(spec: EncoderSpec, view: Side) -> tuple[int, ...]:
    """(4, t, w) of a canvas taller than the spec's and its mask, (r, r, 3) of ground."""
    if view == "street":
        return (4, *taller(spec).street_hw)
    return (square_px(spec), square_px(spec), 3)


def image_files(
    views: Sequence[View], view: Side, spec: EncoderSpec, name: str, seeds: frozenset[int] = frozenset()
) -> Unlabelled:
    """Files of street views or of tiles; a tile is continued past its edges by its mirror image.

    Reading raises ImageError for one that is damaged, DataError for a tile that is too small.
    """
    key = "".join(
        f"{one.path.resolve()} {one.path.stat().st_mtime_ns if one.path.exists() else ''} {one.heading_deg} "
        f"{one.hfov_deg} {one.footprint_m}\n"
        for one in views
    )
    contents = "".join(f"{one.path.name} {one.heading_deg} {one.footprint_m}\n" for one in views)
    files = tuple(one.path for one in views)
    return Unlabelled(name, len(views), key, contents, partial(_read, views, view, spec), seeds, files)


def named(images: Sequence[Unlabelled], row: int) -> dict[str, Any]:
    """Which image a row of `stored` is, for the person who looks for it."""
    if all(one.files for one in images):
        return {"image": str([file for one in images for file in one.files][row])}
    return {"image": row, "of": [one.name for one in images]}


def stored(
    images: Sequence[Unlabelled],
    view: Side,
    spec: EncoderSpec,
    folder: Path,
    report: Report = lambda *_: None,
) -> UInt8[np.ndarray, "n ..."]:
    """All of them, memory-mapped from a file below `folder`, which is written unless it is there.

    Raises what reading them raises, and GeolocError where the disk is full.
    """
    shape, planned = image_shape(spec, view), sum(one.planned for one in images)
    told = "".join([view, spec.to_json(), *(one.key for one in images)])
    key = hashlib.sha256(told.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    path = folder / f"{key}.bin"
    if not path.exists():
        for left in folder.glob(".*.tmp*"):
            left.unlink(missing_ok=True)
        done = 0
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            for one in images:
                for some in one.read():
                    file.write(np.ascontiguousarray(some).data)
                    done += len(some)
                    report(done, planned)
    if path.stat().st_size == 0:
        return np.empty((0, *shape), np.uint8)
    return np.memmap(path, np.uint8, "r").reshape(-1, *shape)


def _read(views: Sequence[View], view: Side, spec: EncoderSpec) -> Iterator[Images]:
    read = _canvas if view == "street" else _square
    with ThreadPoolExecutor(cores()) as pool:
        for start in range(0, len(views), SOME):
            yield np.stack(list(pool.map(partial(read, spec=spec), views[start : start + SOME])))


def _canvas(view: View, spec: EncoderSpec) -> UInt8[np.ndarray, "4 t w"]:
    image = read_street_view(view.path, hfov_deg=view.hfov_deg, heading_deg=view.heading_deg)
    return canvas_bytes(image, taller(spec)).numpy()


def _square(view: View, spec: EncoderSpec) -> UInt8[np.ndarray, "r r 3"]:
    side, spare = spec.satellite_px, spec.satellite_px // 4
    tile = resized(read_tile_image(view.path, view.footprint_m, spec.footprint_m), (side, side), spec)
    return np.pad(tile, ((spare, spare), (spare, spare), (0, 0)), mode="reflect")
