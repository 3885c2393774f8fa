"""A meadow with boxes and trees on it: the smallest town that has a street view."""

from dataclasses import replace

import numpy as np

from preprocessing.towns.lens import Camera
from preprocessing.towns.scene import Scene, Surface
from preprocessing.towns.weather import SEASONS, Weather

GSD_M, WEST_M, NORTH_M, CRS = 0.3, 500_000.0, 5_000_000.0, "EPSG:32633"
NOON = Weather(180.0, 45.0, SEASONS["summer"], 0.0, 2000.0, 1.0, (1.0, 1.0, 1.0), 0.0, 0.0, 7)
WIDE_PX = 1480


def meadow(side_px: int = WIDE_PX, surface: Surface = Surface.GRASS) -> Scene:
    """Level ground. At its default size no view from the middle reaches the edge, where the map mirrors."""
    flat = np.zeros((side_px, side_px), np.float32)
    numbers = np.zeros(flat.shape, np.int32)
    ground = np.full(flat.shape, surface, np.uint8)
    return Scene(
        GSD_M,
        CRS,
        WEST_M,
        NORTH_M,
        flat,
        ground,
        numbers,
        flat.copy(),
        flat.copy(),
        flat.copy(),
        numbers.copy(),
    )


def middle(scene: Scene) -> tuple[float, float]:
    """Easting and northing of the middle."""
    h, w = scene.height_m.shape
    return scene.west_m + w * scene.gsd_m / 2, scene.north_m - h * scene.gsd_m / 2


def offsets_m(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """How far east and north of the middle each pixel's centre is."""
    h, w = scene.height_m.shape
    east = (np.arange(w) + 0.5 - w / 2) * scene.gsd_m
    north = (h / 2 - np.arange(h) - 0.5) * scene.gsd_m
    return np.broadcast_to(east, (h, w)), np.broadcast_to(north[:, None], (h, w))


def with_tower(
    scene: Scene,
    east_m: float,
    north_m: float,
    side_m: float,
    height_m: float,
    owner: int = 1,
    axis_deg: float = 0.0,
) -> Scene:
    """A square tower, turned by `axis_deg`, its middle at an offset from the scene's."""
    east, north = offsets_m(scene)
    turn = np.radians(axis_deg)
    along = (east - east_m) * np.sin(turn) + (north - north_m) * np.cos(turn)
    right = (east - east_m) * np.cos(turn) - (north - north_m) * np.sin(turn)
    inside = np.maximum(np.abs(along), np.abs(right)) <= side_m / 2
    return replace(
        scene,
        height_m=np.where(inside, np.float32(height_m), scene.height_m),
        surface=np.where(inside, np.uint8(Surface.ROOF_FLAT), scene.surface),
        owner=np.where(inside, np.int32(owner), scene.owner),
        axis_deg=np.where(inside, np.float32(axis_deg), scene.axis_deg),
    )


def with_tree(
    scene: Scene, east_m: float, north_m: float, radius_m: float, bottom_m: float, top_m: float
) -> Scene:
    """An ellipsoid of leaves, without a trunk."""
    east, north = offsets_m(scene)
    level = 1 - ((east - east_m) ** 2 + (north - north_m) ** 2) / radius_m**2
    half_m = (top_m - bottom_m) / 2 * np.sqrt(np.maximum(level, 0))
    leafy = level > 0.02
    return replace(
        scene,
        crown_top_m=np.where(leafy, (top_m + bottom_m) / 2 + half_m, scene.crown_top_m).astype(np.float32),
        crown_bottom_m=np.where(leafy, (top_m + bottom_m) / 2 - half_m, scene.crown_bottom_m).astype(
            np.float32
        ),
        crown_id=np.where(leafy, np.int32(9), scene.crown_id),
    )


def panorama(scene: Scene, heading_deg: float = 0.0, hw: tuple[int, int] = (128, 512)) -> Camera:
    """A level camera at the middle."""
    return Camera(*middle(scene), 2.5, heading_deg, 360.0, 0.0, 0.0, hw, is_panorama=True)
