"""Progress on standard error: a bar with rate and time left."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class RateColumn(ProgressColumn):
    """Things per second."""

    def render(self, task: Task) -> Text:
        """The rate as text, blank until it is known."""
        return Text(f"{task.speed:,.1f}/s" if task.speed else "")


@contextmanager
def progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """A function to call with what is done and what there is in all; it draws a bar while inside."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
