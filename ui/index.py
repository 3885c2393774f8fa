"""`geoloc index`: build galleries of satellite tiles, look into them, prove them whole."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from geoloc.errors import GalleryError
from geoloc.model import load_encoder
from indexing.build import build_gallery, plan_build
from indexing.manifest import Manifest, live_folder, read_manifest
from indexing.plan import Estimate, estimate
from indexing.verify import examine
from preprocessing.sources import Overlap
from ui.progress import progress

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
        "tms:FOLDER where they do not say which; STAC item collections (JSON); http(s) addresses of COGs and "
        "collections.",
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
        help="FAISS factory string, such as Flat, IVF1024,Flat or HNSW32. "
        "auto: Flat below 100,000 tiles, else an inverted file."
    ),
]
Winner = Annotated[
    Overlap,
    typer.Option(
        help="Which imagery wins where it overlaps: the first listed (of a STAC collection the newest), or "
        "the newest by STAC datetime, TIFFTAG_DATETIME or file date; the notes say by which."
    ),
]
AllowHost = Annotated[
    list[str] | None,
    typer.Option(
        metavar="HOST[:PORT]",
        envvar="GEOLOC_ALLOW_HOSTS",
        help="A host that STAC items may lie on, beside those of the addresses given. Repeatable. Redirects "
        "are never followed; logins come from the netrc file that GEOLOC_NETRC names, if any.",
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
            overlap=overlap,
            hosts=allow_host or (),
            progress=lambda step, done, total: report(done, total) if step == "embed" else None,
            note=lambda text: console.print(f"note: {text}"),
        )
    manifest = read_manifest(folder)
    console.print(
        f"{out}: {manifest.rows:,} tiles, {manifest.stride_m:g} m apart, version {manifest.version}"
    )


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
