"""The map as deck.gl layers, bottom to top. Everything is drawn from memory: no tile server, no internet."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pydeck as pdk
import shapely
from pydeck.types import String

from geoloc.places import WGS84, LonLat
from indexing.answer import Answer, Match
from preprocessing.source import Bounds
from ui.clicks import CATCHER, TILES

FIX_RGB = (214, 40, 57)
TRUTH_RGB = (24, 100, 214)
REGION_RGB = (11, 110, 105)
SCORE_RAMP = ((72, 31, 112), (38, 130, 142), (94, 201, 98), (253, 231, 37))
EXTENT_RGB = (60, 72, 78)
SPECK = 0.02
FAINTEST = 1e-3
CATCHER_CELLS = (96, 48)
RGB = tuple[int, int, int]
Corners = tuple[LonLat, ...]


def score_rgb(score: float, low: float, high: float) -> RGB:
    """The colour of a score between the lowest and the highest shown (viridis, four stops)."""
    share = 1.0 if high <= low else min(1.0, max(0.0, (score - low) / (high - low)))
    position = share * (len(SCORE_RAMP) - 1)
    below = min(int(position), len(SCORE_RAMP) - 2)
    rest = position - below
    red, green, blue = (
        round(a + (b - a) * rest) for a, b in zip(SCORE_RAMP[below], SCORE_RAMP[below + 1], strict=True)
    )
    return red, green, blue


def view_state(bounds: Bounds, side_px: float) -> pdk.ViewState:
    """The view that fits (west, south, east, north) into a square of `side_px`; web mercator."""
    west, south, east, north = bounds
    down, up = (math.asinh(math.tan(math.radians(lat))) / (2 * math.pi) for lat in (south, north))
    span = max((east - west) / 360, up - down, 1e-7)
    middle = math.degrees(math.atan(math.sinh(math.pi * (down + up))))
    zoom = math.log2(side_px / 512 / span)
    return pdk.ViewState(longitude=(west + east) / 2, latitude=middle, zoom=zoom, max_zoom=23, pitch=0)


def around(place: LonLat, reach_m: float) -> Bounds:
    """(west, south, east, north) of the square that reaches `reach_m` from its middle."""
    north, east, south, west = (_ahead(place, azimuth, reach_m) for azimuth in (0, 90, 180, 270))
    return west[0], south[1], east[0], north[1]


def image_layer(
    layer_id: str, data_uri: str, corners: Corners, style: Mapping[str, Any] = MappingProxyType({})
) -> pdk.Layer:
    """An image at its true bounds. corners: bottom left, top left, top right, bottom right."""
    bounds = [[corner.lon, corner.lat] for corner in corners]
    return pdk.Layer("BitmapLayer", id=layer_id, image=String(data_uri), bounds=bounds, **style)


def extent_layers(extents: Sequence[Bounds], bounds: Bounds) -> list[pdk.Layer]:
    """The outline of the gallery, a rectangle for each of its images; a dot for those lost in `bounds`."""
    shown = shapely.box(*bounds)
    rings = _rings(shapely.GeometryCollection([shown & shapely.box(*extent) for extent in extents]))
    specks = [
        {"at": [(west + east) / 2, (south + north) / 2]}
        for west, south, east, north in extents
        if max(east - west, north - south) < SPECK * max(bounds[2] - bounds[0], bounds[3] - bounds[1])
    ]
    return [
        _outline("extent", rings, (*EXTENT_RGB, 200), width_px=1.5),
        _scatter("extent-dots", specks, EXTENT_RGB, radius_px=5),
    ]


def tile_layer(matches: Sequence[Match], turn: int) -> pdk.Layer:
    """The matches' outlines, coloured by score, to be clicked: each object carries its tile_id.

    turn: any number that changes after a click. With it changes the layer's id, and Streamlit lets
    go of its own selection, which would fade every other layer and swallow a second click.
    """
    scores = [match.place.score for match in matches]
    rows = [
        {
            "ring": _ring(match.tile.corners),
            "color": [*score_rgb(match.place.score, min(scores), max(scores)), 255],
            "tile_id": match.place.tile_id,
            "label": f"Match {match.place.rank} · score {match.place.score:.3f}",
        }
        for match in reversed(matches)
    ]
    return pdk.Layer(
        "PolygonLayer",
        rows,
        id=f"{TILES}-{turn}",
        get_polygon="ring",
        get_fill_color=[255, 255, 255, 0],
        get_line_color="color",
        get_line_width=3,
        line_width_units=String("pixels"),
        pickable=True,
    )


def selected_layer(match: Match) -> pdk.Layer:
    """A white frame around the tile that is being looked at."""
    return _outline("selected", [{"ring": _ring(match.tile.corners)}], (255, 255, 255, 255), width_px=5)


def fix_layers(answer: Answer, reach_m: float) -> list[pdk.Layer]:
    """The best fix: its radius, a wedge where the camera looked, and a dot."""
    fix = answer.fix
    circle = [_ahead(fix.lonlat, turn_deg, fix.radius_m) for turn_deg in range(0, 361, 10)]
    layers = [_area("fix-radius", circle, (*FIX_RGB, 22), (*FIX_RGB, 150))]
    if fix.heading_deg is not None:
        ring = wedge(fix.lonlat, fix.heading_deg, seen_deg(answer), reach_m)
        layers.append(_area("fix-wedge", ring, (*FIX_RGB, 110), (255, 255, 255, 220)))
    return [*layers, _dot("fix", fix.lonlat, FIX_RGB)]


def certainty_layers(answer: Answer, stride_m: float) -> list[pdk.Layer]:
    """The probability of every place as a heat map of the tiles' grid, and the 90 % region's outline."""
    if answer.fix.map is None:
        return []
    map, most = answer.fix.map, float(answer.fix.map.posterior.tiles.max())
    cells = []
    for (lon, lat), p in zip(map.lonlats.tolist(), map.posterior.tiles.tolist(), strict=True):
        if p >= most * FAINTEST:
            place, share = LonLat(lon, lat), math.sqrt(p / most)
            west, south, east, north = around(place, stride_m / 2)
            ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
            color = [*score_rgb(share, 0.0, 1.0), round(60 + 150 * share)]
            cells.append({"ring": ring, "color": color, "label": f"{p:.1%} probable"})
    heat = pdk.Layer(
        "PolygonLayer", cells, id="heat", get_polygon="ring", get_fill_color="color", stroked=False,
        pickable=False,
    )  # fmt: skip
    rings = [] if answer.likely is None else _rings(answer.likely.ground)
    return [
        heat,
        _outline("region90-casing", rings, (255, 255, 255, 230), width_px=4),
        _outline("region90", rings, (*FIX_RGB, 255), width_px=2),
    ]


def truth_layer(truth: LonLat) -> pdk.Layer:
    """Where the street view was really taken."""
    return _dot("truth", truth, TRUTH_RGB)


def region_layers(region: shapely.Geometry | None, corners: Sequence[LonLat]) -> list[pdk.Layer]:
    """The region searched or being drawn, and the corners clicked for it."""
    shapes = [] if region is None else _rings(region)
    dots = [{"at": [corner.lon, corner.lat]} for corner in corners]
    return [
        _outline("region-casing", shapes, (255, 255, 255, 255), width_px=6),
        _outline("region", shapes, (*REGION_RGB, 255), width_px=3),
        _scatter("corners", dots, REGION_RGB, radius_px=5),
    ]


def catcher_layer(bounds: Bounds, turn: int) -> pdk.Layer:
    """An invisible grid over what the map shows that turns a click on it into a place.

    deck.gl reports objects only, so each cell is one. bounds: that the map was fitted to; it is about twice
    as wide as high, and the grid covers it. turn: as for tiles.
    """
    west, south, east, north = bounds
    middle = LonLat((west + east) / 2, (south + north) / 2)
    narrow = max(0.01, math.cos(math.radians(middle.lat)))
    reach = max(east - west, (north - south) / narrow)
    columns, rows = CATCHER_CELLS
    side_x, side_y = 2.2 * reach / columns, 1.1 * reach * narrow / rows
    cells = []
    for row in range(rows):
        for column in range(columns):
            lon = middle.lon + (column + 0.5 - columns / 2) * side_x
            lat = middle.lat + (row + 0.5 - rows / 2) * side_y
            if abs(lon) <= 180 and abs(lat) <= 90:
                ring = shapely.box(lon - side_x / 2, lat - side_y / 2, lon + side_x / 2, lat + side_y / 2)
                label = f"{lon:.5f}, {lat:.5f}"
                cells.append({"ring": _points(ring.exterior), "lon": lon, "lat": lat, "label": label})
    return pdk.Layer(
        "PolygonLayer",
        cells,
        id=f"{CATCHER}-{turn}",
        get_polygon="ring",
        get_fill_color=[255, 255, 255, 0],
        stroked=False,
        opacity=0.001,
        pickable=True,
    )


def wedge(apex: LonLat, heading_deg: float, hfov_deg: float, reach_m: float) -> list[list[float]]:
    """The closed ring, in lon, lat, of what a camera at `apex` sees out to `reach_m`."""
    steps = 12
    arc = [_ahead(apex, heading_deg + hfov_deg * (step / steps - 0.5), reach_m) for step in range(steps + 1)]
    tip = [apex.lon, apex.lat]
    return [tip, *arc, tip]


def deck(layers: Sequence[pdk.Layer], state: pdk.ViewState) -> pdk.Deck:
    """The layers without a base map, so that nothing is asked of the internet."""
    tooltip: Any = {"text": "{label}"}
    return pdk.Deck(layers=list(layers), initial_view_state=state, map_provider=None, tooltip=tooltip)


def seen_deg(answer: Answer) -> float:
    """The width of the wedge on the map: the field of view, or a pointer for a panorama."""
    return min(answer.view.hfov_deg, 40.0) if answer.view.is_panorama else answer.view.hfov_deg


def _ahead(place: LonLat, azimuth_deg: float, distance_m: float) -> list[float]:
    lon, lat, _ = WGS84.fwd(place.lon, place.lat, azimuth_deg, distance_m)
    return [lon, lat]


def _points(ring: shapely.LinearRing) -> list[list[float]]:
    return [list(point) for point in ring.coords]


def _rings(ground: shapely.Geometry) -> list[dict[str, Any]]:
    """The outlines of all polygons, of their holes too."""
    parts = [part for part in shapely.get_parts(ground) if part.geom_type == "Polygon"]
    return [{"ring": _points(ring)} for part in parts for ring in (part.exterior, *part.interiors) if ring]


def _ring(corners: Sequence[LonLat]) -> list[list[float]]:
    return [[corner.lon, corner.lat] for corner in (*corners, corners[0])]


def _outline(layer_id: str, rings: list[dict[str, Any]], rgba: tuple[int, ...], width_px: float) -> pdk.Layer:
    return pdk.Layer(
        "PathLayer",
        rings,
        id=layer_id,
        get_path="ring",
        get_color=list(rgba),
        get_width=width_px,
        width_units=String("pixels"),
        joint_rounded=True,
    )


def _area(layer_id: str, ring: list[list[float]], fill: tuple[int, ...], line: tuple[int, ...]) -> pdk.Layer:
    return pdk.Layer(
        "PolygonLayer",
        [{"ring": ring}],
        id=layer_id,
        get_polygon="ring",
        get_fill_color=list(fill),
        get_line_color=list(line),
        get_line_width=1.5,
        line_width_units=String("pixels"),
    )


def _dot(layer_id: str, place: LonLat, rgb: RGB) -> pdk.Layer:
    return _scatter(layer_id, [{"at": [place.lon, place.lat]}], rgb, radius_px=7)


def _scatter(layer_id: str, dots: list[dict[str, Any]], rgb: RGB, radius_px: float) -> pdk.Layer:
    return pdk.Layer(
        "ScatterplotLayer",
        dots,
        id=layer_id,
        get_position="at",
        get_fill_color=list(rgb),
        get_line_color=[255, 255, 255],
        get_radius=radius_px,
        radius_units=String("pixels"),
        get_line_width=2.5,
        line_width_units=String("pixels"),
        stroked=True,
    )
