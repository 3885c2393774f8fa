"""Crowns of trees as pairs of relief maps, moulded once: where foliage starts and where it ends."""

import math
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import numpy as np
from jaxtyping import Float32

from preprocessing.towns import noise

SIDE, REACH, VARIANTS = 56, 1.25, 12
Sphere: TypeAlias = tuple[float, float, float, float, float]
FORMS = ("broad", "light", "conifer", "column", "shrubby", "palm")


@dataclass(frozen=True)
class Mould:
    """A crown of radius 1 and height 1 over a square from -REACH to REACH, row 0 in the north.

    top and bottom go from 0 to 1; where there is no foliage top is 0 and bottom 1.
    """

    top: Float32[np.ndarray, "56 56"]
    bottom: Float32[np.ndarray, "56 56"]


@cache
def mould(form: str, variant: int) -> Mould:
    """One of the variants of a form."""
    rng = np.random.default_rng([FORMS.index(form), variant])
    along = (np.arange(SIDE) + 0.5) / SIDE * 2 * REACH - REACH
    east, north = np.broadcast_to(along, (SIDE, SIDE)), np.broadcast_to(-along[:, None], (SIDE, SIDE))
    if form == "conifer":
        return _cone(rng, east, north)
    if form == "palm":
        return _palm(rng, east, north)
    return _boughs(east, north, _spheres(rng, form))


def _spheres(rng: np.random.Generator, form: str) -> list[Sphere]:
    """(east, north, up, radius, half height) of the boughs that make a crown."""
    if form == "column":
        lumps = [(*rng.normal(0, 0.3, 2).tolist(), rng.uniform(0.2, 0.8)) for _ in range(4)]
        return [(0.0, 0.0, 0.5, 1.0, 0.5)] + [(float(e), float(n), float(u), 0.7, 0.2) for e, n, u in lumps]
    count, least, most, core = {
        "broad": (11, 0.32, 0.55, 0.72), "light": (10, 0.28, 0.5, 0.45), "shrubby": (7, 0.3, 0.55, 0.6),
    }[form]  # fmt: skip
    spheres = [(0.0, 0.0, 0.5, core, core / 2)]
    for _ in range(count):
        turn, out = rng.uniform(0, 2 * math.pi), math.sqrt(rng.uniform(0.1, 0.8))
        size = float(rng.uniform(least, most))
        up = 0.5 + float(rng.uniform(-0.42, 0.42)) * math.sqrt(max(0.05, 1 - out * out))
        if form == "shrubby":
            up *= 0.7
        spheres.append((out * math.cos(turn), out * math.sin(turn), up, size, size * 0.46))
    return spheres


def _boughs(east: np.ndarray, north: np.ndarray, spheres: list[Sphere]) -> Mould:
    top, bottom = np.zeros((SIDE, SIDE)), np.ones((SIDE, SIDE))
    for at_east, at_north, up, radius, half in spheres:
        level = 1 - ((east - at_east) ** 2 + (north - at_north) ** 2) / radius**2
        bulge = np.sqrt(np.maximum(level, 0)) * half
        inside = level > 0
        top = np.where(inside, np.maximum(top, up + bulge), top)
        bottom = np.where(inside, np.minimum(bottom, up - bulge), bottom)
    return _clipped(top, bottom)


def _cone(rng: np.random.Generator, east: np.ndarray, north: np.ndarray) -> Mould:
    """Whorls of branches: a cone with a ragged, stepped mantle."""
    u, v = rng.uniform(0, 400, 2)
    ragged = noise.sample(3, east * 9 + u, north * 9 + v) - 0.5
    reach = np.sqrt(east**2 + north**2) * (1 + 0.55 * ragged)
    power = float(rng.uniform(0.75, 1.2))
    top = np.where(reach < 1, 1 - reach * (power + (1 - power) * reach), 0)
    return _clipped(top, np.where(reach < 1, 0.1 * reach, 1))


def _palm(rng: np.random.Generator, east: np.ndarray, north: np.ndarray) -> Mould:
    top, bottom = np.zeros((SIDE, SIDE)), np.ones((SIDE, SIDE))
    fronds = int(rng.integers(8, 13))
    start = float(rng.uniform(0, 6.3))
    for i in range(fronds):
        along = math.cos(start + 6.2832 * i / fronds), math.sin(start + 6.2832 * i / fronds)
        out = east * along[0] + north * along[1]
        aside = np.abs(north * along[0] - east * along[1])
        frond = (out > 0) & (out < 1) & (aside < 0.13)
        top = np.where(frond, np.maximum(top, 0.95 - 0.75 * out * out), top)
        bottom = np.where(frond, np.minimum(bottom, 0.7 - 0.7 * out * out), bottom)
    return _clipped(top, bottom)


def _clipped(top: np.ndarray, bottom: np.ndarray) -> Mould:
    return Mould(np.clip(top, 0, 1).astype(np.float32), np.clip(bottom, 0, 1).astype(np.float32))
