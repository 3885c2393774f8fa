"""The imagery of a gallery: listed in its manifest, and opened again only if it is still the same."""

from collections.abc import Collection

from geoloc.errors import ImageryError
from indexing.manifest import Source
from preprocessing.remote import allowed_hosts
from preprocessing.source import Imagery
from preprocessing.sources import open_imagery


def source_of(one: Imagery) -> Source:
    """Imagery as a manifest lists it."""
    return Source(one.address, one.state.bytes, one.bounds_lonlat)


def open_source(source: Source, hosts: Collection[str] = ()) -> Imagery:
    """The imagery of a manifest, on `hosts` or those allowed to all.

    Raises ImageryError where it has moved or changed.
    """
    imagery = open_imagery(source.path, {*allowed_hosts(), *hosts})
    if imagery.state.bytes != source.bytes:
        raise ImageryError(
            f"{source.path} is not the file it was; put that back, or name the new one to "
            "geoloc index replace."
        )
    return imagery
