"""One gallery for all tests; copy it before breaking it."""

import shutil
from pathlib import Path

import pytest
from fake_encoder import SPEC, FakeEncoder
from rasterio.transform import from_origin
from tiny_imagery import UTM, noise, write

from indexing.build import build_gallery


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
    return write(path, noise(300, 400), UTM, from_origin(500_000, 5_300_300, 1, 1), tiled=True)


@pytest.fixture(scope="session")
def gallery(tmp_path_factory: pytest.TempPathFactory, ortho: Path, model: Path) -> Path:
    """A published gallery of the ortho; copy it before breaking it."""
    out = tmp_path_factory.mktemp("galleries") / "g"
    build_gallery([ortho], model, out, stride_m=8, encoder=FakeEncoder())
    return out


@pytest.fixture
def gallery_copy(tmp_path: Path, gallery: Path) -> Path:
    """A copy of the gallery, to be changed."""
    return Path(shutil.copytree(gallery, tmp_path / "copy"))
