"""`geoloc models`: other people's weights."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import torch
import typer

from geoloc.errors import ModelError
from geoloc.model import save_encoder
from geoloc.published import Imported, import_sample4geo, import_transgeo

IMPORTS: dict[str, Callable[..., Imported]] = {"sample4geo": import_sample4geo, "transgeo": import_transgeo}

models_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@models_app.callback()
def models() -> None:
    """Bring in models that others trained."""


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
    if out.exists():
        raise ModelError(f"{out} exists already; choose another --out.")
    imported = IMPORTS[kind](file, dataset, **({"backbone": backbone} if backbone else {}))
    save_encoder(imported.encoder, out, imported.card, dtype=torch.float32)
    print(f"The model is in {out}", file=sys.stderr)
