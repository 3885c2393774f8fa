"""`geoloc index`: build galleries of satellite tiles, change them, look into them, prove them whole."""

import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from geoloc.errors import GalleryError
from geoloc.model import load_encoder
from indexing.build import build_gallery, plan_build
from indexing.compact import compact as compact_gallery
from indexing.embed import embed_blocks
from indexing.gallery import Gallery
from indexing.grow import add_imagery
from indexing.manifest import Manifest, live_folder, read_manifest
from indexing.milvus import export_to_milvus
from indexing.parquet import export_to_parquet
from indexing.plan import Estimate, estimate
from indexing.ray_engine import embed_blocks_on_ray
from indexing.remove import remove_region
from indexing.verify import examine
from indexing.versions import gc as clear_versions
from indexing.versions import versions
from preprocessing.sources import Overlap
from ui.hosts import AllowHost
from ui.progress import embedding, progress

index_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

GalleryPath = Annotated[
    Path, typer.Argument(metavar="GALLERY", help="A gallery, as `geoloc index build` made it.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="IMAGERY...",
        help="GeoTIFF, MBTiles and PMTiles files, folders of them; folders of map tiles, as xyz:FOLDER or "
        "tms:FOLDER where they do not say which; STAC item collections (JSON); http(s) addresses of COGs, "
        "PMTiles and collections.",
    ),
]
ModelFolder = Annotated[Path, typer.Option(help="Model folder, such as data/model or RUN/model.")]
StrideM = Annotated[
    float | None,
    typer.Option(
        help="Metres between tile centres. Halving it makes four times the tiles. Default: an eighth "
        "of the model's footprint. Rounded to whole tile pixels."
    ),
]
Region = Annotated[Path | None, typer.Option(help="GeoJSON polygon: only tiles whose centre lies inside.")]
Factory = Annotated[
    str,
    typer.Option(
        help="Scan64 (64 bytes a tile; 8 to 128), or a FAISS factory string, such as Flat, IVF1024,SQ8 "
        "or HNSW32. auto: Flat below 20,000 tiles, else the longest scan that fits in 2 GiB. What was "
        "chosen, why, and how much of exact search it finds is said."
    ),
]
Winner = Annotated[
    Overlap,
    typer.Option(
        help="Which imagery wins where it overlaps: the first listed (of a STAC collection the newest), or "
        "the newest by STAC datetime, TIFFTAG_DATETIME or file date; the notes say by which."
    ),
]


@index_app.command()
def build(
    imagery: Sources,
    model: ModelFolder,
    out: Annotated[Path, typer.Option(help="The gallery: a new folder, or a gallery to replace.")],
    stride_m: StrideM = None,
    region: Region = None,
    index: Factory = "auto",
    overlap: Winner = "listed",
    allow_host: AllowHost = None,
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(help="Where tiles are embedded: on this machine, or on the Ray cluster at --address."),
    ] = "local",
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
    if (engine == "ray") != (address is not None):
        raise GalleryError("--engine ray and --address belong together; give both or neither.")
    with embedding() as report:
        folder = build_gallery(
            imagery,
            model,
            out,
            stride_m=stride_m,
            region=region,
            index=index,
            overlap=overlap,
            hosts=allow_host or (),
            engine=embed_blocks if address is None else partial(embed_blocks_on_ray, address=address),
            progress=report,
            note=_note,
        )
    _say(out, folder)


@index_app.command()
def add(gallery: GalleryPath, imagery: Sources, allow_host: AllowHost = None) -> None:
    """Add imagery to a gallery; where it overlaps the gallery's own imagery, that stays.

    Only tiles that show the new imagery are embedded, and those at its edges, which show both, anew. The
    gallery is in use all the while. Stopped, it goes on when the same command is run again.

    Example: geoloc index add town.gallery ortho/north.tif
    """
    _grow(gallery, imagery, allow_host, replace=False)


@index_app.command()
def replace(gallery: GalleryPath, imagery: Sources, allow_host: AllowHost = None) -> None:
    """Add newer imagery to a gallery; where it overlaps the gallery's own imagery, the new one wins.

    Tiles that show the new imagery are embedded anew, all others stay. Files that changed in place are
    replaced by naming them again.

    Example: geoloc index replace town.gallery ortho-2026/
    """
    _grow(gallery, imagery, allow_host, replace=True)


