"""A run of training as it is watched: a line that says where it stands, and its curves."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from geoloc.errors import GeolocError
from geoloc.report import StageReport
from geoloc.training.ranks import writes
from geoloc.training.run import Progress, Report
from geoloc.training.run_folder import CONFIG
from ui.board import board
from ui.learning import draw_learning
from ui.progress import status_line


@contextmanager
def watched(
    out: Path, epochs: int, things: str, tensorboard: bool = False
) -> Iterator[tuple[Report, StageReport]]:
    """The functions that a run reports to; its curves are drawn after every epoch and on leaving.

    things: what it learns from, such as pairs. tensorboard: whether the log is kept for it too. Raises
    GeolocError where that is not installed.
    """
    follow = board(out) if tensorboard and writes() else None
    with status_line() as status:
        first: list[tuple[int, float]] = []  # of this process: a run may have gone on
        drawn = [0]

        def draw() -> None:
            draw_learning(out)
            if follow is not None:
                follow()

        def show(now: Progress) -> None:
            first[:] = first or [(now.step, time.monotonic())]
            step, began = first[0]
            done = now.step - step
            left_s = (time.monotonic() - began) / done * (now.steps - now.step) if done else None
            status(progress_line(now, epochs, left_s, things))
            if now.epoch > drawn[0]:
                drawn[0] = now.epoch
                draw()

        try:
            yield show, lambda what, done, total: status(f"{what} {things} {done:,}/{total:,}")
        finally:
            if first and writes():
                with suppress(GeolocError):  # what stopped the run says more
                    draw()


def say_if_new(out: Path, resume: bool) -> None:
    """What is asked to go on may be a mistyped folder."""
    if resume and writes() and not (out / CONFIG).exists():
        print(f"{out} holds no run: this is the beginning of one.", file=sys.stderr)


def progress_line(now: Progress, epochs: int, left_s: float | None, things: str) -> str:
    """One line that says how a run stands; the time left is None where nothing says how long a step takes."""
    recall = "" if now.recall_at_1 is None else f"  val recall@1 {now.recall_at_1:.3f}"
    minutes, seconds = divmod(round(left_s or 0), 60)
    left = "" if left_s is None else f"  {minutes}:{seconds:02d} left"
    return (
        f"epoch {now.epoch + 1}/{epochs}  step {now.step:,}/{now.steps:,}  loss {now.loss:.4f}  "
        f"{now.pairs_per_s:.0f} {things}/s{left}{recall}"
    )
