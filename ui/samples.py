"""The sample town that geoloc ships: street views whose true places are known."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from geoloc.errors import DataError
from geoloc.places import LonLat
from geoloc.street_view import StreetView, read_street_view

DATA = Path(__file__).resolve().parents[1] / "data"
ORTHO = DATA / "town" / "ortho.tif"
STREET_VIEWS = DATA / "town" / "street_views.parquet"
MODEL = DATA / "model"
COLUMNS = ["street", "lon", "lat", "heading_deg", "hfov_deg", "is_panorama"]


@dataclass(frozen=True)
class Sample:
    """A street view on disk and the truth about it."""

    path: Path
    lonlat: LonLat
    heading_deg: float
    hfov_deg: float
    is_panorama: bool

    @property
    def name(self) -> str:
        """What a person calls it."""
        return f"{'Panorama' if self.is_panorama else 'Photo'} {self.path.stem}"


def require_data() -> None:
    """Raises DataError unless the checkout's sample town and model are there."""
    missing = [path for path in (ORTHO, STREET_VIEWS, MODEL / "weights.safetensors") if not path.is_file()]
    if missing:
        raise DataError(f"The sample is incomplete: {missing[0]} is missing; take data/ again from the repository.")


def read_samples(table: Path) -> Sequence[Sample]:
    """The street views of a table as `geoloc synth` writes it, panoramas first. Raises DataError."""
    try:
        frame = pd.read_parquet(table, columns=COLUMNS)
    except (OSError, ValueError, KeyError) as cause:
        raise DataError(f"{table} is no table of street views ({cause}); make it with `geoloc synth`.") from cause
    rows = frame.sort_values(["is_panorama", "street"], ascending=[False, True]).itertuples(index=False)
    return tuple(
        Sample(table.parent / row.street, LonLat(row.lon, row.lat), row.heading_deg, row.hfov_deg, row.is_panorama)
        for row in rows
    )


def read_sample(sample: Sample) -> StreetView:
    """The sample's street view, with the table's heading and field of view. Raises ImageError."""
    hfov_deg = None if sample.is_panorama and math.isclose(sample.hfov_deg, 360) else sample.hfov_deg
    return read_street_view(
        sample.path, name=sample.path.name, heading_deg=sample.heading_deg, hfov_deg=hfov_deg
    )
