"""The model card: how a model was trained and what it scored."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from geoloc.pairs import PairTable
from geoloc.recipe import TrainConfig

ONLY_TOWNS = """

It has seen synthetic towns only: score it on real photographs and imagery before you believe it there."""


def model_card(
    config: TrainConfig,
    pairs: PairTable,
    validation: PairTable,
    scores: dict[str, float | int],
    log: Sequence[dict[str, float]],
) -> str:
    """A README for a model folder, in Markdown."""
    spec = config.model
    towns = ", ".join(map(str, sorted(pairs.seeds))) or "none; photographs"
    limits = ONLY_TOWNS if pairs.seeds else ""
    settings = "\n".join(
        f"| {name} | {value.name if isinstance(value, Path) else value} |"
        for name, value in dataclasses.asdict(config).items()
        if name != "model"
    )
    return f"""# A geoloc model

Twin encoders for street views and satellite tiles: `{spec.backbone}` to stage {spec.stage}
({"one set of weights for both views" if spec.shared else "each view its own weights"}),
{spec.azimuth_bins} azimuth bins x {spec.channels} channels = {spec.dim} dimensions, tiles of
{spec.footprint_m:g} m ({"in polar form" if spec.polar else "as they are"}).

Trained on {len(pairs.pairs):,} pairs of {pairs.name} ({pairs.split}), {len(log)} epochs so far.
Town seeds trained on: {towns}.

Validated on {len(validation.pairs):,} pairs of {validation.name} ({validation.split}), none of them
trained on, cut to 90 degrees and at unknown heading, ties counted against the model:

| figure | value |
| --- | --- |
| recall@1 | {scores["recall@1"]:.4f} |
| recall@5 | {scores["recall@5"]:.4f} |
| recall@10 | {scores["recall@10"]:.4f} |
| recall@1% (k = {scores["recall@1%_k"]}) | {scores["recall@1%"]:.4f} |
| median rank | {scores["median_rank"]:g} |

The epoch was chosen by recall@1 on these pairs; score it on others before quoting it.{limits}

| setting | value |
| --- | --- |
{settings}
"""


def adapted_card(parent: str, parent_sha256: str, region: Sequence[str], how: str, calibrated: bool) -> str:
    """A README for a model that was adapted from another: what changed, then the other's card.

    region: what it was adapted with, a line each. calibrated: whether the other one was.
    """
    lines = "\n".join(f"- {line}" for line in region)
    older = "\n".join(f"#{line}" if line.startswith("#") else line for line in parent.splitlines())
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

{older}
"""
