"""`geoloc index`: build galleries of satellite tiles, look into them, prove them whole."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from geoloc.errors import GalleryError
from indexing.build import build_gallery
from indexing.manifest import Manifest, live_folder, read_manifest
from indexing.verify import examine
from ui.progress import progress

index_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

GalleryPath = Annotated[
    Path, typer.Argument(metavar="GALLERY", help="A gallery, as `geoloc index build` made it.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


@index_app.command()
def build(
    imagery: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGERY...",
            help="GeoTIFFs, and folders of them. Where they overlap the first wins.",
        ),
    ],
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
) -> None:
    """Cut imagery into tiles, embed them, and publish the gallery.

    Any coordinate system will do: tiles are north-up squares of the model's footprint on a UTM grid.
    A build that was stopped, even by a power cut, goes on when the same command is run again; the
    gallery's live version stays in use until the new one is complete.

    Example: geoloc index build ortho/ --model data/model --out town.gallery
    """
    console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)
    with progress("Embedding tiles") as report:
        folder = build_gallery(
            imagery,
            model,
            out,
            stride_m=stride_m,
            region=region,
            index=index,
            progress=lambda step, done, total: report(done, total) if step == "embed" else None,
            note=lambda text: console.print(f"note: {text}"),
        )
    manifest = read_manifest(folder)
    console.print(
        f"{out}: {manifest.rows:,} tiles, {manifest.stride_m:g} m apart, version {manifest.version}"
    )


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
        "rescored": manifest.depth,
        "recall@10": None if manifest.recall is None else dataclasses.asdict(manifest.recall),
        "footprint_m": spec.footprint_m,
        "stride_m": manifest.stride_m,
        "tile_px": spec.satellite_px,
        "azimuth_bins": spec.azimuth_bins,
        "backbone": spec.backbone,
        "weights_sha256": spec.weights_sha256,
        "bytes": sum(file.bytes for file in manifest.files),
        "sources": [source.path for source in manifest.sources],
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
