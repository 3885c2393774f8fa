"""`remove`, `compact` and `gc`: what is gone is not found, what stays is as it was, what is in use stays."""

import json
import multiprocessing
import shutil

import numpy as np
import pytest
import shapely
from fake_encoder import FakeEncoder
from on_disk import embeddings, live, snapshot
from rasterio.transform import from_origin
from tiny_imagery import UTM, noise, write

from geoloc.errors import DataError, GalleryError
from indexing import compact as compacting
from indexing.build import build_gallery
from indexing.compact import MOST_SEGMENTS, compact, due
from indexing.durable import only_builder
from indexing.gallery import Gallery
from indexing.grow import add_imagery
from indexing.manifest import StoredSegment, live_folder, read_manifest
from indexing.remove import remove_region
from indexing.verify import verify
from indexing.versions import gc, versions


@pytest.fixture
def copy(tmp_path, gallery):
    shutil.copytree(gallery, tmp_path / "g")
    return tmp_path / "g"


def part_of(gallery, path, west_share, east_share):
    """A GeoJSON file of that part of the gallery from west to east, and its polygon."""
    with Gallery.open(gallery) as opened:
        west, south, east, north = opened.bounds_lonlat
    box = shapely.box(west + west_share * (east - west), south, west + east_share * (east - west), north)
    path.write_text(json.dumps(shapely.geometry.mapping(box)))
    return path, box


def test_removed_tiles_are_in_nothing_that_is_found(copy, tmp_path):
    path, box = part_of(copy, tmp_path / "r.json", 0.3, 0.5)
    with Gallery.open(copy) as opened:
        before, ids, tiles = embeddings(copy), opened.tiles["id"].to_numpy(), opened.tiles
    remove_region(copy, path)
    verify(copy)
    gone = set(ids[shapely.contains_xy(box, tiles["lon"], tiles["lat"])].tolist())
    after = embeddings(copy)
    assert gone and after == {id: row for id, row in before.items() if id not in gone}
    with Gallery.open(copy) as opened:
        assert len(opened) == len(after) == len(opened.tiles) == live(copy).rows
        query = np.random.default_rng(0).normal(size=(1, opened.spec.dim)).astype(np.float32)
        for headings in (None, [0.0]):
            hits = opened.search(query, len(before), headings_deg=headings)
            assert set(hits.ids[0][hits.ids[0] >= 0].tolist()) == set(after)
        with pytest.raises(GalleryError, match="No tile"):
            opened.search(query, 3, region=box)
        with pytest.raises(GalleryError, match="not in this gallery"):
            opened.tile(gone.pop())
        assert opened.nearest(opened.tile(min(after)).center) == min(after)


def test_compaction_drops_them_and_changes_nothing_else(copy, tmp_path):
    remove_region(copy, part_of(copy, tmp_path / "r.json", 0.3, 0.5)[0])
    before = embeddings(copy)
    compact(copy)
    verify(copy)
    assert embeddings(copy) == before
    assert [(one.rows, one.removed) for one in live(copy).segments] == [(len(before), ())]
    notes = []
    compact(copy, note=notes.append)
    assert "Nothing to do" in notes[0]


def test_removing_and_adding_again_is_the_gallery_as_it_was(copy, ortho, tmp_path):
    before = snapshot(copy)
    remove_region(copy, part_of(copy, tmp_path / "r.json", 0.3, 0.5)[0])
    add_imagery(copy, [ortho], encoder=FakeEncoder())
    assert len(live(copy).segments) == 2
    compact(copy)
    assert snapshot(copy) == before


def test_everything_and_nothing_cannot_be_removed(copy, tmp_path):
    before = snapshot(copy)
    with pytest.raises(GalleryError, match="every tile of the gallery"):
        remove_region(copy, part_of(copy, tmp_path / "r.json", -1, 2)[0])
    with pytest.raises(GalleryError, match="draw one within"):
        remove_region(copy, part_of(copy, tmp_path / "r.json", 4, 5)[0])
    (tmp_path / "r.json").write_text("{")
    with pytest.raises(DataError, match="no GeoJSON"):
        remove_region(copy, tmp_path / "r.json")
    assert snapshot(copy) == before


