"""The page's pictures and figures as HTML: pure functions, every word from outside escaped."""

import base64
import io
import math
from html import escape
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from geoloc.places import LonLat
from geoloc.street_view import StreetView
from indexing.answer import Answer, Match
from ui.formats import held, percent, searched
from ui.layers import SCORE_RAMP, score_rgb
from ui.strips import Strips

MARK = Path(__file__).with_name("mark.svg")
WINDS = ("N", "NE", "E", "SE", "S", "SW", "W", "NW")


def data_uri(pixels: UInt8[np.ndarray, "h w c"], max_px: int = 2048) -> str:
    """RGB or RGBA pixels as a WebP data URI, reduced to at most `max_px` a side."""
    image = Image.fromarray(pixels)
    image.thumbnail((max_px, max_px))
    blob = io.BytesIO()
    image.save(blob, "WEBP", quality=82, method=2)
    return "data:image/webp;base64," + base64.b64encode(blob.getvalue()).decode()


def masthead(facts: str) -> str:
    """The page's first line."""
    mark = f'<img src="{_svg_uri(MARK.read_text())}" alt="">'
    return f'<header class="mast">{mark}<h1>geoloc</h1><p>{escape(facts)}</p></header>'


def street_figure(view: StreetView) -> str:
    """The street view over a ruler of its azimuths, and a caption of what is known about it."""
    heading = "heading unknown" if view.heading_deg is None else f"looks {bearing(view.heading_deg)}"
    kind = "panorama" if view.is_panorama else "photo"
    width = "field of view" if view.hfov_known else "field of view, estimated"
    ticks = "".join(f'<i style="left:{100 * x:.2f}%">{label}</i>' for x, label in ruler(view))
    h, w = view.rgb.shape[:2]
    return (
        f'<figure class="street" style="--aspect:{w / h:.4f}"><img src="{data_uri(view.rgb)}" '
        f'alt="The street view {escape(view.source)}"><div class="ruler">{ticks}</div>'
        f"<figcaption><b>{escape(view.source)}</b> <span>{kind}</span> <span>{heading}</span> "
        f"<span>{view.hfov_deg:.0f}° {width}</span></figcaption></figure>"
    )


def tile_figure(match: Match, image_uri: str | None, hfov_deg: float) -> str:
    """What lies around a match's place, north up, with a wedge for the way the camera would look."""
    place = match.place
    heading = "" if place.heading_deg is None else f" · looking {bearing(place.heading_deg)}"
    side_m = match.tile.gsd_m * match.tile.size_px
    return (
        f'<figure class="tile"><div><img src="{image_uri or BLANK}" alt="Satellite tile {place.tile_id}">'
        f'<img src="{_pointer_uri(place.heading_deg, hfov_deg)}" alt=""><b class="north">N</b></div>'
        f"<figcaption><b>Match {place.rank}</b> <span>{side_m:.0f} m wide{heading}</span></figcaption>"
        "</figure>"
    )


def strips_figure(match: Match, strips: Strips) -> str:
    """What the street view and the matched tile show of each azimuth, one above the other."""
    marks = "".join(
        f'<i style="left:{100 * (azimuth + 180) / 360:.2f}%">{_azimuth(azimuth)}</i>'
        for azimuth in range(-135, 180, 45)
    )
    return (
        f'<figure class="strips"><img src="{data_uri(strips.street)}" alt="The street view by azimuth">'
        f'<img src="{data_uri(strips.tile)}" alt="Tile {match.place.tile_id} in polar form">'
        f'<div class="ruler">{marks}</div><figcaption><b>By azimuth</b> '
        "<span>above: the street view turned to the heading found</span> <span>below: the tile around the "
        "place, in polar form, near the camera at the bottom</span> <span>dimmed: what the view does not "
        "show</span></figcaption></figure>"
    )


def notice(answer: Answer) -> str:
    """Said plainly where the place is probably not in what was searched; else empty."""
    in_gallery = answer.fix.in_gallery
    if in_gallery is None or in_gallery >= 0.5:
        return ""
    return (
        f'<div class="notice"><b>Probably not {searched(answer)}.</b> The probability that the place is '
        f"there at all is {percent(in_gallery)}; what follows is the best guess if it is.</div>"
    )


