"""Plane shapes in town metres (x east, y north, from the south-western corner)."""

import math
from typing import TypeAlias

import numpy as np
import shapely
from jaxtyping import Float64
from shapely.geometry import LineString, Polygon
from shapely.geometry.base import BaseGeometry

Vector: TypeAlias = tuple[float, float]


def rectangle(center: Vector, along: Vector, length_m: float, width_m: float) -> Polygon:
    """A rectangle whose length runs along the unit vector `along`."""
    (x, y), (ux, uy) = center, along
    a, b = length_m / 2, width_m / 2
    signs = ((-1, -1), (1, -1), (1, 1), (-1, 1))
    return Polygon([(x + i * a * ux - j * b * uy, y + i * a * uy + j * b * ux) for i, j in signs])


def offset(point: Vector, along: Vector, forward_m: float, left_m: float) -> Vector:
    """`point` moved forward along a unit vector and to its left."""
    (x, y), (ux, uy) = point, along
    return x + forward_m * ux - left_m * uy, y + forward_m * uy + left_m * ux


def bearing_deg(along: Vector) -> float:
    """Degrees clockwise from north of a vector."""
    return math.degrees(math.atan2(along[0], along[1])) % 360


def unit(bearing: float) -> Vector:
    """The unit vector of a bearing in degrees."""
    return math.sin(math.radians(bearing)), math.cos(math.radians(bearing))


def smooth(points: Float64[np.ndarray, "n 2"], rounds: int = 3) -> Float64[np.ndarray, "m 2"]:
    """An open polyline with its corners cut (Chaikin 1974); the ends stay."""
    for _ in range(rounds):
        a, b = points[:-1], points[1:]
        cut = np.stack((0.75 * a + 0.25 * b, 0.25 * a + 0.75 * b), axis=1).reshape(-1, 2)
        points = np.concatenate((points[:1], cut[1:-1], points[-1:]))
    return points


def bent_line(rng: np.random.Generator, start: Vector, end: Vector, sway: float) -> LineString:
    """A smooth line between two points that sways by about `sway` of its length."""
    a, b = np.array(start), np.array(end)
    across = np.array((a[1] - b[1], b[0] - a[0]))
    steps = np.linspace(0, 1, 5)
    lateral = rng.uniform(-sway, sway, 5) * np.sqrt(np.minimum(steps, 1 - steps))
    return LineString(smooth(a + steps[:, None] * (b - a) + lateral[:, None] * across))


def blob(rng: np.random.Generator, center: Vector, radius_m: float, roughness: float = 0.25) -> Polygon:
    """A closed, smooth, roundish outline."""
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    radius = np.full(48, 1.0)
    for harmonic in (2, 3, 4):
        radius += rng.uniform(0, roughness) / (harmonic - 1) * np.cos(harmonic * turn + rng.uniform(0, 6.3))
    stretch, angle = rng.uniform(0.7, 1.0), rng.uniform(0, np.pi)
    u, v = radius_m * radius * np.cos(turn), radius_m * stretch * radius * np.sin(turn)
    x = center[0] + u * np.cos(angle) - v * np.sin(angle)
    y = center[1] + u * np.sin(angle) + v * np.cos(angle)
    return Polygon(np.stack((x, y), axis=1)).buffer(0)


def walk(line: LineString, start_m: float, step_m: float, end_m: float = 0.0) -> Float64[np.ndarray, "n 4"]:
    """Rows (x, y, ux, uy) every `step_m` along a line: the point and the unit vector forward."""
    at = np.arange(start_m, line.length - end_m, step_m)
    if not len(at):
        return np.empty((0, 4))
    here = shapely.get_coordinates(shapely.line_interpolate_point(line, at))
    back = shapely.get_coordinates(shapely.line_interpolate_point(line, np.maximum(at - 0.5, 0)))
    ahead = shapely.get_coordinates(shapely.line_interpolate_point(line, np.minimum(at + 0.5, line.length)))
    forward = ahead - back
    return np.hstack((here, forward / np.maximum(np.hypot(*forward.T)[:, None], 1e-9)))


def beside(line: LineString, left_m: float) -> LineString:
    """The line moved to its left, vertex by vertex, so that it stays one line in any bend."""
    points = shapely.get_coordinates(line)
    ahead, back = np.vstack((points[1:], points[-1:])), np.vstack((points[:1], points[:-1]))
    forward = ahead - back
    forward /= np.maximum(np.sqrt((forward**2).sum(axis=1))[:, None], 1e-9)
    return LineString(points + left_m * np.stack((-forward[:, 1], forward[:, 0]), axis=1))


def polygons(shape: BaseGeometry, least_m2: float = 0.0) -> list[Polygon]:
    """The polygons in any geometry, at least `least_m2` each."""
    return [p for p in getattr(shape, "geoms", [shape]) if isinstance(p, Polygon) and p.area > least_m2]


def lines(shape: BaseGeometry, least_m: float = 0.0) -> list[LineString]:
    """The lines in any geometry, at least `least_m` each."""
    return [p for p in getattr(shape, "geoms", [shape]) if isinstance(p, LineString) and p.length > least_m]


def long_axis(shape: Polygon) -> tuple[Vector, Vector, float, float]:
    """Centre, unit vector of the longer side, length and width of the least rectangle around a shape."""
    corners = shapely.get_coordinates(shapely.oriented_envelope(shape))
    a, b = corners[1] - corners[0], corners[2] - corners[1]
    long, short = (a, b) if np.hypot(*a) >= np.hypot(*b) else (b, a)
    length, width = float(np.hypot(*long)), float(np.hypot(*short))
    middle = corners[:4].mean(axis=0)
    return (
        (float(middle[0]), float(middle[1])),
        (float(long[0]) / length, float(long[1]) / length),
        length,
        width,
    )
