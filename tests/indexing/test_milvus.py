"""A gallery that Milvus serves (embedded milvus-lite) answers as the local one does."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import shapely
from fake_encoder import FakeEncoder

from geoloc.errors import GalleryError
from indexing import milvus
from indexing.build import build_gallery
from indexing.gallery import Gallery
from indexing.milvus import export_to_milvus, open_served
from ui.cli import main


@pytest.fixture(scope="module")
def served(tmp_path_factory, gallery) -> str:
    """milvus:URI of the gallery, exported by another process than asks it."""
    pytest.importorskip("milvus_lite", reason='pip install "geoloc-crossview[milvus]" to test with Milvus')
    uri = str(tmp_path_factory.mktemp("milvus") / "m.db")
    words = ["index", "export", str(gallery), uri, "--to", "milvus"]
    subprocess.run([sys.executable, "-c", f"from ui.cli import main; main({words})"], check=True)
    return f"milvus:{uri}"


@pytest.mark.parametrize("headings", [[None], [40.0]])
@pytest.mark.parametrize("whole", [True, False])
def test_the_same_tiles_are_found(served, gallery, headings, whole):
    rng = np.random.default_rng(0)
    with Gallery.open(gallery) as local, open_served(served) as remote:
        west, south, east, north = local.bounds_lonlat
        region = None if whole else shapely.box(west, south, (west + east) / 2, north)
        queries = rng.normal(size=(5, local.spec.dim)).astype(np.float32)
        for query in queries / np.linalg.norm(queries, axis=1, keepdims=True):
            here, there = (
                one.search(query[None], 10, region=region, headings_deg=headings) for one in (local, remote)
            )
            np.testing.assert_array_equal(there.ids, here.ids)
            np.testing.assert_allclose(there.scores, here.scores, atol=1e-6)
            np.testing.assert_allclose(there.headings_deg, here.headings_deg, atol=1e-3)


def test_one_connection_serves_a_gallery_until_it_is_closed(served, monkeypatch):
    pymilvus = pytest.importorskip("pymilvus")
    told = []

    class Watched(pymilvus.MilvusClient):
        def __init__(self, *given):
            told.append("open")
            super().__init__(*given)

        def close(self):
            told.append("close")
            super().close()

    monkeypatch.setattr(pymilvus, "MilvusClient", Watched)
    with open_served(served) as one, open_served(served) as other:
        query = one.segments[0].segment.read(np.array([3]))
        other.close()
        assert one.search(query, 2).ids[0, 0] == one.segments[0].all_ids[3]
        assert told == ["open", "open", "close"]
    assert told.count("close") >= told.count("open") == 2
    told.clear()
    monkeypatch.setattr(milvus, "read_origins", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        open_served(served)
    assert told == ["open", "close"]


def test_neither_index_nor_embeddings_are_wanted_where_it_is_served(tmp_path, gallery_copy):
    pytest.importorskip("milvus_lite")
    uri = str(tmp_path / "m.db")
    with Gallery.open(gallery_copy) as opened:
        export_to_milvus(opened, uri, lambda *_: None)
        query = opened.segments[0].segment.read(np.array([7]))
        wanted = opened.search(query, 3)
    for name in ("embeddings.h5", "index.faiss"):
        for path in gallery_copy.rglob(name):
            path.unlink()
    with open_served(f"milvus:{uri}") as remote:
        np.testing.assert_array_equal(remote.search(query, 3).ids, wanted.ids)


def test_another_version_and_half_an_export_are_refused(tmp_path, gallery_copy, ortho, model, monkeypatch):
    pytest.importorskip("milvus_lite")
    uri = str(tmp_path / "m.db")

    def give_up(*_):
        raise KeyboardInterrupt

    with pytest.raises(GalleryError, match="no file"):
        open_served(f"milvus:{uri}")
    assert not Path(uri).exists()
    monkeypatch.setattr(milvus, "_AT_ONCE", 500)
    with Gallery.open(gallery_copy) as opened:
        with pytest.raises(KeyboardInterrupt):
            export_to_milvus(opened, uri, give_up)
        with pytest.raises(GalleryError, match="serves 0 galleries"):
            open_served(f"milvus:{uri}")
        export_to_milvus(opened, uri, lambda *_: None)
    open_served(f"milvus:{uri}").close()
    build_gallery([ortho], model, gallery_copy, stride_m=16, encoder=FakeEncoder())
    with pytest.raises(GalleryError, match="another version"):
        open_served(f"milvus:{uri}")
    with Gallery.open(gallery_copy) as opened:
        export_to_milvus(opened, uri, lambda *_: None)
    with open_served(f"milvus:{uri}") as remote:
        assert len(remote) == len(Gallery.open(gallery_copy))


def test_without_its_client_the_error_says_what_to_install(gallery, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    with pytest.raises(SystemExit) as exit:
        main(["index", "export", str(gallery), str(tmp_path / "m.db"), "--to", "milvus"])
    assert exit.value.code == 2 and 'pip install "geoloc-crossview[milvus]"' in capsys.readouterr().err


def test_a_server_that_is_not_there_is_one_sentence(tmp_path, capsys):
    pytest.importorskip("pymilvus")
    with pytest.raises(GalleryError, match="check the address"):
        open_served("milvus:http://127.0.0.1:1")
