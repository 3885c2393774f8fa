"""The plots of a report, as PNG."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, PercentFormatter

from geoloc.figures import one_percent
from geoloc.places import M_PER_DEG, LonLat
from geoloc.score import Asked

INK, SOFT, LINE = "#1f2b30", "#66757b", "#dfdcd3"
COLOURS = ("#0b6e69", "#c77d0a", "#1864d6", "#a0326e", "#66757b", "#7a5c2e")
FAR_M, LEAST_M = 100.0, 0.1
CELL_DEG, PANELS = 0.5, 6


@dataclass(frozen=True)
class Way:
    """One way of asking, as it is plotted; None for what it does not have.

    rank: of every query, from 0. error_m, heading_error_deg: of every query, headings not a number where
    they are not known. reliability: by tenths of confidence how many, their mean, and how many were right.
    """

    label: str
    rank: Int64[np.ndarray, " q"] | None = None
    error_m: Float[np.ndarray, " q"] | None = None
    heading_error_deg: Float[np.ndarray, " q"] | None = None
    reliability: Sequence[tuple[int, float, float]] = ()


def curves(
    ways: Sequence[Way], lonlats: Sequence[LonLat | None], gallery: int, hardest: int
) -> dict[str, bytes]:
    """Every plot that the ways have the makings of, by its name. hardest: the way whose errors are mapped.

    lonlats: of every query. gallery: how many tiles.
    """
    plots = {}
    if any(way.rank is not None for way in ways):
        plots["recall_curve"] = _recall_curve(ways, gallery)
    if any(way.error_m is not None for way in ways):
        plots["error_curve"] = _error_curve(ways)
        plots["error_map"] = _error_map(ways[hardest], lonlats)
    if any(way.heading_error_deg is not None and np.isfinite(way.heading_error_deg).any() for way in ways):
        plots["heading_errors"] = _heading_errors(ways)
    if any(way.reliability for way in ways):
        plots["reliability"] = _reliability(ways)
    return {name: png(figure) for name, figure in plots.items()}


def label(asked: Asked) -> str:
    """A way of asking, in words."""
    width = "whole view" if asked.hfov_deg >= 360 else f"{asked.hfov_deg:g}°"
    return f"{width}, heading {'unknown' if asked.unknown_heading else 'known'}"


def _recall_curve(ways: Sequence[Way], gallery: int) -> Figure:
    figure, axes = _axes("Recall@k", "k, tiles looked at", "queries found")
    k = np.unique(np.geomspace(1, gallery, 400).round().astype(int))
    for one, colour in zip(ways, _colours(ways), strict=True):
        if one.rank is not None:
            found = np.searchsorted(np.sort(one.rank), k) / len(one.rank)
            axes.plot(k, found, color=colour, label=one.label, linewidth=2)
    axes.axvline(one_percent(gallery), color=SOFT, linestyle=":", linewidth=1)
    axes.annotate("1 %", (one_percent(gallery), 0.02), color=SOFT, xytext=(4, 0), textcoords="offset points")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda k, _: f"{k:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    _share(axes)
    return figure


def _error_curve(ways: Sequence[Way]) -> Figure:
    figure, axes = _axes("Distance of the answer", "from the camera", "queries within")
    for one, colour in zip(ways, _colours(ways), strict=True):
        if one.error_m is not None:
            error = np.sort(np.maximum(one.error_m, LEAST_M))
            share = np.arange(len(error) + 1) / len(error)
            axes.step(np.r_[LEAST_M, error], share, where="post", color=colour, label=one.label, linewidth=2)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(_metres))
    _share(axes)
    return figure


def _metres(metres: float, _: object) -> str:
    return f"{metres:g} m" if metres < 1000 else f"{metres / 1000:,.0f} km"


def _heading_errors(ways: Sequence[Way]) -> Figure:
    figure, axes = _axes("Heading error at the true tile", "degrees", "queries")
    for one, colour in zip(ways, _colours(ways), strict=True):
        if one.heading_error_deg is not None:
            error = one.heading_error_deg[np.isfinite(one.heading_error_deg)]
            weights = np.full(len(error), 1 / max(1, len(error)))
            axes.hist(error, list(range(0, 181, 4)), weights=weights, histtype="step", color=colour,
                      label=one.label, linewidth=1.8)  # fmt: skip
    axes.set_xlim(0, 180)
    axes.set_xticks(range(0, 181, 30))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.legend(frameon=False, labelcolor=INK)
    return figure


def _reliability(ways: Sequence[Way]) -> Figure:
    said_of = "within 25 m of the fix" if ways[0].rank is None else "the first tile is the right one"
    figure, axes = _axes(f"Said and true: {said_of}", "probability said", "share that was")
    axes.plot([0, 1], [0, 1], color=SOFT, linestyle=":", linewidth=1)
    for one, colour in zip(ways, _colours(ways), strict=True):
        if one.reliability:
            _, said, true = zip(*one.reliability, strict=True)
            axes.plot(said, true, color=colour, label=one.label, linewidth=2, marker="o", markersize=4)
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    _share(axes)
    return figure


def _error_map(one: Way, places: Sequence[LonLat | None]) -> Figure:
    """The queries' places, a panel for each neighbourhood of half a degree, the six fullest."""
    assert one.error_m is not None
    lonlats = np.array([(place.lon, place.lat) for place in places if place])
    cell = np.unique(np.floor(lonlats / CELL_DEG), axis=0, return_inverse=True)[1]
    fullest = np.argsort(-np.bincount(cell), kind="stable")[:PANELS]
    columns = min(3, len(fullest))
    figure = blank()
    panels = figure.subplots(-(-len(fullest) // columns), columns, squeeze=False).ravel()
    for axes, number in zip(panels, fullest, strict=False):
        here = np.flatnonzero(cell == number)
        here = here[np.argsort(one.error_m[here])]
        middle = np.median(lonlats[here], axis=0)
        metres = (lonlats[here] - middle) * M_PER_DEG * [np.cos(np.radians(middle[1])), 1]
        plain(axes)
        axes.grid(visible=False)
        axes.tick_params(labelsize=7)
        axes.set_title(
            f"{middle[1]:.3f}, {middle[0]:.3f}  (n = {len(here):,})", loc="left", color=SOFT, fontsize=8
        )
        dots = axes.scatter(
            metres[:, 0], metres[:, 1], c=np.minimum(one.error_m[here], FAR_M), s=_dot_size(len(here)),
            cmap="YlOrRd", vmin=0, vmax=FAR_M, edgecolors=INK, linewidths=0.2,
        )  # fmt: skip
        axes.set_aspect("equal", "datalim")
    for axes in panels[len(fullest) :]:
        axes.set_axis_off()
    bar = figure.colorbar(dots, ax=panels.tolist(), shrink=0.8, extend="max")
    bar.set_label("error, m", color=SOFT)
    bar.outline.set_visible(False)
    title = f"Errors on the map ({one.label}); metres east and north"
    figure.suptitle(title, x=0.01, ha="left", color=INK, fontsize=11, fontweight="bold")
    return figure


def _dot_size(n: int) -> float:
    return float(np.clip(3000 / n, 5, 50))


def blank() -> Figure:
    """A figure of a report's size, to draw on without a window."""
    figure = Figure(figsize=(6.4, 4.1), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _axes(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    figure = blank()
    axes = figure.add_subplot()
    plain(axes)
    axes.set_title(title, loc="left", color=INK, fontsize=11, fontweight="bold")
    axes.set_xlabel(x, color=SOFT)
    axes.set_ylabel(y, color=SOFT)
    axes.grid(color=LINE, linewidth=0.8)
    return figure, axes


def plain(axes: Axes) -> None:
    """Axes without a box."""
    axes.tick_params(colors=SOFT, which="both", length=0)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)


def _share(axes: Axes) -> None:
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.legend(frameon=False, labelcolor=INK, loc="lower right")


def _colours(ways: Sequence[Way]) -> list[str]:
    return [COLOURS[number % len(COLOURS)] for number in range(len(ways))]


def png(figure: Figure) -> bytes:
    """The same bytes for the same figure."""
    blob = io.BytesIO()
    figure.savefig(blob, format="png", metadata={"Software": None})
    return blob.getvalue()
