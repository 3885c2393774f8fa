"""The report of an evaluation: a folder of plots and figures, and one page that holds it all."""

import base64
import io
import json
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from geoloc.atomic import atomic_path, write_text
from geoloc.lineup import Lineup, View
from geoloc.places import WGS84
from geoloc.recall import best_scores
from geoloc.result import outcomes
from geoloc.score import Evaluation, Scored, directions_deg
from geoloc.spec import EncoderSpec
from geoloc.street_view import looking, read_rgb, read_street_view
from ui.curves import curves, label

STYLE = Path(__file__).with_name("report.css")
WORST, RETURNED = 12, 3
THUMB_PX = {"street": 420, "satellite": 240}
SHARES = ("recall", "heading<", "coverage", "hit_rate", "mAP")


def write_report(
    folder: Path, found: dict[str, Any], evaluation: Evaluation, spec: EncoderSpec, root: Path
) -> None:
    """Write result.json, the plots and index.html, each atomically. root: what names are relative to."""
    write_text(folder / "result.json", json.dumps(found | outcomes(evaluation, root)) + "\n")
    plots = curves(evaluation.scored, evaluation.lineup)
    for name, png in plots.items():
        with atomic_path(folder / f"{name}.png") as temporary:
            temporary.write_bytes(png)
    hardest = min(
        range(len(evaluation.scored)), key=lambda i: evaluation.scored[i].figures.values["recall@1"]
    )
    write_text(folder / "index.html", _page(found, plots, _failures(evaluation, hardest, spec, root)))


