"""The report of an evaluation: a folder of plots and figures, and one page that holds it all."""

import json
from html import escape
from pathlib import Path
from typing import Any

from geoloc.atomic import atomic_path, write_text
from ui.cells import cell, heading, interval, rows
from ui.sheets import data_uri

STYLE = Path(__file__).with_name("report.css")


def write_report(folder: Path, found: dict[str, Any], plots: dict[str, bytes], failures: str) -> None:
    """Write result.json, the plots and index.html, each atomically.

    found: the result, with what single queries came to. failures: HTML, its text escaped.
    """
    write_text(folder / "result.json", json.dumps(found) + "\n")
    for name, png in plots.items():
        with atomic_path(folder / f"{name}.png") as temporary:
            temporary.write_bytes(png)
    write_text(folder / "index.html", _page(found, plots, failures))


def _page(found: dict[str, Any], plots: dict[str, bytes], failures: str) -> str:
    protocol = found["protocol"]
    images = "".join(
        f'<img alt="{escape(name.replace("_", " "))}" src="{data_uri(png, "png")}">'
        for name, png in plots.items()
    )
    title = f"{protocol['dataset']} {protocol['split']}"
    outside = f" and {found['outside']:,} from outside" if found.get("outside") else ""
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>geoloc: {escape(title)}</title>
<meta http-equiv="Content-Security-Policy"
content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width"><style>{STYLE.read_text(encoding="utf-8")}</style>
<h1>{escape(title)}</h1>
<p class="lead"><b>{escape(found["model"])}</b> on <b>{escape(found["data"])}</b>:
{found["n"]:,} queries{outside}, {found["gallery"]:,} tiles in the gallery</p>
<div class="wide">{_figures(found["results"])}</div>
<h2>Curves</h2><div class="plots">{images}</div>
<h2>Worst failures</h2>{failures}
<h2>How it was made</h2>{_facts(found)}
</html>
"""


def _figures(results: list[dict[str, Any]]) -> str:
    """The figures, a row each, with a column and intervals for every way of asking."""
    heads = "".join(f'<th class="n">{one["hfov_deg"]:g}°, {heading(one)}</th>' for one in results)
    body = ""
    for name, label in rows(results):
        cells = "".join(
            f'<td class="n">{cell(name, one.get(name))}<small>{interval(name, one)}</small></td>'
            for one in results
        )
        body += f"<tr><td>{escape(label)}</td>{cells}</tr>"
    table = f"<table><tr><th></th>{heads}</tr>{body}</table>"
    return f"{table}<p class='lead'>In brackets the bootstrap's 95 % intervals over the queries.</p>"


def _facts(found: dict[str, Any]) -> str:
    protocol = found["protocol"]
    facts = {
        "protocol": ", ".join(
            f"{name} {value}" for name, value in protocol.items() if value and "sha" not in name
        ),
        "precision": found["precision"],
        "dataset sha256": protocol["dataset_sha256"],
        "model sha256": found["model_sha256"],
        "versions": ", ".join(f"{name} {number}" for name, number in found["versions"].items()),
    }
    if "audit" in found:
        facts["pairs listed"] = (
            f"{found['listed_pairs']:,}, of which {found['missing_pairs']:,} were left out"
        )
        facts["audit"] = ", ".join(f"{count:,} {kind}" for kind, count in found["audit"].items())
    if took := found.get("throughput"):
        spent = ", ".join(f"{part} {took[f'{part}_s']:.1f} s" for part in ("decode", "resize", "forward"))
        facts["embedding"] = f"{took['images']:,} images at {took['images_per_s']:,.1f}/s; {spent}"
    said = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in facts.items())
    return f"<dl>{said}</dl>"
