"""Imagery to a gallery in five steps: plan, embed, store, index, publish.

A build that is killed goes on from the blocks it has committed, and ends in the same bytes as one
that was not. The live version is touched by nothing but the last rename.
"""

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geoloc.embed import best_device, compute_dtype
from geoloc.encoder import TwinEncoder
from geoloc.errors import GalleryError, ImageryError, ModelError
from geoloc.model import WEIGHTS, load_encoder, read_spec
from geoloc.report import StageReport
from geoloc.spec import EncoderSpec
from indexing.curve import along_curve
from indexing.durable import disk_errors_named, only_builder, sha256_of
from indexing.embed import Engine, committed, embed_blocks
from indexing.embeddings import Chunk
from indexing.faiss_index import make_index, refuse_few
from indexing.manifest import Manifest, StoredFile, StoredSegment
from indexing.publish import install, install_model, publish
from indexing.region import read_region
from indexing.source import source_of
from indexing.store import write_segment
from indexing.table import Origins
from preprocessing.source import Bounds, Imagery
from preprocessing.sources import Overlap, open_all
from preprocessing.tiles import COVERED, Block, Grid, make_grid, plan_blocks

Note = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """Which tiles to cut of which imagery. key: a hash of all that decides their embeddings."""

    imagery: list[Imagery]
    grid: Grid
    blocks: list[Block]
    key: str


@dataclass(frozen=True)
class Shelf:
    """Where segments are made and kept: of embeddings of which model, in which folder of which gallery."""

    spec: EncoderSpec
    gallery: Path
    work: Path
    progress: StageReport
    note: Note


@dataclass(frozen=True)
class Stored:
    """A segment in its place, and what a manifest says of it."""

    segment: StoredSegment
    files: tuple[StoredFile, ...]
    bounds_lonlat: Bounds


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
    engine: Engine = embed_blocks,
    progress: StageReport = lambda *_: None,
    note: Note = lambda _: None,
) -> Path:
    """Build a gallery, publish it as the live version of `out`, and return that version's folder.

    imagery: see `find_imagery`. overlap: whether the first listed or the newest wins where they overlap.
    hosts: those that imagery may lie on beside the ones it names. stride_m: see `make_grid`. region:
    GeoJSON; only tiles whose centre lies inside. index: a FAISS factory string. encoder: instead of the one
    loaded from `model`. engine: what does step 2. note: told what the imagery's reader had to assume.
    Raises GalleryError, ImageryError, ModelError, DataError; none of them touches the live version.
    """
    encoder = encoder or load_encoder(model)
    if index != "auto":
        make_index(index, encoder.spec.dim)
    plan = plan_build(imagery, model, encoder, stride_m, region, overlap, hosts)
    if index != "auto":
        refuse_few(index, encoder.spec.dim, sum(len(block.rows) for block in plan.blocks))
    say_notes(plan.imagery, note)
    _refuse_foreign_folder(out)
    with disk_errors_named(out):
        out.mkdir(parents=True, exist_ok=True)
        with only_builder(out):
            model_kept = _keep_model(model, plan, encoder.spec, out)
            work = embed(plan, encoder, out, progress, engine)
            if not tell_unused(plan, work, range(len(plan.imagery)), note):
                shutil.rmtree(work)
                raise ImageryError(
                    "No tile has enough valid pixels: the imagery is nodata, transparent or off the grid; "
                    "check it, or choose a smaller stride."
                )
            stored = store(plan, Shelf(encoder.spec, out, work, progress, note), index)
            manifest = _manifest(plan, encoder.spec, stored, model_kept, index)
            version = publish(manifest, out, work)
            clear_leftovers(out)
            return version


def _keep_model(
    model: Path, plan: Plan, spec: EncoderSpec, gallery: Path
) -> tuple[str, tuple[StoredFile, ...]]:
    """Install the model before hours of embedding, in which a training may put another one in its place."""
    kept = install_model(model, gallery, work_of(plan, gallery))
    place = gallery / kept[0]
    if read_spec(place) != spec or plan.key != work_key(spec, place, plan.grid, plan.imagery, plan.blocks):
        raise GalleryError(f"{model} changed while it was read; run the same command again.")
    return kept


def _manifest(
    plan: Plan, spec: EncoderSpec, stored: Stored, model: tuple[str, tuple[StoredFile, ...]], index: str
) -> Manifest:
    place, model_files = model
    return Manifest(
        version="",
        spec=spec,
        grid=plan.grid,
        bounds_lonlat=stored.bounds_lonlat,
        sources=tuple(map(source_of, plan.imagery)),
        wanted_index=index,
        model=place,
        segments=(stored.segment,),
        files=(*model_files, *stored.files),
    )


