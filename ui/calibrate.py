"""`geoloc calibrate`: how sure a model may be, from towns it was not trained on."""

import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from geoloc.atomic import write_text
from geoloc.calibrate import Trial, fit_calibration
from geoloc.embed import best_device
from geoloc.errors import DataError
from geoloc.model import load_encoder, trained_towns
from geoloc.posterior import CALIBRATION
from geoloc.score import Asked
from indexing.build import build_gallery
from indexing.gallery import Gallery
from indexing.trials import Cases, town_cases, try_cases
from ui.progress import stages

ASKED = [Asked(hfov_deg, unknown) for unknown in (True, False) for hfov_deg in (360.0, 180.0, 90.0, 70.0)]


def calibrate(
    data: Annotated[
        list[str], typer.Option(help="Towns that the model was not trained on, towns:PATH. Repeatable.")
    ],
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

    Half of a set's towns become a gallery; street views of both halves are asked of it at 360, 180, 90
    and 70 degrees, heading known and unknown. One fit serves all the sets. Galleries built with the
    model from then on say how probable every place is, and whether the place is in the gallery at all.

    Example: geoloc calibrate --data towns:towns --data towns:worlds --model run/model
    """
    encoder, sets = load_encoder(model).to(best_device()), [_cases(one, split, queries) for one in data]
    if seen := sorted(frozenset().union(*(one.seeds for one in sets)) & trained_towns(model)):
        raise DataError(
            f"The model was trained on the towns {seen}; calibrate it on others, or it is too sure."
        )
    trials: list[Trial] = []
    said = []
    with stages() as report:
        for chosen in sets:
            with tempfile.TemporaryDirectory(prefix="geoloc-") as folder:
                gallery = Path(folder) / "gallery"
                build_gallery(chosen.imagery, model, gallery, stride_m=stride_m, progress=report)
                with Gallery.open(gallery) as tiles:
                    results = [
                        result
                        for asked in ASKED
                        for result in try_cases(chosen.cases, tiles, encoder, asked, report)
                    ]
                    towns = sorted(chosen.seeds)
                    said.append(f"{len(results):,} answers on {len(tiles):,} tiles of towns {towns}")
            trials += [result.trial for result in results]
    words = "; ".join(said)
    fitted = fit_calibration(trials, words)
    write_text(model / CALIBRATION, fitted.to_json())
    print(f"{model / CALIBRATION}: fitted on {words}.", file=sys.stderr)


def _cases(data: str, split: str, queries: int) -> Cases:
    kind, _, root = data.partition(":")
    if kind != "towns" or not Path(root).is_dir():
        raise DataError(f"--data {data!r} should be towns:PATH, a folder that `geoloc synth` made.")
    return town_cases(Path(root), split, queries)
