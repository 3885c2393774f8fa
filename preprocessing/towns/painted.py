"""A town in the light of one day: the part of rendering that is done once for all its views."""

from dataclasses import dataclass

import numpy as np
import pyproj
from jaxtyping import Float32, UInt8, UInt32
from scipy import ndimage

from geoloc.places import to_lonlat
from preprocessing.towns import noise
from preprocessing.towns.colours import seen_from_above
from preprocessing.towns.owners import Owners, owners_of
from preprocessing.towns.scene import Scene, Surface
from preprocessing.towns.shadows import foliage_shade, shadow_height
from preprocessing.towns.weather import Weather

WHITE = 1.5
LEVELS = 4
BAND = 512
"""Rows that are lit at a time."""
RAISED = (
    Surface.ROOF_TILE,
    Surface.ROOF_FLAT,
    Surface.ROOF_METAL,
    Surface.TRUNK,
    Surface.CAR,
    Surface.LAMP_POST,
)
ROOFS = (Surface.ROOF_TILE, Surface.ROOF_FLAT, Surface.ROOF_METAL)


@dataclass(frozen=True)
class Painted:
    """A scene, its weather and what the two make together.

    texture: the lit colours seen from above (crowns left out) as packed RGBA bytes, a pyramid of
    halved copies: RGB is value / WHITE; A is 255 on what stands on the ground, 0 on the ground itself.
    shadow_m: height below which a point lies in shadow. face: which side of its owner a wall pixel
    belongs to, counted in quarter turns clockwise from the owner's axis. crown_top_m, crown_bottom_m:
    the scene's, roughened. convergence_deg: bearing of grid north from true north.
    """

    scene: Scene
    weather: Weather
    owners: Owners
    texture: tuple[UInt32[np.ndarray, "h w"], ...]
    shadow_m: Float32[np.ndarray, "h w"]
    face: UInt8[np.ndarray, "h w"]
    crown_top_m: Float32[np.ndarray, "h w"]
    crown_bottom_m: Float32[np.ndarray, "h w"]
    convergence_deg: float


def paint(scene: Scene, weather: Weather) -> Painted:
    """Light and colour a scene: a few seconds per square kilometre."""
    owners = owners_of(scene, weather.look)
    shadow_m = shadow_height(scene, weather)
    lit = _lit_colours(scene, weather, owners, shadow_m)
    return Painted(
        scene,
        weather,
        owners,
        _pyramid(_smooth(lit) if weather.look is None else lit),
        shadow_m,
        _faces(scene, owners),
        *_rough_crowns(scene),
        _convergence_deg(scene),
    )


def light(weather: Weather, facing_sun: np.ndarray, openness: np.ndarray) -> Float32[np.ndarray, "3 *n"]:
    """Gain of an sRGB colour: the root of the linear light, which stands for the camera's gamma.

    facing_sun: cosine to the sun, 0 in shadow. openness: the part of the sky that is seen, 0 to 1.
    """
    gain = np.empty((3, *facing_sun.shape), np.float32)
    for channel, ambient, sunlight in zip(gain, weather.ambient, weather.sunlight, strict=True):
        np.sqrt(facing_sun * np.float32(sunlight) + openness * np.float32(ambient), out=channel)
    return gain


def _lit_colours(
    scene: Scene, weather: Weather, owners: Owners, shadow_m: np.ndarray
) -> UInt8[np.ndarray, "h w 4"]:
    shade = foliage_shade(scene, weather)
    around_m = ndimage.uniform_filter(scene.height_m, round(3 / scene.gsd_m) | 1)
    lit = np.zeros((*scene.surface.shape, 4), np.uint8)
    for top in range(0, len(lit), BAND):
        rows = slice(top, top + BAND)
        colours = seen_from_above(scene, weather, owners, rows)
        above_m = scene.height_m[rows] - shadow_m[rows]
        sunlit = np.clip(above_m / np.float32(0.3) + 1, 0, 1) * (1 - shade[rows])
        openness = 1 - np.clip((around_m[rows] - scene.height_m[rows]) / 12, 0, 0.45)
        openness *= 1 - 0.35 * shade[rows]
        colours *= light(weather, _facing_sun(scene, weather, rows) * sunlit, openness)
        lit[rows, :, :3] = np.clip(colours * np.float32(255 / WHITE), 0, 255).transpose(1, 2, 0)
    lit[..., 3] = np.where(np.isin(scene.surface, RAISED), 255, 0)
    return lit


