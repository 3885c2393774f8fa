"""What a build is said to cost beforehand, beside what it does cost."""

import faiss
import numpy as np
import pytest
from fake_encoder import SPEC, FakeEncoder
from rasterio.transform import from_origin
from tiny_imagery import UTM, noise, write

from geoloc.errors import GalleryError, ImageryError
from indexing.build import build_gallery, plan_build
from indexing.embed import CPU_BATCH
from indexing.faiss_index import fill_index
from indexing.gallery import Gallery
from indexing.plan import estimate, index_bytes, measure


def plan(imagery, model, stride_m=8.0, region=None):
    return plan_build([imagery], model, FakeEncoder(), stride_m, region)


@pytest.mark.parametrize("stride_m", [4, 8])
@pytest.mark.parametrize("factory", ["auto", "IVF4,SQ8"])
def test_tiles_and_disk_are_within_15_per_cent(tmp_path, ortho, model, stride_m, factory):
    cost = estimate(plan(ortho, model, stride_m), FakeEncoder(), model, factory, seconds=0.1)
    assert sorted(path.name for path in tmp_path.iterdir()) == []
    build_gallery([ortho], model, tmp_path / "g", stride_m=stride_m, index=factory, encoder=FakeEncoder())
    with Gallery.open(tmp_path / "g") as gallery:
        assert cost.tiles == pytest.approx(len(gallery), rel=0.05)
        assert cost.index == gallery.manifest.segments[0].index
        disk = sum(file.bytes for file in gallery.manifest.files)
        assert cost.area_km2 == pytest.approx(len(gallery) * gallery.manifest.stride_m**2 / 1e6, rel=0.05)
    assert cost.disk_bytes == pytest.approx(disk, rel=0.15)


def test_ground_without_pixels_is_not_counted(tmp_path, model):
    values = noise(400, 400)
    values[:, :, 200:] = 0
    path = write(tmp_path / "a.tif", values, UTM, from_origin(500_000, 5_300_400, 1, 1), nodata=0)
    cost = estimate(plan(path, model), FakeEncoder(), model, seconds=0.5)
    build_gallery([path], model, tmp_path / "g", stride_m=8, encoder=FakeEncoder())
    with Gallery.open(tmp_path / "g") as gallery:
        assert cost.tiles == pytest.approx(len(gallery), rel=0.1)


def test_imagery_without_a_valid_pixel_is_refused(tmp_path, model):
    path = write(tmp_path / "a.tif", np.zeros((3, 90, 90), np.uint8), nodata=0)
    with pytest.raises(ImageryError, match="enough valid pixels"):
        estimate(plan(path, model), FakeEncoder(), model)


def test_the_sample_is_bounded_and_real(ortho, model):
    sample = measure(plan(ortho, model, 4.0), FakeEncoder(), seconds=0.0)
    assert CPU_BATCH <= sample.embedded <= 2 * CPU_BATCH and 0 < sample.kept <= sample.planned <= 1024
    assert sample.cut_s > 0 and sample.embed_s > 0


def test_a_senseless_index_is_refused(ortho, model):
    with pytest.raises(GalleryError, match="FAISS factory"):
        estimate(plan(ortho, model), FakeEncoder(), model, "IVFfoo")
    with pytest.raises(GalleryError, match="wants more of them"):
        estimate(plan(ortho, model), FakeEncoder(), model, "IVF999999,Flat")


@pytest.mark.parametrize(
    "factory", ["Flat", "SQ8", "SQfp16", "HNSW8", "IVF16,Flat", "IVF16,SQ8", "PCA12,IVF16,SQ8"]
)
def test_the_size_of_an_index_is_that_of_its_file(factory):
    dim, rows = 24, 3000
    vectors = np.random.default_rng(0).normal(size=(rows, dim)).astype(np.float16)
    filled = fill_index(factory, dim, rows, lambda: iter([vectors]))
    assert index_bytes(factory, dim, rows) == pytest.approx(len(faiss.serialize_index(filled)), rel=0.05)


def test_hours_follow_from_the_tiles(ortho, model):
    coarse, fine = (estimate(plan(ortho, model, m), FakeEncoder(), model, seconds=0.2) for m in (8.0, 4.0))
    assert fine.tiles > 3 * coarse.tiles and fine.hours > coarse.hours > 0
    assert fine.work_bytes == pytest.approx(fine.tiles * (2 * SPEC.dim + 16), rel=0.1)
