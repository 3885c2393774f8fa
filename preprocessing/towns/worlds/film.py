"""What a camera, a stitcher and a codec make of light."""

import io
import math

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image
from scipy import ndimage

from preprocessing.towns.lens import Camera
from preprocessing.towns.scene import Surface
from preprocessing.towns.weather import Weather
from preprocessing.towns.worlds.look import Film

STEPS = 2048
BRIGHTEST = 2.0


def metered(film: Film, light: Float32[np.ndarray, "3 *n"]) -> float:
    """The gain of automatic exposure. Whole numbers are summed, so that every machine finds the same."""
    total = int(np.clip(light[1] * np.float32(255), 1, 400).astype(np.int64).sum())
    target = 255 * math.pow(film.target / 255, 1 / film.gamma)
    return math.pow(target * light[1].size / total, film.auto)


def expose(
    weather: Weather, film: Film, colours: Float32[np.ndarray, "3 h w"], gain: float, rng: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
    """Gain, tint, saturation, tone, blur and halo, noise; light of 0 and up in place of `street.develop`."""
    grey = (colours[0] + colours[1] + colours[1] + colours[2]) * np.float32(0.25)
    gains = math.sqrt(weather.exposure) * gain * np.array(weather.white_balance) * np.array(film.tint)
    _, h, w = colours.shape
    spread = np.float32(weather.noise * 2.45)
    tone = _tone(film)
    rgb = np.empty((h, w, 3), np.uint8)
    for channel, light, level in zip(range(3), colours, gains.astype(np.float32), strict=True):
        exposed = (grey + np.float32(film.saturation) * (light - grey)) * level
        exposed = tone[np.clip(exposed * np.float32(STEPS / BRIGHTEST), 0, STEPS - 1).astype(np.int32)]
        if film.soften_px > 0.15:
            exposed = ndimage.gaussian_filter(exposed, film.soften_px, truncate=3)
        if film.sharpen:
            exposed = exposed + np.float32(film.sharpen) * (
                exposed - ndimage.gaussian_filter(exposed, 1.0, truncate=2)
            )
        grain = rng.integers(0, 256, (2, h, w), np.uint8).astype(np.float32)
        exposed += (grain[0] - grain[1]) * spread
        rgb[..., channel] = np.clip(exposed, 0, 255)
    return rgb


def _tone(film: Film) -> Float32[np.ndarray, " s"]:
    """0 to 255 for light from 0 to BRIGHTEST: gamma, contrast around the target, a soft shoulder."""
    values, middle = [], film.target / 255
    for step in range(STEPS):
        light = math.pow((step + 0.5) / STEPS * BRIGHTEST, film.gamma)
        light = middle + film.contrast * (light - middle)
        over, under = max(light - 0.75, 0.0), max(0.1 - light, 0.0)
        light -= over * over / (over + 0.35)
        light += under * under / (under + 0.12)
        values.append(255 * light)
    return np.array(values, np.float32)


def through_lens(
    film: Film, camera: Camera, colours: Float32[np.ndarray, "3 h w"], rng: np.random.Generator
) -> None:
    """Light lost towards the edges, and from lens to lens of a panorama, in place."""
    _, h, w = colours.shape
    row = (np.arange(h, dtype=np.float32) + np.float32(0.5)) / np.float32(h) * 2 - 1
    column = (np.arange(w, dtype=np.float32) + np.float32(0.5)) / np.float32(w)
    if camera.is_panorama:
        phase = column * film.lenses + np.float32(rng.uniform())
        lens = np.floor(phase).astype(np.int64) % film.lenses
        gains = 1 + film.uneven * rng.uniform(-1, 1, film.lenses)
        aside = (phase - np.floor(phase)) * 2 - 1
        colours *= gains.astype(np.float32)[lens]
        lost = (row * row)[:, None] + np.float32(0.25) * aside * aside
    else:
        lost = (row * row)[:, None] * np.float32(h / w) + (column * 2 - 1) ** 2
    colours *= 1 - np.float32(film.vignette) * np.minimum(lost, np.float32(1.6)) * np.float32(0.7)


def cover_nadir(
    film: Film, camera: Camera, colours: Float32[np.ndarray, "3 h w"], surface: UInt8[np.ndarray, "h w"],
    rng: np.random.Generator,
) -> None:  # fmt: skip
    """A stitcher's smear or the car's own bonnet below the camera, in place, if a panorama shows that."""
    if not camera.is_panorama or film.nadir == "none":
        return
    _, h, w = colours.shape
    below_deg = float(rng.uniform(26, 62))
    first = round(h / 2 + below_deg * w / camera.hfov_deg)
    paint, turn = np.float32(rng.uniform(0.1, 0.75)), float(rng.uniform())
    if first >= h - 2:
        return
    if film.nadir == "smear":
        width = np.linspace(2, w / 24, h - first)
        for row, size in zip(range(first, h), width, strict=True):
            colours[:, row] = ndimage.uniform_filter1d(colours[:, row], int(size), axis=-1, mode="wrap")
        return
    column = (np.arange(w) / w + turn) % 1.0
    bulge = np.abs(2 * np.abs(2 * column - 1) - 1)
    edge = first + (h - first) * 0.8 * bulge * bulge
    body = np.arange(h)[:, None] > edge
    shine = (np.arange(h)[:, None] - edge) / h
    colours[:] = np.where(
        body, paint * (np.float32(0.7) + np.clip(shine, 0, 0.5).astype(np.float32)), colours
    )
    surface[body] = Surface.BONNET


def compressed(rgb: UInt8[np.ndarray, "h w 3"], quality: int) -> UInt8[np.ndarray, "h w 3"]:
    """The image after a JPEG of that quality."""
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "JPEG", quality=quality)
    with Image.open(file) as image:
        return np.array(image)
