"""Street views: what a camera at eye level sees of a painted town."""

import numpy as np
from jaxtyping import Float32, UInt8

from preprocessing.towns.crowns import crowns
from preprocessing.towns.lens import Camera, lens_of
from preprocessing.towns.march import Ground, Rays, march, ranges_m, rays_of
from preprocessing.towns.painted import Painted
from preprocessing.towns.pixels import Pixels, empty_sky
from preprocessing.towns.scene import Scene, Surface
from preprocessing.towns.sky import horizon_colour, sky
from preprocessing.towns.solids import solids
from preprocessing.towns.traffic import pass_by
from preprocessing.towns.weather import Weather
from preprocessing.towns.worlds.film import compressed, cover_nadir, expose, metered, through_lens
from preprocessing.towns.worlds.skies import wide_sky


def render(
    painted: Painted, camera: Camera, rng: np.random.Generator
) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"]]:
    """One view: colours and, per pixel, its `Surface`.

    rng draws what belongs to this photo alone: passing vehicles, exposure, sensor noise.
    """
    look = painted.weather.look
    lens = lens_of(camera, painted.convergence_deg, 0.0 if look is None else look.film.lift_deg)
    ground = _ground(painted.scene, camera)
    heights = painted.scene.height_m.ravel()
    eye_m = float(heights[ground.index(np.zeros(1), lens.east[:1], lens.north[:1])[0]]) + camera.height_m
    step, index = march(heights, ground, lens, eye_m)

    step = step.ravel()
    image = empty_sky(step.size)
    sky_pixels, met = np.flatnonzero(step == len(ranges_m())), np.flatnonzero(step < len(ranges_m()))
    image.put(sky_pixels, _heavens(painted.weather, rays_of(lens, sky_pixels)))
    image.put(met, solids(painted, ground, rays_of(lens, met), step[met], eye_m))
    image.put(*crowns(painted, ground, lens, eye_m, index, image.range_m))
    if rng.uniform() < painted.weather.traffic:
        pass_by(painted, ground, lens, camera.height_m, image, rng)
    _haze(painted.weather, image)

    w, h = lens.tangent.shape
    light = image.colours.reshape(3, w, h).transpose(0, 2, 1)
    surface = np.ascontiguousarray(image.surface.reshape(w, h).T)
    if look is not None:
        light = np.ascontiguousarray(light)
        cover_nadir(look.film, camera, light, surface, rng)
        through_lens(look.film, camera, light, rng)
    gain = rng.uniform(0.95, 1.05) * (1.0 if look is None else metered(look.film, light))
    rgb = develop(painted.weather, light, gain, rng)
    return rgb if look is None else compressed(rgb, look.film.jpeg), surface


def _heavens(weather: Weather, rays: Rays) -> Pixels:
    """The sky, and in worlds the land beyond the map."""
    surface = np.full(len(rays.pixel), Surface.SKY, np.uint8)
    range_m = np.full(len(rays.pixel), np.inf, np.float32)
    if weather.look is None:
        return Pixels(sky(weather, rays), surface, range_m)
    colours, land = wide_sky(weather, weather.look.sky, rays)
    surface[land] = Surface.DISTANCE
    return Pixels(colours, surface, range_m)


def _ground(scene: Scene, camera: Camera) -> Ground:
    h, w = scene.height_m.shape
    column, row = (camera.x_m - scene.west_m) / scene.gsd_m, (scene.north_m - camera.y_m) / scene.gsd_m
    return Ground((h, w), scene.gsd_m, column, row)


def _haze(weather: Weather, image: Pixels) -> None:
    """The further, the more of the horizon's colour; rational, for an exponential is not exact everywhere."""
    depth = np.where(np.isfinite(image.range_m), image.range_m, 0) * np.float32(1 / weather.visibility_m)
    veil = 1 - 1 / (1 + depth + depth * depth / 2)
    for channel, horizon in zip(image.colours, horizon_colour(weather), strict=True):
        channel += veil * (horizon - channel)


def develop(
    weather: Weather, colours: Float32[np.ndarray, "3 h w"], gain: float, rng: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
    """What the camera makes of light: exposure, white balance, a soft shoulder for highlights, noise."""
    if weather.look is not None:
        return expose(weather, weather.look.film, colours, gain, rng)
    gains = np.sqrt(weather.exposure) * gain * np.array(weather.white_balance)
    _, h, w = colours.shape
    spread = np.float32(weather.noise * 2.45)
    rgb = np.empty((h, w, 3), np.uint8)
    for channel, light, channel_gain in zip(range(3), colours, gains.astype(np.float32), strict=True):
        exposed = light * channel_gain
        over = np.maximum(exposed - np.float32(0.8), 0)
        exposed -= over * over / (over + np.float32(0.35))
        exposed *= 255
        grain = rng.integers(0, 256, (2, h, w), np.uint8).astype(np.float32)
        exposed += (grain[0] - grain[1]) * spread
        rgb[..., channel] = np.clip(exposed, 0, 255, out=exposed)
    return rgb
