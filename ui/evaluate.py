"""`geoloc evaluate`: recall, ranks, metres, headings and certainty of a model."""

import json
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from geoloc.atomic import write_text
from geoloc.embed import best_device
from geoloc.encoder import TwinEncoder
from geoloc.errors import DataError
from geoloc.model import load_encoder, trained_towns
from geoloc.pairs import PairTable
from geoloc.posterior import read_calibration
from geoloc.score import Asked, score_pairs
from indexing.build import build_gallery
from indexing.gallery import Gallery
from indexing.trials import figures_of, reliability_of, town_cases, try_cases
from preprocessing.datasets.open import open_pairs
from ui.progress import progress, stages

Figures = dict[str, float | int]
WORTH_WORKERS = 500


def evaluate(
    data: Annotated[str, typer.Option(help="Pairs to score on, KIND:PATH: cvusa:PATH or towns:PATH.")],
    model: Annotated[Path, typer.Option(help="Model folder, such as data/model or RUN/model.")],
    split: Annotated[
        str | None,
        typer.Option(
            help="train, val, or of towns all. Default: all towns; val of cvusa, both if it is incomplete."
        ),
    ] = None,
    hfov_deg: Annotated[
        str, typer.Option(help="Fields of view to cut every street view to, such as 360,180,90,70.")
    ] = "360",
    unknown_heading: Annotated[
        bool,
        typer.Option("--unknown-heading", help="Turn each street view at random and search every heading."),
    ] = False,
    dense: Annotated[
        bool,
        typer.Option(
            "--map",
            help="The map setting, of towns only: a dense gallery of half of the towns is asked, the way a "
            "photo is, for street views from inside and outside it.",
        ),
    ] = False,
    stride_m: Annotated[float | None, typer.Option(help="With --map: the gallery's stride.")] = None,
    queries: Annotated[
        int, typer.Option(min=1, help="With --map: street views from inside, and as many from outside.")
    ] = 300,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Score the pairs that are there where files are missing.")
    ] = False,
    missing_list: Annotated[
        Path | None, typer.Option(help="Write the missing files' names here, one a line.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Score a model: every street view against every tile of the split, or against a dense map.

    A query counts as found at k when fewer than k tiles score at least as high as its own: ties
    count against the model. recall@1% uses k = gallery // 100, at least 1. Of a calibrated model the
    calibration error, the share of truths inside the 90 % region and the AUROC of "in this gallery" are
    scored as well, with every second query's place taken out of the gallery.

    Example: geoloc evaluate --data towns:OUT --model data/model --hfov-deg 360,180,90,70 --unknown-heading
    """
    asked = [Asked(width, unknown_heading) for width in _widths(hfov_deg)]
    encoder = load_encoder(model).to(best_device())
    facts: dict[str, object] = {"data": data, "split": split or "default", "model": str(model)}
    if dense:
        scores = _score_map(data, split or "all", model, encoder, asked, stride_m, queries, facts)
    else:
        table = open_pairs(data, split)
        if missing_list is not None:
            write_text(missing_list, "".join(f"{path}\n" for path in table.missing))
        table = table.complete(allow_missing)
        facts |= {"split": table.split, "missing_pairs": table.missing_pairs}
        _warn(table, model)
        with progress("Embedding pairs") as report:
            scores = score_pairs(
                encoder,
                table,
                asked,
                calibration=read_calibration(model),
                workers=2 if len(table.pairs) >= WORTH_WORKERS else 0,
                report=report,
            )
    results = [
        {"hfov_deg": one.hfov_deg, "unknown_heading": one.unknown_heading, **score}
        for one, score in zip(asked, scores, strict=True)
    ]
    if as_json:
        print(json.dumps({**facts, **results[0], "results": results}))
    else:
        Console(width=None if sys.stdout.isatty() else 120).print(score_table(facts, results))


def _widths(text: str) -> list[float]:
    try:
        widths = [float(part) for part in text.split(",")]
    except ValueError:
        widths = []
    if not widths or not all(1 <= width <= 360 for width in widths):
        raise DataError(f"--hfov-deg {text!r} should be degrees from 1 to 360, such as 90 or 360,180,90,70.")
    return widths


def _score_map(
    data: str,
    split: str,
    model: Path,
    encoder: TwinEncoder,
    asked: list[Asked],
    stride_m: float | None,
    queries: int,
    facts: dict[str, object],
) -> list[Figures]:
    kind, _, root = data.partition(":")
    if kind != "towns" or not Path(root).is_dir():
        raise DataError(f"--map wants orthophotos beside the street views: --data towns:PATH, not {data!r}.")
    chosen = town_cases(Path(root), split, queries)
    if seen := sorted(chosen.seeds & trained_towns(model)):
        print(f"The model was trained on the towns {seen}: this is no fair score.", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="geoloc-") as folder, stages() as report:
        path = Path(folder) / "gallery"
        build_gallery(chosen.imagery, model, path, stride_m=stride_m, progress=report)
        with Gallery.open(path) as gallery:
            facts |= {"split": split, "stride_m": gallery.manifest.stride_m}
            scores = []
            for one in asked:
                results = try_cases(chosen.cases, gallery, encoder, one, report)
                scores.append({"gallery": len(gallery), **figures_of(results)})
                facts.setdefault("reliability", []).append(reliability_of(results))  # type: ignore[attr-defined]
    return scores


def _warn(table: PairTable, model: Path) -> None:
    if table.missing_pairs:
        print(f"{table.missing_pairs:,} pairs are missing ({len(table.missing):,} files).", file=sys.stderr)
    if seen := sorted(table.seeds & trained_towns(model)):
        print(f"The model was trained on the towns {seen}: this is no fair score.", file=sys.stderr)


def score_table(facts: dict[str, object], results: list[dict[str, float | int]]) -> Table:
    """The figures with a column for each field of view; recalls and shares in percent."""
    first = results[0]
    outside = f", and {first['outside']:,} from outside" if "outside" in first else ""
    heading = "unknown" if first["unknown_heading"] else "known"
    table = Table(
        title=f"N = {first['n']:,} queries{outside}, {first['gallery']:,} tiles "
        f"({facts['data']}, {facts['split']}), heading {heading}",
        title_justify="left",
    )
    table.add_column("figure", no_wrap=True)
    for result in results:
        table.add_column(f"{result['hfov_deg']:g}°", justify="right")
    for name, value in first.items():
        if name == "hfov_deg" or not isinstance(value, float):
            continue
        label = f"recall@1% (k = {first['recall@1%_k']} = gallery // 100)" if name == "recall@1%" else name
        table.add_row(label, *(_cell(name, result[name]) for result in results))
    return table


def _cell(name: str, value: float) -> str:
    return f"{value:.2%}" if name.startswith(("recall", "heading<", "coverage")) else f"{value:.3g}"
