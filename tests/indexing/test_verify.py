"""One flipped byte anywhere is found: by `verify`, and by `Gallery.open` or whatever reads it then."""

import json
import shutil
from hashlib import sha256

import numpy as np
import pytest
import shapely
from fake_encoder import FakeEncoder
from on_disk import file_of, live
from rasterio.transform import from_origin
from tiny_imagery import UTM, noise, write

from geoloc.errors import GalleryError
from indexing.blocks import write_blocks
from indexing.gallery import Gallery
from indexing.grow import add_imagery
from indexing.manifest import live_folder, version_of
from indexing.remove import remove_region
from indexing.table import rows_from, rows_inside
from indexing.verify import examine, verify

FILES = [
    "CURRENT",
    "manifest.json",
    "embeddings.h5",
    "tiles.parquet",
    "tiles.parquet.blocks",
    "index.faiss",
    "index.faiss.blocks",
    "weights.safetensors",
    "spec.json",
]


@pytest.fixture
def copy(tmp_path, gallery):
    shutil.copytree(gallery, tmp_path / "g")
    return tmp_path / "g"


def republish(gallery, change):
    """Change the manifest and everything that depends on it, as a forger would."""
    folder = live_folder(gallery)
    raw = json.loads((folder / "manifest.json").read_bytes())
    change(raw)
    content = json.dumps(raw).encode()
    (folder / "manifest.json").write_bytes(content)
    folder.rename(gallery / version_of(content))
    (gallery / "CURRENT").write_text(version_of(content))
    return gallery


def test_a_sound_gallery(gallery):
    report = verify(gallery)
    assert report.problems == () and report.files == 7 and report.tiles == len(Gallery.open(gallery))


@pytest.mark.parametrize("name", FILES)
def test_one_flipped_byte_is_found(copy, name):
    path = file_of(copy, name)
    whole = path.read_bytes()
    ends = [0, len(whole) - 1] if name != "CURRENT" else [0]
    for at in [*ends, *np.random.default_rng(0).integers(0, len(whole) - 1, 6).tolist()]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << int(at) % 8]) + whole[at + 1 :])
        with pytest.raises(GalleryError) as caught:
            verify(copy)
        assert "\n" not in str(caught.value)
        with pytest.raises(GalleryError), Gallery.open(copy) as opened:
            assert name == "tiles.parquet"
            opened.tiles  # noqa: B018 - read when it is asked for
        path.write_bytes(whole)
    verify(copy)


def test_no_flipped_byte_of_the_table_is_ever_believed(copy):
    """Every reader of it gives what it gave before, or an error that names it, though it was opened."""
    with Gallery.open(copy) as opened:
        west, south, east, north = opened.bounds_lonlat
        region = shapely.box(west, south, (west + east) / 2, (south + north) / 2)
        ids, path = opened.tiles["id"].tolist(), opened.segments[0].table

    def ask(opened, what):
        rows_inside.cache_clear()
        rows_from.cache_clear()
        table = opened.segments[0].table
        return {
            "tiles": lambda: opened.tiles["lon"].tolist(),
            "region": lambda: rows_inside(table, region).tolist(),
            "glob": lambda: rows_from(table, "*.tif").tolist(),
            "source": lambda: opened.source(ids[-1]),
        }[what]()

    questions = ("tiles", "region", "glob", "source")
    with Gallery.open(copy) as opened:
        wanted = {what: ask(opened, what) for what in questions}
    whole = path.read_bytes()
    for at in [
        len(whole) - 1,
        len(whole) - 9,
        *np.random.default_rng(2).integers(0, len(whole), 9).tolist(),
    ]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :])
        with Gallery.open(copy) as opened:
            for what in questions:
                try:
                    assert ask(opened, what) == wanted[what]
                except GalleryError as cause:
                    assert f"{path} is damaged" in str(cause) and "take the gallery again" in str(cause)
                    continue
                assert what != "tiles", "all of it is read, so the byte was"
    path.write_bytes(whole)


def test_a_gallery_of_before_blocks_opens_and_is_hashed_whole(copy):
    def forget(raw):
        raw["files"] = [file for file in raw["files"] if not file["name"].endswith(".blocks")]

    republish(copy, forget)
    for path in copy.rglob("*.blocks"):
        path.unlink()
    verify(copy)
    with Gallery.open(copy) as opened:
        assert len(opened.tiles) == len(opened) and opened.source(opened.tiles["id"][3]).endswith(".tif")
    path = file_of(copy, "tiles.parquet")
    whole = path.read_bytes()
    path.write_bytes(whole[:99] + bytes([whole[99] ^ 1]) + whole[100:])
    with pytest.raises(GalleryError, match="is damaged"):
        Gallery.open(copy)


@pytest.mark.parametrize("name", FILES[1:])
def test_a_missing_or_shortened_file_is_found(copy, name):
    path = file_of(copy, name)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(GalleryError):
        verify(copy)
    path.unlink()
    with pytest.raises(GalleryError, match="missing"):
        verify(copy)


def test_every_damaged_file_and_every_stranger_is_named(copy):
    file_of(copy, "index.faiss").write_bytes(b"x")
    file_of(copy, "tiles.parquet").unlink()
    file_of(copy, "index.faiss").with_name("extra.txt").write_text("x")
    report = examine(copy)
    assert [any(name in problem for problem in report.problems) for name in ("index", "tiles", "extra")] == [
        True
    ] * 3


