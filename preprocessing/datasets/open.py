"""The one place where a user's `KIND:PATH` becomes a table of pairs."""

from collections.abc import Callable
from pathlib import Path

from geoloc.errors import DataError
from geoloc.pairs import PairTable
from preprocessing.datasets.cvact import read_cvact
from preprocessing.datasets.cvusa import read_cvusa
from preprocessing.datasets.table import read_table
from preprocessing.datasets.towns import read_towns
from preprocessing.datasets.university1652 import read_university1652
from preprocessing.datasets.vigor import read_vigor

READERS: dict[str, Callable[..., PairTable]] = {
    "cvusa": read_cvusa,
    "cvact": read_cvact,
    "vigor": read_vigor,
    "university1652": read_university1652,
    "towns": read_towns,
    "table": read_table,
}


def open_pairs(
    data: str, split: str | None = None, labels: str | None = None, option: str = "--data"
) -> PairTable:
    """The pairs of `KIND:PATH`; without a split, the one its kind is scored on. labels: of VIGOR alone.

    option: that `data` was given to. Raises DataError.
    """
    kind, colon, path = data.partition(":")
    if not colon or kind not in READERS:
        raise DataError(f"{option} {data!r} should be KIND:PATH with KIND one of {', '.join(READERS)}.")
    if kind == "table" and not Path(path).is_file():
        raise DataError(
            f"{path!r} of {option} {data!r} is no file; {option} table:FILE wants a CSV or Parquet."
        )
    if kind != "table" and not Path(path).is_dir():
        raise DataError(f"{path!r} of {option} {data!r} is no folder; check the path.")
    if labels and kind != "vigor":
        raise DataError(f"--labels are VIGOR's; leave them out for {kind}.")
    chosen = {name: value for name, value in (("split", split), ("labels", labels)) if value}
    return READERS[kind](Path(path), **chosen)