def compass(heading_deg: float, tolerance_deg: float) -> str:
    """A dial that shows a heading and how far off it may be."""
    left, right = (math.radians(heading_deg + side * max(tolerance_deg, 1.0)) for side in (-1, 1))
    a, b = (f"{38 * math.sin(turn):.2f} {-38 * math.cos(turn):.2f}" for turn in (left, right))
    turn = math.radians(heading_deg)
    tip = f"{40 * math.sin(turn):.2f} {-40 * math.cos(turn):.2f}"
    winds = "".join(
        f'<text x="{x}" y="{y}" font-size="9" text-anchor="middle" fill="#66757b" '
        f'font-family="sans-serif">{wind}</text>'
        for wind, x, y in (("N", 0, -41), ("E", 45, 3), ("S", 0, 48), ("W", -45, 3))
    )
    arc = f"A38 38 0 {int(tolerance_deg > 90)} 1"
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="-52 -52 104 104">'
        '<circle r="38" fill="#fff" stroke="#dfdcd3" stroke-width="2"/>'
        f'<path d="M0 0L{a}{arc} {b}Z" fill="#0b6e69" fill-opacity=".22"/>'
        f'<path d="M0 0L{tip}" stroke="#0b6e69" stroke-width="3" stroke-linecap="round"/>'
        f'<circle r="3.5" fill="#0b6e69"/>{winds}</svg>'
    )
    return f'<img class="compass" src="{_svg_uri(svg)}" alt="Compass: {bearing(heading_deg)}">'


def answer_figures(answer: Answer, reference: LonLat | None, reference_name: str) -> str:
    """The fix in figures: where, how sure, which way, and how far from the reference."""
    fix = answer.fix
    cells = [
        ("Best fix", lonlat_text(fix.lonlat), "longitude, latitude"),
        ("Within", f"± {distance_text(fix.radius_m)}", _within_note(answer)),
        ("Looking", "unknown" if fix.heading_deg is None else bearing(fix.heading_deg), "image centre"),
    ]
    if fix.in_gallery is None:
        cells.append(("Score", f"{fix.score:.3f}", "cosine similarity"))
    else:
        there = searched(answer).capitalize()
        cells.insert(2, (there, percent(fix.in_gallery), "calibrated on synthetic towns"))
    if reference is not None:
        cells.append(("Error", distance_text(fix.lonlat.distance_m(reference)), f"from {reference_name}"))
    body = "".join(
        f"<div><span>{escape(name)}</span><b>{escape(value)}</b><small>{escape(note)}</small></div>"
        for name, value, note in cells
    )
    return f'<div class="figures">{body}</div>'


def _within_note(answer: Answer) -> str:
    if answer.likely is None:
        return "grid and close rivals"
    return f"holds {held(answer.likely)}, if it is here"


def match_row(
    match: Match, image_uri: str | None, scores: tuple[float, float], reference: LonLat | None
) -> str:
    """One line of the ranked list."""
    place = match.place
    red, green, blue = score_rgb(place.score, *scores)
    error = "" if reference is None else f"<em>{distance_text(place.lonlat.distance_m(reference))} off</em>"
    return (
        f'<div class="match"><img src="{image_uri or BLANK}" alt="" '
        f'style="border-color:rgb({red},{green},{blue})">'
        f"<div><b>{place.rank}</b> <span>{place.lonlat.lon:.5f}, {place.lonlat.lat:.5f}</span>"
        f"<small>score {place.score:.3f}{_heading(match)}</small></div>{error}</div>"
    )


