"""GeoTIFFs of known content, small enough to make for every test."""

from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin

UTM = "EPSG:32632"
LEFT, TOP = 500_000.0, 5_300_000.0


def write(path: Path, values: np.ndarray, crs=UTM, transform=None, roles=None, **options) -> Path:
    """`values` (band, h, w) as a GeoTIFF; by default 1 m pixels from LEFT, TOP."""
    bands, h, w = values.shape
    transform = from_origin(LEFT, TOP, 1, 1) if transform is None else transform
    shape = {"count": bands, "height": h, "width": w, "dtype": values.dtype}
    options = {"photometric": "RGB" if bands >= 3 else "MINISBLACK", **options}
    with rasterio.open(
        path, "w", driver="GTiff", crs=crs, transform=transform, **shape, **options
    ) as dataset:
        if roles:
            dataset.colorinterp = roles
        dataset.write(values)
    return path


def flat(colour, h=100, w=100, dtype=np.uint8) -> np.ndarray:
    """One colour, (band, h, w)."""
    return np.broadcast_to(np.array(colour, dtype)[:, None, None], (len(colour), h, w)).copy()


def noise(h: int, w: int, seed: int = 0) -> np.ndarray:
    """Smooth random RGB (3, h, w), uint8, so that resampling changes little."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(20, 235, (3, h // 8 + 2, w // 8 + 2))
    fine = coarse.repeat(8, axis=1).repeat(8, axis=2)
    for axis in (1, 2):
        for _ in range(2):
            fine = sum(np.roll(fine, shift, axis) for shift in range(-3, 4)) / 7
    return fine[:, :h, :w].astype(np.uint8)
