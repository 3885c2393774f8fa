"""`geoloc compare`: results side by side, and whether they differ."""

import json
import math
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from jaxtyping import Bool
from rich.console import Console
from rich.table import Table
from rich.text import Text

from geoloc.errors import DataError
from geoloc.figures import KS, NEAR_M
from geoloc.result import SCHEMA
from geoloc.significance import Paired, paired
from ui.cells import cell, heading, rows

MAX_BYTES = 2**28
Result = dict[str, Any]


def compare(
    results: Annotated[
        list[Path], typer.Argument(help="result.json of two or more reports, or the reports' folders.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Put evaluations of the same queries side by side; the first is what the others are measured against.

    For recall@1, @5, @10, @1% and recall within 25 and 50 m the difference comes with the paired
    bootstrap's 95 % interval and the p of McNemar's exact test. Results of another protocol, other queries
    or another way of asking are refused.

    Example: geoloc compare reports/a reports/b
    """
    if len(results) < 2:
        raise DataError("A comparison wants two results; each is the DIR of `geoloc evaluate --report DIR`.")
    paths = [path / "result.json" if path.is_dir() else path for path in results]
    read = [_read(path) for path in paths]
    for path, other in zip(paths[1:], read[1:], strict=True):
        _refuse_another_contest(paths[0], read[0], path, other)
    judged = [_judged(read[0], other) for other in read[1:]]
    if as_json:
        print(json.dumps(_as_json(paths, read, judged)))
        return
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False, soft_wrap=True)
    for number, way in enumerate(read[0]["results"]):
        console.print(f"{way['hfov_deg']:g}°, {heading(way)}, N = {way['n']:,}", markup=False)
        console.print(_table(paths, read, judged, number))


def _read(path: Path) -> Result:
    """A result with what a comparison needs. Raises DataError."""
    try:
        if not path.is_file():
            raise DataError(f"{path} is no file; give a report's folder or its result.json.")
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path} is over {MAX_BYTES >> 20} MiB; that is no result of geoloc's.")
        raw = json.loads(path.read_text(encoding="utf-8"))
        sound = _sound(raw)
    except OSError as cause:
        raise DataError(f"{path} cannot be read: {cause.strerror or cause}.") from cause
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as cause:
        raise DataError(f"{path} is no result of `geoloc evaluate --report` ({repr(cause)[:80]}).") from cause
    if not sound:
        raise DataError(f"{path} is no result of this geoloc's `evaluate --report`; make it again.")
    return dict(raw)


def _sound(raw: Result) -> bool:
    """Whether a result has all that is read of it; raises what a wrong shape raises."""
    ways, queries = raw["results"], raw["queries"]
    columns = [raw[name] for name in ("ranks", "errors_m") if name in raw]
    return (
        raw["schema"] == SCHEMA
        and isinstance(raw["protocol"], dict)
        and isinstance(raw["model"], str)
        and all(isinstance(name, str) for name in queries)
        and len(columns) > 0
        and all(len(column) == len(ways) > 0 for column in columns)
        and all(len(row) == len(queries) > 0 for column in columns for row in column)
        and all(type(rank) is int and 0 <= rank < 2**53 for row in raw.get("ranks", []) for rank in row)
        and all(math.isfinite(metres) for row in raw.get("errors_m", []) for metres in row)
        and all("ranks" not in raw or type(way["recall@1%_k"]) is int for way in ways)
        and all(type(way["n"]) is int and type(way["unknown_heading"]) is bool for way in ways)
        and all(type(way["hfov_deg"]) in (int, float) and 0 < way["hfov_deg"] <= 360 for way in ways)
        and all(math.isfinite(value) for way in ways for value in way.values() if type(value) is float)
    )


def _refuse_another_contest(first: Path, ours: Result, path: Path, theirs: Result) -> None:
    for name in sorted(ours["protocol"].keys() | theirs["protocol"].keys()):
        a, b = (one["protocol"].get(name) for one in (ours, theirs))
        if a != b:
            raise DataError(f"{path} was made by another protocol than {first}: {name} is {b!r}, not {a!r}.")
    if ours["queries"] != theirs["queries"]:
        raise DataError(f"{path} was asked other queries than {first}; evaluate both on the same data.")
    asked = [[(way["hfov_deg"], way["unknown_heading"]) for way in one["results"]] for one in (ours, theirs)]
    if asked[0] != asked[1]:
        raise DataError(
            f"{path} was asked in other ways than {first} (degrees, heading unknown): {asked[1]}, not "
            f"{asked[0]}."
        )


def _judged(first: Result, second: Result) -> list[dict[str, Paired]]:
    """For every way of asking, the recalls that can be judged query by query."""
    judged = []
    for number in range(len(first["results"])):
        one, other = _found(first, number), _found(second, number)
        judged.append({name: paired(one[name], other[name]) for name in one if name in other})
    return judged


def _found(one: Result, number: int) -> dict[str, Bool[np.ndarray, " q"]]:
    """Which queries were found, by the names of the recalls that count them."""
    found: dict[str, Bool[np.ndarray, " q"]] = {}
    if "ranks" in one:
        ranks = np.array(one["ranks"][number], np.float64)
        cuts = {**{f"recall@{k}": k for k in KS}, "recall@1%": one["results"][number]["recall@1%_k"]}
        found |= {name: ranks < k for name, k in cuts.items()}
    if "errors_m" in one:
        errors_m = np.array(one["errors_m"][number], np.float64)
        found |= {f"recall@1<{near_m}m": errors_m < near_m for near_m in NEAR_M}
    return found


def _as_json(paths: list[Path], read: list[Result], judged: list[list[dict[str, Paired]]]) -> Result:
    return {
        "protocol": read[0]["protocol"],
        "runs": [
            {"file": str(path), "model": one["model"], "results": one["results"]}
            for path, one in zip(paths, read, strict=True)
        ],
        "against_first": [
            [{name: asdict(test) for name, test in way.items()} for way in ways] for ways in judged
        ],
    }


def _table(
    paths: list[Path], read: list[Result], judged: list[list[dict[str, Paired]]], number: int
) -> Table:
    """A row a figure; of each other run its figure, and the difference where it can be judged."""
    table = Table()
    table.add_column("figure", no_wrap=True)
    for path, one in zip(paths, read, strict=True):
        table.add_column(Text(f"{path.parent.name or path.name}\n{one['model']}"), justify="right")
    for name, label in rows([read[0]["results"][number]]):
        cells = [cell(name, read[0]["results"][number][name])]
        for one, ways in zip(read[1:], judged, strict=True):
            said = cell(name, one["results"][number].get(name))
            if test := ways[number].get(name):
                low, high = test.interval
                said += f"\n{test.difference:+.1%} [{low:+.1%}, {high:+.1%}] p = {test.p:.2g}"
            cells.append(said)
        table.add_row(Text(label), *map(Text, cells))
    return table
