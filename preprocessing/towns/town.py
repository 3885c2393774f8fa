"""One synthetic town as its cameras see it: the orthophoto, and street views on other days."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from jaxtyping import Float64, UInt8

from geoloc.errors import DataError
from geoloc.places import LonLat, to_lonlat
from preprocessing.towns.cameras import place_cameras
from preprocessing.towns.lens import Camera
from preprocessing.towns.ortho import orthophoto
from preprocessing.towns.painted import paint
from preprocessing.towns.plan import GSD_M, Plan, draw_plan
from preprocessing.towns.raster import GAPS, dress
from preprocessing.towns.scene import Scene
from preprocessing.towns.street import render
from preprocessing.towns.weather import Weather, draw_weather
from preprocessing.towns.worlds.biome import check_world
from preprocessing.towns.worlds.day import draw_day
from preprocessing.towns.worlds.draw import draw_world

PLAIN = "town"
DAYS = 3
PHOTO_HW = (480, 640)
PHOTO_FOCAL_MM = (13, 31)  # of 35 mm film, whole as EXIF has it: 62 to 108 degrees
ORTHO_STREAM, DAY_STREAM, PLACE_STREAM, CAMERA_STREAM = 10, 11, 12, 13


@dataclass(frozen=True)
class TownConfig:
    """What one town is asked for; raises DataError where it is nonsense.

    pairs: tiles with a panorama each. photos: perspective street views without a tile. side_m: of the
    town. jitter_m: the most that a tile's centre is off the camera, east and north. footprint_m and
    tile_px: a tile's side. panorama_wh: width and height in pixels. look_north: whether a panorama's
    centre is north (as in CVUSA) or anywhere. world: a biome or "mixed" (see `worlds.biome`), or "town"
    for the plain towns. gsd_m: metres per pixel of the orthophoto, and of the ground that cameras see.
    """

    pairs: int = 250
    photos: int = 0
    difficulty: str = "normal"
    side_m: float = 640.0
    jitter_m: float = 2.0
    footprint_m: float = 64.0
    tile_px: int = 256
    panorama_wh: tuple[int, int] = (512, 128)
    look_north: bool = True
    world: str = PLAIN
    gsd_m: float = GSD_M

    def __post_init__(self) -> None:
        if self.world != PLAIN:
            check_world(self.world)
        if self.difficulty not in GAPS:
            raise DataError(f"No difficulty is called {self.difficulty!r}: choose one of {', '.join(GAPS)}.")
        if self.pairs < 0 or self.photos < 0 or self.pairs + self.photos < 1:
            raise DataError(
                f"{self.pairs} pairs and {self.photos} photos a town cannot be: ask for at least one."
            )
        if not 160 <= self.side_m <= 2400:
            raise DataError(f"A town's side is 160 to 2400 m, not {self.side_m:g}.")
        if not (8 <= self.footprint_m <= self.side_m / 2 and 0 <= self.jitter_m <= self.footprint_m / 2):
            raise DataError(
                f"Tiles of {self.footprint_m:g} m with a jitter of {self.jitter_m:g} m do not suit a town of "
                f"{self.side_m:g} m: want 8 m to half the town, and a jitter of at most half a tile."
            )
        if not 0.1 <= self.gsd_m <= 0.6:
            raise DataError(f"Orthophotos of towns have 0.1 to 0.6 m per pixel, not {self.gsd_m:g}.")
        w, h = self.panorama_wh
        if not (16 <= self.tile_px <= 4096 and 32 <= w <= 8192 and 16 <= h <= w):
            raise DataError(f"Tiles of {self.tile_px} px and panoramas of {w} x {h} px cannot be drawn.")

    @property
    def margin_m(self) -> float:
        """How far cameras stay from the town's edge, so that a tile always fits."""
        return self.footprint_m / 2 + self.jitter_m + 1.0