def plan_build(
    imagery: Sequence[str | Path],
    model: Path,
    encoder: TwinEncoder,
    stride_m: float | None,
    region: Path | None,
    overlap: Overlap = "listed",
    hosts: Collection[str] = (),
) -> Plan:
    """Step 1 of a build: which tiles, of which files, and the key under which their embeddings are kept."""
    spec = encoder.spec
    opened = open_all(imagery, hosts, overlap, spec.footprint_m)
    grid = make_grid(opened, spec.footprint_m, spec.satellite_px, stride_m)
    area = read_region(region) if region is not None else None
    blocks = along_curve(plan_blocks(opened, grid, area), grid)
    return Plan(opened, grid, blocks, work_key(spec, model, grid, opened, blocks))


def work_key(
    spec: EncoderSpec, model: Path, grid: Grid, imagery: Sequence[Imagery], blocks: Sequence[Block]
) -> str:
    """A hash of all that decides the embeddings of a plan, and so the blocks it may go on from."""
    decisive = {
        "spec": spec.to_json(),
        "weights": sha256_of(_weights(model)),
        "grid": dataclasses.asdict(grid),
        "covered": COVERED,
        "dtype": str(compute_dtype("auto", best_device())),
        "imagery": [(one.address, one.state.bytes, one.state.stamp) for one in imagery],
    }
    digest = hashlib.sha256(json.dumps(decisive).encode())
    for block in blocks:
        digest.update(json.dumps([block.zone, sorted(block.showing or ())]).encode())
        digest.update(np.stack([block.columns, block.rows]).tobytes())
    return digest.hexdigest()[:16]


def _weights(model: Path) -> Path:
    if not (model / WEIGHTS).is_file():
        raise ModelError(f"{model} has no {WEIGHTS}; give a folder that geoloc train wrote.")
    return model / WEIGHTS


def _refuse_foreign_folder(out: Path) -> None:
    """A gallery goes into a new or empty folder, or into one where a gallery is or was begun."""
    if out.exists() and not out.is_dir():
        raise GalleryError(f"{out} is a file; give a folder for the gallery.")
    known = {"CURRENT", ".lock"}
    names = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if names and not names & known and not any(name.startswith(_WORK) for name in names):
        raise GalleryError(f"{out} holds other things than a gallery; give a new or empty folder.")


_WORK = ".building-"


def work_of(plan: Plan, gallery: Path) -> Path:
    """The folder of a plan's blocks, made where there is none."""
    work = gallery / f"{_WORK}{plan.key}"
    work.mkdir(exist_ok=True)
    return work


def embed(
    plan: Plan, encoder: TwinEncoder, gallery: Path, progress: StageReport, engine: Engine = embed_blocks
) -> Path:
    """Step 2 of a build: every tile with enough valid pixels to a folder of blocks, kept by its key."""
    work = work_of(plan, gallery)
    engine(plan.blocks, plan.grid, plan.imagery, encoder, work, progress)
    return work


def say_notes(imagery: Sequence[Imagery], note: Note) -> None:
    """Pass on what the imagery's reader had to assume."""
    for text in (text for one in imagery for text in one.notes):
        note(text)


def tell_unused(plan: Plan, work: Path, given: Iterable[int], note: Note) -> int:
    """How many tiles were embedded; if any, the imagery of which there is none is named."""
    tiles, used = 0, set[int]()
    for chunk in committed(work, len(plan.blocks)):
        tiles += len(chunk.ids)
        used.update(chunk.sources.tolist())
    for number in sorted(set(given) - used) if tiles else []:
        note(f"{plan.imagery[number].label}: no tile was cut from it; it is too small or others cover it.")
    return tiles


def store(plan: Plan, shelf: Shelf, index: str) -> Stored:
    """Steps 3 and 4 of a build: the committed blocks to a segment, which no version lists yet."""
    columns = [(chunk.ids, chunk.sources) for chunk in committed(shelf.work, len(plan.blocks))]
    ids, sources = (np.concatenate(column) for column in zip(*columns, strict=True))
    paths, gsd_m = ([one.address for one in plan.imagery], [one.gsd_m for one in plan.imagery])
    tiles = Origins(ids, np.array(paths, object)[sources], np.array(gsd_m)[sources])
    chunks = ((chunk.ids, chunk.embeddings) for chunk in committed(shelf.work, len(plan.blocks)))
    return store_segment(plan.grid, tiles, chunks, shelf, index)


def store_segment(grid: Grid, tiles: Origins, chunks: Iterable[Chunk], shelf: Shelf, index: str) -> Stored:
    """Write a segment, see `write_segment`, and install it."""
    rows = len(tiles.ids)
    shelf.progress("store", 0, rows)
    made = shelf.work / "segment"
    indexed, bounds = write_segment(made, shelf.spec, grid, tiles, chunks, index)
    place, files = install(made, shelf.gallery, "segments")
    shelf.note(str(indexed))
    shelf.progress("store", rows, rows)
    segment = StoredSegment(place, rows, indexed.factory, depth=indexed.depth, recall=indexed.recall)
    return Stored(segment, files, bounds)


def clear_leftovers(gallery: Path) -> None:
    """Delete what builds left behind, this one and those that were stopped."""
    for leftover in gallery.glob(f"{_WORK}*"):
        shutil.rmtree(leftover)
