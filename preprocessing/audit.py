"""What is wrong with a dataset on disk, before anything is scored on it."""

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from geoloc.atomic import write_text
from geoloc.cores import cores
from geoloc.errors import DataError, ImageError
from geoloc.pairs import PairTable
from geoloc.report import Report
from geoloc.street_view import inspect_image

WORDS = {
    "missing": "missing",
    "unreadable": "unreadable",
    "size": "of unexpected size",
    "duplicate": "duplicated",
}
KINDS = tuple(WORDS)
AHEAD = 256


@dataclass(frozen=True)
class Finding:
    """One file and what is wrong with it: a kind of KINDS, and the detail in words."""

    kind: str
    path: Path
    detail: str


@dataclass(frozen=True)
class Audit:
    """images: checked. listed: pairs that the dataset names. dropped: those of them that cannot be scored.
    fingerprint: sha256 over the pairs, all that is known of them, and the contents of all images.
    """

    findings: list[Finding]
    images: int
    listed: int
    dropped: int
    fingerprint: str

    @property
    def counts(self) -> dict[str, int]:
        """Findings of every kind."""
        found = Counter(finding.kind for finding in self.findings)
        return {kind: found[kind] for kind in KINDS}

    def write(self, path: Path) -> None:
        """One finding a line: kind, file, detail. Raises GeolocError where that cannot be written."""
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(("kind", "file", "detail"))
        writer.writerows((finding.kind, finding.path, finding.detail) for finding in self.findings)
        write_text(path, text.getvalue())


def audit(table: PairTable, report: Report = lambda *_: None) -> tuple[PairTable, Audit]:
    """Look at every image of a table, and leave out the pairs that cannot be read.

    Found are files that are missing; that cannot be decoded to their last byte; that are not of the size
    which the dataset's images have; and that hold the same bytes as an earlier file of the same view.
    """
    findings = [Finding("missing", path, "") for path in table.missing]
    views = (
        (dict.fromkeys(pair.street for pair in table.pairs), table.street_px),
        (dict.fromkeys(pair.satellite for pair in table.pairs), table.satellite_px),
    )
    answers = 1 if table.direction == "street->satellite" else 0
    views[answers][0].update(dict.fromkeys(one.path for one in table.distractors))
    total = sum(len(paths) for paths, _ in views)
    contents, unreadable, done = hashlib.sha256(), set[Path](), 0
    for paths, want_wh in views:
        first: dict[str, Path] = {}
        for path, seen in _inspected(list(paths)):
            done += 1
            report(done, total)
            if isinstance(seen, ImageError):
                findings.append(Finding("unreadable", path, str(seen)))
                unreadable.add(path)
                continue
            wh, sha256 = seen
            contents.update(f"{path.name} {sha256}\n".encode(errors="surrogateescape"))
            if want_wh and wh != want_wh:
                detail = f"{wh[0]} x {wh[1]}, not {want_wh[0]} x {want_wh[1]}"
                findings.append(Finding("size", path, detail))
            if (twin := first.setdefault(sha256, path)) is not path:
                findings.append(Finding("duplicate", path, f"the same as {twin}"))
    pairs = [pair for pair in table.pairs if not {pair.street, pair.satellite} & unreadable]
    for pair in pairs:
        known = pair.heading_deg, pair.hfov_deg, pair.lonlat, pair.tile_lonlat, pair.footprint_m
        names = [
            [path.name for path in paths] for paths in ((pair.street, pair.satellite), pair.also, pair.semi)
        ]
        contents.update(f"{names} {known}\n".encode(errors="surrogateescape"))
    distractors = [one for one in table.distractors if one.path not in unreadable]
    listed = len(table.pairs) + table.missing_pairs
    found = Audit(findings, total, listed, listed - len(pairs), contents.hexdigest())
    return replace(table, pairs=pairs, distractors=distractors), found


def accept(table: PairTable, found: Audit, allowed: frozenset[str], named_in: Path) -> None:
    """Refuse a table with findings that are not allowed, or without pairs. Raises DataError."""
    refused = [kind for kind in KINDS if found.counts[kind] and kind not in allowed]
    here = f"{table.name} ({table.split})"
    if refused:
        said = {kind: _images(found.counts[kind], words) for kind, words in WORDS.items()}
        if table.missing_pairs:
            said["missing"] = f"{table.missing_pairs:,} of {found.listed:,} pairs are missing"
        named = [str(one.path) for one in found.findings if one.kind in refused]
        option = "--allow-missing" if refused == ["missing"] else f"--allow {','.join(refused)}"
        what = ", ".join(said[kind] for kind in refused)
        raise DataError(
            f"{here}: {what} (first: {', '.join(named[:3])}; all are named in {named_in}); "
            f"mend them, or go on with {option}."
        )
    if not table.pairs:
        raise DataError(f"{here}: not one of {found.listed:,} pairs is there; check the path.")


def _images(n: int, words: str) -> str:
    return f"1 image is {words}" if n == 1 else f"{n:,} images are {words}"


def _inspected(paths: list[Path]) -> Iterator[tuple[Path, tuple[tuple[int, int], str] | ImageError]]:
    """What every image is, in order, looked at by all processors with a few hundred files in flight."""

    def look(path: Path) -> tuple[tuple[int, int], str] | ImageError:
        try:
            return inspect_image(path)
        except ImageError as error:
            return error

    with ThreadPoolExecutor(cores()) as pool:
        rest = iter(paths)
        while some := list(islice(rest, AHEAD)):
            yield from zip(some, pool.map(look, some), strict=True)
