"""embeddings.h5 comes back as written, and a hostile one is not followed anywhere."""

import errno
import gc

import h5py
import numpy as np
import pytest
from fake_encoder import SPEC

from geoloc.errors import GalleryError
from indexing import embeddings
from indexing.embeddings import read_embeddings, read_ids, read_rows, write_embeddings

ROWS = 3000
IDS = np.arange(ROWS, dtype=np.int64) * 7
VECTORS = np.random.default_rng(0).normal(size=(ROWS, SPEC.dim)).astype(np.float16)


@pytest.fixture
def path(tmp_path):
    pieces = [(IDS[a:b], VECTORS[a:b]) for a, b in ((0, 1000), (1000, 1001), (1001, 1001), (1001, ROWS))]
    write_embeddings(tmp_path / "e.h5", SPEC, ROWS, pieces)
    return tmp_path / "e.h5"


def test_round_trip(path):
    np.testing.assert_array_equal(read_ids(path, SPEC, ROWS), IDS)
    chunks = list(read_embeddings(path, SPEC, ROWS))
    np.testing.assert_array_equal(np.concatenate([c[1] for c in chunks]), VECTORS)


@pytest.mark.parametrize("wanted", [[], [0], [ROWS - 1, 0, 1023, 1024, 0, 2048], list(range(ROWS))[::-7]])
def test_some_rows_come_in_the_order_asked(path, wanted):
    found = read_rows(path, SPEC, ROWS, np.array(wanted, np.int64))
    np.testing.assert_array_equal(found, VECTORS[wanted].reshape(-1, SPEC.dim))


def test_bytes_depend_on_content_only(path, tmp_path):
    write_embeddings(tmp_path / "again.h5", SPEC, ROWS, [(IDS, VECTORS)])
    assert (tmp_path / "again.h5").read_bytes() == path.read_bytes()


def external_link(file, _):
    del file["ids"]
    file["ids"] = h5py.ExternalLink("/etc/passwd", "ids")


def soft_link(file, _):
    del file["ids"]
    file["ids"] = h5py.SoftLink("/embeddings")


def external_storage(file, folder):
    (folder / "secret").write_bytes(b"s" * ROWS * 8)
    del file["ids"]
    file.create_dataset("ids", (ROWS,), np.int64, external=[(str(folder / "secret"), 0, ROWS * 8)])


def virtual(file, folder):
    layout = h5py.VirtualLayout((ROWS,), np.int64)
    layout[:] = h5py.VirtualSource(str(folder / "secret.h5"), "x", (ROWS,))
    del file["ids"]
    file.create_virtual_dataset("ids", layout)


def huge(file, _):
    del file["embeddings"]
    file.create_dataset("embeddings", (10**9, SPEC.dim), np.float16, chunks=(1024, SPEC.dim), fletcher32=True)


def other_type(file, _):
    del file["ids"]
    file.create_dataset("ids", (ROWS,), np.float64, chunks=(1024,), fletcher32=True)


def unchecked(file, _):
    del file["ids"]
    file.create_dataset("ids", data=IDS, chunks=(1024,), maxshape=(None,))


def group(file, _):
    del file["ids"]
    file.create_group("ids")


def stranger(file, _):
    file["more"] = 1


def other_spec(file, _):
    file.attrs["spec"] = "{}"


HOSTILE = [
    external_link,
    soft_link,
    external_storage,
    virtual,
    huge,
    other_type,
    unchecked,
    group,
    stranger,
    other_spec,
]


@pytest.mark.parametrize("change", HOSTILE)
def test_hostile_files_are_refused(path, tmp_path, change):
    with h5py.File(path, "r+") as file:
        change(file, tmp_path)
    with pytest.raises(GalleryError):
        read_ids(path, SPEC, ROWS)


class Full(embeddings._Patient):
    """A disk with room for 64 KiB."""

    def write(self, data):
        if self.tell() > 1 << 16 and self.failure is None:
            self.failure = OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


def test_a_full_disk_is_an_error_and_no_crash(tmp_path, monkeypatch):
    monkeypatch.setattr(embeddings, "_Patient", Full)
    with pytest.raises(OSError, match="No space left"):
        write_embeddings(tmp_path / "e.h5", SPEC, ROWS, [(IDS, VECTORS)])
    gc.collect()


def test_a_text_file_is_refused(path):
    path.write_text("hello")
    with pytest.raises(GalleryError, match="no HDF5"):
        read_ids(path, SPEC, ROWS)
