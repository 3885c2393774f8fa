"""A build ends in the same bytes whatever happens to it on the way."""

import errno
import fcntl
import multiprocessing
import os
import shutil
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from fake_encoder import SPEC, FakeEncoder, build
from on_disk import file_of, live, snapshot
from rasterio.transform import from_origin
from tiny_imagery import LEFT, TOP, UTM, noise, write

from geoloc.errors import GalleryError, ImageryError, ModelError
from indexing import build as building
from indexing import choose as choosing
from indexing import embed as embedding
from indexing import publish as publishing
from indexing import store as storing
from indexing.build import build_gallery
from indexing.embed import chunk_path, committed, embed_blocks, embed_tiles
from indexing.gallery import Gallery
from indexing.manifest import live_folder
from indexing.verify import verify


def test_layout(gallery):
    folder = live_folder(gallery)
    assert {p.name for p in gallery.iterdir()} == {"CURRENT", ".lock", folder.name, "segments", "models"}
    assert [p.name for p in folder.iterdir()] == ["manifest.json"]
    with h5py.File(file_of(gallery, "embeddings.h5")) as file:
        data = file["embeddings"]
        assert data.dtype == np.float16 and data.chunks is None and file["checks"].shape == data.shape[:1]
        assert len(file["ids"]) == len(data) and file.attrs["spec"] == SPEC.to_json()
        np.testing.assert_allclose(np.linalg.norm(data[:].astype(float), axis=1), 1, atol=2e-3)
    assert {p.name for p in (gallery / live(gallery).model).iterdir()} == {"spec.json", "weights.safetensors"}


def test_embeddings_are_those_of_the_tiles_read_afresh(gallery):
    with Gallery.open(gallery) as opened, h5py.File(file_of(gallery, "embeddings.h5")) as file:
        ids, stored = file["ids"][:], file["embeddings"][:]
        for row in range(0, len(ids), 97):
            rgb = opened.read_tile(int(ids[row]))
            again = embed_tiles([rgb], FakeEncoder(), torch.device("cpu"))[0]
            np.testing.assert_allclose(again.astype(float), stored[row].astype(float), atol=0.01)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, ortho, model) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("unbroken") / "g"
    start = time.monotonic()
    build(ortho, model, out)
    took_s = time.monotonic() - start
    return {"took_s": took_s, **snapshot(out)}


