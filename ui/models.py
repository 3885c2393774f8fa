"""`geoloc models`: other people's weights."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import torch
import typer

from geoloc.model import averaged, load_encoder, read_card, refuse_taken, save_encoder, trained_towns
from geoloc.published import Imported, import_sample4geo, import_transgeo
from geoloc.training.card import averaged_card

IMPORTS: dict[str, Callable[..., Imported]] = {"sample4geo": import_sample4geo, "transgeo": import_transgeo}

models_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@models_app.callback()
def models() -> None:
    """Bring in models that others trained, and average your own."""


@models_app.command("import")
def import_model(
    kind: Annotated[Literal["sample4geo", "transgeo"], typer.Argument(help="Whose code wrote the file.")],
    file: Annotated[Path, typer.Argument(help="The checkpoint, a state dict that torch.save wrote.")],
    dataset: Annotated[
        Literal["cvusa", "cvact", "vigor"], typer.Option(help="What it was trained on; decides sizes.")
    ],
    out: Annotated[Path, typer.Option(help="Model folder to write.")],
    backbone: Annotated[
        str | None, typer.Option(help="timm's name of the backbone, where it is not the published one.")
    ] = None,
) -> None:
    """Turn a published checkpoint into a model folder, with its authors' sizes and normalisation.

    The file is read as tensors alone: nothing in it is executed. Of TransGeo the first stage's weights are
    read; the second crops tiles by attention maps. SAFA and its kin are checkpoints of TensorFlow 1 and
    cannot be read.

    Example: geoloc models import sample4geo weights.pth --dataset cvusa --out models/sample4geo-cvusa
    """
    refuse_taken(out)
    imported = IMPORTS[kind](file, dataset, **({"backbone": backbone} if backbone else {}))
    save_encoder(imported.encoder, out, imported.card, dtype=torch.float32)
    print(f"The model is in {out}", file=sys.stderr)


@models_app.command("average")
def average_models(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Model folder that the other went on from.")],
    later: Annotated[Path, typer.Argument(metavar="LATER", help="Model folder trained on from it.")],
    out: Annotated[Path, typer.Option(help="Model folder to write.")],
    share: Annotated[float, typer.Option(min=0.0, max=1.0, help="Of the later one's weights.")] = 0.5,
) -> None:
    """Average the weights of two models, one trained on from the other (WiSE-FT, Wortsman et al. 2022).

    What a model learns on new ground costs it some of the old; between the two there is often one that
    knows both. Try several shares on validation data, then calibrate.

    Example: geoloc models average data/model run/model --share 0.5 --out both
    """
    refuse_taken(out)
    one, other = load_encoder(model), load_encoder(later)
    sha256s = one.spec.weights_sha256, other.spec.weights_sha256
    seeds = trained_towns(model) | trained_towns(later)
    save_encoder(averaged(one, other, share), out, averaged_card(read_card(later), sha256s, share), seeds)
    print(f"The model is in {out}; it wants a calibration: geoloc calibrate", file=sys.stderr)
