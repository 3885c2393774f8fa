"""The imagery of a gallery: listed in its manifest, and opened again only if it is still the same."""

from pathlib import Path

from geoloc.errors import ImageryError
from indexing.manifest import Source
from preprocessing.geotiff import Imagery, open_imagery


def source_of(one: Imagery) -> Source:
    """Imagery as a manifest lists it."""
    return Source(str(one.path), one.path.stat().st_size, one.bounds_lonlat)


def open_source(source: Source) -> Imagery:
    """The imagery of a manifest. Raises ImageryError where it has moved or changed."""
    path = Path(source.path)
    imagery = open_imagery(path)
    if path.stat().st_size != source.bytes:
        raise ImageryError(
            f"{path} is not the file it was; put that back, or name the new one to geoloc index replace."
        )
    return imagery