def _grow(gallery: Path, imagery: list[str], hosts: list[str] | None, *, replace: bool) -> None:
    with embedding() as report:
        folder = add_imagery(
            gallery, imagery, replace=replace, hosts=hosts or (), progress=report, note=_note
        )
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
def plan(
    imagery: Sources,
    model: ModelFolder,
    stride_m: StrideM = None,
    region: Region = None,
    index: Factory = "auto",
    allow_host: AllowHost = None,
    as_json: AsJson = False,
) -> None:
    """Say what a build would cost: tiles, hours on this machine, disk and memory. Writes nothing.

    Some tiles are read and embedded to measure how fast that goes; it takes a few seconds.

    Example: geoloc index plan ortho/ --model data/model --stride-m 16
    """
    encoder = load_encoder(model)
    planned = plan_build(imagery, model, encoder, stride_m, region, hosts=allow_host or ())
    cost = estimate(planned, encoder, model, index)
    if as_json:
        totals = dataclasses.asdict(cost)
        per_km2 = {name: totals[name] / cost.area_km2 for name in ("tiles", "hours", "disk_bytes")}
        print(json.dumps(totals | {"per_km2": per_km2}))
        return
    for name, total, per in _cost_lines(cost):
        print(f"{name:<16}{total:>14}{per:>20}".rstrip())
    print(f"measured on {cost.sample_tiles:,} tiles, in {cost.sample_s:.1f} s")


def _cost_lines(cost: Estimate) -> list[tuple[str, str, str]]:
    """Name, in total, for each square kilometre."""
    km2 = cost.area_km2
    return [
        ("stride", f"{cost.stride_m:g} m", ""),
        ("index", cost.index, ""),
        ("area", f"{km2:,.2f} km2", ""),
        ("tiles", f"{cost.tiles:,}", f"{cost.tiles / km2:,.0f} per km2"),
        ("hours", f"{cost.hours:,.3f}", f"{cost.hours / km2:,.4f} per km2"),
        ("disk", _megabytes(cost.disk_bytes), f"{_megabytes(cost.disk_bytes / km2)} per km2"),
        ("while building", f"+ {_megabytes(cost.work_bytes)}", ""),
        ("memory", _megabytes(cost.memory_bytes), ""),
    ]


def _megabytes(size: float) -> str:
    return f"{size / 1e6:,.1f} MB"


@index_app.command()
def export(
    gallery: GalleryPath,
    out: Annotated[
        str, typer.Argument(metavar="OUT", help="parquet: the file; milvus: a server's URI, or a file.")
    ],
    to: Annotated[Literal["parquet", "milvus"], typer.Option(help="GeoParquet, or a collection of Milvus.")],
) -> None:
    """Write the tiles and their embeddings for others to read or serve.

    parquet: one GeoParquet file with id, lon, lat, source, footprint and embedding (float16). milvus: the
    embeddings only, into a database of their own; `geoloc query --gallery milvus:URI` then searches there,
    with the model and the tiles of this folder. Wants geoloc[milvus].

    Example: geoloc index export town.gallery --to milvus http://localhost:19530
    """
    if Path(out).resolve().is_relative_to(gallery.resolve()):
        raise GalleryError(f"{out} lies within the gallery, whose files are its own; choose another OUT.")
    with Gallery.open(gallery) as opened, progress("Exporting tiles") as report:
        if to == "parquet":
            export_to_parquet(opened, Path(out), report)
        else:
            export_to_milvus(opened, out, report)
    typer.echo(f"{out}: {len(opened):,} tiles of {gallery}", err=True)


@index_app.command()
def info(gallery: GalleryPath, as_json: AsJson = False) -> None:
    """Say what a gallery holds: tiles, where, of which imagery, by which model."""
    facts = _facts(gallery, read_manifest(live_folder(gallery)))
    if as_json:
        print(json.dumps(facts))
        return
    for name, value in facts.items():
        parts = value if isinstance(value, list) else [value]
        print(f"{name:<16}{', '.join('exact' if part is None else str(part) for part in parts)}")


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