def _page(found: dict[str, Any], plots: dict[str, bytes], failures: str) -> str:
    protocol = found["protocol"]
    images = "".join(f'<img alt="{escape(name)}" src="{_uri(png, "png")}">' for name, png in plots.items())
    title = f"{protocol['dataset']} {protocol['split']}"
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>geoloc: {escape(title)}</title>
<meta name="viewport" content="width=device-width"><style>{STYLE.read_text(encoding="utf-8")}</style>
<h1>{escape(title)}</h1>
<p class="lead"><b>{escape(found["model"])}</b> on <b>{escape(found["data"])}</b>:
{found["n"]:,} queries, {found["gallery"]:,} in the gallery</p>
<div class="wide">{_figures(found["results"])}</div>
<h2>Curves</h2><div class="plots">{images}</div>
<h2>Worst failures</h2>{failures}
<h2>How it was made</h2>{_facts(found)}
</html>
"""


def _figures(results: list[dict[str, Any]]) -> str:
    """The figures, a row each, with a column and intervals for every way of asking."""
    heads = "".join(
        f'<th class="n">{one["hfov_deg"]:g}°, heading {"unknown" if one["unknown_heading"] else "known"}</th>'
        for one in results
    )
    rows = ""
    for name, value in results[0].items():
        if name == "hfov_deg" or not isinstance(value, float):
            continue
        cut = f" (k = {results[0][f'{name}_k']})" if f"{name}_k" in results[0] else ""
        cells = "".join(f'<td class="n">{_cell(name, one)}</td>' for one in results)
        rows += f"<tr><td>{escape(name)}{cut}</td>{cells}</tr>"
    return f"<table><tr><th></th>{heads}</tr>{rows}</table>"


def _cell(name: str, one: dict[str, Any]) -> str:
    if name not in one:
        return "-"
    if not name.startswith(SHARES):
        return f"{one[name]:.3g}"
    low, high = one["intervals"].get(name, (None, None))
    return f"{one[name]:.2%}" + ("" if low is None else f"<small>{low:.1%} to {high:.1%}</small>")


def _facts(found: dict[str, Any]) -> str:
    took, protocol = found["throughput"], found["protocol"]
    facts = {
        "protocol": ", ".join(
            f"{name} {value}" for name, value in protocol.items() if value and "sha" not in name
        ),
        "pairs listed": f"{found['listed_pairs']:,}, of which {found['missing_pairs']:,} were left out",
        "audit": ", ".join(f"{count:,} {kind}" for kind, count in found["audit"].items()),
        "embedding": f"{took['images']:,} images at {took['images_per_s']:,.1f}/s in {found['precision']}; "
        + ", ".join(f"{part} {took[f'{part}_s']:.1f} s" for part in ("decode", "resize", "forward")),
        "dataset sha256": protocol["dataset_sha256"],
        "model sha256": found["model_sha256"],
        "versions": ", ".join(f"{name} {number}" for name, number in found["versions"].items()),
    }
    return (
        "<dl>" + "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in facts.items()) + "</dl>"
    )


@dataclass(frozen=True)
class _Asked:
    """A query that failed: its row, its rank from 0, and what was returned, best first."""

    row: int
    rank: int
    returned: list[tuple[int, float]]
    truth: int
    truth_score: float


def _failures(evaluation: Evaluation, number: int, spec: EncoderSpec, root: Path) -> str:
    """Contact sheets of the queries with the worst ranks: the query, its tile, what came instead."""
    scored, lineup = evaluation.scored[number], evaluation.lineup
    rows = np.argsort(-scored.standing.rank, kind="stable")[:WORST]
    rows = rows[scored.standing.rank[rows] > 0]
    if not len(rows):
        return "<p>None: every query was found first.</p>"
    sheets = "".join(
        _sheet(one, scored, lineup, root) for one in _look_again(evaluation, number, rows.tolist(), spec)
    )
    return f"<p class='lead'>Asked with {escape(label(scored))}; the true tile stands second.</p>{sheets}"


def _look_again(evaluation: Evaluation, number: int, rows: list[int], spec: EncoderSpec) -> list[_Asked]:
    scored, right = evaluation.scored[number], evaluation.lineup.right
    rolls = spec.azimuth_bins if scored.asked.unknown_heading else 1
    queries = evaluation.embedded.queries[number][rows]
    (scores,) = (part for _, part in best_scores(queries, evaluation.embedded.gallery, rolls))
    asked = []
    for row, own in zip(rows, scores, strict=True):
        answers = right.row[right.query == row]
        truth = int(answers[own[answers].argmax()])
        returned = [(int(one), float(own[one])) for one in np.argsort(-own, kind="stable")[:RETURNED]]
        asked.append(_Asked(row, int(scored.standing.rank[row]), returned, truth, float(own[truth])))
    return asked


def _sheet(asked: _Asked, scored: Scored, lineup: Lineup, root: Path) -> str:
    query, truth = lineup.queries[asked.row], lineup.gallery[asked.truth]
    answers = set(lineup.right.row[lineup.right.query == asked.row].tolist())
    streets = lineup.direction == "street->satellite"
    picture = _as_asked(query, scored, lineup, asked.row) if streets else read_rgb(query.path)
    name = query.path.relative_to(root) if query.path.is_relative_to(root) else query.path
    place = f"ranked {asked.rank + 1:,} of {len(lineup.gallery):,}"
    parts = [
        _figure(picture, "street", "", place, str(name)),
        _figure(read_rgb(truth.path), "satellite", "right", "its own", f"score {asked.truth_score:.3f}"),
    ]
    for number, (row, score) in enumerate(asked.returned, 1):
        kind = "right" if row in answers else "wrong"
        away = _away(query, lineup.gallery[row])
        parts.append(
            _figure(
                read_rgb(lineup.gallery[row].path), "satellite", kind, f"{number}", f"score {score:.3f}{away}"
            )
        )
    return f'<div class="sheet">{"".join(parts)}</div>'


def _as_asked(query: View, scored: Scored, lineup: Lineup, row: int) -> UInt8[np.ndarray, "h w 3"]:
    """What the encoder was shown of a panorama: the whole, or the window that was cut."""
    view = read_street_view(query.path, hfov_deg=query.hfov_deg, heading_deg=query.heading_deg)
    if scored.asked.hfov_deg >= 360 or view.hfov_deg < 360:
        return view.rgb
    from_centre_deg = float(directions_deg(lineup)[row]) - (view.heading_deg or 0.0)
    return looking(view, from_centre_deg, scored.asked.hfov_deg).rgb


def _away(query: View, tile: View) -> str:
    if query.lonlat is None or tile.lonlat is None:
        return ""
    metres = WGS84.inv(query.lonlat.lon, query.lonlat.lat, tile.lonlat.lon, tile.lonlat.lat)[2]
    return f", {metres:,.0f} m away" if metres < 10_000 else f", {metres / 1000:,.0f} km away"


def _figure(rgb: UInt8[np.ndarray, "h w 3"], side: str, kind: str, head: str, caption: str) -> str:
    image = Image.fromarray(rgb)
    image.thumbnail((THUMB_PX[side], THUMB_PX[side]))
    blob = io.BytesIO()
    image.save(blob, format="JPEG", quality=82)
    return (
        f'<figure class="{kind}"><img alt="" src="{_uri(blob.getvalue(), "jpeg")}">'
        f"<figcaption><b>{escape(head)}</b>{escape(caption)}</figcaption></figure>"
    )


def _uri(blob: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(blob).decode()}"