@dataclass(frozen=True)
class Shot:
    """A street view as it was taken. number: from 0 in its town, the panoramas first."""

    number: int
    camera: Camera
    lonlat: LonLat
    taken_at: datetime
    rgb: UInt8[np.ndarray, "h w 3"]
    surface: UInt8[np.ndarray, "h w"]


def random_of(seed: int, *stream: int) -> np.random.Generator:
    """The generator for one purpose in one town."""
    return np.random.default_rng(np.random.SeedSequence([seed, *stream]))


def plan_town(config: TownConfig, seed: int) -> Plan:
    """The plan of a plain town, or of a world."""
    if config.world == PLAIN:
        return draw_plan(seed, config.side_m, config.gsd_m)
    return draw_world(seed, config.world, config.side_m, config.gsd_m)


def _draw_day(rng: np.random.Generator, config: TownConfig, plan: Plan, *, ortho: bool) -> Weather:
    if plan.world is None:
        return draw_weather(rng, config.difficulty, ortho=ortho)
    return draw_day(rng, plan.world, config.difficulty, ortho=ortho)


def shoot_ortho(config: TownConfig, plan: Plan, ground: Scene) -> tuple[UInt8[np.ndarray, "h w 3"], Scene]:
    """The orthophoto of a town, and the scene of that day, which says where on the earth it lies."""
    rng = random_of(plan.seed, ORTHO_STREAM)
    scene = dress(ground, plan, 0, config.difficulty)
    return orthophoto(paint(scene, _draw_day(rng, config, plan, ortho=True)), rng), scene


def shoot_street(config: TownConfig, plan: Plan, ground: Scene) -> Iterator[Shot]:
    """All street views of a town, day by day. Raises DataError where the town has no room for them."""
    total = config.pairs + config.photos
    taken = np.empty((0, 2))
    for day in range(1, DAYS + 1):
        numbers = range(day - 1, total, DAYS)
        if not numbers:
            return
        scene = dress(ground, plan, day, config.difficulty)
        places = place_cameras(
            random_of(plan.seed, PLACE_STREAM, day), plan, scene, len(numbers), config.margin_m, taken
        )
        taken = np.concatenate((taken, places))
        rng = random_of(plan.seed, DAY_STREAM, day)
        painted = paint(scene, _draw_day(rng, config, plan, ortho=False))
        noon = datetime(2024, 4, 1, 12, tzinfo=UTC) + timedelta(days=int(rng.integers(200)))
        for number, place in zip(numbers, places, strict=True):
            rng = random_of(plan.seed, CAMERA_STREAM, number)
            camera = _aim(rng, config, plan, place, is_panorama=number < config.pairs)
            rgb, surface = render(painted, camera, rng)
            lonlat = LonLat(*to_lonlat(plan.crs).transform(camera.x_m, camera.y_m))
            yield Shot(number, camera, lonlat, noon + timedelta(minutes=number), rgb, surface)


def _aim(
    rng: np.random.Generator,
    config: TownConfig,
    plan: Plan,
    place: Float64[np.ndarray, "2"],
    *,
    is_panorama: bool,
) -> Camera:
    wobble = GAPS[config.difficulty].wobble_deg
    heading, hfov = (
        float(rng.uniform(0, 360)),
        math.degrees(2 * math.atan(18 / rng.integers(*PHOTO_FOCAL_MM))),
    )
    if is_panorama:
        heading, hfov = 0.0 if config.look_north else heading, 360.0
    return Camera(
        x_m=plan.west_m + float(place[0]),
        y_m=plan.north_m - plan.side_m + float(place[1]),
        height_m=float(rng.uniform(1.5, 3.0)),
        heading_deg=heading,
        hfov_deg=hfov,
        roll_deg=float(np.clip(rng.normal(0, wobble), -3 * wobble, 3 * wobble)),
        pitch_deg=float(np.clip(rng.normal(0, wobble), -3 * wobble, 3 * wobble)),
        hw=config.panorama_wh[::-1] if is_panorama else PHOTO_HW,
        is_panorama=is_panorama,
    )