def _facing_sun(scene: Scene, weather: Weather, rows: slice) -> Float32[np.ndarray, "h w"]:
    """Cosine between the sun and the surface: level ground, pitched roofs."""
    east, north, up = weather.sun
    level = _sloping(scene, weather, rows)
    pitched = np.isin(scene.surface[rows], ROOFS)
    if not pitched.any():
        return level
    padded = np.pad(scene.height_m, 1, mode="edge")[rows.start : rows.start + len(level) + 2]
    to_east = (
        _milder(padded[1:-1, 2:] - padded[1:-1, 1:-1], padded[1:-1, 1:-1] - padded[1:-1, :-2]) / scene.gsd_m
    )
    to_north = (
        _milder(padded[:-2, 1:-1] - padded[1:-1, 1:-1], padded[1:-1, 1:-1] - padded[2:, 1:-1]) / scene.gsd_m
    )
    cosine = (up - to_east * east - to_north * north) / np.sqrt(1 + to_east * to_east + to_north * to_north)
    return np.where(pitched, np.clip(cosine, 0, 1), level).astype(np.float32)


def _sloping(scene: Scene, weather: Weather, rows: slice) -> Float32[np.ndarray, "h w"]:
    """Cosine between the sun and the land, which is level but for the hills of worlds."""
    east, north, up = weather.sun
    shape = scene.surface[rows].shape
    if scene.land_m is None:
        return np.full(shape, up, np.float32)
    padded = np.pad(scene.land_m, 1, mode="edge")[rows.start : rows.start + shape[0] + 2]
    to_east = (padded[1:-1, 2:] - padded[1:-1, :-2]) / np.float32(2 * scene.gsd_m)
    to_north = (padded[:-2, 1:-1] - padded[2:, 1:-1]) / np.float32(2 * scene.gsd_m)
    steep = np.sqrt(1 + to_east * to_east + to_north * to_north)
    cosine = (np.float32(up) - to_east * np.float32(east) - to_north * np.float32(north)) / steep
    return np.asarray(np.clip(cosine, 0, 1), np.float32)


def _milder(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The smaller of two slopes, so that the drop at the eaves does not count as roof."""
    return np.where(np.abs(one) < np.abs(other), one, other)


def _smooth(lit: UInt8[np.ndarray, "h w 4"]) -> UInt8[np.ndarray, "h w 4"]:
    """Round the stairs of lines on the ground, with weights 1 4 1 both ways; leave roofs and cars sharp."""
    wide = np.pad(lit, ((1, 1), (1, 1), (0, 0)), mode="edge").astype(np.uint16)
    tall = wide[:-2] + 4 * wide[1:-1] + wide[2:]
    soft = ((tall[:, :-2] + 4 * tall[:, 1:-1] + tall[:, 2:] + 18) // 36).astype(np.uint8)
    return np.where(soft[..., 3:] == 0, soft, lit)


def _pyramid(lit: UInt8[np.ndarray, "h w 4"]) -> tuple[UInt32[np.ndarray, "h w"], ...]:
    levels = [lit]
    for _ in range(LEVELS - 1):
        h, w = levels[-1].shape[0] & ~1, levels[-1].shape[1] & ~1
        wide = levels[-1][:h, :w].astype(np.uint16)
        levels.append(
            ((wide[::2, ::2] + wide[1::2, ::2] + wide[::2, 1::2] + wide[1::2, 1::2] + 2) // 4).astype(
                np.uint8
            )
        )
    return tuple(np.ascontiguousarray(level).view(np.uint32)[..., 0] for level in levels)


def _faces(scene: Scene, owners: Owners) -> UInt8[np.ndarray, "h w"]:
    """The quarter of the compass, from the owner's axis, in which the ground falls away."""
    smooth_m = ndimage.uniform_filter(scene.height_m, 5)
    face = np.zeros(scene.owner.shape, np.uint8)
    row, column = np.nonzero(scene.owner)
    owner = scene.owner[row, column]
    h, w = scene.owner.shape
    east = smooth_m[row, np.maximum(column - 1, 0)] - smooth_m[row, np.minimum(column + 1, w - 1)]
    north = smooth_m[np.minimum(row + 1, h - 1), column] - smooth_m[np.maximum(row - 1, 0), column]
    along = east * owners.east[owner] + north * owners.north[owner]
    right = east * owners.north[owner] - north * owners.east[owner]
    sideways = np.abs(right) > np.abs(along)
    face[row, column] = np.where(sideways, np.where(right > 0, 1, 3), np.where(along > 0, 0, 2))
    return face


def _rough_crowns(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Crowns with the lumps that leaves and boughs make."""
    row, column = np.nonzero(scene.crown_top_m)
    top, bottom = scene.crown_top_m.copy(), scene.crown_bottom_m.copy()
    thick = top[row, column] - bottom[row, column]
    scale = np.float32(scene.gsd_m / 0.3)
    lump = noise.sample(3, column * scale, row * scale) - np.float32(0.5)
    top[row, column] += lump * np.minimum(thick, np.float32(1.6))
    bottom[row, column] += lump * np.minimum(thick, np.float32(1.2)) * np.float32(0.7)
    return top, bottom


def _convergence_deg(scene: Scene) -> float:
    h, w = scene.height_m.shape
    lonlat = to_lonlat(scene.crs).transform(
        scene.west_m + w * scene.gsd_m / 2, scene.north_m - h * scene.gsd_m / 2
    )
    return float(pyproj.Proj(scene.crs).get_factors(*lonlat).meridian_convergence)