def legend(scores: tuple[float, float], reference_name: str | None, *, heat: bool = False) -> str:
    """What the map's colours mean."""
    low, high = scores
    stops = ",".join(f"rgb{colour}" for colour in SCORE_RAMP)
    ramp = f'<i class="ramp" style="background:linear-gradient(90deg,{stops})"></i>'
    scale = f"less{ramp}more probable" if heat else f"score {low:.2f}{ramp}{high:.2f}"
    items = [scale, '<i class="dot fix"></i>best fix']
    if heat:
        items.append('<i class="line region"></i>90 % region')
    if reference_name is not None:
        items.append(f'<i class="dot truth"></i>{escape(reference_name)}')
    items.append('<i class="line"></i>gallery')
    return '<div class="legend">' + "".join(f"<span>{item}</span>" for item in items) + "</div>"


def empty_state() -> str:
    """What the page says before there is a street view."""
    return (
        '<div class="empty"><h2>Where was this taken?</h2><p>Give a street-level photo or a 360° panorama. '
        "geoloc compares it with every satellite tile of this gallery and shows the places that look "
        "alike, the best of them first. The photo stays on this machine.</p></div>"
    )


def ruler(view: StreetView) -> list[tuple[float, str]]:
    """Where to write which azimuth under the image: x from 0 (left) to 1 (right), and the label.

    Compass directions where the heading is known, else degrees from the image centre.
    """
    half = view.hfov_deg / 2
    step = 45 if view.hfov_deg > 180 else 30 if view.hfov_deg > 90 else 15
    centre = view.heading_deg or 0.0
    first = math.ceil((centre - half) / step) * step
    marks = []
    for azimuth in range(first, math.floor(centre + half) + 1, step):
        across = azimuth - centre
        x = across / view.hfov_deg + 0.5 if view.is_panorama else (_tan(across) / _tan(half) + 1) / 2
        if 0.015 <= x <= 0.985:
            marks.append((x, _offset(azimuth) if view.heading_deg is None else _azimuth(azimuth)))
    return marks


def bearing(heading_deg: float) -> str:
    """Degrees and the nearest of eight winds, as in "123° SE"."""
    whole = round(heading_deg) % 360
    return f"{whole}° {WINDS[round(whole / 45) % 8]}"


def distance_text(distance_m: float) -> str:
    """Two or three figures: "6.2 m", "48 m", "3.1 km", "383 km"."""
    value, unit = (distance_m, "m") if distance_m < 1000 else (distance_m / 1000, "km")
    return f"{value:,.1f} {unit}" if value < 10 else f"{value:,.0f} {unit}"


def lonlat_text(place: LonLat) -> str:
    """Longitude, latitude to a decimetre."""
    return f"{place.lon:.6f}, {place.lat:.6f}"


def _azimuth(azimuth_deg: int) -> str:
    turned = azimuth_deg % 360
    return WINDS[turned // 45] if turned % 45 == 0 else f"{turned}°"


def _offset(across_deg: int) -> str:
    return f"{across_deg:+d}°" if across_deg else "0°"


def _tan(degrees: float) -> float:
    return math.tan(math.radians(degrees))


def _heading(match: Match) -> str:
    return "" if match.place.heading_deg is None else f" · {bearing(match.place.heading_deg)}"


def _pointer_uri(heading_deg: float | None, hfov_deg: float) -> str:
    """A dot in the middle of a tile, and a wedge for what the camera there would see."""
    wedge = ""
    if heading_deg is not None:
        left, right = (math.radians(heading_deg + side * hfov_deg / 2) for side in (-1, 1))
        a, b = (f"{44 * math.sin(turn):.2f} {-44 * math.cos(turn):.2f}" for turn in (left, right))
        arc = f"A44 44 0 {int(hfov_deg > 180)} 1"
        style = 'fill="#fff" fill-opacity=".3" stroke="#fff" stroke-width=".8"'
        wedge = f'<path d="M0 0L{a}{arc} {b}Z" {style}/>'
    dot = '<circle r="2.8" fill="#d62839" stroke="#fff" stroke-width="1.1"/>'
    return _svg_uri(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-50 -50 100 100">{wedge}{dot}</svg>')


def _svg_uri(svg: str) -> str:
    """As an image: Streamlit strips SVG elements from HTML."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


BLANK = _svg_uri(
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1">'
    '<rect width="1" height="1" fill="#e4e2db"/></svg>'
)
"""In place of imagery that cannot be read."""
