"""The town from far above: an orthophoto, what it shows, and the GeoTIFFs that carry both."""

from pathlib import Path

import numpy as np
import rasterio
from jaxtyping import Float32, UInt8
from rasterio.enums import Resampling
from rasterio.transform import from_origin
from scipy import ndimage

from geoloc.atomic import atomic_path
from preprocessing.towns import noise
from preprocessing.towns.colours import bareness, leaf_colours
from preprocessing.towns.painted import WHITE, Painted, light
from preprocessing.towns.scene import Scene, Surface
from preprocessing.towns.street import develop
from preprocessing.towns.worlds.film import metered
from preprocessing.towns.worlds.flight import mosaic

BLUR_PX = 0.45
BAND = 512


def orthophoto(painted: Painted, rng: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
    """The painted town seen straight down, crowns over ground, through a sensor that blurs and hisses."""
    h, w = painted.scene.surface.shape
    gain = _metered(painted)
    photo = np.empty((h, w, 3), np.uint8)
    for top in range(0, h, BAND):
        margin = min(top, 4)
        rows = slice(top - margin, min(top + BAND + 4, h))
        colours = _unpacked(painted.texture[0][rows])
        _add_crowns(painted, colours, rows)
        blurred = ndimage.gaussian_filter(colours, (0, BLUR_PX, BLUR_PX), truncate=3)
        photo[top : top + BAND] = develop(painted.weather, blurred[:, margin : margin + BAND], gain, rng)
    look = painted.weather.look
    return photo if look is None or look.flight is None else mosaic(photo, painted.scene, look.flight)


def _metered(painted: Painted) -> float:
    """The gain of automatic exposure, which only worlds have, from the coarsest map."""
    if painted.weather.look is None:
        return 1.0
    coarse = painted.texture[-1]
    return metered(painted.weather.look.film, _unpacked(coarse))


def _unpacked(packed: np.ndarray) -> Float32[np.ndarray, "3 h w"]:
    channels = [packed >> np.uint32(shift) & np.uint32(255) for shift in (0, 8, 16)]
    return np.stack(channels) * np.float32(WHITE / 255)


def _add_crowns(painted: Painted, colours: Float32[np.ndarray, "3 h w"], rows: slice) -> None:
    """Round crowns in the sun, with gaps through which the ground shows."""
    tops = painted.crown_top_m[max(rows.start - 1, 0) : rows.stop + 1]
    first = rows.start - max(rows.start - 1, 0)
    row, column = np.nonzero(painted.crown_top_m[rows])
    gsd_m, (east, north, up) = painted.scene.gsd_m, painted.weather.sun
    inner = row + first
    above, below = tops[np.maximum(inner - 1, 0), column], tops[np.minimum(inner + 1, len(tops) - 1), column]
    left, right = (
        tops[inner, np.maximum(column - 1, 0)],
        tops[inner, np.minimum(column + 1, tops.shape[1] - 1)],
    )
    to_east, to_north = (
        (slope / np.float32(2 * gsd_m)).clip(-1.5, 1.5) for slope in (right - left, above - below)
    )
    cosine = (up - to_east * east - to_north * north) / np.sqrt(1 + to_east * to_east + to_north * to_north)
    lit_m = tops[inner, column] - painted.shadow_m[rows][row, column]
    facing = (0.15 + 0.75 * np.clip(cosine, 0, 1)) * np.clip(lit_m + 0.5, 0.05, 1)

    speck = noise.sample(3, column, row + rows.start)
    bottom = painted.crown_bottom_m[rows][row, column]
    thickness_m = tops[inner, column] - bottom
    openness = 0.5 + 0.3 * np.clip(thickness_m / 6, 0, 1)
    start_m = painted.scene.crown_bottom_m[rows][row, column]
    tree = painted.scene.crown_id[rows][row, column]
    crown = leaf_colours(painted.weather, tree, start_m)
    crown *= light(painted.weather, facing.astype(np.float32), openness.astype(np.float32))
    crown *= np.float32(0.8) + np.float32(0.4) * speck
    bare = bareness(painted.weather, tree, start_m)
    cover = np.clip(0.4 + thickness_m * 0.6, 0, 1) * (1 - bare * (0.4 + speck).clip(0, 1))
    colours[:, row, column] += cover.astype(np.float32) * (crown - colours[:, row, column])


def write_orthophoto(path: Path, rgb: UInt8[np.ndarray, "h w 3"], scene: Scene) -> None:
    """A GeoTIFF in the scene's CRS: tiled, with overviews, JPEG inside.

    Atomic; raises GeolocError where the file cannot be written.
    """
    how = {"compress": "jpeg", "photometric": "ycbcr", "jpeg_quality": 88}
    _write_tiff(path, np.ascontiguousarray(rgb.transpose(2, 0, 1)), scene, Resampling.average, how)


def write_labels(folder: Path, name: str, scene: Scene) -> None:
    """What the orthophoto shows, pixel by pixel, as two GeoTIFFs: NAME-surface.tif and NAME-height.tif.

    A `Surface`, whose names are the file's tags, foliage over what it covers; and the height of the topmost
    thing in centimetres above the town's datum, 0 in a ditch below it. Tall things stand upright in both.
    Each is atomic; raises GeolocError where they cannot be written.
    """
    how = {"compress": "deflate", "zlevel": 6}
    leafy = scene.crown_top_m > 0
    surface = np.where(leafy, np.uint8(Surface.CROWN), scene.surface)
    names = {str(int(one)): one.name.lower() for one in Surface}
    _write_tiff(folder / f"{name}-surface.tif", surface[None], scene, Resampling.mode, how, names)
    top_m = np.where(leafy, np.maximum(scene.crown_top_m, scene.height_m), scene.height_m)
    top_cm = (top_m * 100).clip(0, 65_535).round().astype(np.uint16)
    _write_tiff(
        folder / f"{name}-height.tif", top_cm[None], scene, Resampling.average, how | {"predictor": 2}
    )


def _write_tiff(
    path: Path,
    bands: np.ndarray,
    scene: Scene,
    coarser: Resampling,
    how: dict[str, object],
    tags: dict[str, str] | None = None,
) -> None:
    """Made in memory, as GDAL may take a full disk for a success."""
    count, h, w = bands.shape
    profile = {
        "driver": "GTiff", "width": w, "height": h, "count": count, "dtype": bands.dtype, "crs": scene.crs,
        "transform": from_origin(scene.west_m, scene.north_m, scene.gsd_m, scene.gsd_m),
        "tiled": True, "blockxsize": 256, "blockysize": 256, **how,
    }  # fmt: skip
    factors = [2**level for level in range(1, 6) if max(h, w) >> level >= 128]
    with atomic_path(path) as draft, rasterio.MemoryFile() as memory:
        with rasterio.Env(JPEG_QUALITY_OVERVIEW=85), memory.open(**profile) as tiff:
            tiff.write(bands)
            tiff.update_tags(**(tags or {}))
            tiff.build_overviews(factors, coarser)
        draft.write_bytes(memory.read())
