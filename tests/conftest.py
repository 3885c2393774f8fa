"""What tests share: a tiny model and generated images."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from geoloc.encoder import TwinEncoder
from geoloc.spec import EncoderSpec
from geoloc.street_view import StreetView


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images, where the machine has it."""
    folder = os.environ.get("GEOLOC_REAL_DATA")
    if not folder:
        pytest.skip("GEOLOC_REAL_DATA is not set: no real images here")
    return Path(folder)


@pytest.fixture(scope="session")
def tiny_spec() -> EncoderSpec:
    return EncoderSpec(
        backbone="test_resnet",
        stage=2,
        shared=False,
        azimuth_bins=8,
        channels=4,
        street_hw=(32, 128),
        street_elevation_deg=(-45.0, 45.0),
        satellite_px=48,
        polar=True,
        footprint_m=48.0,
    )


@pytest.fixture
def tiny_encoder(tiny_spec: EncoderSpec) -> TwinEncoder:
    torch.manual_seed(0)
    return TwinEncoder(tiny_spec).eval()


@pytest.fixture(scope="session")
def panorama() -> StreetView:
    """A panorama whose red is the azimuth and whose green is the elevation, 360 x 90 degrees."""
    red = np.linspace(0, 255, 512).astype(np.uint8)
    green = np.linspace(255, 0, 128).astype(np.uint8)
    rgb = np.zeros((128, 512, 3), np.uint8)
    rgb[..., 0], rgb[..., 1] = red[None, :], green[:, None]
    return StreetView(rgb, "made", None, 0.0, 360.0, True)
