"""The camera of a street view, and the directions in which its pixels look."""

import math
from dataclasses import dataclass

import numpy as np

from preprocessing.towns.march import Lens


@dataclass(frozen=True)
class Camera:
    """Where a street view is taken from, and how.

    x_m, y_m: in the scene's CRS. height_m: above the surface there. heading_deg: of the image centre,
    clockwise from true north. hfov_deg: 360 for a whole panorama. roll_deg, pitch_deg: small; positive
    lowers the right side and looks up. hw: size in pixels. is_panorama: equirectangular with square pixels
    (a crop, horizon at mid-height), else a pinhole camera with a field of view below 180 degrees.
    """

    x_m: float
    y_m: float
    height_m: float
    heading_deg: float
    hfov_deg: float
    roll_deg: float
    pitch_deg: float
    hw: tuple[int, int]
    is_panorama: bool


def lens_of(camera: Camera, convergence_deg: float, lift_deg: float = 0.0) -> Lens:
    """Directions on the map grid. Roll and pitch shift columns up and down, exact to first order.

    lift_deg: elevation of the middle row of a panorama that was not cropped evenly.
    """
    h, w = camera.hw
    aside = np.arange(w) + 0.5 - w / 2
    up = h / 2 - (np.arange(h) + 0.5)
    grid_rad = math.radians(camera.heading_deg - convergence_deg)
    roll_rad, pitch_rad = math.radians(camera.roll_deg), math.radians(camera.pitch_deg)
    if camera.is_panorama:
        turn = aside * (math.radians(camera.hfov_deg) / w)
        scale = np.full(w, w / math.radians(camera.hfov_deg))
        shift = scale * (pitch_rad * np.cos(turn) - roll_rad * np.sin(turn) + math.radians(lift_deg))
        tangent = np.tan(np.clip((up + shift[:, None]) / scale[:, None], -1.55, 1.55))
    else:
        focal_px = w / 2 / math.tan(math.radians(camera.hfov_deg) / 2)
        turn = np.arctan2(aside, focal_px)
        scale = np.hypot(aside, focal_px)
        shift = focal_px * math.tan(pitch_rad) - aside * math.tan(roll_rad)
        tangent = (up + shift[:, None]) / scale[:, None]
    east, north = np.sin(grid_rad + turn), np.cos(grid_rad + turn)
    parts = (part.astype(np.float32) for part in (east, north, tangent, scale, h / 2 + shift))
    return Lens(camera.is_panorama, *parts)
