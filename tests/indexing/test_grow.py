"""What `add` and `replace` leave is what a build of the same imagery makes, tile by tile and byte by byte."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import shapely
from fake_encoder import FakeEncoder
from on_disk import embeddings, live, snapshot
from rasterio.transform import from_origin
from tiny_imagery import noise, write

from geoloc.errors import GalleryError, ImageryError
from indexing import embed as embedding
from indexing.build import build_gallery
from indexing.compact import compact
from indexing.gallery import Gallery
from indexing.grow import add_imagery
from indexing.manifest import live_folder
from indexing.verify import verify

STRIDE_M = 8


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """a: 200 x 160 m. b: overlaps its east, with a hole. c: far off, in the next zone."""
    folder = tmp_path_factory.mktemp("world")
    write(folder / "a.tif", noise(160, 200, 1), transform=from_origin(500_000, 5_300_000, 1, 1))
    holed = noise(160, 150, 2)
    holed[:, 40:90, 60:100] = 0
    write(folder / "b.tif", holed, transform=from_origin(500_141, 5_300_013, 1, 1), nodata=0)
    write(folder / "c.tif", noise(80, 90, 3), "EPSG:32633", from_origin(500_000, 5_300_000, 1, 1))
    return folder


def build(world: Path, model: Path, out: Path, names: str) -> Path:
    paths = [world / f"{name}.tif" for name in names]
    build_gallery(paths, model, out, stride_m=STRIDE_M, encoder=FakeEncoder())
    return out


def add(world: Path, gallery: Path, names: str, **options) -> Path:
    return add_imagery(gallery, [world / f"{name}.tif" for name in names], encoder=FakeEncoder(), **options)


@pytest.mark.parametrize(("first", "then", "replacing"), [("a", "b", False), ("b", "a", False),
    ("a", "b", True), ("a", "c", False), ("ac", "b", True), ("b", "ac", False)])  # fmt: skip
def test_growing_equals_building(tmp_path, world, model, first, then, replacing):
    grown = build(world, model, tmp_path / "grown", first)
    add(world, grown, then, replace=replacing)
    whole = build(world, model, tmp_path / "whole", then + first if replacing else first + then)
    verify(grown)
    assert len(live(grown).segments) == 2 and embeddings(grown) == embeddings(whole)
    compact(grown)
    verify(grown)
    assert len(live(grown).segments) == 1 and live(grown).sources == live(whole).sources
    if not (replacing and "c" in first):  # zones are then listed by another first
        assert snapshot(grown) == snapshot(whole)


@pytest.mark.parametrize("region", [False, True])
def test_the_same_is_found_in_two_segments_as_in_one(tmp_path, world, model, region):
    grown = build(world, model, tmp_path / "grown", "a")
    add(world, grown, "b", replace=True)
    whole = build(world, model, tmp_path / "whole", "ba")
    raw = np.random.default_rng(5).normal(size=(4, 24)).astype(np.float32)
    queries = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    with Gallery.open(grown) as two, Gallery.open(whole) as one:
        assert two.bounds_lonlat == one.bounds_lonlat and two.north_deg == pytest.approx(one.north_deg)
        west, south, east, north = one.bounds_lonlat
        inside = shapely.box(west + 0.0005, south, east - 0.0005, north) if region else None
        for headings in (None, [0.0, 10.0, 90.0, 180.0]):
            ours = two.search(queries, 300, region=inside, headings_deg=headings)
            theirs = one.search(queries, 300, region=inside, headings_deg=headings)
            np.testing.assert_array_equal(ours.ids, theirs.ids)
            np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-6)
            np.testing.assert_allclose(ours.headings_deg, theirs.headings_deg, atol=1e-3)
        said, wanted = (
            each.evidence(queries[0], theirs.ids[0], theirs.scores[0], region=inside) for each in (two, one)
        )
        assert said.tiles == wanted.tiles and said.rival == wanted.rival
        np.testing.assert_allclose(np.sort(said.background), np.sort(wanted.background), atol=1e-6)
        table, other = (each.tiles.sort_values("id", ignore_index=True) for each in (two, one))
        assert table.drop(columns="geometry").equals(other.drop(columns="geometry"))
        assert table.geometry.geom_equals(other.geometry).all()
        for id in theirs.ids[0, :9].tolist():
            assert two.tile(id) == one.tile(id) and two.source(id) == one.source(id)
            assert two.nearest(one.tile(id).center) == id
            np.testing.assert_array_equal(two.read_tile(id), one.read_tile(id))
        some = theirs.ids[0, :50]
        np.testing.assert_array_equal(two.lonlats(some), one.lonlats(some))


def test_only_tiles_that_show_the_new_imagery_are_embedded(tmp_path, world, model, monkeypatch):
    gallery = build(world, model, tmp_path / "g", "a")
    before = embeddings(gallery)
    counted = []
    done = embedding._tensors

    def counting(strip, some, spec):
        counted.append(len(strip.ids[some]))
        return done(strip, some, spec)

    monkeypatch.setattr(embedding, "_tensors", counting)
    add(world, gallery, "b")
    after = embeddings(gallery)
    assert sum(counted) == len({id for id in after if after[id] != before.get(id)})


def test_imagery_that_is_there_already_changes_nothing(tmp_path, world, model):
    gallery = build(world, model, tmp_path / "g", "ab")
    before, notes = snapshot(gallery), []
    add(world, gallery, "a", note=notes.append)
    add(world, gallery, "ba", note=notes.append)
    assert snapshot(gallery) == before and len(notes) == 2 and "Nothing to do" in notes[0]
    assert not list(gallery.glob(".building-*"))


def test_old_versions_stay_readable_while_and_after(tmp_path, world, model):
    gallery = build(world, model, tmp_path / "g", "a")
    with Gallery.open(gallery) as old:
        add(world, gallery, "b", replace=True)
        assert old.manifest.version != live_folder(gallery).name
        assert len(old.tiles) == len(old) and (old.tiles["source"] == str(world / "a.tif")).all()
        query = np.ones((1, old.spec.dim), np.float32)
        assert np.isin(old.search(query, 5).ids, old.tiles["id"]).all()


def test_changed_imagery_must_replace(tmp_path, world, model):
    shutil.copyfile(world / "a.tif", tmp_path / "a.tif")
    gallery = build(tmp_path, model, tmp_path / "g", "a")
    write(tmp_path / "a.tif", noise(160, 201, 7), transform=from_origin(500_000, 5_300_000, 1, 1))
    before = snapshot(gallery)
    with pytest.raises(ImageryError, match="geoloc index replace"):
        add(tmp_path, gallery, "a")
    assert snapshot(gallery) == before
    add(tmp_path, gallery, "a", replace=True)
    whole = build(tmp_path, model, tmp_path / "whole", "a")
    assert embeddings(gallery) == embeddings(whole) and live(gallery).sources == live(whole).sources


def test_imagery_that_is_gone_is_wanted_only_at_the_edges(tmp_path, world, model):
    shutil.copyfile(world / "a.tif", tmp_path / "a.tif")
    gallery = build(tmp_path, model, tmp_path / "g", "a")
    (tmp_path / "a.tif").unlink()
    before = snapshot(gallery)
    with pytest.raises(ImageryError, match="put it back"):
        add(world, gallery, "b")
    assert snapshot(gallery) == before
    add(world, gallery, "c")
    assert live(gallery).crs == ["EPSG:32632", "EPSG:32633"]


def test_refusals_leave_everything_alone(tmp_path, world, model):
    with pytest.raises(GalleryError, match="is no gallery"):
        add(world, tmp_path, "a")
    assert not list(tmp_path.iterdir())
    gallery = build(world, model, tmp_path / "g", "a")
    before = snapshot(gallery)
    with pytest.raises(ImageryError, match="no file or folder"):
        add(world, gallery, "d")
    assert snapshot(gallery) == before


@pytest.mark.parametrize("other", ["", "b"])
def test_replacing_forgets_what_imagery_does_not_show_any_more(tmp_path, world, model, other):
    """East of it is nodata now, and its west is cut off: there the gallery has what other imagery shows."""
    for name in "a" + other:
        shutil.copyfile(world / f"{name}.tif", tmp_path / f"{name}.tif")
    gallery = build(tmp_path, model, tmp_path / "g", "a" + other)
    less = noise(160, 150, 1)
    less[:, :, 70:] = 0
    write(tmp_path / "a.tif", less, transform=from_origin(500_050, 5_300_000, 1, 1), nodata=0)
    add(tmp_path, gallery, "a", replace=True)
    verify(gallery)
    assert embeddings(gallery) == embeddings(build(tmp_path, model, tmp_path / "whole", "a" + other))


def test_replacing_by_nothing_is_refused_where_nothing_would_be_left(tmp_path, world, model):
    shutil.copyfile(world / "a.tif", tmp_path / "a.tif")
    gallery = build(tmp_path, model, tmp_path / "g", "a")
    before = snapshot(gallery)
    blank = np.zeros((3, 160, 200), np.uint8)
    write(tmp_path / "a.tif", blank, transform=from_origin(500_000, 5_300_000, 1, 1), nodata=0)
    with pytest.raises(GalleryError, match="No tile would be left"):
        add(tmp_path, gallery, "a", replace=True)
    assert {name: content for name, content in snapshot(gallery).items() if name in before} == before
