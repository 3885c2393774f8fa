"""A gallery's life, change by change, each of which a test may run in a process of its own and kill."""

import json
from collections.abc import Callable
from multiprocessing.synchronize import Event
from pathlib import Path

import shapely
from fake_encoder import SPEC, FakeEncoder
from rasterio.transform import from_origin
from tiny_imagery import noise, write

from indexing.build import build_gallery
from indexing.compact import compact
from indexing.grow import add_imagery
from indexing.remove import remove_region
from indexing.versions import gc

LIFE = ("build", "add", "remove", "replace", "gc", "refill", "compact")


def make_world(folder: Path) -> Path:
    """a: 400 x 300 m. b: overlaps its south east. c: newer, across both. A region. A model."""
    for name, hw, corner in (
        ("a", (300, 400), (0, 0)),
        ("b", (250, 300), (300, -150)),
        ("c", (200, 200), (200, 0)),
    ):
        transform = from_origin(500_000 + corner[0], 5_300_300 + corner[1], 1, 1)
        write(folder / f"{name}.tif", noise(*hw, seed=ord(name)), transform=transform)
    (folder / "region.json").write_text(
        json.dumps(shapely.geometry.mapping(shapely.box(9.0012, 47.8549, 9.0030, 47.8560)))
    )
    (folder / "model").mkdir()
    (folder / "model/weights.safetensors").write_bytes(b"not loaded")
    (folder / "model/spec.json").write_text(SPEC.to_json())
    return folder


def change(name: str, world: Path, gallery: Path) -> None:
    """Run one change of LIFE."""
    a, b, c = (world / f"{letter}.tif" for letter in "abc")
    encoder = FakeEncoder()
    changes: dict[str, Callable[[], object]] = {
        "build": lambda: build_gallery([a], world / "model", gallery, stride_m=8, encoder=encoder),
        "add": lambda: add_imagery(gallery, [b], encoder=encoder),
        "remove": lambda: remove_region(gallery, world / "region.json"),
        "replace": lambda: add_imagery(gallery, [c], replace=True, encoder=encoder),
        "gc": lambda: gc(gallery),
        "refill": lambda: add_imagery(gallery, [a, b], encoder=encoder),
        "compact": lambda: compact(gallery),
    }
    changes[name]()


def announced(name: str, world: Path, gallery: Path, started: Event) -> None:
    """The same in a process of its own, which says when it has begun."""
    started.set()
    change(name, world, gallery)
