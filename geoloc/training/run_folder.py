"""What a run writes down about itself: settings, surroundings, the log, and a batch that broke it."""

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from geoloc.atomic import cannot_write, holding, make_folder, write_text
from geoloc.cores import cores
from geoloc.errors import DataError
from geoloc.model import trained_towns
from geoloc.pairs import PairTable
from geoloc.training.checkpoint import CHECKPOINT
from geoloc.training.config import over
from geoloc.training.pretrain_recipe import Recipe

CONFIG, ENVIRONMENT, LOG, FAILED = "config.json", "environment.jsonl", "log.jsonl", "failed_batch.json"
OF_NO_WEIGHT = {"workers", "save_every_s", "log_every"}
PAIRS, IMAGES, DECODED = "pairs.json", "images.json", "decoded"
WRITTEN = (ENVIRONMENT, LOG, FAILED, PAIRS, IMAGES, DECODED, CHECKPOINT, "model", "curves.png")
BEFORE = "trained on before"
PACKAGES = ("geoloc-crossview", "torch", "torchvision", "timm", "numpy", "safetensors", "pillow")
ROOT = Path(__file__).resolve().parents[2]

Told = dict[str, dict[str, Any]]
"""What a run learns from, by its use: "trained on", "validated on"."""


@contextmanager
def alone(run: Path, first: bool) -> Iterator[None]:
    """Hold a run's folder for its first process; the system lets it go when that ends, however it ends.

    Makes the folder, and removes it on leaving where nothing was written. Raises DataError where another
    process trains there, GeolocError for a folder that cannot be made.
    """
    if not first:
        yield
        return
    make_folder(run)
    with ExitStack() as held:
        try:
            held.enter_context(holding(run, wait=False))
        except BlockingIOError as cause:
            raise DataError(
                f"Another process trains in {run}; wait for it, stop it or choose another --out."
            ) from cause
        try:
            yield
        finally:
            with suppress(OSError):
                run.rmdir()


def claim(run: Path, config: Recipe, resume: bool, world: int, device: torch.device) -> None:
    """Take a folder for a run of this config, or go on in one, and note where that happens.

    Raises as `refuse_taken`.
    """
    refuse_taken(run, config, resume)
    write_text(run / CONFIG, json.dumps(_plain(config), indent=2) + "\n")
    _append(run / ENVIRONMENT, {**environment(device), "processes": world, "seed": config.seed})


def refuse_taken(run: Path, config: Recipe, resume: bool) -> None:
    """Raise DataError for a folder that another config made, or any run's where `resume` is not asked for.

    Or that is no run's and holds what a run would write over. Settings that an older version did not know
    count as their defaults; those that decide no weight may differ.
    """
    path = run / CONFIG
    if not path.exists():
        if others := sorted(name for name in WRITTEN if (run / name).exists()):
            raise DataError(f"{run} is no run's but holds {', '.join(others)}; choose another --out.")
        return
    if not resume:
        raise DataError(f"{run} holds a run already; go on with --resume or choose another --out.")
    before, now = _flat(over(_plain(type(config)()), _read(path))), _flat(_plain(config))
    named = {**before, **now}.keys() - OF_NO_WEIGHT
    if differ := sorted(name for name in named if before.get(name) != now.get(name)):
        told = ", ".join(f"{name} was {before.get(name)}" for name in differ)
        raise DataError(f"{run} was begun with other settings ({told}; see {path}); choose another --out.")


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A table of tables as one, its names as --set writes them."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def refuse_other_data(path: Path, found: Told) -> None:
    """Raise DataError for other data than a run's file notes, by their use.

    What an older version began, which did not note the seeds, goes on; what it noted is compared.
    """
    before = _noted(path) if path.exists() else found
    for use, described in found.items():
        noted = before.get(use, {"seeds": None})
        if "seeds" in noted and any(described.get(name) != value for name, value in noted.items()):
            raise DataError(
                f"{path.parent} was begun on other data ({use}; see {path}); give the same or another --out."
            )