def kill_and_resume(out: Path, ortho: Path, model: Path, unbroken: dict, moments: list[float]) -> int:
    """Start, kill after each moment (a share of an unbroken build's time), then build to the end."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["fake_encoder"])
    killed = 0
    for moment in moments:
        process = context.Process(target=build, args=(ortho, model, out))
        process.start()
        process.join(0.3 + moment * unbroken["took_s"])
        killed += process.is_alive()
        process.kill()
        process.join()
    build(ortho, model, out)
    verify(out)
    assert snapshot(out) == {name: b for name, b in unbroken.items() if name != "took_s"}
    assert not list(out.glob(".building-*")) and not list(out.rglob("*.tmp"))
    return killed


def test_five_kills_and_a_resume_equal_an_unbroken_build(tmp_path, ortho, model, unbroken):
    """All five in one gallery: each run goes a little further than the last."""
    moments = np.random.default_rng(0).uniform(0, 0.5, 5).tolist()
    assert kill_and_resume(tmp_path / "g", ortho, model, unbroken, moments) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(30))
def test_thirty_kills_each_resumed_equal_an_unbroken_build(tmp_path, ortho, model, unbroken, seed):
    kill_and_resume(tmp_path / "g", ortho, model, unbroken, [np.random.default_rng(seed).uniform(0, 1.2)])


class Died(BaseException):
    """A kill, at a chosen call."""


@pytest.mark.parametrize(
    ("module", "step"),
    [
        (storing, "write_embeddings"),
        (choosing, "fill_index"),
        (building, "install"),
        (publishing, "to_bytes"),
        (publishing, "sync_tree"),
        (publishing, "write_whole"),
    ],
)
def test_a_death_in_any_step_leaves_the_live_version_and_resumes(
    tmp_path, gallery, ortho, model, unbroken, monkeypatch, module, step
):
    out = tmp_path / "g"
    shutil.copytree(gallery, out)
    before = snapshot(out)
    done = getattr(module, step)

    def die(*arguments, **options):
        if step != "write_whole" or arguments[0].name == "CURRENT":
            done(*arguments, **options) if step == "fill_index" else None
            raise Died
        return done(*arguments, **options)

    monkeypatch.setattr(module, step, die)
    with pytest.raises(Died):
        build(ortho, model, out)
    assert snapshot(out) == before
    verify(out)
    monkeypatch.undo()
    embedded = []
    monkeypatch.setattr(embedding, "embed_block", lambda *_: embedded.append(1))
    build(ortho, model, out)
    assert not embedded
    assert snapshot(out) == {name: b for name, b in unbroken.items() if name != "took_s"}


def test_another_stride_is_another_build(tmp_path, ortho, model, monkeypatch):
    out = tmp_path / "g"
    monkeypatch.setattr(building, "store", lambda *_: (_ for _ in ()).throw(Died()))
    with pytest.raises(Died):
        build_gallery([ortho], model, out, stride_m=8, encoder=FakeEncoder())
    monkeypatch.undo()
    assert len(list(out.glob(".building-*"))) == 1
    build_gallery([ortho], model, out, stride_m=16, encoder=FakeEncoder())
    build_gallery([ortho], model, tmp_path / "fresh", stride_m=16, encoder=FakeEncoder())
    assert snapshot(out) == snapshot(tmp_path / "fresh")
    assert not list(out.glob(".building-*"))


def test_changed_imagery_is_another_build(tmp_path, model):
    path = write(tmp_path / "a.tif", noise(100, 100))
    plan = building.plan_build([path], model, FakeEncoder(), 8, None)
    os.utime(path, ns=(1, 1))
    assert building.plan_build([path], model, FakeEncoder(), 8, None).key != plan.key


def test_a_second_builder_is_refused(tmp_path, ortho, model):
    out = tmp_path / "g"
    out.mkdir()
    with (out / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(GalleryError, match="being changed by another process"):
            build_gallery([ortho], model, out, stride_m=8, encoder=FakeEncoder())


@pytest.mark.parametrize(
    ("module", "step", "error"),
    [
        (embedding, "write_whole", OSError(errno.ENOSPC, "No space left on device")),
        (storing, "write_embeddings", OSError("Can't write data (No space left on device)")),
        (choosing, "fill_index", RuntimeError("fwrite failed: No space left on device")),
    ],
)
def test_a_full_disk_is_one_sentence(tmp_path, gallery, ortho, model, monkeypatch, module, step, error):
    out = tmp_path / "g"
    shutil.copytree(gallery, out)
    before = snapshot(out)

    def full(*_, **__):
        raise error

    monkeypatch.setattr(module, step, full)
    with pytest.raises(GalleryError, match="is full; its live version is untouched") as caught:
        build_gallery([ortho], model, out, stride_m=4, encoder=FakeEncoder())
    assert "\n" not in str(caught.value) and snapshot(out) == before


def test_building_again_changes_nothing_and_repairs_damage(tmp_path, gallery, ortho, model):
    out = tmp_path / "g"
    shutil.copytree(gallery, out)
    before = snapshot(out)
    path = file_of(out, "index.faiss")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    build_gallery([ortho], model, out, stride_m=8, encoder=FakeEncoder())
    assert snapshot(out) == before
    verify(out)


def test_a_folder_of_other_things_is_left_alone(tmp_path, ortho, model):
    (tmp_path / "thesis.doc").write_text("mine")
    with pytest.raises(GalleryError, match="holds other things"):
        build_gallery([ortho], model, tmp_path, encoder=FakeEncoder())
    with pytest.raises(GalleryError, match="is a file"):
        build_gallery([ortho], model, tmp_path / "thesis.doc", encoder=FakeEncoder())
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.doc"]


def test_every_unusable_file_is_named_at_once(tmp_path, ortho, model):
    (tmp_path / "a.tif").write_text("text")
    write(tmp_path / "b.tif", noise(50, 50), UTM, from_origin(LEFT, TOP, 30, 30))
    with pytest.raises(ImageryError) as caught:
        build_gallery([ortho, tmp_path], model, tmp_path / "g", encoder=FakeEncoder())
    assert [line.split(" ")[0] for line in str(caught.value).splitlines()] == [
        str(tmp_path / "a.tif"),
        str(tmp_path / "b.tif"),
    ]
    assert not (tmp_path / "g").exists()


def test_imagery_without_a_valid_pixel_is_refused(tmp_path, model):
    path = write(tmp_path / "a.tif", np.zeros((3, 90, 90), np.uint8), nodata=0)
    notes = []
    with pytest.raises(ImageryError, match="enough valid pixels"):
        build_gallery([path], model, tmp_path / "g", encoder=FakeEncoder(), note=notes.append)
    assert not notes and not list((tmp_path / "g").glob(".building-*"))


def test_what_the_reader_assumed_is_noted(tmp_path, ortho, model):
    grey = write(tmp_path / "grey.tif", noise(90, 90)[:1])
    small = write(tmp_path / "small.tif", noise(9, 9), UTM, from_origin(LEFT + 500, TOP, 1, 1))
    notes = []
    build_gallery([grey, small], model, tmp_path / "g", encoder=FakeEncoder(), note=notes.append)
    assert any("grey" in note for note in notes) and any("small.tif: no tile" in note for note in notes)


def test_an_index_that_the_tiles_cannot_teach_is_refused_before_work_begins(tmp_path, ortho, model):
    with pytest.raises(GalleryError, match="wants more of them"):
        build_gallery([ortho], model, tmp_path / "g", index="IVF999999,Flat", encoder=FakeEncoder())
    assert not (tmp_path / "g").exists()


def test_a_model_that_makes_nonsense_is_refused(tmp_path, ortho, model):
    encoder = FakeEncoder()
    encoder.weights *= float("nan")
    with pytest.raises(ModelError, match="not numbers"):
        build_gallery([ortho], model, tmp_path / "g", encoder=encoder)


def test_progress_counts_every_tile(tmp_path, ortho, model):
    seen = []
    build_gallery(
        [ortho],
        model,
        tmp_path / "g",
        encoder=FakeEncoder(),
        stride_m=8,
        progress=lambda *now: seen.append(now),
    )
    embed = [now for now in seen if now[0] == "embed"]
    assert embed[-1][1] == embed[-1][2] and [now[1] for now in embed] == sorted(now[1] for now in embed)


def test_tiles_of_changed_or_moved_imagery_are_refused(tmp_path, model):
    path = write(tmp_path / "a.tif", noise(100, 100))
    build_gallery([path], model, tmp_path / "g", encoder=FakeEncoder())
    write(path, noise(100, 101))
    with Gallery.open(tmp_path / "g") as opened, pytest.raises(ImageryError, match="not the file it was"):
        opened.read_tile(int(opened.tiles["id"].iat[0]))
    path.rename(tmp_path / "b.tif")
    with Gallery.open(tmp_path / "g") as opened, pytest.raises(ImageryError, match="put it back"):
        opened.read_tile(int(opened.tiles["id"].iat[0]))


def test_a_model_that_is_replaced_during_the_build_is_not_the_gallerys(tmp_path, ortho, model):
    mine = Path(shutil.copytree(model, tmp_path / "model"))

    def replaced_meanwhile(*given):
        (mine / "weights.safetensors").write_bytes(b"better ones")
        embed_blocks(*given)

    out = tmp_path / "g"
    build_gallery([ortho], mine, out, stride_m=8, encoder=FakeEncoder(), engine=replaced_meanwhile)
    verify(out)
    with Gallery.open(out) as gallery:
        assert (gallery.model_dir / "weights.safetensors").read_bytes() == b"not loaded"


def test_a_model_that_is_replaced_while_it_is_read_is_refused(tmp_path, ortho, model, monkeypatch):
    mine = Path(shutil.copytree(model, tmp_path / "model"))
    planned = building.plan_build

    def replaced_meanwhile(*given):
        plan = planned(*given)
        (mine / "weights.safetensors").write_bytes(b"better ones")
        return plan

    monkeypatch.setattr(building, "plan_build", replaced_meanwhile)
    with pytest.raises(GalleryError, match="changed while it was read"):
        build_gallery([ortho], mine, tmp_path / "g", stride_m=8, encoder=FakeEncoder())
    assert not (tmp_path / "g" / "CURRENT").exists()


def test_an_empty_file_of_a_stopped_build_is_made_again(tmp_path, ortho, model):
    (tmp_path / "work").mkdir()
    chunk_path(tmp_path / "work", 0).touch()
    with pytest.raises(GalleryError, match="is removed; run the same command again"):
        list(committed(tmp_path / "work", 1))
    assert not chunk_path(tmp_path / "work", 0).exists()


def test_a_disk_without_locks_does_not_stop_a_build(tmp_path, ortho, model, monkeypatch):
    def without_locks(*_):
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr("indexing.durable.fcntl.flock", without_locks)
    build_gallery([ortho], model, tmp_path / "g", stride_m=8, encoder=FakeEncoder())
    verify(tmp_path / "g")
