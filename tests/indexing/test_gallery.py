import numpy as np
import pyproj
import pytest
import shapely
from fake_encoder import FakeEncoder
from on_disk import file_of
from rasterio.transform import from_origin
from ring import vertex
from tiny_imagery import UTM, noise, write

from geoloc.errors import GalleryError, ModelError
from indexing.build import build_gallery
from indexing.embeddings import read_embeddings
from indexing.gallery import Gallery


@pytest.fixture
def opened(gallery):
    with Gallery.open(gallery) as one:
        yield one


def everything(gallery):
    path = file_of(gallery.path, "embeddings.h5")
    chunks = list(read_embeddings(path, gallery.spec, len(gallery)))
    return np.concatenate([c[0] for c in chunks]), np.concatenate([c[1] for c in chunks]).astype(np.float32)


def queries(n, dim, seed=1):
    raw = np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)
    return raw / np.linalg.norm(raw, axis=1, keepdims=True)


def exact(ids, vectors, query, k):
    """The oracle: every score in float64, sorted by score, then id."""
    scores = vectors.astype(np.float64) @ query.astype(np.float64)
    order = np.lexsort((ids, -scores))[:k]
    return ids[order], scores[order]


def test_known_heading_is_exact_search(opened):
    ids, vectors = everything(opened)
    some = queries(5, opened.spec.dim)
    hits = opened.search(some, 7, headings_deg=[10.0, -20.0, 370.0, 0.0, 90.0])
    for row, query in enumerate(some):
        wanted_ids, wanted_scores = exact(ids, vectors, query, 7)
        assert hits.ids[row].tolist() == wanted_ids.tolist()
        np.testing.assert_allclose(hits.scores[row], wanted_scores, atol=1e-5)
    np.testing.assert_allclose(hits.headings_deg[:, 0], [10, 340, 10, 0, 90])


def test_north_is_midway_between_what_it_is_at_either_end(tmp_path, model):
    places = {
        "a.tif": (310_000.0, 5_300_000.0),
        "b.tif": (320_000.0, 5_300_000.0),
        "c.tif": (690_000.0, 5.3e6),
    }
    (tmp_path / "tifs").mkdir()
    for name, place in places.items():
        write(tmp_path / "tifs" / name, noise(120, 120), UTM, from_origin(*place, 1, 1))
    build_gallery([tmp_path / "tifs"], model, tmp_path / "g", encoder=FakeEncoder())
    with Gallery.open(tmp_path / "g") as wide:
        proj, (west, south, east, north) = pyproj.Proj(UTM), wide.bounds_lonlat
        ends = [proj.get_factors(lon, (south + north) / 2).meridian_convergence for lon in (west, east)]
        assert ends[0] < -1.5 and ends[1] > 1.5
        assert wide.north_deg == pytest.approx(sum(ends) / 2, abs=0.05)


def test_unknown_heading_is_where_the_scores_of_all_rolls_peak(opened):
    spec = opened.spec
    ids, vectors = everything(opened)
    some = queries(3, spec.dim)
    hits = opened.search(some, 9)
    for row, query in enumerate(some):
        bins = query.reshape(spec.azimuth_bins, spec.channels)
        rolled = np.stack([np.roll(bins, i, axis=0).ravel() for i in range(spec.azimuth_bins)])
        scores = vectors.astype(np.float64) @ rolled.astype(np.float64).T
        best, turn = np.array([vertex(ring) for ring in scores]).T
        order = np.lexsort((ids, -best))[:9]
        assert hits.ids[row].tolist() == ids[order].tolist()
        np.testing.assert_allclose(hits.scores[row], best[order], atol=1e-5)
        off = (hits.headings_deg[row] - turn[order] * 90 + 180) % 360 - 180
        np.testing.assert_allclose(off, 0, atol=0.1)


