"""A run's curves as a PNG beside its log: loss, validation, rate, gradient."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from geoloc.atomic import atomic_path
from geoloc.training.run_folder import read_log
from ui.curves import COLOURS, INK, LINE, SOFT, blank, plain, png

CURVES = "curves.png"
RECALLS = ("recall@1", "recall@5", "recall@10")
Lines = Sequence[dict[str, Any]]


def draw_learning(run: Path) -> None:
    """Draw what RUN/log.jsonl says to RUN/curves.png; nothing where it says nothing yet.

    Raises GeolocError where that cannot be written.
    """
    if lines := read_log(run):
        with atomic_path(run / CURVES) as temporary:
            temporary.write_bytes(png(learning_curves(lines)))


def learning_curves(lines: Lines) -> Figure:
    """Four panels over the steps: the loss, recall@k after every epoch, the learning rate, the gradient.

    The second is blank where nothing is validated.
    """
    steps = [line for line in lines if "learning_rate" in line]
    epochs = [line for line in lines if "learning_rate" not in line]
    scored = [line for line in epochs if "recall@1" in line]
    figure = blank()
    (loss, recall), (rate, norm) = figure.subplots(2, 2, sharex=True)
    _draw(loss, "Loss", steps, "loss", COLOURS[4], "of a step", width=0.8)
    _draw(loss, "Loss", epochs, "loss", COLOURS[0], "mean of an epoch")
    for name, colour in zip(RECALLS, COLOURS, strict=False):
        _draw(recall, "Validation pairs found", scored, name, colour, name)
    recall.set_ylim(0, 1.02)
    recall.yaxis.set_major_formatter(PercentFormatter(1))
    _draw(rate, "Learning rate", steps, "learning_rate", COLOURS[0])
    _draw(norm, "Norm of the gradient", steps, "gradient_norm", COLOURS[0], width=0.8)
    if epochs and not scored:
        recall.set_axis_off()
    for axes in (loss, recall) if scored or not epochs else (loss,):
        axes.legend(frameon=False, labelcolor=INK, fontsize=7)
    norm.set_yscale("log")
    for axes in (rate, norm):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("step", color=SOFT, fontsize=8)
    return figure


def _draw(
    axes: Axes, title: str, lines: Lines, name: str, colour: str, label: str = "", width: float = 1.8
) -> None:
    plain(axes)
    axes.grid(color=LINE, linewidth=0.8)
    axes.tick_params(labelsize=7)
    axes.set_title(title, loc="left", color=INK, fontsize=9, fontweight="bold")
    known = [line for line in lines if isinstance(line.get(name), int | float)]
    x, y = [line["step"] for line in known], [float(line[name]) for line in known]
    marker = "o" if len(x) < 40 else None
    axes.plot(x, y, color=colour, label=label, linewidth=width, marker=marker, markersize=3)
