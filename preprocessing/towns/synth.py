"""A set of synthetic towns in the CVUSA layout (Zhai et al. 2017), with orthophotos, positions and labels."""

import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from geoloc.atomic import cannot_write, write_text
from geoloc.errors import DataError
from geoloc.places import LonLat, to_lonlat
from preprocessing.towns.metadata import write_street_view
from preprocessing.towns.ortho import write_labels, write_orthophoto
from preprocessing.towns.plan import GSD_M, Plan
from preprocessing.towns.raster import lay_ground
from preprocessing.towns.table import Row, read_rows, tile_row, view_row, write_table
from preprocessing.towns.town import PLAIN, Shot, TownConfig, plan_town, random_of, shoot_ortho, shoot_street

VERSION = 2
JPEG_QUALITY = 90
TILE_STREAM = 14
LAST_ID = 9_999_999


@dataclass(frozen=True)
class SynthConfig:
    """A set of `towns`, of seeds `seed` and up, each like `town`. Raises DataError where it is nonsense."""

    towns: int
    seed: int
    town: TownConfig = field(default_factory=TownConfig)

    def __post_init__(self) -> None:
        if self.towns < 1 or not 0 <= self.seed < 2**62:
            raise DataError(
                f"{self.towns} towns from seed {self.seed} cannot be: want 1 town or more, 0 <= seed < 2**62."
            )
        if self.towns * (self.town.pairs + self.town.photos) > LAST_ID:
            raise DataError(
                f"More than {LAST_ID} street views do not fit names of seven digits: ask for fewer."
            )

    @property
    def views(self) -> int:
        """How many street views the set has."""
        return self.towns * (self.town.pairs + self.town.photos)

    def split_of(self, number: int) -> str:
        """The split of the town `number` (from 0): the last sixth of the towns, at least one, is "val"."""
        return "val" if number >= self.towns - max(1, self.towns // 6) else "train"


def synthesize(
    config: SynthConfig, out: Path, progress: Callable[[int], None] = lambda _: None, workers: int = 1
) -> Path:
    """Write the set to the folder `out` and return it; after a kill, go on with the towns that are missing.

    The files depend on `config` alone, not on the machine or on `workers`. `progress` is called with the
    number of street views done so far. Raises DataError where `out` holds something else, where a town
    has no room for its street views, or where a worker was killed.
    """
    _claim(config, out)
    parts = [out / "towns" / f"{config.seed + number}.parquet" for number in range(config.towns)]
    missing = [number for number, part in enumerate(parts) if not part.exists()]
    done = (config.towns - len(missing)) * (config.town.pairs + config.town.photos)
    progress(done)
    _draw_towns(config, out, missing, lambda drawn: progress(done + drawn), min(workers, len(missing)))
    rows = [row for part in parts for row in read_rows(part)]
    for split in ("train", "val"):
        pairs = [row for row in rows if row["split"] == split and row["satellite"] is not None]
        lines = (f"{row['satellite']},{row['street']},{_annotation(row['id'])}\n" for row in pairs)
        write_text(out / "splits" / f"{split}-19zl.csv", "".join(lines))
    write_table(out / "street_views.parquet", rows)
    return out


def _claim(config: SynthConfig, out: Path) -> None:
    """Mark the folder as this set's; refuse one that is another's."""
    mark = out / "synth.json"
    asked = asdict(config)
    if config.town.world == PLAIN:
        del asked["town"]["world"]  # sets of plain towns are older than worlds
    if config.town.gsd_m == GSD_M:
        del asked["town"]["gsd_m"]  # and all sets older than a choice of it
    wanted = json.dumps({"version": VERSION, **asked}, indent=1) + "\n"
    if mark.exists():
        if mark.read_bytes() != wanted.encode():
            raise DataError(f"{out} holds a set of other towns (see {mark.name} there): give another folder.")
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} is not empty and holds no synthetic towns: give a new folder.")
    else:
        write_text(mark, wanted)


def _draw_towns(
    config: SynthConfig, out: Path, numbers: list[int], progress: Callable[[int], None], workers: int
) -> None:
    if workers <= 1:
        drawn = iter(range(1, config.views + 1))
        for number in numbers:
            write_town(config, number, out, lambda: progress(next(drawn)))
        return
    context = multiprocessing.get_context("spawn")
    counter = context.Value("q", 0)
    with ProcessPoolExecutor(workers, context, initializer=_share, initargs=(counter,)) as pool:
        running = {pool.submit(_write_town_counted, config, number, out) for number in numbers}
        try:
            while running:
                finished, running = wait(running, timeout=0.3)
                progress(counter.value)
                for future in finished:
                    future.result()
        except BrokenProcessPool as cause:
            raise DataError(
                "A worker was killed, perhaps for memory: run again with fewer workers."
            ) from cause
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


