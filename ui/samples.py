"""The sample town that geoloc ships: street views whose true places are known."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from geoloc.errors import DataError
from geoloc.places import LonLat
from geoloc.street_view import StreetView, read_street_view
from preprocessing.towns.table import read_rows

DATA = Path(__file__).resolve().parents[1] / "data"
ORTHO = DATA / "town" / "ortho.tif"
STREET_VIEWS = DATA / "town" / "street_views.parquet"
MODEL = DATA / "model"


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
        return self.path.stem.replace("-", " ").capitalize()


def require_data() -> None:
    """Raises DataError unless the checkout's sample town and model are there."""
    missing = [path for path in (ORTHO, STREET_VIEWS, MODEL / "weights.safetensors") if not path.is_file()]
    if missing:
        raise DataError(f"The sample lacks {missing[0]}; take data/ again from the repository.")


def read_samples(table: Path) -> Sequence[Sample]:
    """The street views of a table as `geoloc synth` writes it, panoramas first. Raises DataError."""
    samples = [
        Sample(
            path=table.parent / row["street"],
            lonlat=LonLat(row["lon"], row["lat"]),
            heading_deg=row["heading_deg"],
            hfov_deg=row["hfov_deg"],
            is_panorama=row["is_panorama"],
        )
        for row in read_rows(table)
    ]
    return sorted(samples, key=lambda sample: (not sample.is_panorama, sample.path.name))


def read_sample(sample: Sample) -> StreetView:
    """The sample's street view, with the table's heading and field of view. Raises ImageError."""
    hfov_deg = None if sample.is_panorama and math.isclose(sample.hfov_deg, 360) else sample.hfov_deg
    return read_street_view(
        sample.path, name=sample.path.name, heading_deg=sample.heading_deg, hfov_deg=hfov_deg
    )
