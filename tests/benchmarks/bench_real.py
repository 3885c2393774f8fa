"""The real check: photographs of three sources against real imagery, zero-shot.

Run: GEOLOC_REAL_DATA=FOLDER python tests/benchmarks/bench_real.py [--model data/model]... [--json]

18 CVUSA pairs, 2 CVACT pairs and 6 CVH3D photos, alone and among distractors cut from the real orthophotos of
the same folder; heading told and not. Every figure stands beside its bootstrap 95 % interval and what chance
gives. The protocol is fixed: footprints as the datasets state or imply them, ties against the model, no image
left out. These pairs are few: they are for a handful of decisions, not for tuning.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image

from geoloc.embed import best_device
from geoloc.errors import GeolocError
from geoloc.model import load_encoder
from geoloc.pairs import Distractor, Pair, PairTable
from geoloc.posterior import read_calibration
from geoloc.score import Asked, Scored, evaluate_table
from preprocessing.datasets.cvact import TILE_M
from preprocessing.datasets.cvusa import read_cvusa
from preprocessing.datasets.table import read_table

DISTRACTOR_M = 120.0
ORTHOPHOTOS = (
    "ortho_3395_0.1m.tif",
    "rd_28992_0.25m.tif",
    "neon_osbs_0.1m.tif",
    "drone_utm50s_alpha_0.35m.tif",
)
WAYS = {"heading told": Asked(), "heading unknown": Asked(unknown_heading=True)}
RESAMPLES = 2000


def main() -> None:
    """Print a row per model, source, gallery and way of asking."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, action="append")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if "GEOLOC_REAL_DATA" not in os.environ:
        print("skipped: GEOLOC_REAL_DATA names no folder of real photographs")
        return
    root = Path(os.environ["GEOLOC_REAL_DATA"])
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        distractors = list(_cut(root / "geotiff", Path(folder)))
        for model in arguments.model or [Path("data/model")]:
            encoder, known = load_encoder(model).to(best_device()), read_calibration(model)
            for alone in _sources(root):
                for name, table in (("alone", alone), ("crowd", replace(alone, distractors=distractors))):
                    scored = evaluate_table(encoder, table, list(WAYS.values()), calibration=known).scored
                    gallery = len({pair.satellite for pair in table.pairs}) + len(table.distractors)
                    rows += [
                        {
                            "model": str(model),
                            "source": table.name,
                            "gallery": name,
                            "tiles": gallery,
                            "asked": way,
                        }
                        | _figures(one, gallery)
                        for way, one in zip(WAYS, scored, strict=True)
                    ]
    print(json.dumps(rows) if arguments.json else "\n".join(map(_line, rows)))


def _sources(root: Path) -> Iterator[PairTable]:
    """The three tables, with what their tiles cover."""
    yield read_cvusa(root / "cvusa")
    yield PairTable("cvact", "all", list(_cvact_pairs(root / "cvact/ANU_data_small")))
    yield replace(read_table(root / "cvh3d/pairs.csv"), name="cvh3d")


def _cvact_pairs(folder: Path) -> Iterator[Pair]:
    for street in sorted((folder / "streetview").glob("*_grdView.jpg")):
        tile = folder / "satview_polish" / street.name.replace("_grdView", "_satView_polish")
        yield Pair(street, tile, heading_deg=0.0, hfov_deg=360.0, footprint_m=TILE_M)


def _cut(folder: Path, out: Path) -> Iterator[Distractor]:
    """Tiles every half of their side out of the orthophotos, those with gaps left out."""
    for name in ORTHOPHOTOS:
        with rasterio.open(folder / name) as ortho:
            side = round(DISTRACTOR_M / ortho.res[0])
            pixels, whole = ortho.read((1, 2, 3)).transpose(1, 2, 0), ortho.dataset_mask() > 0
        for top in range(0, pixels.shape[0] - side + 1, side // 2):
            for left in range(0, pixels.shape[1] - side + 1, side // 2):
                window = np.s_[top : top + side, left : left + side]
                if whole[window].mean() > 0.98:
                    path = out / f"{Path(name).stem}-{top}-{left}.png"
                    Image.fromarray(pixels[window]).resize((512, 512), Image.Resampling.BOX).save(path)
                    yield Distractor(path, footprint_m=DISTRACTOR_M)


def _figures(scored: Scored, gallery: int) -> dict[str, object]:
    """Recalls with intervals and chance, the median rank, the heading error of the right tile."""
    rank = scored.standing.rank
    found: dict[str, object] = {"n": len(rank)}
    if "calibration_error" in scored.figures.values:
        found["calibration_error"] = scored.figures.values["calibration_error"]
    for k in (1, 5, 10):
        low, high = _interval((rank < k).astype(float), np.mean)
        found[f"recall@{k}"] = [float((rank < k).mean()), low, high, min(1.0, k / gallery)]
    found["median_rank"] = [
        float(np.median(rank)) + 1,
        *(v + 1 for v in _interval(rank, np.median)),
        (gallery + 1) / 2,
    ]
    wrong_deg = scored.heading_error_deg
    if wrong_deg is not None and np.isfinite(wrong_deg).any():
        known = wrong_deg[np.isfinite(wrong_deg)]
        found["heading_error_deg"] = [float(np.median(known)), *_interval(known, np.median), 90.0]
        found["heading<20deg"] = [
            float((known < 20).mean()),
            *_interval((known < 20).astype(float), np.mean),
            1 / 9,
        ]
    return found


def _interval(values: np.ndarray, statistic: object) -> tuple[float, float]:
    """The middle 95 % of the bootstrap."""
    drawn = np.random.default_rng(0).choice(values, (RESAMPLES, len(values)))
    low, high = np.percentile(statistic(drawn, axis=1), (2.5, 97.5))  # type: ignore[operator]
    return float(low), float(high)


def _line(row: dict[str, object]) -> str:
    """A row in words: value [interval] (chance)."""
    cells = [
        f"{row['model']} | {row['source']} {row['gallery']}, {row['n']} of {row['tiles']}, {row['asked']}"
    ]
    for name, value in row.items():
        if isinstance(value, Sequence) and not isinstance(value, str):
            cells.append("{}: {:.2f} [{:.2f}, {:.2f}] ({:.2f})".format(name, *value))
        elif name == "calibration_error":
            cells.append(f"calibration error: {value:.2f}")
    return " | ".join(cells)


if __name__ == "__main__":
    try:
        main()
    except GeolocError as cause:
        raise SystemExit(str(cause)) from cause
