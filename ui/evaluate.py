"""`geoloc evaluate`: recall, ranks, metres, headings and certainty of a model."""

import json
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from geoloc.atomic import write_text
from geoloc.embed import best_device, compute_dtype
from geoloc.encoder import TwinEncoder
from geoloc.errors import DataError
from geoloc.model import load_encoder, trained_towns
from geoloc.pairs import PairTable
from geoloc.posterior import read_calibration
from geoloc.result import result
from geoloc.score import Asked, evaluate_table
from indexing.build import build_gallery
from indexing.gallery import Gallery
from indexing.trials import Cases, figures_of, photo_cases, reliability_of, town_cases, try_cases
from preprocessing.audit import KINDS, accept, audit
from preprocessing.datasets.open import open_pairs
from ui.progress import progress, stages

Figures = dict[str, Any]
AUDIT = Path("geoloc-audit.csv")


def evaluate(
    data: Annotated[
        str,
        typer.Option(
            help="What to score on, KIND:PATH: cvusa, cvact, vigor, university1652, towns or table."
        ),
    ],
    model: Annotated[Path, typer.Option(help="Model folder, such as data/model or RUN/model.")],
    split: Annotated[
        str | None,
        typer.Option(
            help="cvusa: train, val (default; both if it is incomplete). cvact: train, val, test. vigor: "
            "same-train, same-test (default), cross-train, cross-test. university1652: drone-satellite "
            "(default), satellite-drone, street-satellite. towns: train, val, all (default)."
        ),
    ] = None,
    labels: Annotated[str | None, typer.Option(help="Of vigor: corrected (default) or original.")] = None,
    hfov_deg: Annotated[
        str, typer.Option(help="Fields of view to cut every street view to, such as 360,180,90,70.")
    ] = "360",
    unknown_heading: Annotated[
        bool,
        typer.Option("--unknown-heading", help="Turn each street view at random and search every heading."),
    ] = False,
    ties: Annotated[
        Literal["against", "optimistic"],
        typer.Option(help="Whether a tie counts against the model, or for it as in the peers' code."),
    ] = "against",
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"],
        typer.Option(help="What to compute embeddings in; auto: bfloat16 where the processor has it."),
    ] = "auto",
    dense: Annotated[
        bool,
        typer.Option(
            "--map",
            help="The map setting: a dense gallery is asked, the way a photo is. Of towns it holds half of "
            "them, and street views from inside and outside it are asked; a table's photos are asked of "
            "--imagery.",
        ),
    ] = False,
    imagery: Annotated[
        list[Path] | None, typer.Option(help="With --map and a table: orthophotos to search. Repeatable.")
    ] = None,
    stride_m: Annotated[float | None, typer.Option(help="With --map: the gallery's stride.")] = None,
    queries: Annotated[
        int, typer.Option(min=1, help="With --map: street views from inside, and as many from outside.")
    ] = 300,
    allow: Annotated[
        str, typer.Option(help=f"Findings of the audit to go on with: {','.join(KINDS)}, or all.")
    ] = "",
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="As --allow missing.")] = False,
    missing_list: Annotated[
        Path | None, typer.Option(help="Write the missing files' names here as well, one a line.")
    ] = None,
    audit_file: Annotated[
        Path, typer.Option("--audit", help="Where the audit names what it finds, if it finds anything.")
    ] = AUDIT,
    report: Annotated[
        Path | None,
        typer.Option(help="Folder for result.json, the audit, curves and a page with the worst failures."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Score a model: every query against the whole gallery of the split, or against a dense map.

    First every image is checked: missing, unreadable, of unexpected size, duplicate; what is found is
    named in a file, and fatal unless allowed. A query counts as found at k when fewer than k tiles score at
    least as high as its own: ties count against the model. recall@1% cuts at gallery // 100 (Sample4Geo,
    TransGeo), recall@1%+ one later (CVM-Net). Recalls come with bootstrap 95 % intervals. cvact: recall@k
    is one-to-one, recall@k<5m counts any tile within 5 m. vigor: hit_rate. Of a calibrated model the
    calibration error, the share of truths inside the 90 % region and the AUROC of "in this gallery" are
    scored as well, with every second query's place taken out of the gallery.

    Example: geoloc evaluate --data towns:OUT --model data/model --hfov-deg 360,180,90,70 --unknown-heading
    """
    asked = [Asked(width, unknown_heading) for width in _widths(hfov_deg)]
    allowed = _allowed(allow) | ({"missing"} if allow_missing else set())
    encoder = load_encoder(model).to(best_device())
    facts: dict[str, Any] = {"data": data, "split": split or "default", "model": str(model)}
    if dense:
        if report is not None:
            raise DataError("--report is for pairs; leave out --map.")
        scores = _score_map(data, split, model, encoder, asked, stride_m, queries, imagery, facts)
        results = [
            {"hfov_deg": one.hfov_deg, "unknown_heading": one.unknown_heading, **score}
            for one, score in zip(asked, scores, strict=True)
        ]
        found: dict[str, Any] = {**facts, **results[0], "results": results}
    else:
        table = open_pairs(data, split, labels)
        with progress("Checking images") as checked:
            table, seen = audit(table, checked)
        named_in = report / "audit.csv" if report is not None else audit_file
        if missing_list is not None:
            write_text(missing_list, "".join(f"{path}\n" for path in table.missing))
        if seen.findings or report is not None:
            seen.write(named_in)
        accept(table, seen, frozenset(allowed), named_in)
        _warn(table, model)
        with stages() as embedding:
            evaluation = evaluate_table(
                encoder,
                table,
                asked,
                precision=dtype,
                ties=ties,
                calibration=read_calibration(model),
                report=lambda done, total: embedding("Embedding images", done, total),
                ranking=lambda done, total: embedding("Ranking", done, total),
            )
        took = evaluation.embedded.throughput
        print(
            f"Embedded {took.images:,} images at {took.images / took.wall_s:,.1f}/s: the encoder took "
            f"{took.forward_s:.1f} of {took.wall_s:.1f} s; beside it decoding {took.decode_s:.1f}, resizing "
            f"{took.resize_s:.1f} s of processor time.",
            file=sys.stderr,
        )
        facts |= {
            "split": table.split,
            "listed_pairs": seen.listed,
            "missing_pairs": seen.dropped,
            "audit": seen.counts,
        }
        precision = compute_dtype(dtype, best_device())
        found = facts | result(
            table, evaluation, encoder.spec, dataset_sha256=seen.fingerprint, ties=ties, precision=precision
        )
        if report is not None:
            from ui.report import write_report  # matplotlib takes its time

            root = Path(data.partition(":")[2])
            write_report(report, found, evaluation, encoder.spec, root if root.is_dir() else root.parent)
    if as_json:
        print(json.dumps(found))
    else:
        console = Console(width=None if sys.stdout.isatty() else 120, highlight=False, soft_wrap=True)
        console.print(title(found, found["results"][0]), markup=False)
        console.print(score_table(found["results"]))
    if report is not None:
        print(f"The report is {report / 'index.html'}", file=sys.stderr)


def _widths(text: str) -> list[float]:
    try:
        widths = [float(part) for part in text.split(",")]
    except ValueError:
        widths = []
    if not widths or not all(1 <= width <= 360 for width in widths):
        raise DataError(f"--hfov-deg {text!r} should be degrees from 1 to 360, such as 90 or 360,180,90,70.")
    return widths


def _allowed(text: str) -> set[str]:
    kinds = {part.strip() for part in text.split(",") if part.strip()}
    if kinds == {"all"}:
        return set(KINDS)
    if not kinds <= set(KINDS):
        raise DataError(f"--allow {text!r} should be some of {','.join(KINDS)}, or all.")
    return kinds


def _score_map(
    data: str,
    split: str | None,
    model: Path,
    encoder: TwinEncoder,
    asked: list[Asked],
    stride_m: float | None,
    queries: int,
    imagery: list[Path] | None,
    facts: dict[str, Any],
) -> list[Figures]:
    kind, _, root = data.partition(":")
    if kind == "table" and imagery:
        chosen = Cases(imagery, photo_cases(Path(root), split), frozenset())
    elif kind == "towns" and Path(root).is_dir() and not imagery:
        chosen = town_cases(Path(root), split or "all", queries)
    else:
        raise DataError(f"--map wants --data towns:PATH, or table:FILE with --imagery, not {data!r}.")
    if seen := sorted(chosen.seeds & trained_towns(model)):
        print(f"The model was trained on the towns {seen}: this is no fair score.", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="geoloc-") as folder, stages() as report:
        path = Path(folder) / "gallery"
        build_gallery(chosen.imagery, model, path, stride_m=stride_m, progress=report)
        with Gallery.open(path) as gallery:
            facts |= {"split": split or "all", "stride_m": gallery.manifest.stride_m}
            scores = []
            for one in asked:
                results = try_cases(chosen.cases, gallery, encoder, one, report)
                scores.append({"gallery": len(gallery), **figures_of(results)})
                facts.setdefault("reliability", []).append(reliability_of(results))
    return scores


def _warn(table: PairTable, model: Path) -> None:
    if table.missing:
        print(f"{table.missing_pairs:,} pairs are missing ({len(table.missing):,} files).", file=sys.stderr)
    if seen := sorted(table.seeds & trained_towns(model)):
        print(f"The model was trained on the towns {seen}: this is no fair score.", file=sys.stderr)


def title(facts: Figures, first: Figures) -> str:
    """What was scored, in one line."""
    outside = f", and {first['outside']:,} from outside" if "outside" in first else ""
    heading = "unknown" if first["unknown_heading"] else "known"
    return (
        f"N = {first['n']:,} queries{outside}, {first['gallery']:,} tiles "
        f"({facts['data']}, {facts['split']}), heading {heading}"
    )


def score_table(results: list[Figures]) -> Table:
    """The figures with a column for each field of view; recalls and shares in percent, with intervals."""
    first = results[0]
    table = Table()
    table.add_column("figure", no_wrap=True)
    for column in results:
        table.add_column(f"{column['hfov_deg']:g}°", justify="right")
    for name, value in first.items():
        if name == "hfov_deg" or not isinstance(value, float):
            continue
        label = f"{name} (k = {first[f'{name}_k']})" if f"{name}_k" in first else name
        table.add_row(label, *(_cell(name, column) for column in results))
    return table


def _cell(name: str, column: Figures) -> str:
    value = column.get(name)
    if value is None:
        return "-"
    if not name.startswith(("recall", "heading<", "coverage", "hit_rate", "mAP")):
        return f"{value:.3g}"
    low, high = column.get("intervals", {}).get(name, (None, None))
    return f"{value:.2%}" if low is None else f"{value:.2%} [{low:.1%}, {high:.1%}]".replace("%, ", ", ")