@pytest.mark.parametrize("content", ["../../etc", "", "x" * 70, "0123456789abcdef", "/tmp", "a\0b"])
def test_current_leads_nowhere_else(copy, content):
    (copy / "CURRENT").write_text(content)
    with pytest.raises(GalleryError, match="names no version"):
        Gallery.open(copy)


def test_no_gallery(tmp_path):
    with pytest.raises(GalleryError, match="is no gallery"):
        Gallery.open(tmp_path)


def forge(**changes):
    return lambda raw: raw.update(changes)


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw["files"][0].update(name="../../../etc/passwd"),
        lambda raw: raw["files"][0].update(name="/etc/passwd"),
        lambda raw: raw.update(files=[]),
        lambda raw: raw.update(schema=99),
        lambda raw: raw["segments"][0].update(rows=10**12),
        lambda raw: raw.update(grid={}),
        lambda raw: raw["spec"].update(channels=7),
        lambda raw: raw["spec"].update(mean=[0.1, 0.1, 0.1]),
        lambda raw: raw.clear(),
    ],
)
def test_forged_manifests_are_refused(copy, change):
    republish(copy, change)
    with pytest.raises(GalleryError):
        Gallery.open(copy)
    with pytest.raises(GalleryError):
        verify(copy)


def test_an_index_of_other_vectors_is_found(copy):
    import faiss

    path = file_of(copy, "index.faiss")
    index = faiss.read_index(str(path))
    vectors = index.reconstruct_n(0, index.ntotal)
    index.reset()
    index.add(np.roll(vectors, 1, axis=1))
    faiss.write_index(index, str(path))
    _rehash(copy, "index.faiss")
    with pytest.raises(GalleryError, match="does not find"):
        verify(copy)


def test_a_table_of_other_tiles_is_found(copy):
    path = file_of(copy, "tiles.parquet")
    with Gallery.open(copy) as opened:
        table = opened.tiles
    table["id"] = table["id"] + 1
    table.to_parquet(path, index=False)
    write_blocks(path)
    _rehash(copy, "tiles.parquet.blocks")
    _rehash(copy, "tiles.parquet")
    with pytest.raises(GalleryError, match="different tiles"):
        verify(copy)


def _rehash(gallery, name):
    content = file_of(gallery, name).read_bytes()

    def change(raw):
        for file in raw["files"]:
            if file["name"].endswith(f"/{name}"):
                file.update(bytes=len(content), sha256=sha256(content).hexdigest())

    republish(gallery, change)


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw["grid"].update(size_px=0),
        lambda raw: raw.update(bounds_lonlat=[float("nan")] * 4),
        lambda raw: raw["sources"][0].pop("bytes"),
    ],
    ids=["grid", "bounds", "sources"],
)
def test_a_forged_manifest_is_refused(copy, change):
    republish(copy, change)
    with pytest.raises(GalleryError, match="manifest"):
        Gallery.open(copy)


def test_a_model_of_another_spec_is_refused(copy):
    path = file_of(copy, "spec.json")
    path.write_text(path.read_text().replace('"stage": ', '"stage": 1'))
    _rehash(copy, "spec.json")
    with pytest.raises(GalleryError, match=r"spec\.json is not the manifest's"):
        Gallery.open(copy)


@pytest.fixture
def grown(copy, tmp_path):
    """A gallery of two segments, of one of which a region is removed."""
    path = write(tmp_path / "new.tif", noise(90, 120, 4), UTM, from_origin(500_350, 5_300_200, 1, 1))
    add_imagery(copy, [path], encoder=FakeEncoder())
    with Gallery.open(copy) as opened:
        west, south, east, north = opened.bounds_lonlat
    box = shapely.box(west, south, west + (east - west) / 5, north)
    (tmp_path / "r.json").write_text(json.dumps(shapely.geometry.mapping(box)))
    remove_region(copy, tmp_path / "r.json")
    return copy


def test_one_flipped_byte_is_found_in_any_file_of_any_segment(grown):
    manifest = live(grown)
    assert len(manifest.segments) == 2 and manifest.segments[0].removed and len(manifest.files) == 12
    names = [*(file.name for file in manifest.files), f"{manifest.version}/manifest.json"]
    for number, name in enumerate(names):
        path = grown / name
        whole = path.read_bytes()
        for at in [0, len(whole) - 1, *np.random.default_rng(number).integers(0, len(whole), 3).tolist()]:
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << int(at) % 8]) + whole[at + 1 :])
            with pytest.raises(GalleryError):
                verify(grown)
        path.write_bytes(whole)
    verify(grown)


@pytest.mark.parametrize(
    "removed",
    [[[5, 3]], [[3, 3]], [[0, 5], [4, 9]], [[-1, 3]], [[0, 10**12]], [["a", "b"]], [[1, 2, 3]], "x", None],
)
def test_forged_removals_are_refused(grown, removed):
    republish(grown, lambda raw: raw["segments"][0].update(removed=removed))
    with pytest.raises(GalleryError, match="no manifest of a gallery"):
        Gallery.open(grown)


def test_a_segment_listed_twice_is_found(grown):
    republish(grown, lambda raw: raw["segments"].append(raw["segments"][1]))
    with pytest.raises(GalleryError, match="tiles of the same id"):
        verify(grown)
