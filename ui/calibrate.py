"""`geoloc calibrate`: how sure a model may be, from towns it was not trained on."""

import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from geoloc.atomic import write_text
from geoloc.calibrate import fit_calibration
from geoloc.errors import DataError
from geoloc.model import load_encoder, trained_towns
from geoloc.posterior import FILE
from geoloc.score import Asked
from indexing.build import build_gallery
from indexing.gallery import Gallery
from indexing.trials import town_cases, try_cases
from ui.progress import stages

ASKED = [Asked(hfov_deg, unknown) for unknown in (True, False) for hfov_deg in (360.0, 180.0, 90.0, 70.0)]


def calibrate(
    data: Annotated[str, typer.Option(help="Towns that the model was not trained on, towns:PATH.")],
    model: Annotated[Path, typer.Option(help="Model folder; calibration.json is written into it.")],
    split: Annotated[str, typer.Option(help="train, val or all of the towns.")] = "val",
    stride_m: Annotated[
        float | None, typer.Option(help="Of the gallery to calibrate on; as of `index build`.")
    ] = None,
    queries: Annotated[
        int, typer.Option(min=10, help="Street views inside the gallery, and as many outside.")
    ] = 150,
) -> None:
    """Fit how scores become probabilities, and keep it with the model.

    Half of the towns become a gallery; street views of both halves are asked of it at 360, 180, 90 and
    70 degrees, heading known and unknown. Galleries built with the model from then on say how probable
    every place is, and whether the place is in the gallery at all.

    Example: geoloc calibrate --data towns:towns --model run/model
    """
    kind, _, root = data.partition(":")
    if kind != "towns" or not Path(root).is_dir():
        raise DataError(f"--data {data!r} should be towns:PATH, a folder that `geoloc synth` made.")
    encoder = load_encoder(model)
    chosen = town_cases(Path(root), split, queries)
    if seen := sorted(chosen.seeds & trained_towns(model)):
        raise DataError(
            f"The model was trained on the towns {seen}; calibrate it on others, or it is too sure."
        )
    with tempfile.TemporaryDirectory(prefix="geoloc-") as folder, stages() as report:
        gallery = Path(folder) / "gallery"
        build_gallery(chosen.imagery, model, gallery, stride_m=stride_m, progress=report)
        with Gallery.open(gallery) as tiles:
            results = [
                result for asked in ASKED for result in try_cases(chosen.cases, tiles, encoder, asked, report)
            ]
            words = f"{len(results):,} answers on {len(tiles):,} tiles of towns {sorted(chosen.seeds)}"
    fitted = fit_calibration([result.trial for result in results], words)
    write_text(model / FILE, fitted.to_json())
    print(f"{model / FILE}: fitted on {words}.", file=sys.stderr)
