"""The versions of a gallery on disk: held by readers, and cleared away when nobody needs them.

A reader holds a shared lock on the manifest of the version it has open; the system lets it go when the
process ends, however it ends. A version is deleted only under the exclusive lock, so never in use.
"""

import fcntl
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from geoloc.errors import GalleryError
from indexing.durable import disk_errors_named, only_builder
from indexing.manifest import NAME, VERSION, Manifest, live_folder, read_manifest

_PARTS = ("segments", "models")


@dataclass(frozen=True)
class Cleared:
    """What `gc` did. deleted: versions. in_use: versions that readers have open. bytes: that are free now."""

    deleted: tuple[str, ...]
    in_use: tuple[str, ...]
    bytes: int


def hold_live(gallery: Path) -> tuple[Manifest, int]:
    """The live version's manifest, and a descriptor that holds the version until it is closed.

    Raises GalleryError where there is no sound version.
    """
    while True:
        folder = live_folder(gallery)
        try:
            descriptor = os.open(folder / NAME, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError as cause:
            if live_folder(gallery) != folder:
                continue
            raise GalleryError(
                f"{folder / NAME} is missing or cannot be read; take the gallery again from its source."
            ) from cause
        try:
            with suppress(OSError):  # a file system without locks: gc deletes nothing there either
                fcntl.flock(descriptor, fcntl.LOCK_SH)
            if os.fstat(descriptor).st_nlink:
                return read_manifest(folder), descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def versions(gallery: Path) -> list[Path]:
    """The folders of all versions on disk, the live one among them, oldest first."""
    found = [path for path in gallery.iterdir() if VERSION.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name))


def gc(gallery: Path) -> Cleared:
    """Delete the versions that are neither live nor in use, and all that no version left needs.

    Blocks of a build that was stopped stay. Raises GalleryError where the gallery is being changed.
    """
    live_folder(gallery)
    with disk_errors_named(gallery), only_builder(gallery):
        live, before = live_folder(gallery), _bytes_of(gallery)
        kept = {live: read_manifest(live)}
        others = [folder for folder in versions(gallery) if folder != live]
        deleted = [folder for folder in others if _delete_unless_held(folder)]
        in_use = [folder for folder in others if folder not in deleted]
        kept |= {folder: read_manifest(folder) for folder in in_use}
        needed = {gallery / folder for manifest in kept.values() for folder in manifest.folders}
        for part in (part for kind in _PARTS for part in (gallery / kind).glob("*")):
            if part not in needed:
                shutil.rmtree(part)
        freed = before - _bytes_of(gallery)
        return Cleared(tuple(one.name for one in deleted), tuple(one.name for one in in_use), freed)


def _delete_unless_held(version: Path) -> bool:
    """Whether nobody had the version open, and it is gone."""
    with suppress(FileNotFoundError), (version / NAME).open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        shutil.rmtree(version)
        return True
    shutil.rmtree(version)
    return True


def _bytes_of(gallery: Path) -> int:
    return sum(path.lstat().st_size for path in gallery.rglob("*") if path.is_file())
