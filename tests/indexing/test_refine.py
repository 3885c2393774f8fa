"""Moving a hit off the grid: an encoder that reads its place off the imagery's colours."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from fake_encoder import SPEC
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.transform import from_origin
from torch import Tensor, nn

from geoloc.encoder import TwinEncoder
from geoloc.errors import ImageryError
from geoloc.locate import Refined
from geoloc.model import save_encoder
from geoloc.places import LonLat, to_lonlat
from geoloc.spec import EncoderSpec
from indexing.build import build_gallery
from indexing.gallery import Gallery
from indexing.refine import lifted, moved, paraboloid_top, refine
from preprocessing.tiles import Grid

CRS, WEST, NORTH, SIDE_M = "EPSG:32633", 500_000.0, 5_000_000.0, 160.0


@settings(deadline=None)
@given(st.floats(-0.9, 0.9), st.floats(-0.9, 0.9), st.floats(0.2, 3), st.floats(0.2, 3), st.floats(-0.1, 0.1))
def test_the_top_of_a_paraboloid(x: float, y: float, bend_x: float, bend_y: float, twist: float) -> None:
    column, row = np.meshgrid([-1, 0, 1], [-1, 0, 1])
    dx, dy = column - x, row - y
    scores = 5 - bend_x * dx**2 - bend_y * dy**2 - twist * dx * dy
    np.testing.assert_allclose(paraboloid_top(scores), (x, y), atol=1e-6)


def test_no_top_where_the_scores_do_not_bend_down() -> None:
    column, row = np.meshgrid([-1.0, 0.0, 1.0], [-1.0, 0.0, 1.0])
    for scores in (np.ones((3, 3)), column + row, column**2 - row**2, column**2 + row**2):
        assert paraboloid_top(scores).tolist() == [0, 0]
    assert np.abs(paraboloid_top(-((column - 5) ** 2) - row**2)).max() == 1


class Reader(nn.Module):
    """Embeds a tile by the mean red and green of it, which say how far east and north it lies."""

    def __init__(self, spec: EncoderSpec = SPEC) -> None:
        super().__init__()
        self.spec = spec
        self.unused = nn.Parameter(torch.zeros(1))

    def embed_satellite(self, batch: Tensor) -> Tensor:
        std = torch.tensor(SPEC.std)[:, None, None]
        mean = torch.tensor(SPEC.mean)[:, None, None]
        return vectors((batch * std + mean)[:, :2].mean(dim=(2, 3)))


def vectors(place: Tensor) -> Tensor:
    """(n, 2) of 0..1 to unit vectors whose inner products fall with distance; the same in every bin."""
    angle = place * 3
    parts = torch.stack([angle[:, 0].cos(), angle[:, 0].sin(), angle[:, 1].cos(), angle[:, 1].sin()], dim=1)
    bins = torch.cat([parts, torch.zeros(len(parts), SPEC.channels - 4)], dim=1) / 2**0.5
    return (bins / SPEC.azimuth_bins**0.5).repeat(1, SPEC.azimuth_bins)


@pytest.fixture(scope="module")
def gallery_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ramp")
    side = int(SIDE_M * 2)
    pixels = np.zeros((3, side, side), np.uint8)
    pixels[0] = np.rint((np.arange(side) + 0.5) / side * 255)
    pixels[1] = np.rint((1 - (np.arange(side) + 0.5) / side) * 255)[:, None]
    shape = {"count": 3, "height": side, "width": side, "dtype": "uint8"}
    place = {"crs": CRS, "transform": from_origin(WEST, NORTH, 0.5, 0.5)}
    with rasterio.open(folder / "ramp.tif", "w", driver="GTiff", **shape, **place) as dataset:
        dataset.write(pixels)
    reader = Reader(save_encoder(TwinEncoder(SPEC), folder / "model", "unused"))
    build_gallery([folder / "ramp.tif"], folder / "model", folder / "gallery", stride_m=8, encoder=reader)
    return folder / "gallery"


@pytest.mark.parametrize(("east_m", "north_m"), [(70.0, 90.0), (83.1, 61.7), (57.4, 77.3), (95.9, 99.2)])
def test_the_place_is_found_between_the_tiles(gallery_path: Path, east_m: float, north_m: float) -> None:
    query = vectors(torch.tensor([[east_m, north_m]]) / SIDE_M).numpy()
    truth = LonLat(*to_lonlat(CRS).transform(WEST + east_m, NORTH - SIDE_M + north_m))
    with Gallery.open(gallery_path) as gallery:
        hits = gallery.search(query, 20, headings_deg=[0.0])
        best, *others = refine(gallery, Reader(), query[0], hits, heading_deg=0.0)
        grid_m = gallery.tile(int(hits.ids[0, 0])).center.distance_m(truth)
    assert best.lonlat.distance_m(truth) < 1.5
    assert best.lonlat.distance_m(truth) <= grid_m + 0.5
    assert all(other.score <= best.score for other in others)
    assert all(a.lonlat.distance_m(b.lonlat) >= 8 for a, b in combinations([best, *others], 2))
    assert best.heading_deg == 0


def test_offsets_are_east_and_north(gallery_path: Path) -> None:
    with Gallery.open(gallery_path) as gallery:
        tile = gallery.tile(gallery.nearest(LonLat(*to_lonlat(CRS).transform(WEST + 80, NORTH - 80))))
        around = gallery.read_around(tile, 3)
        assert (around[3:-3, 3:-3] == gallery.read_tile(tile.id)).all()
    place = moved(tile, np.array([2.0, -1.0]))
    x, y = to_lonlat(CRS).transform(place.lon, place.lat, direction="INVERSE")
    left, bottom, right, top = tile.bounds
    assert (x - (left + right) / 2, y - (bottom + top) / 2) == pytest.approx(
        (2 * tile.gsd_m, -tile.gsd_m), abs=1e-3
    )


def test_imagery_that_moved_is_said(gallery_path: Path) -> None:
    query = vectors(torch.tensor([[0.5, 0.5]])).numpy()
    with Gallery.open(gallery_path) as gallery:
        hits = gallery.search(query, 5, headings_deg=[0.0])
        ortho = gallery_path.parent / "ramp.tif"
        ortho.rename(ortho.with_suffix(".gone"))
        try:
            with pytest.raises(ImageryError):
                refine(gallery, Reader(), query[0], hits, heading_deg=0.0)
        finally:
            ortho.with_suffix(".gone").rename(ortho)


def test_other_imagery_of_the_same_size_in_its_place_is_said(gallery_path: Path) -> None:
    query = vectors(torch.tensor([[0.3, 0.5]])).numpy()
    ortho = gallery_path.parent / "ramp.tif"
    before = ortho.read_bytes()
    with rasterio.open(ortho, "r+") as dataset:
        dataset.write(255 - dataset.read())
    try:
        assert ortho.stat().st_size == len(before)
        with Gallery.open(gallery_path) as gallery:
            hits = gallery.search(query, 5, headings_deg=[0.0])
            with pytest.raises(ImageryError, match="does not show what was indexed"):
                refine(gallery, Reader(), query[0], hits, heading_deg=0.0)
    finally:
        ortho.write_bytes(before)


def test_lifted_equals_a_naive_loop() -> None:
    grid = Grid(64.0, 128, 16, ((32, "EPSG:32632"), (33, "EPSG:32633")))
    rng = np.random.default_rng(0)
    cells = [(zone, column, row) for zone in (32, 33) for column in range(9) for row in range(9)]
    ids = np.array([int(grid.ids(zone, np.array(column), np.array(row))) for zone, column, row in cells])
    scores = np.sort(rng.uniform(0, 1, len(ids)).astype(np.float32))[::-1].copy()
    order = rng.permutation(len(ids))
    ids, cells = ids[order], [cells[at] for at in order]
    refined = [
        Refined(int(ids[at]), LonLat(9, 48), float(scores[at]) + gain, 0.0)
        for at, gain in ((3, 0.2), (8, 0.5))
    ]
    wanted = {}
    for id, (zone, column, row), score in zip(ids.tolist(), cells, scores.tolist(), strict=True):
        wanted[id] = score
        for at, gain in ((3, 0.2), (8, 0.5)):
            other = cells[at]
            if other[0] == zone and abs(other[1] - column) <= 2 and abs(other[2] - row) <= 2:
                wanted[id] = max(wanted[id], min(score, float(scores[at])) + gain)
    found_ids, found = lifted(grid, ids, scores, refined)
    assert (np.diff(found) <= 0).all() and set(found_ids.tolist()) == set(ids.tolist())
    np.testing.assert_allclose(found, [wanted[id] for id in found_ids.tolist()], atol=1e-6)


def test_no_tile_is_lifted_above_what_was_found() -> None:
    """A poor hit that gained much, two cells from a good one that gained little, does not carry it along."""
    grid = Grid(64.0, 128, 16, ((32, "EPSG:32632"),))
    ids = np.array([int(grid.ids(32, np.array(column), np.array(0))) for column in range(3)])
    scores = np.array([0.75, 0.6, 0.4], np.float32)
    refined = [
        Refined(int(ids[0]), LonLat(9, 48), 0.77, 0.0),
        Refined(int(ids[2]), LonLat(9.1, 48), 0.74, 0.0),
    ]
    found_ids, found = lifted(grid, ids, scores, refined)
    assert found_ids.tolist() == ids.tolist()
    assert found.tolist() == pytest.approx([0.77, 0.74, 0.74])
