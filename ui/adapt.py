"""`geoloc adapt`: a trained model, and what there is of a new region, to a model for that region."""

import json
import sys
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from jaxtyping import Float64

from geoloc.atomic import write_text
from geoloc.errors import DataError
from geoloc.model import load_encoder, read_card, refuse_taken, save_encoder, trained_towns
from geoloc.pairs import PairTable, joined
from geoloc.posterior import CALIBRATION
from geoloc.report import Report, StageReport
from geoloc.spec import EncoderSpec
from geoloc.street_view import read_street_view
from geoloc.training.adapt import APART_M, Change, Region
from geoloc.training.adapt import adapt as adapt_encoder
from geoloc.training.card import adapted_card
from geoloc.training.decoded import Decoded, decode_pairs, decode_photos, nothing_decoded
from geoloc.training.negatives import Negatives, tile_lonlats_of
from preprocessing.datasets.open import open_pairs
from preprocessing.ground import sample_ground
from preprocessing.sources import open_all
from preprocessing.unlabelled import pictures
from ui.hosts import AllowHost
from ui.progress import stages

SPARE_M = 6.0
MOST = 1000
"""Photos, and tiles of imagery, that are looked at: enough to count statistics by."""

RECORD = "adapt.json"


def adapt(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Model folder to begin with; it stays.")],
    out: Annotated[Path, typer.Option(help="New folder of the run; the adapted model is in model/.")],
    pairs: Annotated[
        list[str] | None,
        typer.Option(help="Labelled pairs of the region, KIND:PATH, one is enough. Repeatable."),
    ] = None,
    imagery: Annotated[
        list[str] | None,
        typer.Option(help="Imagery of the region, as `index build` takes it. Repeatable."),
    ] = None,
    photos: Annotated[
        Path | None, typer.Option(help="Folder of street views of the region; no positions are needed.")
    ] = None,
    allow_missing: Annotated[bool, typer.Option(help="Go on without the pairs that are missing.")] = False,
    allow_host: AllowHost = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what changed as JSON.")] = False,
) -> None:
    """Bring a trained model to a new region, from what little there is of it.

    Imagery and photos need not belong together: the statistics of the model's batch norms are counted again
    on them, each view its own. From labelled pairs, all rows of a table or the train split of a dataset, the
    last stage of the backbones and the heads learn as well, with the imagery's tiles as further places to
    tell theirs from. It takes a few minutes at most; the same input gives the same weights.
    What it gains there it loses elsewhere: keep the other model for other regions. Its calibration is left
    out; `geoloc calibrate` fits another, on towns.

    Example: geoloc adapt data/model --imagery ortho.tif --photos photos --out here, then
    geoloc index build ortho.tif --model here/model --out here.gallery
    """
    refuse_taken(out)
    if not (pairs or imagery or photos):
        raise DataError("There is nothing to adapt to; give --imagery, --photos or --pairs.")
    encoder = load_encoder(model)
    with stages() as report:
        table = joined([_labelled(one, allow_missing) for one in pairs or []])
        found = _gather(encoder.spec, table, imagery or [], photos, allow_host or (), report)
        adapted, change = adapt_encoder(encoder, found.region, report)
    seeds = trained_towns(model) | table.seeds
    spec = save_encoder(adapted, out / "model", _card(model, encoder.spec, found, change), seeds)
    record = {
        "model": str(out / "model"),
        "weights_sha256": spec.weights_sha256,
        "from": encoder.spec.weights_sha256,
        "pairs": found.region.pairs,
        "photos": found.photos,
        "tiles": found.tiles,
        **asdict(change),
    }
    write_text(out / RECORD, json.dumps(record, indent=2) + "\n")
    if as_json:
        print(json.dumps(record))
    print(f"The adapted model is in {out / 'model'}. {_words(change, encoder.spec)}", file=sys.stderr)


def _labelled(data: str, allow_missing: bool) -> PairTable:
    """All rows of a table, and of other kinds the train split."""
    split = None if data.startswith("table:") else "train"
    return open_pairs(data, split, option="--pairs").complete(allow_missing)


