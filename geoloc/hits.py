"""What a gallery answers, and what it means on the map."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int64

from geoloc.errors import GeolocError
from geoloc.places import WGS84, LonLat
from geoloc.posterior import Posterior


@dataclass(frozen=True)
class Hits:
    """The best tiles for each query, best first.

    ids: tile ids, -1 where fewer than k were found. scores: cosine similarity, higher is better
    (-inf at the padding). headings_deg: clockwise from the grid's north, of the image centre, NaN
    where the search said nothing about it.
    """

    ids: Int64[np.ndarray, "q k"]
    scores: Float32[np.ndarray, "q k"]
    headings_deg: Float32[np.ndarray, "q k"]

    def __post_init__(self) -> None:
        if not self.ids.shape == self.scores.shape == self.headings_deg.shape or self.ids.ndim != 2:
            raise GeolocError(f"Hits want three arrays of one shape (q, k), got {self.ids.shape}.")
        scores = np.nan_to_num(self.scores, neginf=-np.inf)
        if (scores[:, 1:] > scores[:, :-1]).any():
            raise GeolocError("Hits must be sorted, best first.")


@dataclass(frozen=True)
class Alternative:
    """One hit of a query, placed on the map. heading_deg: clockwise from true north."""

    rank: int
    tile_id: int
    lonlat: LonLat
    score: float
    heading_deg: float | None


@dataclass(frozen=True)
class ProbabilityMap:
    """How probable every place is.

    ids: of the likeliest tiles. lonlats: their centres. posterior: their probabilities, and those of all
    other tiles together and of not being in the gallery.
    """

    ids: Int64[np.ndarray, " n"]
    lonlats: Float[np.ndarray, "n 2"]
    posterior: Posterior

    def within(self, center: LonLat, reach_m: float) -> float:
        """The probability of the listed tiles whose centre lies within reach_m of a place."""
        lon, lat = self.lonlats.T
        here = np.full_like(lon, center.lon), np.full_like(lat, center.lat)
        return float(self.posterior.tiles[WGS84.inv(*here, lon, lat)[2] <= reach_m].sum())


@dataclass(frozen=True)
class Fix:
    """Where a street view was taken.

    lonlat: the best guess. radius_m: of the circle around it that holds the place with 90 %, if it is in
    the gallery; without a calibration, half the tile grid's diagonal or the spread of near-equal hits where
    that is larger. heading_deg: of the image centre, clockwise from true north, None where unknown.
    alternatives: every hit, best first. in_gallery: the probability that the place is in the gallery at
    all, and map: of every place in it; None without a calibration.
    """

    lonlat: LonLat
    radius_m: float
    heading_deg: float | None
    score: float
    tile_id: int
    alternatives: tuple[Alternative, ...]
    in_gallery: float | None = None
    map: ProbabilityMap | None = None
