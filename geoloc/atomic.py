"""Writing a file so that a killed process leaves the old one or the new one, never half."""

import errno
import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from geoloc.errors import GeolocError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; on leaving it takes `path`'s place, synced.

    On any error the temporary file is removed, `path` stays as it was, and the error goes on.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp{path.suffix}")
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """`replacing`, in a folder that is made if need be, its errors named.

    A full disk, a folder that cannot be written, or a `path` that is no file, such as a device,
    raises GeolocError.
    """
    try:
        if path.exists() and not path.is_file():
            raise GeolocError(f"{path} is there and is no file; name another one to write to.")
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            yield temporary
    except OSError as cause:
        raise cannot_write(path, cause) from cause


def make_folder(path: Path) -> None:
    """Make a folder and those above it, unless it is there. Raises GeolocError where that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise cannot_write(path, cause) from cause


@contextmanager
def holding(folder: Path, *, wait: bool) -> Iterator[None]:
    """Hold a folder against other processes; the system lets it go when this one ends, however it ends.

    Where a disk knows no locks nothing is held. Raises BlockingIOError where another process holds it and
    `wait` is false, GeolocError for what is no folder.
    """
    try:
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as cause:
        raise cannot_write(folder, cause) from cause
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as cause:
            if cause.errno == errno.EWOULDBLOCK:
                raise
        yield
    finally:
        os.close(held)


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text`, atomically; a name of a file in it that is no UTF-8 stays the bytes it is."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")


def sync(path: Path) -> None:
    """Flush a file or a folder's entries to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def cannot_write(path: Path, cause: OSError) -> GeolocError:
    """The error for a write that the system refused."""
    if cause.errno in DISK_FULL:
        return GeolocError(f"The disk is full: {path} was not written; free some space and run again.")
    return GeolocError(f"{path} cannot be written: {cause.strerror or cause}.")