def test_imagery_below_no_tile_is_no_source_any_more(tmp_path, model):
    west = write(tmp_path / "w.tif", noise(90, 90), UTM, from_origin(500_000, 5_300_000, 1, 1))
    east = write(tmp_path / "e.tif", noise(90, 90), UTM, from_origin(500_300, 5_300_000, 1, 1))
    build_gallery([west, east], model, tmp_path / "g", encoder=FakeEncoder())
    remove_region(tmp_path / "g", part_of(tmp_path / "g", tmp_path / "r.json", 0, 0.5)[0])
    assert [source.path for source in live(tmp_path / "g").sources] == [str(east)]
    with Gallery.open(tmp_path / "g") as opened:
        assert set(opened.tiles["source"]) == {str(east)}
        assert opened.bounds_lonlat == tuple(opened.tiles.total_bounds)


def stored(name, rows, removed=0):
    return StoredSegment(name, rows, "Flat", ((0, removed),) if removed else ())


def test_what_is_due_to_be_merged():
    few = [stored(str(n), 100 + n) for n in range(MOST_SEGMENTS)]
    assert due(few) == []
    assert due([*few, stored("big", 1000)]) == few
    worn = stored("worn", 90, 31)
    assert due([worn, *few[:2]]) == [worn] and due([stored("hardly", 90, 30)]) == []


def test_many_additions_are_merged_on_their_own(tmp_path, model, monkeypatch):
    monkeypatch.setattr(compacting, "MOST_SEGMENTS", 2)
    paths = [
        write(
            tmp_path / f"{n}.tif",
            noise(60, 90 - 9 * n, n),
            UTM,
            from_origin(500_000 + 300 * n, 5_300_000, 1, 1),
        )
        for n in range(4)
    ]
    build_gallery(paths[:1], model, tmp_path / "g", encoder=FakeEncoder())
    notes = []
    for path in paths[1:]:
        add_imagery(tmp_path / "g", [path], encoder=FakeEncoder(), note=notes.append)
    build_gallery(paths, model, tmp_path / "whole", encoder=FakeEncoder())
    assert any("Merging 2 of 3" in note for note in notes) and len(live(tmp_path / "g").segments) == 2
    assert embeddings(tmp_path / "g") == embeddings(tmp_path / "whole")
    verify(tmp_path / "g")


def test_a_damaged_segment_is_not_merged(copy, tmp_path):
    remove_region(copy, part_of(copy, tmp_path / "r.json", 0.3, 0.5)[0])
    path = copy / live(copy).segments[0].folder / "tiles.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    version = live_folder(copy)
    with pytest.raises(GalleryError, match="is damaged"):
        compact(copy)
    assert live_folder(copy) == version and not (copy / ".changing").exists()


def hold(path, opened, done):
    """Run by a process of its own: have the gallery open until told."""
    with Gallery.open(path):
        opened.set()
        done.wait(60)


def test_gc_deletes_what_nobody_needs_and_never_what_is_in_use(copy, tmp_path):
    context = multiprocessing.get_context("forkserver")
    opened, done = context.Event(), context.Event()
    reader = context.Process(target=hold, args=(copy, opened, done))
    reader.start()
    assert opened.wait(60)
    first = live_folder(copy).name
    remove_region(copy, part_of(copy, tmp_path / "r.json", 0.0, 0.2)[0])
    second = live_folder(copy).name
    compact(copy)
    third = live_folder(copy).name
    assert [folder.name for folder in versions(copy)] == [first, second, third]
    cleared = gc(copy)
    assert cleared.deleted == (second,) and cleared.in_use == (first,) and cleared.bytes > 0
    old = read_manifest(copy / first)
    assert all((copy / file.name).is_file() for file in old.files)
    done.set()
    reader.join()
    cleared = gc(copy)
    assert cleared.deleted == (first,) and not (copy / old.segments[0].folder).exists()
    verify(copy)
    assert gc(copy) == type(cleared)((), (), 0)


def test_gc_clears_a_version_that_was_half_deleted(copy):
    (copy / ("0" * 16)).mkdir()
    (copy / "segments" / "orphan").mkdir()
    assert gc(copy).deleted == ("0" * 16,)
    assert not (copy / "segments" / "orphan").exists()
    verify(copy)


@pytest.mark.parametrize("change", ["add", "remove", "compact", "gc"])
def test_one_change_at_a_time(copy, ortho, tmp_path, change):
    region, _ = part_of(copy, tmp_path / "r.json", 0.3, 0.5)
    calls = {
        "add": lambda: add_imagery(copy, [ortho], encoder=FakeEncoder()),
        "remove": lambda: remove_region(copy, region),
        "compact": lambda: compact(copy),
        "gc": lambda: gc(copy),
    }
    with only_builder(copy), pytest.raises(GalleryError, match="by another process"):
        calls[change]()
