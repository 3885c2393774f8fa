"""The demo without its page: the sample town's gallery, and how far off its street views are found."""

import dataclasses
import hashlib
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from geoloc.encoder import TwinEncoder
from geoloc.errors import GalleryError
from geoloc.hits import Fix
from geoloc.places import turned_deg
from indexing.answer import answer, open_gallery
from indexing.build import build_gallery
from indexing.gallery import Gallery
from indexing.verify import verify
from ui.progress import embedding, progress
from ui.samples import DATA, MODEL, ORTHO, STREET_VIEWS, Sample, read_sample, read_samples, require_data

CACHE = DATA.parent / ".geoloc"
STRIDE_M = 8.0
NEAR_M = 25.0
LEAST_NEAR = 0.9
LEAST_TILES = 1000
DEPTH = 100


@dataclass(frozen=True)
class Row:
    """One sample's result, with its heading given and without.

    rank: of the first tile within 25 m of the truth among the best 100, None if there is none.
    """

    sample: Sample
    error_m: float
    score: float
    rank: int | None
    unknown_error_m: float
    unknown_heading_error_deg: float | None

    @property
    def near(self) -> bool:
        """Whether the fix is within 25 m of the truth."""
        return self.error_m <= NEAR_M


def demo_gallery() -> Path:
    """The sample town's gallery: reused where it is sound, else built. Raises DataError."""
    require_data()
    path = CACHE / _fingerprint() / "sample-town"
    try:
        verify(path)
    except GalleryError:
        print(f"Building the demo's gallery in {path}", file=sys.stderr)
        with embedding() as report:
            build_gallery([ORTHO], MODEL, path, stride_m=STRIDE_M, progress=report)
    return path


def _fingerprint() -> str:
    """Of all that makes the gallery; the imagery's place is part of it, as tiles are read from there."""
    digest = hashlib.sha256(f"{ORTHO} {STRIDE_M}".encode())
    for path in (ORTHO, *sorted(MODEL.glob("*.json")), MODEL / "weights.safetensors"):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]


def check_demo(path: Path) -> bool:
    """Locate every sample, print the table of errors, and say whether it is within bounds."""
    samples = read_samples(STREET_VIEWS)
    gallery, encoder = open_gallery(path)
    rows = []
    with gallery, progress("Locating") as advance:
        for sample in samples:
            rows.append(locate_sample(sample, gallery, encoder))
            advance(len(rows), len(samples))
        tiles = len(gallery)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    console.print(errors_table(rows))
    for line in summary(rows, tiles):
        console.print(line, soft_wrap=True)
    return within_bounds(rows, tiles)


def locate_sample(sample: Sample, gallery: Gallery, encoder: TwinEncoder) -> Row:
    """Locate one sample with its heading given, and once more without."""
    view = read_sample(sample)
    known = answer(view, gallery, encoder, k=DEPTH).fix
    unknown = answer(dataclasses.replace(view, heading_deg=None), gallery, encoder, k=1).fix
    return Row(
        sample=sample,
        error_m=known.lonlat.distance_m(sample.lonlat),
        score=known.score,
        rank=_rank(known, sample),
        unknown_error_m=unknown.lonlat.distance_m(sample.lonlat),
        unknown_heading_error_deg=_turn_deg(unknown.heading_deg, sample.heading_deg),
    )


def _rank(fix: Fix, sample: Sample) -> int | None:
    near = (hit.rank for hit in fix.alternatives if hit.lonlat.distance_m(sample.lonlat) <= NEAR_M)
    return next(near, None)


def _turn_deg(a: float | None, b: float) -> float | None:
    """The angle between two headings, 0 to 180 degrees."""
    return None if a is None else abs(turned_deg(a, b))


def errors_table(rows: Sequence[Row]) -> Table:
    """A line for each sample."""
    table = Table(title="Where the sample street views are found", title_justify="left")
    table.add_column("street view", no_wrap=True)
    for name in ("field of view", "error", "rank", "score", "error, heading unknown", "heading error"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            row.sample.name,
            f"{row.sample.hfov_deg:.0f}°",
            f"{row.error_m:.1f} m",
            str(row.rank or f"> {DEPTH}"),
            f"{row.score:.3f}",
            f"{row.unknown_error_m:.1f} m",
            "-" if row.unknown_heading_error_deg is None else f"{row.unknown_heading_error_deg:.0f}°",
            style=None if row.near else "yellow",
        )
    return table


def summary(rows: Sequence[Row], tiles: int) -> list[str]:
    """What the table comes to, and the bounds it is held to."""
    lines = [f"Gallery: {tiles:,} tiles, {STRIDE_M:g} m apart (bound: at least {LEAST_TILES:,})"]
    for name, is_panorama in (("Panoramas", True), ("Photos", False)):
        group = [row for row in rows if row.sample.is_panorama == is_panorama]
        if not group:
            continue
        near = sum(row.near for row in group)
        blind = sum(row.unknown_error_m <= NEAR_M for row in group)
        median_m = statistics.median(row.error_m for row in group)
        bound = f" (bound: at least {LEAST_NEAR:.0%})" if is_panorama else ""
        lines.append(
            f"{name}: {near} of {len(group)} within {NEAR_M:g} m = {near / len(group):.0%}{bound}; "
            f"median error {median_m:.1f} m; heading unknown: {blind} of {len(group)}"
        )
    lines.append("Within bounds." if within_bounds(rows, tiles) else "OUT OF BOUNDS.")
    return lines


def within_bounds(rows: Sequence[Row], tiles: int) -> bool:
    """At least 1,000 tiles, and 90 % of the panoramas within 25 m at known heading."""
    panoramas = [row.near for row in rows if row.sample.is_panorama]
    return tiles >= LEAST_TILES and bool(panoramas) and sum(panoramas) >= LEAST_NEAR * len(panoramas)
