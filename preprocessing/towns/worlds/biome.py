"""The biomes: what a kind of country is made of. A world is one draw from one of them."""

from dataclasses import dataclass

import numpy as np

from geoloc.errors import DataError

MIXED = "mixed"
Weights = dict[str, float]
Range = tuple[float, float]


@dataclass(frozen=True)
class Biome:
    """Weights and ranges to draw a world from.

    districts: kinds of built-up blocks, for a town; empty for open country. uses: what the land between
    country roads is for. block_m: length of the cells between roads. paved: the share of country roads
    with asphalt. trees: weights of the species; leafy: scales their number. soils: weights of the ground's
    colour. relief_m: height of the hills. poles, homes, rails: how often roads have them beside.
    share: of the towns of a mixed set.
    """

    districts: Weights
    uses: Weights
    block_m: Range
    paved: float
    trees: Weights
    leafy: Range
    soils: Weights
    relief_m: Range
    poles: float
    homes: float
    rails: float
    share: float


TEMPERATE: Weights = {"broad": 6, "oak": 3, "column": 0.5, "birch": 1, "pine": 1, "fir": 1.5, "gum": 0.8}
EARTH: Weights = {"brown": 3, "tan": 2, "grey": 1, "red": 1, "dark": 1}
NOWHERE: Weights = {}

BIOMES = {
    "suburb": Biome(
        {"garden": 0.86, "park": 0.07, "centre": 0.03, "industry": 0.04}, NOWHERE, (75, 150), 1.0,
        TEMPERATE, (0.5, 2.2), EARTH, (0, 5), 0.5, 0.0, 0.0, 0.23,
    ),
    "centre": Biome(
        {"centre": 0.72, "suburb": 0.12, "park": 0.08, "industry": 0.08}, NOWHERE, (55, 100), 1.0,
        TEMPERATE, (0.2, 1.0), EARTH, (0, 3), 0.1, 0.0, 0.0, 0.08,
    ),
    "industrial": Biome(
        {"industry": 0.75, "garden": 0.12, "park": 0.13}, NOWHERE, (90, 190), 1.0,
        TEMPERATE, (0.2, 1.0), EARTH, (0, 3), 0.6, 0.0, 0.0, 0.07,
    ),
    "farmland": Biome(
        NOWHERE, {"field": 8, "pasture": 2.5, "meadow": 1, "wood": 1.2, "orchard": 0.5, "yard": 0.3},
        (170, 330), 0.72, TEMPERATE, (0.3, 1.4), EARTH, (0, 8), 0.7, 0.5, 0.06, 0.24,
    ),
    "forest": Biome(
        NOWHERE, {"wood": 7, "clearing": 1.6, "meadow": 1, "pasture": 0.7}, (170, 300), 0.72,
        {"broad": 3, "oak": 1.5, "birch": 1.5, "pine": 3, "fir": 4, "bare": 0.4}, (0.6, 1.4),
        {"brown": 2, "dark": 2, "tan": 1, "red": 0.7}, (2, 26), 0.45, 0.22, 0.25, 0.18,
    ),
    "desert": Biome(
        NOWHERE, {"desert": 9, "yard": 0.4, "field": 0.5}, (180, 340), 0.65,
        {"bare": 0.7, "olive": 3, "saguaro": 1.2, "palm": 0.6}, (0.2, 1.0),
        {"tan": 3, "red": 2, "sand": 2, "grey": 1}, (0, 26), 0.4, 0.15, 0.15, 0.08,
    ),
    "coast": Biome(
        NOWHERE, {"meadow": 2, "dune": 2.5, "houses": 2.5, "pasture": 1.5, "wood": 0.8, "field": 0.7},
        (130, 240), 0.8, {"pine": 2, "palm": 1.2, "broad": 2, "olive": 1.5, "gum": 1}, (0.2, 1.2),
        {"sand": 3, "tan": 1.5, "grey": 1}, (0, 10), 0.6, 0.5, 0.1, 0.05,
    ),
    "motorway": Biome(
        NOWHERE, {"field": 3, "meadow": 3, "wood": 2, "pasture": 2, "industry": 1, "houses": 0.7},
        (170, 320), 0.9, TEMPERATE, (0.3, 1.3), EARTH, (0, 12), 0.3, 0.15, 0.4, 0.07,
    ),
}  # fmt: skip


def draw_biome(rng: np.random.Generator, name: str) -> str:
    """`name`, or for "mixed" one drawn by the biomes' shares. Raises DataError for an unknown name."""
    if name != MIXED:
        check_world(name)
        return name
    shares = np.array([biome.share for biome in BIOMES.values()])
    return str(rng.choice(list(BIOMES), p=shares / shares.sum()))


def check_world(name: str) -> None:
    """Raise DataError where no world is called so."""
    if name != MIXED and name not in BIOMES:
        raise DataError(f"No world is called {name!r}: choose one of {', '.join([*BIOMES, MIXED])}.")


def pick(rng: np.random.Generator, weights: Weights) -> str:
    """One of the names, by weight."""
    share = np.array(list(weights.values()))
    return str(rng.choice(list(weights), p=share / share.sum()))
