"""A small world for the faces: imagery of noise, a tiny untrained model, its gallery, street views."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import rasterio
import torch
from rasterio.transform import from_origin

from geoloc.encoder import TwinEncoder
from geoloc.model import save_encoder
from geoloc.places import LonLat
from geoloc.spec import EncoderSpec
from indexing.build import build_gallery
from preprocessing.towns.metadata import write_street_view
from preprocessing.towns.table import write_table

CRS = "EPSG:32635"
WEST_M, NORTH_M, SIDE_M, GSD_M = 385_000.0, 6_672_000.0, 300.0, 0.5
PLACE = LonLat(24.9345, 60.1685)


@dataclass(frozen=True)
class World:
    """Where the files are. panorama: heading 120 degrees. table: of panorama and photo, as samples."""

    ortho: Path
    model: Path
    gallery: Path
    panorama: Path
    photo: Path
    table: Path


def noise(h: int, w: int, seed: int) -> np.ndarray:
    """Blocky random RGB, (h, w, 3)."""
    coarse = np.random.default_rng(seed).integers(30, 225, (h // 8 + 1, w // 8 + 1, 3), np.uint8)
    return coarse.repeat(8, axis=0).repeat(8, axis=1)[:h, :w]


def _write_ortho(path: Path) -> Path:
    side = round(SIDE_M / GSD_M)
    transform = from_origin(WEST_M, NORTH_M, GSD_M, GSD_M)
    shape = {"count": 3, "height": side, "width": side, "dtype": "uint8"}
    with rasterio.open(path, "w", driver="GTiff", crs=CRS, transform=transform, **shape) as dataset:
        dataset.write(noise(side, side, 1).transpose(2, 0, 1))
    return path


def write_sample(path: Path, *, hfov_deg: float, is_panorama: bool) -> Path:
    """A street view of noise at PLACE, looking to 120 degrees."""
    hw = (64, 256) if is_panorama else (96, 128)
    write_street_view(
        path,
        noise(*hw, 2),
        lonlat=PLACE,
        heading_deg=120.0,
        hfov_deg=hfov_deg,
        is_panorama=is_panorama,
        taken_at=datetime(2026, 5, 4, 12, tzinfo=UTC),
    )
    return path


def _write_samples(folder: Path) -> tuple[Path, Path, Path]:
    panorama = write_sample(folder / "panorama-01.jpg", hfov_deg=360.0, is_panorama=True)
    photo = write_sample(folder / "photo-01.jpg", hfov_deg=80.0, is_panorama=False)
    rows = [
        {
            "id": number,
            "street": path.name,
            "lon": PLACE.lon,
            "lat": PLACE.lat,
            "heading_deg": 120.0,
            "hfov_deg": hfov_deg,
            "is_panorama": hfov_deg == 360,
        }
        for number, (path, hfov_deg) in enumerate(((photo, 80.0), (panorama, 360.0)))
    ]
    write_table(folder / "street_views.parquet", rows)
    return panorama, photo, folder / "street_views.parquet"


def make_world(folder: Path, spec: EncoderSpec) -> World:
    """300 m x 300 m at 60 degrees north, tiled every 40 m."""
    ortho, model, gallery = _write_ortho(folder / "ortho.tif"), folder / "model", folder / "gallery"
    torch.manual_seed(0)
    save_encoder(TwinEncoder(spec), model, "tiny and untrained")
    build_gallery([ortho], model, gallery, stride_m=40)
    return World(ortho, model, gallery, *_write_samples(folder))