@dataclass(frozen=True)
class Found:
    """A region, how many of its photos and tiles are no pair's, and where all of them come from."""

    region: Region
    photos: int
    tiles: int
    sources: tuple[str, ...]


def _gather(
    spec: EncoderSpec,
    table: PairTable,
    imagery: Sequence[str],
    photos: Path | None,
    hosts: Collection[str],
    report: StageReport,
) -> Found:
    matched, lonlats = _read_pairs(table, spec, partial(report, "pairs read"))
    canvases, tiles, places, sources = [matched.canvases], [matched.tiles], [lonlats], []
    if table.pairs:
        sources.append(f"{len(table.pairs):,} pairs of {table.name} ({table.split})")
    if photos is not None:
        paths = _photos_of(photos)
        canvases.append(decode_photos(paths, spec, partial(report, "photos read")))
        sources.append(f"{len(paths):,} photos of {photos.name}, none with a place")
    if imagery:
        opened = open_all(imagery, hosts, "listed", spec.footprint_m)
        side_px = matched.tiles.shape[1]
        side_m = spec.footprint_m * side_px / spec.satellite_px
        ground, where = sample_ground(opened, side_m, side_px, MOST, partial(report, "tiles cut"))
        tiles.append(ground)
        places.append(where)
        sources.append(f"{len(ground):,} tiles of {', '.join(one.label for one in opened[:5])}")
    images = np.concatenate(canvases), np.concatenate(tiles), np.concatenate(places)
    same = Negatives.of(table, APART_M).place if table.pairs else None
    region = Region(*images, len(table.pairs), same)
    return Found(
        region, len(region.canvases) - region.pairs, len(region.tiles) - region.pairs, tuple(sources)
    )


def _read_pairs(
    table: PairTable, spec: EncoderSpec, report: Report
) -> tuple[Decoded, Float64[np.ndarray, "n 2"]]:
    """The pairs in memory, and where their tiles' centres are. Raises DataError where one lacks a heading."""
    if not table.pairs:
        return nothing_decoded(spec, SPARE_M), np.empty((0, 2))
    for pair in table.pairs if spec.azimuth_bins > 1 else ():
        if pair.heading_deg is None and read_street_view(pair.street).heading_deg is None:
            raise DataError(
                f"{pair.street} has no heading, so nothing says which part of its tile it shows; give "
                "heading_deg, or the photo as one of --photos."
            )
    with tempfile.TemporaryDirectory(prefix="geoloc-") as folder:
        decoded = decode_pairs(table.pairs, spec, SPARE_M, Path(folder), report=report)
        decoded = Decoded(np.array(decoded.canvases), np.array(decoded.tiles))
    return decoded, tile_lonlats_of(table)


def _photos_of(folder: Path) -> list[Path]:
    """At most MOST of its photos, spread evenly."""
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; --photos wants one of street views.")
    paths = pictures(folder)
    if not paths:
        raise DataError(f"{folder} holds no JPEG, PNG or WebP; check the path.")
    return paths[:: -(-len(paths) // MOST)]


def _card(model: Path, spec: EncoderSpec, found: Found, change: Change) -> str:
    calibrated = (model / CALIBRATION).exists()
    words = _words(change, spec)
    return adapted_card(read_card(model), spec.weights_sha256, found.sources, words, calibrated)


def _words(change: Change, spec: EncoderSpec) -> str:
    """What was done to the model."""
    norms = (
        f"The statistics of {change.norms} batch norms were counted again (AdaBN, Li et al. 2016) and moved "
        f"by {change.moved:.2f} deviations."
        if change.norms
        else f"{spec.backbone} has no batch norms."
    )
    if change.loss is None:
        return norms
    first, last = change.loss
    return (
        f"{norms} The last stage of the backbones and the heads learnt from the pairs in {change.steps} "
        f"steps, the loss went from {first:.3f} to {last:.3f}."
    )
