"""`geoloc evaluate`: recall, ranks, metres, headings and certainty of a model."""

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from geoloc.atomic import write_text
from geoloc.embed import Precision, best_device, compute_dtype
from geoloc.encoder import TwinEncoder
from geoloc.errors import DataError
from geoloc.model import load_encoder
from geoloc.pairs import PairTable
from geoloc.posterior import Calibration, read_calibration
from geoloc.recall import Ties
from geoloc.result import outcomes, result
from geoloc.score import Asked, Evaluation, evaluate_table
from geoloc.spec import EncoderSpec
from preprocessing.audit import KINDS, Audit, accept, audit
from preprocessing.datasets.open import open_pairs
from ui.cells import Figures, cell, heading, interval, rows
from ui.evaluate_map import MapSetting, evaluate_map, root_of, say_unfair
from ui.progress import progress, stages

AUDIT = Path("geoloc-audit.csv")
OF_THE_MAP = ("imagery", "stride_m", "queries")
OF_PAIRS = ("labels", "ties", "dtype", "allow", "allow_missing", "missing_list", "audit_file")


def evaluate(
    context: typer.Context,
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
            help="cvusa: train, val (default; both of an excerpt that lacks most of val). cvact: train, val, "
            "test. vigor: same-train, same-test (default), cross-train, cross-test. university1652: "
            "drone-satellite (default), satellite-drone, street-satellite. towns: train, val, all (default)."
        ),
    ] = None,
    labels: Annotated[str | None, typer.Option(help="Of vigor: corrected (default) or original.")] = None,
    hfov_deg: Annotated[
        str,
        typer.Option(
            help="Fields of view to cut every street view to, such as 360,180,90,70; one that is narrower is "
            "asked as it is."
        ),
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
            help="The map setting: a dense gallery is asked, refined as for a photo, with a known heading "
            "taken as exact. Of towns it holds half of "
            "them, and street views from inside and outside it are asked; a table's photos are asked of "
            "--imagery.",
        ),
    ] = False,
    imagery: Annotated[
        list[Path] | None,
        typer.Option(help="With --map and a table: orthophotos to search, files or folders. Repeatable."),
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
    calibration error, the share of truths inside the 90 % region (coverage90; whole tiles, as it is
    of pairs, often hold more: region90_holds) and the AUROC of "in this gallery" are scored as well, with
    every second query's place taken out of the gallery.

    Example: geoloc evaluate --data towns:OUT --model data/model --hfov-deg 360,180,90,70 --unknown-heading
    """
    asked = [Asked(width, unknown_heading) for width in _widths(hfov_deg)]
    allowed = _allowed(allow) | ({"missing"} if allow_missing else set())
    _refuse_unheard(context, dense, data)
    encoder = load_encoder(model).to(best_device())
    if dense:
        setting = MapSetting(tuple(imagery or ()), stride_m, queries)
        found = evaluate_map(data, split or "all", model, encoder, asked, setting, report)
    else:
        table = open_pairs(data, split, labels)
        named_in = report / "audit.csv" if report is not None else audit_file
        table, seen = _audited(table, allowed, named_in, missing_list, always=report is not None)
        say_unfair(model, table.seeds)
        evaluation = _evaluated(encoder, table, asked, dtype, ties, read_calibration(model))
        _say_narrow(evaluation, asked)
        found = {"data": data, "model": str(model)} | result(
            table, evaluation, encoder.spec, dataset_sha256=seen.fingerprint, ties=ties,
            precision=compute_dtype(dtype, best_device()),
        )  # fmt: skip
        found |= {"listed_pairs": seen.listed, "missing_pairs": seen.dropped, "audit": seen.counts}
        if report is not None:
            _write_report(report, found, evaluation, encoder.spec, root_of(data))
    if as_json:
        print(json.dumps(found))
    else:
        console = Console(width=None if sys.stdout.isatty() else 120, highlight=False, soft_wrap=True)
        console.print(title(found), markup=False)
        console.print(score_table(found["results"]))
    if report is not None:
        print(f"The report is {report / 'index.html'}", file=sys.stderr)


def _audited(
    table: PairTable, allowed: set[str], named_in: Path, missing_list: Path | None, *, always: bool
) -> tuple[PairTable, Audit]:
    """What of a table can be scored, all findings named in a file. Raises DataError for those not allowed."""
    with progress("Checking images") as checked:
        table, seen = audit(table, checked)
    if missing_list is not None:
        write_text(missing_list, "".join(f"{path}\n" for path in table.missing))
    if seen.findings or always:
        seen.write(named_in)
    accept(table, seen, frozenset(allowed), named_in)
    if seen.dropped:
        print(f"{seen.dropped:,} of {seen.listed:,} pairs are left out; see {named_in}.", file=sys.stderr)
    return table, seen


def _evaluated(
    encoder: TwinEncoder,
    table: PairTable,
    asked: list[Asked],
    precision: Precision,
    ties: Ties,
    calibration: Calibration | None,
) -> Evaluation:
    """Embedded and ranked, with progress, and a line about where the time went."""
    with stages() as embedding:
        evaluation = evaluate_table(
            encoder,
            table,
            asked,
            precision=precision,
            ties=ties,
            calibration=calibration,
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
    return evaluation


def _say_narrow(evaluation: Evaluation, asked: list[Asked]) -> None:
    """A line for each field of view that some street views do not reach."""
    for width in (one.hfov_deg for one in asked if one.hfov_deg < 360):
        views = evaluation.lineup.queries
        if narrow := sum(view.hfov_deg is not None and view.hfov_deg < width for view in views):
            print(
                f"{narrow:,} of {len(views):,} street views are narrower than {width:g} degrees: they are "
                "asked as they are.",
                file=sys.stderr,
            )


def _write_report(
    folder: Path, found: Figures, evaluation: Evaluation, spec: EncoderSpec, root: Path
) -> None:
    from ui.curves import Way, curves, label  # matplotlib takes its time
    from ui.failures import failures
    from ui.report import write_report

    scored, lineup = evaluation.scored, evaluation.lineup
    ways = [
        Way(label(one.asked), one.standing.rank, one.error_m, one.heading_error_deg, one.reliability)
        for one in scored
    ]
    hardest = min(range(len(ways)), key=lambda number: scored[number].figures.values["recall@1"])
    plots = curves(ways, [view.lonlat for view in lineup.queries], len(lineup.gallery), hardest)
    worst = failures(evaluation, hardest, spec, root)
    write_report(folder, found | outcomes(evaluation, root), plots, worst)


def _widths(text: str) -> list[float]:
    try:
        widths = [float(part) for part in text.split(",")]
    except ValueError:
        widths = []
    if not widths or not all(1 <= width <= 360 for width in widths):
        raise DataError(f"--hfov-deg {text!r} should be degrees from 1 to 360, such as 90 or 360,180,90,70.")
    return widths


def _refuse_unheard(context: typer.Context, dense: bool, data: str) -> None:
    """Raise DataError for an option that would have no say."""
    if dense:
        unheard = dict.fromkeys(OF_PAIRS, "has no say with --map")
        if data.startswith("table:"):
            unheard["queries"] = "has no say where a table's photos are asked, all of them"
    else:
        unheard = dict.fromkeys(OF_THE_MAP, "goes with --map alone")
    for name, why in unheard.items():
        given = context.get_parameter_source(name)
        if given is not None and given.name != "DEFAULT":
            option = next(one.opts[0] for one in context.command.params if one.name == name)
            raise DataError(f"{option} {why}; leave it out.")


def _allowed(text: str) -> set[str]:
    kinds = {part.strip() for part in text.split(",") if part.strip()}
    if kinds == {"all"}:
        return set(KINDS)
    if not kinds <= set(KINDS):
        raise DataError(f"--allow {text!r} should be some of {','.join(KINDS)}, or all.")
    return kinds


def title(found: Figures) -> str:
    """What was scored, in one line."""
    outside = f", and {found['outside']:,} from outside" if "outside" in found else ""
    return (
        f"N = {found['n']:,} queries{outside}, {found['gallery']:,} tiles "
        f"({found['data']}, {found['split']}), {heading(found)}"
    )


def score_table(results: list[Figures]) -> Table:
    """The figures with a column for each field of view; recalls and shares in percent, with intervals."""
    table = Table()
    table.add_column("figure", no_wrap=True)
    for way in results:
        table.add_column(f"{way['hfov_deg']:g}°", justify="right")
    for name, label in rows(results):
        table.add_row(
            label, *(f"{cell(name, way.get(name))} {interval(name, way)}".rstrip() for way in results)
        )
    return table
