"""The result of an evaluation: what `--json` prints, `--report` keeps and `geoloc compare` reads."""

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from geoloc.pairs import PairTable
from geoloc.score import Evaluation, Scored
from geoloc.spec import EncoderSpec

SCHEMA = 1
PACKAGES = ("geoloc-crossview", "torch", "timm", "numpy", "pillow")


def versions() -> dict[str, str]:
    """Of what the figures were made with."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def result(
    table: PairTable,
    evaluation: Evaluation,
    spec: EncoderSpec,
    *,
    dataset_sha256: str,
    ties: str,
    precision: torch.dtype,
) -> dict[str, Any]:
    """Figures with their intervals for every way of asking, and all that decides them.

    protocol: two results are of one contest when theirs are equal. The first way's figures stand on the
    top level as well.
    """
    took = evaluation.embedded.throughput
    results = [_figures(one) for one in evaluation.scored]
    return {
        "split": table.split,
        "schema": SCHEMA,
        "protocol": {
            "dataset": table.name,
            "split": table.split,
            "direction": table.direction,
            "labels": table.labels,
            "lenient": table.also_means,
            "ties": ties,
            "dataset_sha256": dataset_sha256,
        },
        "model_sha256": spec.weights_sha256,
        "precision": str(precision).removeprefix("torch."),
        "versions": versions(),
        "throughput": {
            "images": took.images,
            "images_per_s": took.images / max(took.wall_s, 1e-9),
            "wall_s": took.wall_s,
            "decode_s": took.decode_s,
            "resize_s": took.resize_s,
            "forward_s": took.forward_s,
        },
        "reliability": [list(one.reliability) for one in evaluation.scored],
        **results[0],
        "results": results,
    }


def _figures(one: Scored) -> dict[str, Any]:
    return {
        "hfov_deg": one.asked.hfov_deg,
        "unknown_heading": one.asked.unknown_heading,
        **one.figures.values,
        "intervals": {name: list(pair) for name, pair in one.figures.intervals.items()},
    }


def named_below(root: Path, path: Path) -> str:
    """A file of a dataset by its place in it, wherever that lies."""
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


def outcomes(evaluation: Evaluation, root: Path) -> dict[str, Any]:
    """Every query by name; for each way of asking its rank (from 0), and its error where places are known."""
    names = [named_below(root, view.path) for view in evaluation.lineup.queries]
    found: dict[str, Any] = {
        "queries": names,
        "ranks": [one.standing.rank.tolist() for one in evaluation.scored],
    }
    errors_m = [one.error_m.tolist() for one in evaluation.scored if one.error_m is not None]
    return found | {"errors_m": errors_m} if errors_m else found
