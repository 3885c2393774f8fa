"""Where a gallery's live version keeps its files."""

from pathlib import Path

from indexing.manifest import Manifest, live_folder, read_manifest


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
