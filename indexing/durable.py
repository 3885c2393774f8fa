"""Files that are whole or absent: what a kill, a power cut or a full disk may not break."""

import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from geoloc.atomic import DISK_FULL, replacing, sync
from geoloc.errors import GalleryError


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that at any moment it is the old one or the new one."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def sync_tree(folder: Path) -> None:
    """`sync` every file and folder below, and the folder itself."""
    for path in sorted(folder.rglob("*"), reverse=True):
        sync(path)
    sync(folder)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def only_builder(gallery: Path) -> Iterator[None]:
    """Hold the gallery's lock; the system lets it go when the process ends, however it ends.

    Raises GalleryError where another process holds it. On a disk without locks nothing is held.
    """
    with (gallery / ".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as cause:
            raise GalleryError(
                f"{gallery} is being changed by another process; wait for it or stop it."
            ) from cause
        except OSError:
            pass
        yield


@contextmanager
def disk_errors_named(gallery: Path) -> Iterator[None]:
    """Turn a disk that is full, read-only or forbidden into a GalleryError."""
    try:
        yield
    except (OSError, RuntimeError) as cause:  # FAISS and HDF5 raise RuntimeError for a failed write
        number = getattr(cause, "errno", None)
        if number in DISK_FULL or any(os.strerror(full) in str(cause) for full in DISK_FULL):
            raise GalleryError(
                f"The disk of {gallery} is full; its live version is untouched. "
                "Make room and run the same command again: it goes on where it stopped."
            ) from cause
        named = getattr(cause, "filename", None) or gallery
        if number == errno.EIO:
            raise GalleryError(
                f"{named} cannot be read or written: the disk or its connection fails; the live version of "
                f"{gallery} is untouched. Mend it and run the same command again."
            ) from cause
        if isinstance(cause, OSError) and number is not None:
            raise GalleryError(
                f"{named}: {cause.strerror}; check that you may write to {gallery}."
            ) from cause
        raise
