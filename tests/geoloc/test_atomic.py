import errno
import fcntl
import os
from pathlib import Path

import pytest

from geoloc.atomic import atomic_path, holding, write_text
from geoloc.errors import GeolocError


def test_the_old_file_stays_where_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with pytest.raises(ZeroDivisionError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]
    assert path.read_text() == "old"


def test_names_of_files_that_are_no_text_are_written_as_they_are(tmp_path: Path) -> None:
    write_text(tmp_path / "list.txt", os.fsdecode(b"caf\xe9.jpg"))
    assert (tmp_path / "list.txt").read_bytes() == b"caf\xe9.jpg"


def test_a_folder_is_held_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with holding(tmp_path, wait=False), pytest.raises(BlockingIOError), holding(tmp_path, wait=False):
        raise AssertionError("it is held")
    with holding(tmp_path, wait=True):
        assert tmp_path.is_dir(), "it is free again"
    with pytest.raises(GeolocError, match="nowhere"), holding(tmp_path / "nowhere", wait=True):
        raise AssertionError("it is not there")

    def unknown(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unknown)
    with holding(tmp_path, wait=False), holding(tmp_path, wait=False):
        assert tmp_path.is_dir(), "a disk that knows no locks holds nothing back"


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for there in (pipe, tmp_path):
        with pytest.raises(GeolocError, match="no file"):
            write_text(there, "text")
    assert pipe.is_fifo()