@pytest.mark.parametrize(("tolerance_deg", "turns"), [(0, [0]), (44, [0]), (90, [3, 0, 1]), (180, range(4))])
def test_a_heading_lies_within_its_tolerance(opened, tolerance_deg, turns):
    """The fake encoder has four bins of 90 degrees."""
    spec = opened.spec
    ids, vectors = everything(opened)
    (query,) = queries(1, spec.dim)
    bins = query.reshape(spec.azimuth_bins, spec.channels)
    rolled = np.stack([np.roll(bins, turn, axis=0).ravel() for turn in range(4)])
    scores = vectors.astype(np.float64) @ rolled.astype(np.float64).T
    highest = np.array(turns)[scores[:, turns].argmax(axis=1)]
    best = scores[:, 0]
    if len(turns) > 1:
        best = np.array([vertex(ring, at)[0] for ring, at in zip(scores, highest, strict=True)])
    hits = opened.search(query[None], 9, headings_deg=[30.0], tolerance_deg=tolerance_deg)
    order = np.lexsort((ids, -best))[:9]
    assert hits.ids[0].tolist() == ids[order].tolist()
    np.testing.assert_allclose(hits.scores[0], best[order], atol=1e-5)
    away = np.abs((hits.headings_deg[0] - 30 + 180) % 360 - 180)
    assert away.max() <= tolerance_deg + 1e-3


@pytest.mark.parametrize("factory", ["SQ8", "IVF8,SQ8", "HNSW16"])
def test_hits_of_a_lossy_index_are_scored_again_exactly(ortho, model, tmp_path, factory):
    """Whatever the index makes of the embeddings, scores and order are those of the stored ones."""
    build_gallery([ortho], model, tmp_path / "g", stride_m=8, index=factory, encoder=FakeEncoder())
    with Gallery.open(tmp_path / "g") as lossy:
        ids, vectors = everything(lossy)
        row_of = {id: row for row, id in enumerate(ids.tolist())}
        for query in queries(3, lossy.spec.dim):
            hits = lossy.search(query[None], 10, headings_deg=[0.0])
            found = hits.ids[0][hits.ids[0] >= 0]
            true = vectors[[row_of[id] for id in found.tolist()]].astype(np.float64) @ query
            np.testing.assert_allclose(hits.scores[0][: len(found)], true, atol=1e-5)
            assert (np.diff(true) <= 1e-5).all()


def test_lists_that_are_not_probed_hide_no_tile_of_a_region(ortho, model, tmp_path):
    build_gallery([ortho], model, tmp_path / "g", stride_m=8, index="IVF32,Flat", encoder=FakeEncoder())
    with Gallery.open(tmp_path / "g") as lossy:
        west, south, east, north = lossy.bounds_lonlat
        for left in np.linspace(west, east, 5)[:4]:
            region = shapely.box(left, south, left + (east - west) / 4, north)
            hits = lossy.search(queries(1, lossy.spec.dim), 300, region=region, headings_deg=[0.0])
            inside = shapely.contains_xy(region, lossy.tiles.lon, lossy.tiles.lat).sum()
            assert (hits.ids[0] >= 0).sum() == min(300, inside)


def test_known_and_unknown_headings_mix(opened):
    some = queries(2, opened.spec.dim)
    mixed = opened.search(some, 3, headings_deg=[45.0, None])
    np.testing.assert_array_equal(mixed.ids[0], opened.search(some[:1], 3, headings_deg=[45.0]).ids[0])
    np.testing.assert_array_equal(mixed.ids[1], opened.search(some[1:], 3).ids[0])


def test_a_stored_turned_embedding_finds_its_tile_and_heading(opened):
    ids, vectors = everything(opened)
    bins = vectors[17].reshape(opened.spec.azimuth_bins, -1)
    hits = opened.search(np.roll(bins, -3, axis=0).reshape(1, -1), 1)
    assert hits.ids[0, 0] == ids[17] and hits.headings_deg[0, 0] == 270


def test_region_keeps_tiles_whose_centre_is_inside(opened):
    ids, vectors = everything(opened)
    west, south, east, north = opened.bounds_lonlat
    region = shapely.box(west, south, (west + east) / 2, (south + north) / 2)
    inside = np.array(
        [region.contains(shapely.Point(t.center.lon, t.center.lat)) for t in map(opened.tile, ids.tolist())]
    )
    query = queries(1, opened.spec.dim)
    hits = opened.search(query, len(ids), region=region, headings_deg=[0.0])
    found = hits.ids[0][hits.ids[0] >= 0]
    assert set(found) == set(ids[inside])
    assert found.tolist() == exact(ids[inside], vectors[inside], query[0], len(ids))[0].tolist()
    assert np.isneginf(hits.scores[0, len(found) :]).all()
    with pytest.raises(GalleryError, match="draw one within"):
        opened.search(query, 1, region=shapely.box(0, 0, 1, 1))


