"""The model card: how a model was trained and what it scored."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

from geoloc.pairs import PairTable
from geoloc.score import Asked
from geoloc.training.pretrain_recipe import PretrainConfig, Recipe
from geoloc.training.recipe import TrainConfig

ONLY_TOWNS = """

It has seen synthetic towns only: score it on real photographs and imagery before you believe it there."""


def model_card(
    config: TrainConfig,
    pairs: PairTable,
    validation: PairTable,
    asked: Asked,
    scores: dict[str, float | int],
    log: Sequence[dict[str, float]],
) -> str:
    """A README for a model folder, in Markdown."""
    spec = config.model
    towns = ", ".join(map(str, sorted(pairs.seeds))) or "none; photographs"
    limits = ONLY_TOWNS if pairs.seeds else ""
    return f"""# A geoloc model

Twin encoders for street views and satellite tiles: `{spec.backbone}` to stage {spec.stage}
({"one set of weights for both views" if spec.shared else "each view its own weights"}),
{spec.azimuth_bins} azimuth bins x {spec.channels} channels = {spec.dim} dimensions, tiles of
{spec.footprint_m:g} m ({"in polar form" if spec.polar else "as they are"}).

Trained on {len(pairs.pairs):,} pairs of {pairs.name} ({pairs.split}), {len(log)} epochs so far.
Town seeds trained on: {towns}.

Validated on {len(validation.pairs):,} pairs of {validation.name} ({validation.split}), none of them
trained on, {"whole" if asked.hfov_deg == 360 else f"cut to {asked.hfov_deg:g} degrees"} and at \
{"unknown" if asked.unknown_heading else "known"} heading, ties counted against the model:

| figure | value |
| --- | --- |
| recall@1 | {scores["recall@1"]:.4f} |
| recall@5 | {scores["recall@5"]:.4f} |
| recall@10 | {scores["recall@10"]:.4f} |
| recall@1% (k = {scores["recall@1%_k"]}) | {scores["recall@1%"]:.4f} |
| median rank | {scores["median_rank"]:g} |

The epoch was chosen by recall@1 on these pairs; score it on others before quoting it.{limits}

{_settings(config)}
"""


def averaged_card(other: str, sha256s: tuple[str, str], share: float) -> str:
    """A README for a model between two, in Markdown; other: the card of the second."""
    first, second = sha256s
    return f"""# A geoloc model between two

By `geoloc models average`: {share:g} of the weights {second}
and {1 - share:g} of the weights {first} that those went on from
(WiSE-FT, Wortsman et al. 2022).
Nothing below says how good it is: score it with `geoloc evaluate`, and fit its calibration.
What follows is the card of the later one, and its figures are that model's.

{_demoted(other)}
"""


def adapted_card(parent: str, parent_sha256: str, region: Sequence[str], how: str, calibrated: bool) -> str:
    """A README for a model that was adapted from another: what changed, then the other's card.

    region: what it was adapted with, a line each. calibrated: whether the other one was.
    """
    lines = "\n".join(f"- {line}" for line in region)
    lost = (
        "\nIts calibration was fitted to the scores of the other model and is left out: this one ranks "
        "places but does not say how probable they are. `geoloc calibrate` fits another.\n"
        if calibrated
        else ""
    )
    return f"""# A geoloc model, adapted to a region

By `geoloc adapt`, from the model of weights {parent_sha256}, with:

{lines}

{how}
{lost}
Nothing here says how good it is there: score it with `geoloc evaluate` on pairs that it was not adapted with.
What follows is the card of the model that it comes from, and its figures are that model's.

{_demoted(parent)}
"""


def _demoted(card: str) -> str:
    """Its headings a level lower."""
    return "\n".join(f"#{line}" if line.startswith("#") else line for line in card.splitlines())


def pretrained_card(
    config: PretrainConfig,
    names: Sequence[str],
    images: int,
    seeds: frozenset[int],
    log: Sequence[dict[str, float]],
) -> str:
    """A README for the model folder of a pre-training, in Markdown."""
    what = "street views" if config.view == "street" else "satellite tiles"
    whose = "one encoder of both views" if config.model.shared else f"encoder of {what}"
    towns = ", ".join(map(str, sorted(seeds))) or "none known"
    began = "that of the model it began with" if config.start_from else "as it began, and knows nothing yet"
    rest = "" if config.model.shared else f" The other encoder is {began}."
    return f"""# A pre-trained geoloc model

Not a model to find places with: `geoloc train --set start_from=THIS_FOLDER` makes one of it, with the same
model settings. The {whose}, `{config.model.backbone}` to stage {config.model.stage}, learnt by SimCLR
(Chen et al. 2020) to know an image again, without labels; what compared the images is thrown away.{rest}

Trained on {images:,} {what} of {", ".join(names)}, {len(log)} epochs so far.
Loss, NT-Xent: {log[0]["loss"]:.4f} in the first epoch, {log[-1]["loss"]:.4f} in the last; chance is \
{math.log(2 * config.batch - 1):.4f}.
Town seeds trained on: {towns}.

{_settings(config)}
"""


def _settings(config: Recipe) -> str:
    """A table of all but the model's."""
    lines = (
        f"| {name} | {value.name if isinstance(value, Path) else value} |"
        for name, value in dataclasses.asdict(config).items()
        if name != "model"
    )
    return "\n".join(["| setting | value |", "| --- | --- |", *lines])
