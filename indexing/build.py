"""Imagery to a gallery in five steps: plan, embed, store, index, publish.

A build that is killed goes on from the blocks it has committed, and ends in the same bytes as one
that was not. The live version is touched by nothing but the last rename.
"""

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import faiss
import numpy as np
import shapely

from geoloc.encoder import TwinEncoder
from geoloc.errors import GalleryError, ImageryError, ModelError
from geoloc.model import CARD, SPEC, WEIGHTS, load_encoder
from geoloc.posterior import FILE as CALIBRATION
from indexing import manifest as manifests
from indexing.durable import disk_errors_named, only_builder, sha256_of, sync_tree, write_whole
from indexing.embed import Progress, committed, embed_blocks
from indexing.embeddings import write_embeddings
from indexing.faiss_index import choose_factory, fill_index, make_index
from indexing.manifest import Manifest, Source
from indexing.region import read_region
from indexing.table import make_table
from preprocessing.source import Imagery
from preprocessing.sources import Overlap, open_all
from preprocessing.tiles import COVERED, Block, Grid, make_grid, plan_blocks, refuse_coarse


@dataclass(frozen=True)
class Plan:
    """What a build will do. key: a hash of all that decides the embeddings."""

    imagery: list[Imagery]
    grid: Grid
    blocks: list[Block]
    key: str


def build_gallery(
    imagery: Sequence[str | Path],
    model: Path,
    out: Path,
    *,
    stride_m: float | None = None,
    region: Path | None = None,
    overlap: Overlap = "listed",
    hosts: Collection[str] = (),
    index: str = "auto",
    encoder: TwinEncoder | None = None,
    progress: Progress = lambda *_: None,
    note: Callable[[str], None] = lambda _: None,
) -> Path:
    """Build a gallery, publish it as the live version of `out`, and return that version's folder.

    imagery: see `find_imagery`. overlap: whether the first listed or the newest wins where they overlap.
    hosts: those that imagery may lie on beside the ones it names. stride_m: see `make_grid`. region:
    GeoJSON; only tiles whose centre lies inside. index: a FAISS factory string.
    encoder: instead of the one loaded from `model`. note: told what the imagery's reader had to assume.
    Raises GalleryError, ImageryError, ModelError, DataError; none of them touches the live version.
    """
    encoder = encoder or load_encoder(model)
    if index != "auto":
        make_index(index, encoder.spec.dim)
    plan = plan_build(imagery, model, encoder, stride_m, region, overlap, hosts)
    for text in (text for one in plan.imagery for text in one.notes):
        note(text)
    _refuse_foreign_folder(out)
    with disk_errors_named(out):
        out.mkdir(parents=True, exist_ok=True)
        with only_builder(out):
            work = out / f".building-{plan.key}"
            work.mkdir(exist_ok=True)
            embed_blocks(plan.blocks, plan.grid, plan.imagery, encoder, work, progress)
            unused = _unused(plan, work)
            if len(unused) == len(plan.imagery):
                shutil.rmtree(work)
                raise ImageryError(
                    "No tile has enough valid pixels: the imagery is nodata, transparent or off the grid; "
                    "check it, or choose a smaller stride."
                )
            for one in unused:
                note(f"{one.label}: no tile was cut from it; it is too small or others cover it.")
            version = store(plan, encoder, model, work, index, progress)
            return publish(version, out)


def plan_build(
    imagery: Sequence[str | Path],
    model: Path,
    encoder: TwinEncoder,
    stride_m: float | None,
    region: Path | None,
    overlap: Overlap = "listed",
    hosts: Collection[str] = (),
) -> Plan:
    """Step 1: which tiles, of which files, and the key under which their embeddings are kept."""
    spec = encoder.spec
    opened = open_all(imagery, hosts, overlap, partial(refuse_coarse, footprint_m=spec.footprint_m))
    grid = make_grid(opened, spec.footprint_m, spec.satellite_px, stride_m)
    area = read_region(region) if region is not None else None
    blocks = plan_blocks(opened, grid, area)
    decisive = {
        "spec": spec.to_json(),
        "weights": sha256_of(_model_file(model, WEIGHTS)),
        "grid": dataclasses.asdict(grid),
        "covered": COVERED,
        "region": shapely.to_wkb(area, hex=True) if area is not None else None,
        "imagery": [(one.address, one.state.bytes, one.state.stamp) for one in opened],
    }
    return Plan(opened, grid, blocks, hashlib.sha256(json.dumps(decisive).encode()).hexdigest()[:16])


