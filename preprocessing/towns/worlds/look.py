"""How one view of a world looks on its day: colours, sky, film, flight. Drawn for each view on its own."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from preprocessing.towns.weather import RGB


@dataclass(frozen=True)
class SkyLook:
    """Colours are sRGB from 0. far: of the land beyond the map; hills_deg, trees_deg: how high it rises.

    cloud_scale: size of clouds; cloud_cover from 0 to 1. glare: strength of the light around the sun.
    """

    zenith: RGB
    horizon: RGB
    cloud: RGB
    far: RGB
    wood: RGB
    hills_deg: float
    trees_deg: float
    veil: float
    cloud_scale: float
    cloud_cover: float
    glare: float


@dataclass(frozen=True)
class Film:
    """What camera and codec make of light.

    gamma, contrast, saturation: 1 changes nothing. tint: gain per channel. vignette: light lost at the
    upper and lower edge. lenses: of a panorama, each a little brighter or darker by `uneven`. soften_px:
    blur; sharpen: strength of the edges' halo. jpeg: quality of a first compression. nadir: "none",
    "smear" or "bonnet". target: the mean level (0 to 255) that automatic exposure strives for, auto: how
    far it gets, from 0 to 1. lift_deg: elevation of a panorama's middle row that its metadata do not tell.
    """

    gamma: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    tint: RGB = (1.0, 1.0, 1.0)
    vignette: float = 0.0
    lenses: int = 1
    uneven: float = 0.0
    soften_px: float = 0.0
    sharpen: float = 0.0
    jpeg: int = 92
    nadir: str = "none"
    target: float = 118.0
    auto: float = 0.0
    lift_deg: float = 0.0


@dataclass(frozen=True)
class Flight:
    """How an orthophoto was flown. lean: metres east and north that tops move per metre of height, on
    either side of the seam; seam_deg: its bearing; seam_at: where it crosses, as a share of the side.
    step: gain of the second side.
    """

    lean: tuple[tuple[float, float], tuple[float, float]]
    seam_deg: float
    seam_at: float
    step: RGB


@dataclass(frozen=True)
class Look:
    """The look of one view on one day.

    ground, patch: the colour of each `Surface`, and of what it gives way to (see `Scene.patch`), sRGB
    from 0 to 1. leaf: two colours for each species; bare: how much of its foliage has fallen; dense: how
    little light it lets through. grain: strength of `Scene.grain`. roofs, walls: palettes of the houses.
    flight: of an orthophoto.
    """

    ground: Float32[np.ndarray, "3 s"]
    patch: Float32[np.ndarray, "3 s"]
    leaf: Float32[np.ndarray, "2 3 8"]
    bare: Float32[np.ndarray, " 8"]
    dense: Float32[np.ndarray, " 8"]
    grain: float
    roofs: tuple[RGB, ...]
    walls: tuple[RGB, ...]
    sky: SkyLook
    film: Film
    flight: Flight | None
