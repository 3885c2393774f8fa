"""The map setting of `geoloc evaluate`: street views asked of a dense gallery, and its report."""

import hashlib
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geoloc.atomic import make_folder
from geoloc.encoder import TwinEncoder
from geoloc.errors import DataError
from geoloc.model import trained_towns
from geoloc.result import SCHEMA, versions
from geoloc.score import Asked
from indexing.build import build_gallery
from indexing.durable import sha256_of
from indexing.gallery import Gallery
from indexing.trials import (
    Cases,
    Result,
    figures_of,
    photo_cases,
    reliability_of,
    town_cases,
    try_cases,
)
from ui.progress import stages


@dataclass(frozen=True)
class MapSetting:
    """What is searched: orthophotos where the data are a table's photos, tiles stride_m apart; queries: at
    most so many street views from inside it, and as many from outside.
    """

    imagery: tuple[Path, ...]
    stride_m: float | None
    queries: int


def evaluate_map(
    data: str,
    split: str,
    model: Path,
    encoder: TwinEncoder,
    asked: Sequence[Asked],
    setting: MapSetting,
    report: Path | None,
) -> dict[str, Any]:
    """The figures of every way of asking, and with `report` the folder of plots and pages.

    Raises DataError for data that have no map, and what building and asking a gallery raise.
    """
    chosen = _cases(data, split, setting)
    say_unfair(model, chosen.seeds)
    if report is not None:  # what cannot be written is better known before
        make_folder(report)
    with tempfile.TemporaryDirectory(prefix="geoloc-") as folder, stages() as progress:
        path = Path(folder) / "gallery"
        build_gallery(chosen.imagery, model, path, stride_m=setting.stride_m, progress=progress)
        with Gallery.open(path) as gallery:
            results = [try_cases(chosen.cases, gallery, encoder, one, progress) for one in asked]
            found = _result(data, split, model, chosen, gallery, asked, results)
            if report is not None:
                from ui.map_report import Answered, write_map_report  # matplotlib takes its time

                answered = Answered(chosen.cases, asked, results)
                write_map_report(report, found, answered, gallery, encoder, root_of(data))
    return found


def say_unfair(model: Path, towns: frozenset[int]) -> None:
    """A line where the model was trained on some of the towns that it is scored on."""
    if seen := sorted(towns & trained_towns(model)):
        print(f"The model was trained on the towns {seen}: this is no fair score.", file=sys.stderr)


def root_of(data: str) -> Path:
    """The folder of the data KIND:PATH: of a table's file the one it lies in."""
    path = Path(data.partition(":")[2])
    return path if path.is_dir() else path.parent


def _cases(data: str, split: str, setting: MapSetting) -> Cases:
    kind, _, root = data.partition(":")
    if kind == "table" and setting.imagery:
        photos = photo_cases(Path(root), None if split == "all" else split)
        return Cases(list(setting.imagery), photos, frozenset())
    if kind == "towns" and Path(root).is_dir() and not setting.imagery:
        return town_cases(Path(root), split, setting.queries)
    raise DataError(f"--map wants --data towns:PATH, or table:FILE with --imagery, not {data!r}.")


def _result(
    data: str,
    split: str,
    model: Path,
    chosen: Cases,
    gallery: Gallery,
    asked: Sequence[Asked],
    results: list[list[Result]],
) -> dict[str, Any]:
    ways = [
        {
            "hfov_deg": one.hfov_deg,
            "unknown_heading": one.unknown_heading,
            "gallery": len(gallery),
            **figures_of(some),
        }
        for one, some in zip(asked, results, strict=True)
    ]
    protocol = {
        "dataset": data.partition(":")[0],
        "split": split,
        "setting": "map",
        "stride_m": gallery.manifest.stride_m,
        "dataset_sha256": _sha256(chosen),
    }
    return {
        "data": data,
        "split": split,
        "model": str(model),
        "stride_m": gallery.manifest.stride_m,
        "schema": SCHEMA,
        "protocol": protocol,
        "model_sha256": gallery.spec.weights_sha256,
        "precision": "float32",
        "versions": versions(),
        "reliability": [reliability_of(some) for some in results],
        **ways[0],
        "results": ways,
    }


def _sha256(chosen: Cases) -> str:
    """Over what is asked and known of every case, and the contents of all files, those of folders too."""
    digest = hashlib.sha256()
    for case in chosen.cases:
        digest.update(f"{case.lonlat} {case.heading_deg} {case.inside} {case.hfov_deg}\n".encode())
    for path in (*(case.path for case in chosen.cases), *chosen.imagery):
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            digest.update(sha256_of(file).encode() if file.is_file() else b"")
    return digest.hexdigest()
