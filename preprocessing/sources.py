"""What a user names as imagery, to pieces of it that can be tiled, in the order that wins overlaps."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from geoloc.errors import ImageryError
from preprocessing import stac
from preprocessing.geotiff import open_geotiff
from preprocessing.mbtiles import open_mbtiles
from preprocessing.pmtiles import open_pmtiles
from preprocessing.remote import host_of, is_url, refuse_foreign
from preprocessing.source import Imagery
from preprocessing.tile_folder import open_tile_folder, scheme_of
from preprocessing.tiles import refuse_coarse

Overlap = Literal["listed", "newest"]
_SCHEMES = ("xyz:", "tms:")
_OPENERS = {".mbtiles": open_mbtiles, ".pmtiles": open_pmtiles}
SUFFIXES = (".tif", ".tiff", *_OPENERS)


def find_imagery(words: Sequence[str | Path], hosts: Collection[str] = ()) -> list[stac.Listed]:
    """The address of every piece of imagery that is named, each once, with the date of its STAC item if any.

    A word is a GeoTIFF, an MBTiles or PMTiles file, a folder of these, a folder of map tiles (xyz:FOLDER
    or tms:FOLDER where it does not say which it is), a STAC item collection, or the URL of a GeoTIFF, a
    PMTiles file or a collection. A word's own host may be read, and `hosts`. Raises ImageryError.
    """
    found: dict[str, stac.Listed] = {}
    for word in map(str, words):
        own = {host_of(word)} if is_url(word) else set()
        for address, taken_at in _listed(word, own.union(hosts)):
            found.setdefault(address, (address, taken_at))
    return list(found.values())


def _listed(word: str, hosts: Collection[str]) -> Iterator[stac.Listed]:
    path = Path(word)
    if is_url(word):
        if word.partition("?")[0].endswith(stac.SUFFIXES):
            yield from stac.read_items(word, hosts)
        else:
            yield word, None
    elif word.startswith(_SCHEMES) and not path.exists():
        yield word[:4] + str(Path(word[4:]).resolve()), None
    elif path.is_dir():
        yield from ((address, None) for address in _in_folder(path))
    elif not path.is_file():
        raise ImageryError(f"{word} is no file or folder; check the path.")
    elif path.suffix.lower() in stac.SUFFIXES:
        yield from stac.read_items(str(path.resolve()), hosts)
    else:
        yield str(path.resolve()), None


def _in_folder(folder: Path) -> list[str]:
    scheme = scheme_of(folder)
    if scheme:
        return [f"{scheme}:{folder.resolve()}"]
    inside = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not inside and scheme == "":
        raise ImageryError(
            f"{folder} holds map tiles; say whether its rows count from the north, as xyz:{folder}, or from "
            f"the south, as tms:{folder}."
        )
    if not inside:
        raise ImageryError(
            f"{folder} holds no GeoTIFF, MBTiles, PMTiles file or map tiles; give a folder or file of them."
        )
    return [str(path.resolve()) for path in inside]


def open_imagery(address: str | Path, hosts: Collection[str] = ()) -> Imagery:
    """Look at one piece of imagery, of whatever kind. A URL must be on one of the hosts.

    Raises ImageryError, one sentence of cause and one of remedy.
    """
    address = str(address)
    if is_url(address):
        refuse_foreign(address, hosts)
    elif address.startswith(_SCHEMES):
        return open_tile_folder(address[:3], Path(address[4:]))
    path = urlsplit(address).path if is_url(address) else address
    return _OPENERS.get(Path(path).suffix.lower(), open_geotiff)(address)


def open_all(
    words: Sequence[str | Path],
    hosts: Collection[str],
    overlap: Overlap,
    footprint_m: float,
) -> list[Imagery]:
    """Open everything that is named, in the order that wins overlaps: as listed, or the newest first.

    Of those that cannot be used, or are too coarse for tiles of that footprint, one line each in a single
    ImageryError.
    """
    listed = find_imagery(words, hosts)
    known = {*hosts, *(host_of(address) for address, _ in listed if is_url(address))}
    opened, refused = [], []
    for address, taken_at in listed:
        try:
            one = open_imagery(address, known)
            refuse_coarse(one, footprint_m)
        except ImageryError as cause:
            refused.append(str(cause))
            continue
        dated = replace(one.state, taken_at=taken_at, dated_by="its STAC item") if taken_at else one.state
        opened.append(replace(one, state=dated))
    if refused:
        raise ImageryError("\n".join(refused))
    return newest_first(opened) if overlap == "newest" else opened


def newest_first(imagery: Sequence[Imagery]) -> list[Imagery]:
    """The newest first, as listed where dates are equal; each says in its notes what dated it."""

    def dated(one: Imagery) -> Imagery:
        note = f"{one.label}: {one.state.taken_at:%Y-%m-%d}, by {one.state.dated_by}."
        return replace(one, notes=(*one.notes, note))

    return [dated(one) for one in sorted(imagery, key=lambda one: one.state.taken_at, reverse=True)]
