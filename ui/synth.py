"""`geoloc synth`: towns that nobody can withhold."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from geoloc.cores import cores
from preprocessing.towns.plan import GSD_M
from preprocessing.towns.synth import SynthConfig, synthesize
from preprocessing.towns.town import TownConfig
from ui.progress import progress

Difficulty = Literal["easy", "normal", "hard"]
World = Literal[
    "town", "suburb", "centre", "industrial", "farmland", "forest", "desert", "coast", "motorway", "mixed"
]
CVUSA_SIZES = {"tile_px": 750, "panorama_wh": (1232, 224)}


def synth(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder, or one to resume.")],
    towns: Annotated[
        int, typer.Option(min=1, help="How many; the last sixth (at least one) is the val split.")
    ],
    seed: Annotated[
        int,
        typer.Option(min=0, help="The first town's seed; the others follow. Held-out towns: other seeds."),
    ],
    difficulty: Annotated[
        Difficulty,
        typer.Option(help="How far sun, season, weather, trees and cars differ between the views."),
    ] = "normal",
    world: Annotated[
        World,
        typer.Option(
            help="town: a plain town. Else a biome, drawn with its own land, species, materials, skies and "
            "cameras, wide enough to train on for real photographs; mixed: another biome for each town."
        ),
    ] = "town",
    pairs_per_town: Annotated[int, typer.Option(min=0, help="Tiles with a panorama each.")] = 250,
    side_m: Annotated[float, typer.Option(help="Side of a town, 160 to 2400 m.")] = 640.0,
    jitter_m: Annotated[float, typer.Option(help="How far a tile's centre may be off the camera.")] = 2.0,
    footprint_m: Annotated[float, typer.Option(help="Side of a tile on the ground.")] = 64.0,
    gsd_m: Annotated[
        float,
        typer.Option(
            help="Metres per pixel of the orthophoto, 0.1 to 0.6. Memory and time go by its square: a "
            "town of 640 m takes 0.9 GB at 0.3, 6.6 GB at 0.1."
        ),
    ] = GSD_M,
    like: Annotated[
        Literal["cvusa"] | None,
        typer.Option(help="cvusa: tiles of 750 px and panoramas of 1232 x 224, else 256 and 512 x 128."),
    ] = None,
    photos: Annotated[int, typer.Option(min=0, help="Perspective photos per town, beside the pairs.")] = 0,
    workers: Annotated[
        int,
        typer.Option(
            min=0, help="Processes, each with a town in hand, at most one per core; 0: one per core."
        ),
    ] = 0,
) -> None:
    """Draw synthetic towns: pairs of tile and panorama in the CVUSA layout, orthophotos, exact positions.

    The same arguments give the same files on any machine. A killed run goes on where it stopped:
    give the same command again.

    Example: geoloc synth towns --towns 12 --seed 1, then geoloc train --data towns:towns --out run
    """
    sizes = CVUSA_SIZES if like else {}
    town = TownConfig(
        pairs=pairs_per_town, photos=photos, difficulty=difficulty, world=world,
        side_m=side_m, jitter_m=jitter_m, footprint_m=footprint_m, gsd_m=gsd_m, **sizes,  # type: ignore[arg-type]
    )  # fmt: skip
    config = SynthConfig(towns, seed, town)
    with progress("Street views") as report:
        synthesize(config, out, lambda done: report(done, config.views), min(workers or cores(), cores()))
    drawn = "1 town" if towns == 1 else f"{towns:,} towns"
    print(f"{drawn} with {config.views:,} street views in {out}", file=sys.stderr)
