"""`geoloc pretrain`: images without labels in, a model folder out for `geoloc train` to go on from."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from geoloc.embed import Side
from geoloc.training.config import read_config
from geoloc.training.pretrain import pretrain as run_pretraining
from geoloc.training.pretrain_recipe import PretrainConfig
from geoloc.training.ranks import writes
from preprocessing.unlabelled import open_unlabelled
from ui.hosts import AllowHost
from ui.watch import say_if_new, watched


def pretrain(
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGES...",
            help="Folders of street views; folders of tiles, or imagery as `index build` takes it; or "
            "folders that `geoloc synth` made.",
        ),
    ],
    view: Annotated[Side, typer.Option(help="What they are, and whose encoder learns.")],
    out: Annotated[Path, typer.Option(help="Folder of the run: log, checkpoint, and the model in model/.")],
    config: Annotated[Path | None, typer.Option(help="TOML file of settings.")] = None,
    set: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE", help="One setting, such as epochs=5 or model.channels=48. Repeatable."
        ),
    ] = None,
    stride_m: Annotated[
        float | None,
        typer.Option(help="Metres between tiles that are cut from imagery; by default half a tile."),
    ] = None,
    allow_host: AllowHost = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's last checkpoint.")] = False,
) -> None:
    """Train one view's encoder on images without labels, by SimCLR (Chen et al. 2020).

    Two views of every image, turned, cut and coloured at random, must know each other among those of the
    batch. Of a folder that `geoloc synth` made, the train split's street views or orthophotos are taken. Stop
    it at any moment and go on with --resume. A large batch in little memory: --set batch=1024 --set chunk=64.
    Both encoders, one after another: --set start_from=FIRST/model.

    Example: geoloc pretrain ortho/ --view satellite --out tiles, then
    geoloc train --data towns:towns --out run --set start_from=tiles/model
    """
    settings = read_config(replace(PretrainConfig(), view=view), config, set or [])
    opened = [
        open_unlabelled(word, settings.view, settings.model, stride_m, allow_host or ()) for word in images
    ]
    say_if_new(out, resume)
    with watched(out, settings.epochs, "images") as (show, preparing):
        model = run_pretraining(settings, opened, out, resume=resume, report=show, preparing=preparing)
    if writes():
        print(f"The model is in {model}; go on with geoloc train --set start_from={model}", file=sys.stderr)
