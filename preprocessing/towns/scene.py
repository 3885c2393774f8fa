"""A town on one day, as rasters: what the orthophoto and the street views both look at."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from jaxtyping import Float32, Int8, Int32, UInt8


class Surface(IntEnum):
    """What a pixel of the ground or of a roof is made of."""

    GRASS = 0
    DIRT = 1
    WATER = 2
    ASPHALT = 3
    LANE_MARKING = 4
    ZEBRA = 5
    PAVEMENT = 6
    KERB = 7
    PARKING = 8
    DRIVEWAY = 9
    PATH = 10
    ROOF_TILE = 11
    ROOF_FLAT = 12
    ROOF_METAL = 13
    TRUNK = 14
    HEDGE = 15
    FENCE = 16
    LAMP_POST = 17
    CAR = 18
    CROWN = 19
    FACADE = 20
    SKY = 21
    # only in worlds:
    YELLOW_MARKING = 22
    GRAVEL = 23
    SOIL = 24
    CROP = 25
    CEREAL = 26
    STUBBLE = 27
    SCRUB = 28
    LITTER = 29
    SAND = 30
    ROCK = 31
    CONCRETE = 32
    POLE = 33
    GUARD_RAIL = 34
    BONNET = 35
    DISTANCE = 36


@dataclass(frozen=True)
class Scene:
    """Rasters of one shape (h, w), north up, row 0 the northern edge.

    gsd_m: metres per pixel. crs: a UTM zone. west_m, north_m: the outer corner of pixel (0, 0) in it.
    height_m: the solid surface above the town's datum: ground, buildings, cars, trunks, posts.
    surface: a `Surface` per pixel, seen from above (crowns excluded). owner: 0 for the ground, else
    the id of the building or car that stands there; its style is drawn from that number.
    axis_deg: bearing of the longer wall of the building there, so facades get straight windows.
    crown_top_m, crown_bottom_m: foliage that floats between the two, both 0 where there is none.
    crown_id: the tree, for its colour; 0 where there is none.

    A world has three more: land_m, the hills, which `height_m` and the crowns include; patch, how far
    each pixel's material has given way to another (0 to 255: bare earth in a lawn, the earth between
    rows); grain, how much brighter or darker it is than its material (-127 to 127).
    """

    gsd_m: float
    crs: str
    west_m: float
    north_m: float
    height_m: Float32[np.ndarray, "h w"]
    surface: UInt8[np.ndarray, "h w"]
    owner: Int32[np.ndarray, "h w"]
    axis_deg: Float32[np.ndarray, "h w"]
    crown_top_m: Float32[np.ndarray, "h w"]
    crown_bottom_m: Float32[np.ndarray, "h w"]
    crown_id: Int32[np.ndarray, "h w"]
    land_m: Float32[np.ndarray, "h w"] | None = None
    patch: UInt8[np.ndarray, "h w"] | None = None
    grain: Int8[np.ndarray, "h w"] | None = None