def _model_file(model: Path, name: str) -> Path:
    if not (model / name).is_file():
        raise ModelError(f"{model} has no {name}; give a folder that geoloc train wrote.")
    return model / name


def _refuse_foreign_folder(out: Path) -> None:
    """A gallery goes into a new or empty folder, or into one where a gallery is or was begun."""
    if out.exists() and not out.is_dir():
        raise GalleryError(f"{out} is a file; give a folder for the gallery.")
    known = {"CURRENT", ".lock"}
    names = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if names and not names & known and not any(name.startswith(".building-") for name in names):
        raise GalleryError(f"{out} holds other things than a gallery; give a new or empty folder.")


def _unused(plan: Plan, work: Path) -> list[Imagery]:
    used = {int(source) for chunk in committed(work, len(plan.blocks)) for source in chunk.sources}
    return [one for number, one in enumerate(plan.imagery) if number not in used]


def store(plan: Plan, encoder: TwinEncoder, model: Path, work: Path, index: str, progress: Progress) -> Path:
    """Steps 3 and 4: the committed blocks to the files of a version, not yet published."""
    spec, version = encoder.spec, work / "version"
    shutil.rmtree(version, ignore_errors=True)
    (version / "model").mkdir(parents=True)
    columns = [(chunk.ids, chunk.sources) for chunk in committed(work, len(plan.blocks))]
    ids, sources = (np.concatenate(column) for column in zip(*columns, strict=True))
    progress("store", 0, len(ids))
    pairs = ((chunk.ids, chunk.embeddings) for chunk in committed(work, len(plan.blocks)))
    write_embeddings(version / "embeddings.h5", spec, len(ids), pairs)
    table = make_table(plan.grid, plan.imagery, ids, sources)
    table.to_parquet(version / "tiles.parquet", index=False)

    progress("index", 0, len(ids))
    factory = choose_factory(len(ids)) if index == "auto" else index
    filled = fill_index(
        factory, spec.dim, len(ids), lambda: (chunk.embeddings for chunk in committed(work, len(plan.blocks)))
    )
    faiss.write_index(filled, str(version / "index.faiss"))
    for name in (WEIGHTS, SPEC, CARD, CALIBRATION):
        if (model / name).is_file():
            shutil.copyfile(model / name, version / "model" / name)
    _write_manifest(plan, encoder, version, factory, len(ids), table.total_bounds.tolist())
    progress("index", len(ids), len(ids))
    return version


def _write_manifest(
    plan: Plan, encoder: TwinEncoder, version: Path, factory: str, rows: int, bounds: list[float]
) -> None:
    west, south, east, north = bounds
    files = sorted(path for path in version.rglob("*") if path.is_file())
    manifest = Manifest(
        version="",
        spec=encoder.spec,
        grid=plan.grid,
        rows=rows,
        index=factory,
        bounds_lonlat=(west, south, east, north),
        sources=tuple(map(_source, plan.imagery)),
        files=tuple(manifests.stored_file(version, path) for path in files),
    )
    (version / manifests.NAME).write_bytes(manifests.to_bytes(manifest))


def _source(one: Imagery) -> Source:
    return Source(one.address, one.state.bytes, one.bounds_lonlat)


def publish(version: Path, out: Path) -> Path:
    """Step 5: give the version its name, point CURRENT at it, and clear away what builds left behind."""
    sync_tree(version)
    name = manifests.version_of((version / manifests.NAME).read_bytes())
    target = out / name
    if target.exists() and not _is_whole(target):
        target.rename(version.with_name("damaged"))
    if not target.exists():
        version.rename(target)
    write_whole(out / "CURRENT", f"{name}\n".encode())
    for leftover in out.glob(".building-*"):
        shutil.rmtree(leftover)
    return target


def _is_whole(folder: Path) -> bool:
    try:
        for file in manifests.read_manifest(folder).files:
            manifests.check_file(folder, file)
    except GalleryError:
        return False
    return True
