"""A gallery whose changes are killed at any moment, or meet a full disk or a failing one, again and again."""

import errno
import multiprocessing
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from changes import LIFE, announced, change, make_world
from on_disk import embeddings, snapshot

from geoloc.errors import GalleryError, ImageryError
from indexing import choose, manifest, publish, store
from indexing import compact as compacting
from indexing import embed as embedding
from indexing.gallery import Gallery
from indexing.manifest import live_folder
from indexing.verify import verify
from indexing.versions import gc


@dataclass(frozen=True)
class Stage:
    """After a change that nothing disturbed: how long it took, a copy, its live files and embeddings."""

    took_s: float
    copy: Path
    files: dict[str, bytes]
    tiles: dict[int, bytes]


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def stages(world, tmp_path_factory) -> list[Stage]:
    """Of every change in LIFE."""
    gallery, found = tmp_path_factory.mktemp("unbroken") / "g", []
    for name in LIFE:
        start = time.monotonic()
        change(name, world, gallery)
        took_s = time.monotonic() - start
        copy = shutil.copytree(gallery, gallery.with_name(name))
        found.append(Stage(took_s, copy, snapshot(gallery), embeddings(gallery)))
    sizes = [len(stage.tiles) for stage in found]
    assert sizes[1] > sizes[0] and sizes[2] < sizes[1] and sizes[5] == sizes[6] == sizes[1]
    return found


def blocks(gallery: Path) -> dict[str, bytes]:
    """What builds have committed so far."""
    return {str(path): path.read_bytes() for path in gallery.glob(".building-*/block-*.npz")}


def die_at(moment_s: float, name: str, world: Path, gallery: Path) -> bool:
    """Run a change and kill it so many seconds after it began: whether it was not done by then."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["indexing.grow", "indexing.remove", "indexing.versions"])
    started = context.Event()
    process = context.Process(target=announced, args=(name, world, gallery, started))
    process.start()
    assert started.wait(120)
    process.join(moment_s)
    is_killed = process.is_alive()
    process.kill()
    process.join()
    return is_killed


def live_a_life(gallery: Path, world: Path, stages: list[Stage], kills: int, seed: int) -> int:
    """Every change, each killed `kills` times and then left alone: how many times it was killed midway.

    After each kill the tiles are those before the change or after it, and no block committed is lost. A
    change that was killed after it was published and is made again may store its tiles in other segments,
    until they are merged.
    """
    rng, killed = np.random.default_rng(seed), 0
    before: dict[int, bytes] | None = None
    for name, after in zip(LIFE, stages, strict=True):
        for _ in range(kills):
            committed = blocks(gallery)
            killed += die_at(rng.uniform(0, 1.1) * after.took_s, name, world, gallery)
            there = None
            if before is not None or (gallery / "CURRENT").exists():
                verify(gallery)
                there = embeddings(gallery)
            assert there in (before, after.tiles)
            assert there == after.tiles or committed.items() <= blocks(gallery).items()
        if name != "remove" or embeddings(gallery) != after.tiles:  # there is nothing to remove twice
            change(name, world, gallery)
        before = embeddings(gallery)
        assert before == after.tiles
    verify(gallery)
    assert snapshot(gallery) == stages[-1].files
    gc(gallery)
    left = {path.name for path in gallery.iterdir()}
    assert left == {"CURRENT", ".lock", live_folder(gallery).name, "segments", "models"}
    return killed


def test_a_life_with_a_kill_in_every_change(tmp_path, world, stages):
    assert live_a_life(tmp_path / "g", world, stages, 1, 0) >= 3


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_life_with_two_hundred_kills(tmp_path, world, stages):
    tried = -(-200 // len(LIFE))
    killed = live_a_life(tmp_path / "g", world, stages, tried, 1)
    print(f"{killed} of {tried * len(LIFE)} processes were killed in the middle")
    assert killed >= 120


@pytest.fixture
def before(tmp_path, stages):
    """A function that copies a gallery as it is before a change of LIFE."""
    return lambda name: shutil.copytree(stages[LIFE.index(name) - 1].copy, tmp_path / "g")


FULL = OSError(errno.ENOSPC, "No space left on device")
BROKEN = OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize(
    ("name", "module", "step"),
    [
        ("add", embedding, "write_whole"),
        ("add", store, "write_embeddings"),
        ("add", publish, "sync_tree"),
        ("add", publish, "write_whole"),
        ("remove", publish, "write_whole"),
        ("compact", choose, "fill_index"),
        ("compact", publish, "to_bytes"),
    ],
)
@pytest.mark.parametrize(("error", "said"), [(FULL, "is full"), (BROKEN, "disk or its connection")])
def test_a_disk_that_fails_is_one_sentence_and_the_change_can_be_made_later(
    before, world, stages, monkeypatch, name, module, step, error, said
):
    gallery = before(name)
    files, done, calls = snapshot(gallery), getattr(module, step), []

    def fail_later(*arguments, **options):
        calls.append(1)
        if len(calls) > 1 or module is not embedding:
            raise error
        return done(*arguments, **options)

    monkeypatch.setattr(module, step, fail_later)
    with pytest.raises(GalleryError, match=said) as caught:
        change(name, world, gallery)
    assert "\n" not in str(caught.value) and snapshot(gallery) == files
    monkeypatch.undo()
    change(name, world, gallery)
    assert snapshot(gallery) == stages[LIFE.index(name)].files


def test_a_segment_that_cannot_be_read_is_not_merged(before, world, stages, monkeypatch):
    gallery = before("compact")
    files = snapshot(gallery)

    def unreadable(*_):
        raise BROKEN

    for module, step in ((manifest, "sha256_of"), (compacting, "read_rows"), (compacting, "read_origins")):
        monkeypatch.setattr(module, step, unreadable)
        with pytest.raises(GalleryError, match="disk or its connection"):
            change("compact", world, gallery)
        monkeypatch.undo()
        assert snapshot(gallery) == files
    change("compact", world, gallery)
    assert snapshot(gallery) == stages[-1].files


def test_imagery_that_cannot_be_read_to_its_end_is_named_and_added_later(before, world, stages):
    gallery = before("add")
    files, whole = snapshot(gallery), (world / "b.tif").read_bytes()
    stat = (world / "b.tif").stat()
    (world / "b.tif").write_bytes(whole[: len(whole) * 2 // 3])
    try:
        with pytest.raises(ImageryError, match=r"b\.tif"):
            change("add", world, gallery)
        assert snapshot(gallery) == files
    finally:
        (world / "b.tif").write_bytes(whole)
        shutil.os.utime(world / "b.tif", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    change("add", world, gallery)
    assert snapshot(gallery) == stages[1].files


def test_a_reader_keeps_its_version_through_a_whole_life(before, world, stages):
    gallery = before("add")
    with Gallery.open(gallery) as reader:
        query = np.eye(1, reader.spec.dim, dtype=np.float32)
        first = reader.search(query, 50)
        for name in LIFE[1:]:
            change(name, world, gallery)
        assert live_folder(gallery).name != reader.manifest.version
        again = reader.search(query, 50)
        np.testing.assert_array_equal(first.ids, again.ids)
        assert len(reader.tiles) == len(stages[0].tiles)