def test_more_hits_than_tiles_are_padded(opened):
    hits = opened.search(queries(1, opened.spec.dim), len(opened) + 5)
    assert (hits.ids[0, -5:] == -1).all() and np.isneginf(hits.scores[0, -5:]).all()
    assert np.isnan(hits.headings_deg[0, -5:]).all() and (hits.ids[0, :-5] >= 0).all()


def test_no_queries_are_no_hits(opened):
    assert opened.search(np.empty((0, opened.spec.dim), np.float32), 3).ids.shape == (0, 3)


def test_queries_of_another_model_are_refused(opened):
    with pytest.raises(ModelError, match="numbers long"):
        opened.search(queries(1, 8), 1)
    with pytest.raises(ModelError, match="infinities"):
        opened.search(np.full((1, opened.spec.dim), np.nan, np.float32), 1)


def test_an_unknown_tile_is_refused(opened):
    with pytest.raises(GalleryError, match="not in this gallery"):
        opened.tile(5)


def test_table_agrees_with_tiles(opened):
    table = opened.tiles
    for row in table.sample(20, random_state=0).itertuples():
        tile = opened.tile(row.id)
        assert (row.left, row.bottom, row.right, row.top) == tile.bounds and row.crs == tile.crs
        assert (row.lon, row.lat) == pytest.approx((tile.center.lon, tile.center.lat), abs=1e-9)
        corners = [(c.lon, c.lat) for c in tile.corners]
        assert shapely.Polygon(corners).symmetric_difference(row.geometry).area < 1e-15
        assert opened.source(row.id) == row.source


def test_source_keeps_tiles_cut_from_imagery_like_it(model, tmp_path):
    west = write(tmp_path / "w-2020.tif", noise(90, 200), UTM, from_origin(500_000, 5_300_000, 1, 1))
    east = write(tmp_path / "e-2021.tif", noise(90, 200), UTM, from_origin(500_300, 5_300_000, 1, 1))
    build_gallery([west, east], model, tmp_path / "g", stride_m=8, encoder=FakeEncoder())
    with Gallery.open(tmp_path / "g") as both:
        ids, vectors = everything(both)
        query, every = queries(1, both.spec.dim), {str(west), str(east)}
        for pattern, wanted in (
            ("*-2021.tif", {str(east)}),
            (str(west), {str(west)}),
            ("*", every),
        ):
            mine = np.array([both.source(id) in wanted for id in ids.tolist()])
            found = both.search(query, len(ids), source=pattern, headings_deg=[0.0]).ids[0]
            assert (
                found[found >= 0].tolist() == exact(ids[mine], vectors[mine], query[0], len(ids))[0].tolist()
            )
        middle = both.tile(int(ids[0])).center
        near = shapely.Point(middle.lon, middle.lat).buffer(1e-5)
        only = both.search(query, 5, region=near, source="*")
        assert only.ids[0, 0] == ids[0] and (only.ids[0, 1:] == -1).all()
        with pytest.raises(GalleryError, match=r"imagery like '\*-1999\.tif'.*e-2021"):
            both.search(query, 5, source="*-1999.tif")
        other = {str(east)} - {both.source(int(ids[0]))} or {str(west)}
        with pytest.raises(GalleryError, match="imagery like"):
            both.search(query, 5, region=near, source=other.pop())


def test_places_and_sources_equal_the_table(opened):
    table = opened.tiles
    ids = table["id"].to_numpy()
    np.testing.assert_allclose(opened.lonlats(ids), table[["lon", "lat"]].to_numpy(), atol=1e-9)
    for row in (0, len(ids) // 2, len(ids) - 1):
        assert opened.source(int(ids[row])) == table["source"].iat[row]
        assert opened.nearest(opened.tile(int(ids[row])).center) == ids[row]
    with pytest.raises(GalleryError, match="not in this gallery"):
        opened.source(12345)
