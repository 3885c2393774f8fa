"""`geoloc index`: build galleries of satellite tiles, change them, look into them, prove them whole."""

import dataclasses
import json
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from geoloc.errors import GalleryError
from indexing.build import build_gallery
from indexing.compact import compact as compact_gallery
from indexing.embed import Progress, embed_blocks
from indexing.grow import add_imagery
from indexing.manifest import Manifest, live_folder, read_manifest
from indexing.ray_engine import embed_blocks_on_ray
from indexing.remove import remove_region
from indexing.verify import examine
from indexing.versions import gc as clear_versions
from indexing.versions import versions
from ui.progress import progress


class Engine(StrEnum):
    """Where tiles are embedded."""

    local = "local"
    ray = "ray"


index_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

GalleryPath = Annotated[
    Path, typer.Argument(metavar="GALLERY", help="A gallery, as `geoloc index build` made it.")
]
ImageryPaths = Annotated[
    list[Path],
    typer.Argument(
        metavar="IMAGERY...",
        help="GeoTIFFs, and folders of them. Where they overlap the first wins.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


@index_app.command()
def build(
    imagery: ImageryPaths,
    model: Annotated[Path, typer.Option(help="Model folder, such as data/model or RUN/model.")],
    out: Annotated[Path, typer.Option(help="The gallery: a new folder, or a gallery to replace.")],
    stride_m: Annotated[
        float | None,
        typer.Option(
            help="Metres between tile centres. Halving it makes four times the tiles. Default: an eighth "
            "of the model's footprint. Rounded to whole tile pixels."
        ),
    ] = None,
    region: Annotated[
        Path | None, typer.Option(help="GeoJSON polygon: only tiles whose centre lies inside.")
    ] = None,
    index: Annotated[
        str,
        typer.Option(
            help="Scan64 (64 bytes a tile; 8 to 128), or a FAISS factory string, such as Flat, IVF1024,SQ8 "
            "or HNSW32. auto: Flat below 20,000 tiles, else the longest scan that fits in 2 GiB. What was "
            "chosen, why, and how much of exact search it finds is said."
        ),
    ] = "auto",
    engine: Annotated[
        Engine,
        typer.Option(help="Where tiles are embedded: on this machine, or on the Ray cluster at --address."),
    ] = Engine.local,
    address: Annotated[
        str | None, typer.Option(help="Of the Ray cluster, such as 10.0.0.5:6379; only with --engine ray.")
    ] = None,
) -> None:
    """Cut imagery into tiles, embed them, and publish the gallery.

    Any coordinate system will do: tiles are north-up squares of the model's footprint on a UTM grid.
    A build that was stopped, even by a power cut, goes on when the same command is run again; the
    gallery's live version stays in use until the new one is complete.

    With --engine ray every node wants geoloc[ray], and the imagery at the same paths.

    Example: geoloc index build ortho/ --model data/model --out town.gallery
    """
    if (engine is Engine.ray) != (address is not None):
        raise GalleryError("--engine ray and --address belong together; give both or neither.")
    with progress("Embedding tiles") as report:
        folder = build_gallery(
            imagery,
            model,
            out,
            stride_m=stride_m,
            region=region,
            index=index,
            engine=embed_blocks if address is None else partial(embed_blocks_on_ray, address=address),
            progress=_embedding(report),
            note=_note,
        )
    _say(out, folder)


@index_app.command()
def add(gallery: GalleryPath, imagery: ImageryPaths) -> None:
    """Add imagery to a gallery; where it overlaps the gallery's own imagery, that stays.

    Only tiles that show the new imagery are embedded, and those at its edges, which show both, anew. The
    gallery is in use all the while. Stopped, it goes on when the same command is run again.

    Example: geoloc index add town.gallery ortho/north.tif
    """
    _grow(gallery, imagery, replace=False)


@index_app.command()
def replace(gallery: GalleryPath, imagery: ImageryPaths) -> None:
    """Add newer imagery to a gallery; where it overlaps the gallery's own imagery, the new one wins.

    Tiles that show the new imagery are embedded anew, all others stay. Files that changed in place are
    replaced by naming them again.

    Example: geoloc index replace town.gallery ortho-2026/
    """
    _grow(gallery, imagery, replace=True)


def _grow(gallery: Path, imagery: list[Path], *, replace: bool) -> None:
    with progress("Embedding tiles") as report:
        folder = add_imagery(gallery, imagery, replace=replace, progress=_embedding(report), note=_note)
    _say(gallery, folder)


@index_app.command()
def remove(
    gallery: GalleryPath,
    region: Annotated[
        Path, typer.Option(help="GeoJSON polygon: the tiles whose centre lies inside are removed.")
    ],
) -> None:
    """Remove a region from a gallery.

    Its tiles are not found any more, and the disk is freed when segments are merged and old versions
    deleted: geoloc index compact, geoloc index gc.

    Example: geoloc index remove town.gallery --region barracks.geojson
    """
    _say(gallery, remove_region(gallery, region, note=_note))


@index_app.command()
def compact(gallery: GalleryPath) -> None:
    """Merge a gallery's segments into one, without what was removed, and index it anew.

    Each `add` and `replace` makes a segment. They are merged on their own where more than eight stand
    side by side or a third of one is removed, so this is seldom needed.
    """
    _say(gallery, compact_gallery(gallery, note=_note))


@index_app.command()
def gc(gallery: GalleryPath, as_json: AsJson = False) -> None:
    """Delete old versions of a gallery, and all that only they needed; never one that is in use.

    Every change leaves the version before it on disk, for those who have it open.
    """
    cleared = clear_versions(gallery)
    if as_json:
        print(json.dumps(dataclasses.asdict(cleared)))
        return
    print(f"{gallery}: {len(cleared.deleted)} old versions deleted, {cleared.bytes:,} bytes freed.")
    for version in cleared.in_use:
        print(f"{version} is in use and stays.")


def _embedding(report: Callable[[int, int], None]) -> Progress:
    return lambda step, done, total: report(done, total) if step == "embed" else None


def _note(text: str) -> None:
    _console().print(f"note: {text}")


def _say(gallery: Path, folder: Path) -> None:
    manifest = read_manifest(folder)
    _console().print(
        f"{gallery}: {manifest.rows:,} tiles, {manifest.stride_m:g} m apart, version {manifest.version}"
    )


def _console() -> Console:
    return Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)


@index_app.command()
def info(gallery: GalleryPath, as_json: AsJson = False) -> None:
    """Say what a gallery holds: tiles, where, of which imagery, by which model."""
    facts = _facts(gallery, read_manifest(live_folder(gallery)))
    if as_json:
        print(json.dumps(facts))
        return
    for name, value in facts.items():
        print(f"{name:<16}{', '.join(map(str, value)) if isinstance(value, list) else value}")


def _facts(gallery: Path, manifest: Manifest) -> dict[str, Any]:
    spec = manifest.spec
    return {
        "gallery": str(gallery),
        "version": manifest.version,
        "tiles": manifest.rows,
        "dim": spec.dim,
        "crs": manifest.crs,
        "bounds_lonlat": list(manifest.bounds_lonlat),
        "index": manifest.index,
        "rescored": [one.depth for one in manifest.segments],
        "recall@10": [one.recall and dataclasses.asdict(one.recall) for one in manifest.segments],
        "footprint_m": spec.footprint_m,
        "stride_m": manifest.stride_m,
        "tile_px": spec.satellite_px,
        "azimuth_bins": spec.azimuth_bins,
        "backbone": spec.backbone,
        "weights_sha256": spec.weights_sha256,
        "bytes": sum(file.bytes for file in manifest.files),
        "sources": [source.path for source in manifest.sources],
        "removed": sum(segment.rows - segment.live for segment in manifest.segments),
        "segments": [f"{one.live} of {one.rows} ({one.index})" for one in manifest.segments],
        "versions": [folder.name for folder in versions(gallery)],
    }


@index_app.command()
def verify(gallery: GalleryPath, as_json: AsJson = False) -> None:
    """Check every byte of a gallery against its hashes, and that its parts belong together.

    Exit code 0 if it is sound, else 2 and a line for every problem.
    """
    report = examine(gallery)
    if as_json:
        print(json.dumps({"ok": not report.problems, **dataclasses.asdict(report)}))
    if report.problems:
        raise GalleryError("\n".join(report.problems))
    if not as_json:
        print(
            f"{gallery}: sound. {report.tiles:,} tiles, {report.files} files, {report.bytes:,} bytes checked."
        )