def note_data(path: Path, data: Told, before: frozenset[int]) -> None:
    """Note in a run's file what it learns from, and the towns that its beginning was trained on."""
    write_text(path, json.dumps({**data, BEFORE: {"seeds": sorted(before)}}, indent=2) + "\n")


def seeds_before(config: Recipe, noted: Path | None) -> frozenset[int]:
    """Of the synthetic towns that the model it starts from was trained on, as its file or that model says."""
    if config.start_from is None:
        return frozenset()
    known = _noted(noted) if noted and noted.exists() else {}
    if BEFORE not in known:
        return trained_towns(config.start_from)
    seeds = known[BEFORE].get("seeds")
    if not isinstance(seeds, list) or any(type(seed) is not int for seed in seeds):
        raise DataError(f"{noted} does not say by their seeds which towns came before; choose another --out.")
    return frozenset(seeds)


def described(table: PairTable) -> dict[str, Any]:
    """What tells pairs apart: names of files, wherever these lie, places and headings."""
    told = "\n".join(
        f"{pair.street.name} {pair.satellite.name} {pair.lonlat} {pair.heading_deg}" for pair in table.pairs
    )
    digest = hashlib.sha256(told.encode("utf-8", "surrogateescape")).hexdigest()
    return {"name": table.name, "pairs": len(table.pairs), "seeds": sorted(table.seeds), "sha256": digest}


def give_up(run: Path) -> None:
    """Leave nothing of a run that could not begin, so that the same command does once its cause is gone."""
    for name in (CONFIG, ENVIRONMENT, LOG, PAIRS, IMAGES):
        (run / name).unlink(missing_ok=True)
    shutil.rmtree(run / DECODED, ignore_errors=True)
    with suppress(OSError):
        run.rmdir()


def environment(device: torch.device) -> dict[str, Any]:
    """How this process was called, where it runs, and of which state of the code."""
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": shlex.join(sys.argv),
        "git": git_revision(ROOT),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "device": torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or "cpu",
        "threads": torch.get_num_threads(),
        "cores": cores(),
    }


def git_revision(root: Path) -> str:
    """The commit that a folder is at, `-dirty` where files differ from it; "none" if it is no repository."""
    words = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    ceiling = {**os.environ, "GIT_CEILING_DIRECTORIES": str(root.parent)}
    try:
        said = subprocess.run(words, capture_output=True, text=True, env=ceiling, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return "none"
    return said.stdout.strip()


def log(run: Path, line: dict[str, Any]) -> None:
    """Add a line to the log, whole or not at all as far as a killed process goes."""
    _append(run / LOG, line)


def read_log(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's log that are whole: of steps, which have a learning_rate, and of epochs."""
    path = run / LOG
    return [line for text in _lines(path) if (line := _parsed(text)) and type(line.get("step")) is int]


def cut_log(run: Path, step: int) -> None:
    """Drop what the log says of steps after `step`: they will be done again."""
    lines = [line for line in read_log(run) if line["step"] <= step]
    write_text(run / LOG, "".join(json.dumps(line) + "\n" for line in lines))


def blame(
    run: Path, step: int, loss: float, gradient_norm: float, batch: Sequence[dict[str, Any]], write: bool
) -> Path:
    """Write down the batch that broke a run, or leave that to another process; the file's path."""
    found = {"step": step, "loss": str(loss), "gradient_norm": str(gradient_norm), "batch": batch}
    if write:
        write_text(run / FAILED, json.dumps(found, indent=2) + "\n")
    return run / FAILED


def _append(path: Path, line: dict[str, Any]) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    except OSError as cause:
        raise cannot_write(path, cause) from cause


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except ValueError:  # the last words of a process that died
        return None
    return line if isinstance(line, dict) else None


def _plain(config: Recipe) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config), default=str))
    return found


def _read(path: Path) -> dict[str, Any]:
    found = _parsed(path.read_text(encoding="utf-8", errors="replace"))
    if found is None:
        raise DataError(f"{path} is no run's settings; choose another --out.")
    return found


def _noted(path: Path) -> Told:
    told = _read(path)
    if not all(isinstance(described, dict) for described in told.values()):
        raise DataError(f"{path} does not say what a run learnt from; choose another --out.")
    return told


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "none"
