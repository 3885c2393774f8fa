"""Progress on standard error: a bar with rate and time left."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from rich.console import Console
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from geoloc.report import Report, StageReport

LOG_EVERY_S = 30.0


class RateColumn(ProgressColumn):
    """Things per second."""

    def render(self, task: Task) -> Text:
        """The rate as text, blank until it is known."""
        return Text(f"{task.speed:,.1f}/s" if task.speed else "")


@contextmanager
def progress(label: str) -> Iterator[Report]:
    """A function to call with what is done and what there is in all; its bar is gone once done."""
    with stages(label, transient=True) as show:
        yield partial(show, label)


@contextmanager
def embedding() -> Iterator[StageReport]:
    """What a gallery's build or change reports to: one bar, for its tiles."""
    with progress("Embedding tiles") as advance:
        yield lambda step, done, total: advance(done, total) if step == "embed" else None


@contextmanager
def stages(*begun: str, transient: bool = False) -> Iterator[StageReport]:
    """A function to call with a step's name, what is done and what there is in all; a bar for each step.

    begun: steps whose bars are there from the start. Where standard error is no terminal nothing is drawn.
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), RateColumn())
    with Progress(
        *columns, TimeRemainingColumn(), console=console, transient=transient, disable=not console.is_terminal
    ) as bar:
        tasks: dict[str, TaskID] = {step: bar.add_task(step, total=None) for step in begun}

        def show(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bar.add_task(step)
            bar.update(tasks[step], completed=done, total=total)

        yield show


@contextmanager
def status_line() -> Iterator[Callable[[str], None]]:
    """A function that shows a line of text in place of its last; a line every 30 s where no terminal is."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if console.is_terminal:
        with Live(console=console, refresh_per_second=4) as live:
            yield lambda text: live.update(Text(text))
        return
    due = 0.0

    def show(text: str) -> None:
        nonlocal due
        if time.monotonic() >= due:
            console.print(text, markup=False)
            due = time.monotonic() + LOG_EVERY_S

    yield show
