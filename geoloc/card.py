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
