"""Publishing: finished files take their place for good, and CURRENT turns to the version that lists them.

Whatever happens on the way, CURRENT names the old version or the new one, and both are whole.
"""

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

from geoloc.atomic import sync
from geoloc.errors import GalleryError
from geoloc.model import CARD, SPEC, WEIGHTS
from geoloc.posterior import CALIBRATION
from indexing.durable import sync_tree, write_whole
from indexing.manifest import (
    NAME,
    Manifest,
    StoredFile,
    check_file,
    read_manifest,
    stored_files,
    to_bytes,
    version_of,
)


def install(made: Path, gallery: Path, kind: str) -> tuple[str, tuple[StoredFile, ...]]:
    """Give a finished folder of `kind` its place, named by its content: that place, and the files in it.

    One that is there already stays, unless it is damaged.
    """
    files = stored_files(made)
    content = json.dumps([(file.name, file.sha256) for file in files]).encode()
    place = f"{kind}/{hashlib.sha256(content).hexdigest()[:16]}"
    (gallery / kind).mkdir(exist_ok=True)
    placed = tuple(dataclasses.replace(file, name=f"{place}/{file.name}") for file in files)
    _move(made, gallery / place, is_whole=_is_whole(gallery, placed))
    return place, placed


def install_model(model: Path, gallery: Path, work: Path) -> tuple[str, tuple[StoredFile, ...]]:
    """Copy a model's folder to where galleries keep it: its place, and the files in it."""
    copied = work / "model"
    shutil.rmtree(copied, ignore_errors=True)
    copied.mkdir()
    for name in (WEIGHTS, SPEC, CARD, CALIBRATION):
        if (model / name).is_file():
            shutil.copyfile(model / name, copied / name)
    return install(copied, gallery, "models")


def publish(manifest: Manifest, gallery: Path, work: Path) -> Path:
    """Make the manifest the gallery's live version: its folder. Every file it lists must be installed."""
    content = to_bytes(manifest)
    version = work / "version"
    shutil.rmtree(version, ignore_errors=True)
    version.mkdir()
    (version / NAME).write_bytes(content)
    target = gallery / version_of(content)
    _move(version, target, is_whole=_is_readable(target))
    for stale in gallery.glob(".CURRENT.*"):  # of a process that was killed within write_whole
        stale.unlink()
    write_whole(gallery / "CURRENT", f"{target.name}\n".encode())
    return target


def _move(made: Path, target: Path, *, is_whole: bool) -> None:
    """Move a folder to `target`, synced; where that is there it stays if it is whole, else goes aside."""
    if is_whole:
        shutil.rmtree(made)
        return
    sync_tree(made)
    if target.exists():
        target.rename(made.with_name(f"damaged-{target.name}"))
    made.rename(target)
    sync(target.parent)


def _is_whole(gallery: Path, files: tuple[StoredFile, ...]) -> bool:
    try:
        for file in files:
            check_file(gallery, file)
    except GalleryError:
        return False
    return True


def _is_readable(version: Path) -> bool:
    try:
        read_manifest(version)
    except GalleryError:
        return False
    return True
