"""A tiny world: imagery of known content, and an encoder that is a fixed random projection."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
import torch.nn.functional as F
from rasterio.transform import from_origin
from torch import Tensor, nn

from geoloc.spec import EncoderSpec

SPEC = EncoderSpec(
    backbone="resnet18",
    stage=2,
    shared=True,
    azimuth_bins=4,
    channels=6,
    street_hw=(16, 64),
    street_elevation_deg=(-45.0, 30.0),
    satellite_px=16,
    polar=True,
    footprint_m=32.0,
)


class FakeEncoder(nn.Module):
    """Embeds a tile by a fixed random projection of its pixels."""

    def __init__(self, spec: EncoderSpec = SPEC) -> None:
        super().__init__()
        self.spec = spec
        size = 3 * spec.satellite_px**2
        weights = torch.randn(spec.dim, size, generator=torch.Generator().manual_seed(0))
        self.register_buffer("weights", weights)

    def embed_satellite(self, batch: Tensor) -> Tensor:
        flat = batch.flatten(1)
        return F.normalize((flat - flat.mean(1, keepdim=True)) @ self.weights.T, dim=1)


def write_tif(
    path: Path, values: np.ndarray, crs: str, left: float, top: float, gsd: float, **options
) -> Path:
    """`values` (band, h, w) as a north-up GeoTIFF."""
    bands, h, w = values.shape
    shape = {"count": bands, "height": h, "width": w, "dtype": values.dtype}
    transform = from_origin(left, top, gsd, gsd)
    with rasterio.open(
        path, "w", driver="GTiff", crs=crs, transform=transform, **shape, **options
    ) as dataset:
        dataset.write(values)
    return path


def noise(h: int, w: int, seed: int = 0) -> np.ndarray:
    """Smooth random RGB (3, h, w), uint8, so that resampling changes little."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(20, 235, (3, h // 8 + 2, w // 8 + 2))
    fine = coarse.repeat(8, axis=1).repeat(8, axis=2)
    for axis in (1, 2):
        for _ in range(2):
            fine = sum(np.roll(fine, shift, axis) for shift in range(-3, 4)) / 7
    return fine[:, :h, :w].astype(np.uint8)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's folder whose weights nobody loads: tests inject FakeEncoder."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "weights.safetensors").write_bytes(b"not loaded")
    (folder / "spec.json").write_text(SPEC.to_json())
    return folder


@pytest.fixture(scope="session")
def ortho(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 m x 300 m of UTM 32N at 1 m."""
    path = tmp_path_factory.mktemp("imagery") / "ortho.tif"
    return write_tif(path, noise(300, 400), "EPSG:32632", 500_000, 5_300_300, 1.0, tiled=True)


@pytest.fixture(scope="session")
def gallery(tmp_path_factory: pytest.TempPathFactory, ortho: Path, model: Path) -> Path:
    """A published gallery of the ortho; copy it before breaking it."""
    from indexing.build import build_gallery

    out = tmp_path_factory.mktemp("galleries") / "g"
    build_gallery([ortho], model, out, stride_m=8, encoder=FakeEncoder())
    return out
