"""Batches made in a thread while those before them are used, and how long one waits for them."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Job = TypeVar("Job")
Made = TypeVar("Made")


def read_ahead(make: Callable[[Job], Made], jobs: Iterable[Job]) -> Iterator[Made]:
    """make(job) for every job in order, each made in a thread while the one before it is used."""
    with ThreadPoolExecutor(1) as pool:
        coming: deque[Future[Made]] = deque()
        for job in jobs:
            coming.append(pool.submit(make, job))
            if len(coming) > 1:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()


class Timed(Generic[Made]):
    """What an iterator gives; waited_s: how long one waited for it in all."""

    def __init__(self, source: Iterator[Made]) -> None:
        self.source, self.waited_s = source, 0.0

    def __iter__(self) -> "Timed[Made]":
        return self

    def __next__(self) -> Made:
        began = time.monotonic()
        try:
            return next(self.source)
        finally:
            self.waited_s += time.monotonic() - began
