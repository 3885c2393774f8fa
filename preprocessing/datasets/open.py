"""The one place where a user's `KIND:PATH` becomes a table of pairs."""

from collections.abc import Callable
from pathlib import Path

from geoloc.errors import DataError
from geoloc.pairs import PairTable
from preprocessing.datasets.cvusa import read_cvusa
from preprocessing.datasets.towns import read_towns

READERS: dict[str, Callable[..., PairTable]] = {"cvusa": read_cvusa, "towns": read_towns}


def open_pairs(data: str, split: str | None = None, labels: str | None = None) -> PairTable:
    """The pairs of `KIND:PATH`; without a split, the one its kind is scored on. Raises DataError."""
    kind, colon, path = data.partition(":")
    if not colon or kind not in READERS:
        raise DataError(f"--data {data!r} should be KIND:PATH with KIND one of {', '.join(READERS)}.")
    if not Path(path).is_dir():
        raise DataError(f"{path!r} of --data {data!r} is no folder; check the path.")
    return READERS[kind](Path(path), split) if split else READERS[kind](Path(path))
