"""Where a gallery's live version keeps its files."""

from pathlib import Path

import numpy as np

from indexing.gallery import Gallery
from indexing.manifest import Manifest, live_folder, read_manifest
from indexing.rows import rows_of


def live(gallery: Path) -> Manifest:
    return read_manifest(live_folder(gallery))


def file_of(gallery: Path, name: str) -> Path:
    """CURRENT, manifest.json, or a file of the first segment or of the model."""
    if name == "CURRENT":
        return gallery / name
    if name == "manifest.json":
        return live_folder(gallery) / name
    return next(gallery / file.name for file in live(gallery).files if file.name.endswith(f"/{name}"))


def snapshot(gallery: Path) -> dict[str, bytes]:
    """Every file of the live version, by name."""
    names = ["CURRENT", f"{live_folder(gallery).name}/manifest.json", *(f.name for f in live(gallery).files)]
    return {name: (gallery / name).read_bytes() for name in names}


def embeddings(gallery: Path) -> dict[int, bytes]:
    """By id, of every tile; none may be there twice."""
    with Gallery.open(gallery) as opened:
        ids = opened.tiles["id"].tolist()
        rows = np.concatenate([one.segment.read(rows_of(one.kept)) for one in opened.segments])
    found = dict(zip(ids, map(bytes, rows), strict=True))
    assert len(found) == len(ids)
    return found