_counter: Any = None


def _share(counter: Any) -> None:
    global _counter
    _counter = counter
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _advance() -> None:
    """Count a street view; end where the run that wanted it was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        os._exit(1)
    with _counter.get_lock():
        _counter.value += 1


def _write_town_counted(config: SynthConfig, number: int, out: Path) -> None:
    write_town(config, number, out, _advance)


def write_town(config: SynthConfig, number: int, out: Path, advance: Callable[[], None]) -> None:
    """Draw the town `number` (from 0) and write its files; last the table that says it is whole."""
    try:
        _write_town(config, number, out, advance)
    except OSError as cause:
        raise cannot_write(out, cause) from cause


def _write_town(config: SynthConfig, number: int, out: Path, advance: Callable[[], None]) -> None:
    plan = plan_town(config.town, config.seed + number)
    ground = lay_ground(plan)
    pixels, scene = shoot_ortho(config.town, plan, ground)
    ortho = f"ortho/town-{plan.seed}.tif"
    for folder in ("bingmap/19", "streetview/panos", "streetview/annotations", "photos", "ortho", "labels"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    write_orthophoto(out / ortho, pixels, scene)
    write_labels(out / "labels", f"town-{plan.seed}", scene)
    del scene
    photo = Image.fromarray(pixels)
    rows = []
    for shot in shoot_street(config.town, plan, ground):
        rows.append(_write_shot(config, number, out, shot, plan, ortho, photo))
        advance()
    write_table(out / "towns" / f"{plan.seed}.parquet", rows)


def _write_shot(
    config: SynthConfig, number: int, out: Path, shot: Shot, plan: Plan, ortho: str, photo: Image.Image
) -> Row:
    """Write a street view and, for a panorama, its tile and its map of surfaces; return its row."""
    town, camera, split = config.town, shot.camera, config.split_of(number)
    if camera.is_panorama:
        id = 1 + number * town.pairs + shot.number
        street = f"streetview/panos/{id:07d}.jpg"
    else:
        id = 1 + config.towns * town.pairs + number * town.photos + shot.number - town.pairs
        street = f"photos/{id:07d}.jpg"
    write_street_view(
        out / street, shot.rgb, lonlat=shot.lonlat, heading_deg=camera.heading_deg,
        hfov_deg=camera.hfov_deg, is_panorama=camera.is_panorama, taken_at=shot.taken_at,
    )  # fmt: skip
    row = view_row(shot, id, plan.seed, split, street, ortho)
    if not camera.is_panorama:
        return row
    _write_annotation(out / _annotation(id), shot.surface)
    off_m = random_of(plan.seed, TILE_STREAM, shot.number).uniform(-town.jitter_m, town.jitter_m, 2)
    x_m, y_m = camera.x_m + float(off_m[0]), camera.y_m + float(off_m[1])
    satellite = f"bingmap/19/{id:07d}.jpg"
    cut_tile(photo, plan, (x_m, y_m), town).save(out / satellite, quality=JPEG_QUALITY)
    return tile_row(row, satellite, LonLat(*to_lonlat(plan.crs).transform(x_m, y_m)), town.footprint_m)


def cut_tile(photo: Image.Image, plan: Plan, center_m: tuple[float, float], town: TownConfig) -> Image.Image:
    """The tile around a point of the plan's CRS, resampled to `tile_px`."""
    col, row = (center_m[0] - plan.west_m) / plan.gsd_m, (plan.north_m - center_m[1]) / plan.gsd_m
    half = town.footprint_m / plan.gsd_m / 2
    bounds = (col - half, row - half, col + half, row + half)
    return photo.resize((town.tile_px, town.tile_px), Image.Resampling.BICUBIC, box=bounds)


def _annotation(id: int) -> str:
    return f"streetview/annotations/{id:07d}.png"


def _write_annotation(path: Path, surface: UInt8[np.ndarray, "h w"]) -> None:
    Image.fromarray(surface).save(path, compress_level=1)
