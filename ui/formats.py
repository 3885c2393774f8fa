"""Answers as text: a table to read; JSON, GeoJSON and CSV for other programs."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import shapely
from rich.table import Table
from rich.text import Text

from geoloc.places import LonLat, Tile
from indexing.answer import Answer, Match
from indexing.likely import Likely
from indexing.region import cut_at_180
from ui.cli import harmless

COLUMNS = (
    "photo", "rank", "lon", "lat", "score", "probability", "heading_deg", "tile_id", "source",
    "radius_m", "in_gallery",
)  # fmt: skip


def to_json(gallery: str, answers: Sequence[Answer], failed: Mapping[str, str] | None = None) -> str:
    """One object: the gallery, and for each photo its hits, best first, and its fix with the 90 % region.

    The probabilities of the hits, the fix's elsewhere (of all other tiles) and 1 - in_gallery sum to 1.
    failed: what was wrong with the photos that have no answer.
    """
    queries = [
        {
            "photo": answer.view.source,
            "hits": [_hit(match) for match in answer.matches],
            "fix": _fix(answer) | {"region90": _region(answer)},
        }
        for answer in answers
    ]
    wrong = [{"photo": photo, "error": error} for photo, error in (failed or {}).items()]
    return _dump({"gallery": gallery, "queries": queries, "failed": wrong})


def to_geojson(answers: Sequence[Answer]) -> str:
    """A FeatureCollection (RFC 7946): for each photo its fix, a point, its tiles, and the 90 % region."""
    features = [feature for answer in answers for feature in _features(answer)]
    return _dump({"type": "FeatureCollection", "features": features})


def to_csv(answers: Sequence[Answer]) -> str:
    """A line for each hit of each photo, after a header; radius_m and in_gallery are those of its fix.

    The first hit lies at the fix.
    """
    text = io.StringIO()
    rows = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    rows.writeheader()
    for answer in answers:
        fix = _fix(answer)
        same = {"photo": answer.view.source, "radius_m": fix["radius_m"], "in_gallery": fix["in_gallery"]}
        rows.writerows(same | _hit(match) for match in answer.matches)
    return text.getvalue()


def to_table(answer: Answer) -> Table:
    """One photo's hits, for a terminal."""
    title = Text(harmless(answer.view.source), style="bold")
    table = Table(title=title, title_justify="left", caption_justify="left")
    for name in ("rank", "longitude", "latitude", "score", "probable", "heading", "tile"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("imagery", overflow="fold")
    for match in answer.matches:
        place = match.place
        heading = "-" if place.heading_deg is None else f"{round(place.heading_deg) % 360}°"
        where = (f"{place.lonlat.lon:.6f}", f"{place.lonlat.lat:.6f}")
        probable = "-" if match.probability is None else percent(match.probability)
        cells = (str(place.rank), *where, f"{place.score:.3f}", probable, heading, str(place.tile_id))
        table.add_row(*cells, Text(harmless(match.source.rsplit("/", 1)[-1])))
    table.caption = Text(caption(answer))
    return table


def caption(answer: Answer) -> str:
    """The fix in words: where, which way, how sure; below it what the photo was taken for."""
    fix = answer.fix
    where = f"best fix {fix.lonlat.lon:.6f}, {fix.lonlat.lat:.6f} ± {fix.radius_m:.0f} m"
    if answer.likely is not None:
        where += f" with {held(answer.likely)}"
    if fix.heading_deg is not None:
        where += f", looking {round(fix.heading_deg) % 360}°"
    if fix.in_gallery is not None:
        where += f"; {certainty(fix.in_gallery, searched(answer))}"
    return f"{where}\n{taken_for(answer)}"


def taken_for(answer: Answer) -> str:
    """Which heading and field of view were searched, and whether the field of view is a guess."""
    view = answer.view
    heading = "every heading searched"
    if view.heading_deg is not None:
        heading = f"heading {round(view.heading_deg) % 360}° ± {answer.tolerance_deg:g}° as stated"
    return f"{heading}; field of view {view.hfov_deg:.0f}°{'' if view.hfov_known else ', guessed'}"


def held(likely: Likely) -> str:
    """What the circle around the fix holds of all that is here, in words."""
    return "90 %" if likely.holds >= 0.895 else f"at least {percent(likely.holds)}"


def searched(answer: Answer) -> str:
    """Where the place is if it was there to be found, in words."""
    return "among the tiles searched" if answer.narrowed else "in this gallery"


def certainty(in_gallery: float, there: str) -> str:
    """Whether the place is there, in words."""
    if in_gallery < 0.5:
        return f"probably not {there} ({percent(1 - in_gallery)})"
    return f"{there} with {percent(in_gallery)}"


def percent(probability: float) -> str:
    """A probability in whole percent, but neither none nor all of it."""
    return "<1%" if probability < 0.005 else ">99%" if probability > 0.995 else f"{probability:.0%}"


def _dump(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _hit(match: Match) -> dict[str, Any]:
    place = match.place
    return {
        "rank": place.rank,
        **_lonlat(place.lonlat),
        "score": round(place.score, 6),
        "probability": _rounded(match.probability),
        "heading_deg": _heading(place.heading_deg),
        "tile_id": place.tile_id,
        "source": match.source,
    }


def _fix(answer: Answer) -> dict[str, Any]:
    fix, view, likely = answer.fix, answer.view, answer.likely
    listed = sum(match.probability or 0.0 for match in answer.matches)
    return {
        **_lonlat(fix.lonlat),
        "radius_m": round(fix.radius_m, 2),
        "heading_deg": _heading(fix.heading_deg),
        "score": round(fix.score, 6),
        "tile_id": fix.tile_id,
        "in_gallery": _rounded(fix.in_gallery),
        "narrowed": answer.narrowed,
        "elsewhere": None if fix.in_gallery is None else _rounded(max(0.0, fix.in_gallery - listed)),
        "region90_holds": None if likely is None else _rounded(likely.holds),
        "refined": bool(answer.refined),
        "stated_heading_deg": _heading(view.heading_deg),
        "heading_tolerance_deg": None if view.heading_deg is None else round(answer.tolerance_deg, 2),
        "hfov_deg": round(view.hfov_deg, 2),
        "hfov_known": view.hfov_known,
    }


def _region(answer: Answer) -> dict[str, Any] | None:
    """The 90 % region as a GeoJSON geometry."""
    if answer.likely is None:
        return None
    return _geometry(shapely.transform(answer.likely.ground, lambda lonlat: lonlat.round(8)))


def _features(answer: Answer) -> list[dict[str, Any]]:
    point = {"type": "Point", "coordinates": list(_lonlat(answer.fix.lonlat).values())}
    photo = answer.view.source
    fix = _feature(point, {"role": "fix", "photo": photo, **_fix(answer)})
    tiles = [
        _feature(_polygon(match.tile), {"role": "tile", "photo": photo, **_hit(match)})
        for match in answer.matches
    ]
    region = _region(answer)
    likely = [] if region is None else [_feature(region, {"role": "region90", "photo": photo})]
    return [fix, *tiles, *likely]


def _feature(geometry: dict[str, Any], properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def _polygon(tile: Tile) -> dict[str, Any]:
    """The tile's footprint, counter-clockwise, closed, and cut at the antimeridian, as RFC 7946 wants it."""
    bottom_left, top_left, top_right, bottom_right = tile.corners
    ring = (bottom_left, bottom_right, top_right, top_left, bottom_left)
    return _geometry(cut_at_180(shapely.Polygon([list(_lonlat(corner).values()) for corner in ring])))


def _geometry(polygons: shapely.Geometry) -> dict[str, Any]:
    geometry: dict[str, Any] = json.loads(shapely.to_geojson(shapely.orient_polygons(polygons)))
    return geometry


def _lonlat(place: LonLat) -> dict[str, float]:
    """Degrees to 8 decimals, a millimetre."""
    return {"lon": round(place.lon, 8), "lat": round(place.lat, 8)}


def _heading(azimuth_deg: float | None) -> float | None:
    """Degrees to a hundredth, 0 <= h < 360."""
    return None if azimuth_deg is None else round(azimuth_deg, 2) % 360


def _rounded(probability: float | None) -> float | None:
    return None if probability is None else round(probability, 6)
