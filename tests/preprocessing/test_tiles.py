"""The grid: ids, places and coverage. The oracles are plain loops and pyproj."""

import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from hypothesis import given
from hypothesis import strategies as st
from rasterio.transform import from_origin
from tiny_imagery import LEFT, TOP, UTM, flat, write

from geoloc.errors import ImageryError
from preprocessing import tiles as gridding
from preprocessing.imagery import read_square
from preprocessing.sources import open_imagery
from preprocessing.tiles import Grid, cut_block, make_grid, plan_blocks, refuse_coarse

ZONES = tuple((zone, "EPSG:32632") for zone in range(1, 121))


@given(
    zone=st.integers(1, 120),
    column=st.integers(-500_000, 1_500_000),
    row=st.integers(-10_000_000, 10_000_000),
)
def test_an_id_is_its_cell(zone, column, row):
    grid = Grid(64.0, 128, 40, ZONES)
    ids = grid.ids(zone, np.array([column]), np.array([row]))
    assert [int(part[0]) for part in grid.cells(ids)] == [zone, column, row]
    assert 0 <= ids[0] < 2**53
    left, bottom, right, top = grid.tile(int(ids[0])).bounds
    assert (left, bottom) == (column * 20.0, row * 20.0) and (right - left, top - bottom) == (64, 64)


@given(stride_m=st.floats(1, 500), footprint_m=st.floats(20, 300), size_px=st.integers(32, 512))
def test_the_stride_is_whole_pixels(stride_m, footprint_m, size_px):
    grid = make_grid([], footprint_m, size_px, stride_m)
    gsd = footprint_m / size_px
    assert grid.stride_px >= 1 and abs(grid.stride_m - stride_m) <= max(gsd / 2, gsd - stride_m) + 1e-9


def imagery(tmp_path, name="a.tif", left=LEFT, top=TOP, h=200, w=300, gsd=1.0, seed=0, **options):
    values = np.random.default_rng(seed).integers(0, 255, (3, h, w), np.uint8)
    return open_imagery(write(tmp_path / name, values, UTM, from_origin(left, top, gsd, gsd), **options))


def cut(images, grid, region=None):
    return {
        id: (source, strip.rgb[square])
        for block in plan_blocks(images, grid, region)
        for strip in cut_block(block, grid, images)
        for id, source, square in zip(
            strip.ids.tolist(), strip.sources.tolist(), strip.squares(), strict=True
        )
    }


