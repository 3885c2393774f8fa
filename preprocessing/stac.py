"""STAC item collections: which images they list, where those lie, and when they were taken."""

import json
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from geoloc.errors import ImageryError
from preprocessing.remote import is_url, read_whole, refuse_foreign

SUFFIXES = (".json", ".geojson")
_LARGEST = 1 << 26
_SHOWN = ("visual", "data")
_REDUCED = {"thumbnail", "overview"}

Listed = tuple[str, datetime | None]
"""The address of an image, and when it was taken where that is known."""


def read_items(address: str, hosts: Collection[str]) -> list[Listed]:
    """The GeoTIFF of every item of a collection, a path or URL, the newest first.

    Of an item's assets of type image/tiff the one of key or role `visual` is taken, else of role `data`,
    else the only one. Relative links are followed from the collection, absolute ones to `hosts` only.
    Raises ImageryError for what is no item collection, or is one page of several.
    """
    items = _items(address, _load(address))
    listed = [(_resolve(address, _href(address, item), hosts), _taken_at(item)) for item in items]
    return sorted(listed, key=lambda one: one[1] or datetime.min.replace(tzinfo=UTC), reverse=True)


def _load(address: str) -> bytes:
    if is_url(address):
        return read_whole(address, _LARGEST)
    if Path(address).stat().st_size > _LARGEST:
        raise ImageryError(f"{address} is over {_LARGEST >> 20} MiB; ask for a smaller part of it.")
    return Path(address).read_bytes()


def _items(address: str, content: bytes) -> list[dict[str, Any]]:
    try:
        raw: Any = json.loads(content)
    except (ValueError, RecursionError) as cause:
        raise ImageryError(f"{address} is no JSON; give a STAC item collection.") from cause
    raw = {"type": "FeatureCollection", "features": [raw]} if _is(raw, "Feature") else raw
    features = raw.get("features") if _is(raw, "FeatureCollection") else None
    if not isinstance(features, list) or not features or not all(_is(one, "Feature") for one in features):
        raise ImageryError(f"{address} is no STAC item collection, or one without items; check it.")
    links = raw.get("links")
    if isinstance(links, list) and any(
        isinstance(link, dict) and link.get("rel") == "next" for link in links
    ):
        raise ImageryError(f"{address} is one page of several; ask the server for all items at once.")
    return features


def _is(raw: object, kind: str) -> bool:
    return isinstance(raw, dict) and raw.get("type") == kind


def _href(address: str, item: dict[str, Any]) -> str:
    """The link of the asset to read."""
    named, assets = str(item.get("id"))[:80], item.get("assets")
    images = {
        str(key): asset
        for key, asset in (assets.items() if isinstance(assets, dict) else ())
        if isinstance(asset, dict)
        and str(asset.get("type", "")).lower().startswith("image/tiff")
        and not _REDUCED & _roles(asset)
    }
    for role in _SHOWN:
        found = [asset for key, asset in images.items() if key == role or role in _roles(asset)]
        if len(found) == 1:
            break
    else:
        found = list(images.values())
    if len(found) != 1 or not isinstance(found[0].get("href"), str):
        raise ImageryError(
            f"{address}: item {named!r} has {len(images)} images of type image/tiff, and not one alone is "
            "marked `visual`; list the files themselves."
        )
    return str(found[0]["href"])


def _roles(asset: dict[str, Any]) -> set[str]:
    roles = asset.get("roles")
    return {role for role in roles if isinstance(role, str)} if isinstance(roles, list) else set()


def _resolve(address: str, href: str, hosts: Collection[str]) -> str:
    """The link as an address of its own; a file's collection may only list files below or beside it."""
    if is_url(address) or is_url(href):
        url = urljoin(address, href) if is_url(address) else href
        refuse_foreign(url, hosts)
        return url
    if ":" in href or not href.isprintable() or Path(href).is_absolute():
        raise ImageryError(f"{address} lists {href[:200]!r}; only relative and http(s) links are followed.")
    return str((Path(address).parent / href).resolve())


def _taken_at(item: dict[str, Any]) -> datetime | None:
    """`datetime`, or where that is null the end or the start of the time the item spans."""
    properties = item.get("properties")
    for name in ("datetime", "end_datetime", "start_datetime"):
        said = properties.get(name) if isinstance(properties, dict) else None
        if isinstance(said, str):
            try:
                moment = datetime.fromisoformat(said)
            except ValueError:
                continue
            return moment.replace(tzinfo=moment.tzinfo or UTC)
    return None
