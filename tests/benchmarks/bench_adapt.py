"""What adapting to a region gains there, and what it costs at home.

Run: geoloc synth desert --world desert --towns 6 --seed 9500 --pairs-per-town 150 --footprint-m 128
     geoloc synth plain --towns 2 --seed 9900 --pairs-per-town 150 --footprint-m 128
     python tests/benchmarks/bench_adapt.py --region towns:desert --home towns:plain [--model data/model]
     GEOLOC_REAL_DATA=FOLDER python tests/benchmarks/bench_adapt.py --real

A region's train towns are adapted to: as images that nobody matched, and with 1, 5, 20 and 100 pairs of
them besides. Its val towns judge, and the home's val towns what was forgotten; recall@1 against all tiles of
those, with bootstrap 95 % intervals. The real pairs are adapted to as unmatched images, then asked as
bench_real.py asks them: the adapted model has seen those photos and those tiles, but not which belong
together.
"""

import argparse
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from bench_real import WAYS, _figures, _interval, _line, _sources

from geoloc.embed import best_device
from geoloc.encoder import TwinEncoder
from geoloc.model import load_encoder
from geoloc.pairs import PairTable
from geoloc.score import Asked, evaluate_table
from geoloc.training.adapt import Region, adapt
from geoloc.training.decoded import Decoded, decode_pairs
from geoloc.training.negatives import tile_lonlats_of
from preprocessing.datasets.open import open_pairs

PAIRS = (0, 1, 5, 20, 100)
ASKED = [Asked(hfov_deg, unknown) for hfov_deg in (90.0, 360.0) for unknown in (False, True)]
SPARE_M = 6.0


def main() -> None:
    """Print a row per model, or per model, source and way of asking of the real pairs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=Path("data/model"))
    parser.add_argument("--region", help="KIND:PATH with the splits train and val")
    parser.add_argument("--home", help="KIND:PATH of what the model was trained for")
    parser.add_argument("--pairs", type=int, nargs="*", default=PAIRS)
    parser.add_argument("--real", action="store_true")
    arguments = parser.parse_args()
    if arguments.real and "GEOLOC_REAL_DATA" not in os.environ:
        print("skipped: GEOLOC_REAL_DATA names no folder of real photographs")
        return
    if not arguments.real and not (arguments.region and arguments.home):
        print("skipped: it wants --region and --home, or --real; --help says how to make them")
        return
    encoder = load_encoder(arguments.model)
    for line in _real(encoder) if arguments.real else _towns(encoder, arguments):
        print(line, flush=True)


def _towns(encoder: TwinEncoder, arguments: argparse.Namespace) -> Iterator[str]:
    table, judge = (open_pairs(arguments.region, split) for split in ("train", "val"))
    home = open_pairs(arguments.home, "val")
    yield _recalls("as it was", encoder, judge, home)
    decoded = _decoded(encoder, table)
    order = np.random.default_rng(1).permutation(len(table.pairs))
    for pairs in arguments.pairs:
        lonlats = tile_lonlats_of(table)[order]
        region = Region(decoded.canvases[order], decoded.tiles[order], lonlats, pairs)
        yield _recalls(f"unmatched, {pairs} pairs", adapt(encoder, region)[0], judge, home)


def _recalls(name: str, encoder: TwinEncoder, judge: PairTable, home: PairTable) -> str:
    cells = [name]
    for place, table in (("there", judge), ("home", home)):
        scored = evaluate_table(encoder.to(best_device()), table, ASKED).scored
        for asked, one in zip(ASKED, scored, strict=True):
            found = (one.standing.rank == 0).astype(float)
            low, high = _interval(found, np.mean)
            heading = "unknown" if asked.unknown_heading else "known"
            cells.append(
                f"{place} {asked.hfov_deg:.0f} {heading}: {found.mean():.3f} [{low:.3f}, {high:.3f}]"
            )
    return " | ".join(cells)


def _real(encoder: TwinEncoder) -> Iterator[str]:
    for table in _sources(Path(os.environ["GEOLOC_REAL_DATA"])):
        decoded = _decoded(encoder, table)
        region = Region(decoded.canvases, decoded.tiles, tile_lonlats_of(table))
        for name, one in (("as it was", encoder), ("unmatched", adapt(encoder, region)[0])):
            scored = evaluate_table(one.to(best_device()), table, list(WAYS.values())).scored
            for way, answers in zip(WAYS, scored, strict=True):
                row = {"model": name, "source": table.name, "gallery": "alone"}
                tiles = len({pair.satellite for pair in table.pairs})
                yield _line({**row, "tiles": tiles, "asked": way, **_figures(answers, tiles)})


def _decoded(encoder: TwinEncoder, table: PairTable) -> Decoded:
    with tempfile.TemporaryDirectory() as folder:
        decoded = decode_pairs(table.pairs, encoder.spec, SPARE_M, Path(folder))
        return Decoded(np.array(decoded.canvases), np.array(decoded.tiles))


if __name__ == "__main__":
    main()
