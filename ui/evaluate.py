"""`geoloc evaluate`: recall, ranks and metres of a model on a dataset of pairs."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from geoloc.atomic import write_text
from geoloc.embed import best_device
from geoloc.model import load_encoder, trained_towns
from geoloc.pairs import PairTable
from geoloc.score import score_pairs
from preprocessing.datasets.open import open_pairs
from ui.progress import progress


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
        float, typer.Option(min=1, max=360, help="Cut every street view to this field of view.")
    ] = 360.0,
    unknown_heading: Annotated[
        bool,
        typer.Option("--unknown-heading", help="Turn each street view at random and search every heading."),
    ] = False,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Score the pairs that are there where files are missing.")
    ] = False,
    missing_list: Annotated[
        Path | None, typer.Option(help="Write the missing files' names here, one a line.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Score a model: every street view against every tile of the split.

    A query counts as found at k when fewer than k tiles score at least as high as its own: ties
    count against the model. recall@1% uses k = gallery // 100, at least 1.

    Example: geoloc evaluate --data towns:OUT --model data/model
    """
    table = open_pairs(data, split)
    if missing_list is not None:
        write_text(missing_list, "".join(f"{path}\n" for path in table.missing))
    table = table.complete(allow_missing)
    encoder = load_encoder(model).to(best_device())
    _warn(table, model)
    with progress("Embedding pairs") as report:
        scores = score_pairs(
            encoder, table, hfov_deg=hfov_deg, unknown_heading=unknown_heading, report=report
        )
    facts: dict[str, float | int | str] = {"data": data, "split": table.split, "model": str(model)}
    facts.update(missing_pairs=table.missing_pairs, **scores)
    print(json.dumps(facts) if as_json else score_table(facts))


def _warn(table: PairTable, model: Path) -> None:
    if table.missing_pairs:
        print(f"{table.missing_pairs:,} pairs are missing ({len(table.missing):,} files).", file=sys.stderr)
    if seen := sorted(table.seeds & trained_towns(model)):
        print(f"The model was trained on the towns {seen}: this is no fair score.", file=sys.stderr)


def score_table(scores: dict[str, float | int | str]) -> str:
    """The figures as aligned lines, recalls in percent, N first."""
    k = scores["recall@1%_k"]
    lines = [
        f"N = {scores['n']:,} queries, {scores['gallery']:,} tiles ({scores['data']}, {scores['split']})"
    ]
    for name, value in scores.items():
        if not isinstance(value, float):
            continue
        label = f"recall@1% (k = {k} = gallery // 100)" if name == "recall@1%" else name
        lines.append(
            f"{label:<40}{value:>8.2%}" if name.startswith("recall") else f"{label:<40}{value:>8.2f}"
        )
    return "\n".join(lines)