def test_every_tile_four_fifths_covered_is_cut_and_no_other(tmp_path):
    one = imagery(tmp_path, left=LEFT + 3, top=TOP - 5)
    grid = make_grid([one], 32, 32, 8)
    covered = shapely.box(LEFT + 3, TOP - 205, LEFT + 303, TOP - 5)
    wanted = set()
    for column in range(int(LEFT // 8) - 10, int(LEFT // 8) + 60):
        for row in range(int(TOP // 8) - 60, int(TOP // 8) + 10):
            box = shapely.box(column * 8, row * 8, column * 8 + 32, row * 8 + 32)
            if box.intersection(covered).area >= 0.8 * 32 * 32:
                wanted.add(int(grid.ids(32, np.array([column]), np.array([row]))[0]))
    assert set(cut([one], grid)) == wanted


def test_a_tile_cut_from_a_strip_is_the_tile_read_alone(tmp_path):
    one = imagery(tmp_path, left=LEFT + 3.3, gsd=0.7)
    grid = make_grid([one], 32, 64, 9.5)
    tiles = cut([one], grid)
    for id in list(tiles)[::17]:
        tile = grid.tile(id)
        alone, _ = read_square([one], tile.crs, tile.bounds, (64, 64))
        assert np.abs(alone.astype(int) - tiles[id][1]).max() <= 1


def test_narrower_strips_cut_the_same_tiles(tmp_path, monkeypatch):
    one = imagery(tmp_path)
    grid = make_grid([one], 32, 32, 8)
    whole = cut([one], grid)
    monkeypatch.setattr(gridding, "_MOST_BLOCK_PX", 1)
    narrow = cut([one], grid)
    assert list(narrow) == list(whole) and all((narrow[id][1] == whole[id][1]).all() for id in whole)


def test_nodata_decides_what_is_cut(tmp_path):
    values = flat((50, 60, 70), 200, 200)
    values[:, :, :100] = 0
    one = open_imagery(write(tmp_path / "a.tif", values, UTM, from_origin(LEFT, TOP, 1, 1), nodata=0))
    grid = make_grid([one], 32, 32, 8)
    lefts = {grid.tile(id).bounds[0] for id in cut([one], grid)}
    assert min(lefts) == LEFT + 96  # 28 of 32 columns lie right of the edge; 88 would leave 20


def test_more_imagery_renumbers_nothing(tmp_path):
    first = imagery(tmp_path, "a.tif")
    second = imagery(tmp_path, "b.tif", left=LEFT + 250, seed=1)
    alone, both = (
        cut([first], make_grid([first], 32, 32)),
        cut([first, second], make_grid([first, second], 32, 32)),
    )
    assert set(alone) <= set(both) and len(both) > len(alone)
    whole = [id for id in alone if make_grid([first], 32, 32).tile(id).bounds[2] <= LEFT + 300]
    assert all((alone[id][1] == both[id][1]).all() for id in whole)
    assert {source for source, _ in both.values()} == {0, 1}


def test_tiles_across_a_seam_are_filled_from_both(tmp_path):
    west, east = imagery(tmp_path, "w.tif", w=100), imagery(tmp_path, "e.tif", left=LEFT + 100, w=100)
    tiles = cut([west, east], make_grid([west, east], 32, 32, 8))
    columns = {make_grid([west, east], 32, 32, 8).tile(id).bounds[0] for id in tiles}
    assert set(np.arange(LEFT, LEFT + 169, 8)) <= columns


def test_imagery_wider_than_a_zone_is_gridded_in_each(tmp_path):
    """20 degrees of it, whose red says the longitude: every place has a tile near, in its own zone."""
    west, south, deg = 1.0, 47.0, 0.0002
    values = np.zeros((3, 80, 100_000), np.uint8)
    values[0] = np.arange(100_000) * 256 // 100_000
    place = from_origin(west, south + 80 * deg, deg, deg)
    one = open_imagery(write(tmp_path / "wide.tif", values, "EPSG:4326", place))
    assert one.zones == tuple((zone, f"EPSG:326{zone}") for zone in (31, 32, 33, 34))
    grid = make_grid([one], 640, 32, 320)
    found = cut([one], grid)
    centres = []
    for id, (_, rgb) in found.items():
        zone, middle = int(grid.cells(np.array([id]))[0][0]), grid.tile(id).center
        centres.append((middle.lon, middle.lat))
        assert 6 * zone - 186 - 0.01 < middle.lon < 6 * zone - 180 + 0.01
        assert abs(int(rgb[16, 16, 0]) - (middle.lon - west) / 20 * 256) <= 2
    rng = np.random.default_rng(0)
    asked = np.stack([rng.uniform(1.01, 20.99, 500), rng.uniform(47.004, 47.012, 500)], axis=1)
    away = (asked[:, None] - np.array(centres)) * 111_320 * np.array([np.cos(np.radians(47)), 1])
    assert np.hypot(*np.moveaxis(away, 2, 0)).min(axis=1).max() < 320


def test_each_zone_has_its_own_grid(tmp_path):
    to_degrees = pyproj.Transformer.from_crs(UTM, "EPSG:4326", always_xy=True)
    lon, lat = to_degrees.transform(LEFT, TOP)
    here = imagery(tmp_path)
    path = write(
        tmp_path / "b.tif", flat((1, 2, 3), 200, 200), "EPSG:4326", from_origin(lon + 6, lat, 1e-5, 1e-5)
    )
    there = open_imagery(path)
    grid = make_grid([here, there], 32, 32)
    assert grid.crs_of_zone == ((32, UTM), (33, "EPSG:32633"))
    assert {grid.tile(id).crs for id in cut([here, there], grid)} == {UTM, "EPSG:32633"}


def test_region_keeps_tiles_whose_centre_is_inside(tmp_path):
    one = imagery(tmp_path)
    grid = make_grid([one], 32, 32, 8)
    everything = cut([one], grid)
    west, south, east, north = one.bounds_lonlat
    region = shapely.Polygon([(west, south), (east, south), (west, north)])
    wanted = {
        id
        for id in everything
        if region.contains(shapely.Point(grid.tile(id).center.lon, grid.tile(id).center.lat))
    }
    assert set(cut([one], grid, region)) == wanted


def test_refusals_say_both_numbers(tmp_path):
    coarse = imagery(tmp_path, gsd=3.0)
    with pytest.raises(ImageryError, match=r"3 m per pixel.*64 m.*21\.3 of its pixels.*2 m imagery or finer"):
        refuse_coarse(coarse, 64)
    small = imagery(tmp_path, "s.tif", h=40, w=40)
    with pytest.raises(ImageryError, match=r"64 m wide.*not one fits.*40 x 40 m"):
        plan_blocks([small], make_grid([small], 64, 64))
    off = imagery(tmp_path, "o.tif", left=LEFT + 32, top=TOP - 32, h=70, w=70)
    with pytest.raises(ImageryError, match="smaller stride"):
        plan_blocks([off], make_grid([off], 64, 64, 1000))
    with pytest.raises(ImageryError, match="region"):
        plan_blocks([coarse], make_grid([coarse], 64, 64), shapely.box(0, 0, 1, 1))
    with pytest.raises(ImageryError, match="makes no sense"):
        make_grid([small], 64, 64, 0.1)


def test_a_lying_geotransform_does_not_plan_for_ever(tmp_path):
    path = write(tmp_path / "a.tif", flat((1, 2, 3), 3000, 3000), UTM, from_origin(LEFT, TOP, 1000, 1000))
    one = open_imagery(path)
    with pytest.raises(ImageryError, match="choose a larger stride"):
        plan_blocks([one], make_grid([one], 64, 64, 20))


@pytest.mark.parametrize("nonsense", [(0.0, 8, 4), (float("nan"), 8, 4), (32.0, 0, 4), (32.0, 8, 0)])
def test_a_grid_refuses_nonsense(nonsense):
    with pytest.raises(ImageryError, match="no grid"):
        Grid(*nonsense, ())


def test_eastings_that_begin_with_their_zone_are_gridded_without_it(tmp_path):
    values = flat((1, 2, 3), 200, 200)
    plain = open_imagery(write(tmp_path / "a.tif", values, UTM, from_origin(LEFT, TOP, 1, 1)))
    prefixed = from_origin(32_000_000 + LEFT, TOP, 1, 1)
    other = open_imagery(write(tmp_path / "b.tif", values, "EPSG:4647", prefixed))
    assert (other.utm, other.zone) == ("EPSG:32632", 32)
    grid = make_grid([other], 32, 32, 8)
    assert set(cut([other], grid)) == set(cut([plain], grid))


def test_files_that_meet_at_the_border_of_zones_leave_no_gap(tmp_path):
    """Two of them end at 6 degrees east; no place near is further from a tile than one file would have it."""
    lon, lat, deg = 6.0, 48.0, 1e-5
    wide = flat((90, 90, 90), 250, 800)
    whole = open_imagery(
        write(tmp_path / "w.tif", wide, "EPSG:4326", from_origin(lon - 0.004, lat, deg, deg))
    )
    parts = [
        open_imagery(
            write(tmp_path / f"{at}.tif", wide[:, :, :400], "EPSG:4326", from_origin(at, lat, deg, deg))
        )
        for at in (lon - 0.004, lon)
    ]
    assert [one.zone for one in parts] == [31, 32] and len(whole.zones) == 1
    east = {}
    for name, images in (("whole", [whole]), ("parts", parts)):
        grid = make_grid(images, 32, 32, 8)
        centres = [grid.tile(id).center for id in cut(images, grid)]
        east[name] = sorted((c.lon - lon) * 111_320 * np.cos(np.radians(lat)) for c in centres)
    gaps = {name: max(np.diff([x for x in xs if abs(x) < 60])) for name, xs in east.items()}
    assert gaps["whole"] <= 8.1 and gaps["parts"] <= 8.1


def test_imagery_half_a_world_apart_is_planned(tmp_path):
    """GDAL refuses to bring the one into the other's zone."""
    values = flat((1, 2, 3), 200, 200)
    pair = [
        open_imagery(write(tmp_path / f"{at}.tif", values, "EPSG:4326", from_origin(lon, lat, 1e-5, 1e-5)))
        for at, (lon, lat) in enumerate(((-78.5, -0.2), (9.45, 0.4)))
    ]
    assert len(cut(pair, make_grid(pair, 32, 32, 32))) > 50


def test_a_region_of_imagery_that_is_too_large_as_a_whole_is_planned(tmp_path):
    path = tmp_path / "huge.tif"
    place = from_origin(LEFT, TOP, 1, 1)
    shape = {"count": 3, "height": 60_000, "width": 60_000, "dtype": "uint8", "crs": UTM}
    with rasterio.open(path, "w", "GTiff", transform=place, tiled=True, sparse_ok=True, **shape):
        pass
    one = open_imagery(path)
    grid = make_grid([one], 64, 64, 8)
    with pytest.raises(ImageryError, match="--region"):
        plan_blocks([one], grid)
    to_degrees = pyproj.Transformer.from_crs(UTM, "EPSG:4326", always_xy=True).transform
    ring = [to_degrees(LEFT + x, TOP - y) for x, y in ((30_000, 30_000), (31_000, 30_000), (30_000, 31_000))]
    region = shapely.Polygon(ring)
    blocks = plan_blocks([one], grid, region)
    cells = {
        (c, r) for block in blocks for c, r in zip(block.columns.tolist(), block.rows.tolist(), strict=True)
    }
    assert len(cells) == pytest.approx(500_000 / 64, rel=0.03)
    for column, row in sorted(cells)[:: len(cells) // 50]:
        middle = grid.tile(int(grid.ids(32, np.array([column]), np.array([row]))[0])).center
        assert region.contains(shapely.Point(middle.lon, middle.lat))
