"""A model on disk: weights.safetensors, spec.json and README.md, its card."""

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from geoloc.atomic import atomic_path, write_text
from geoloc.encoder import TwinEncoder
from geoloc.errors import ModelError
from geoloc.posterior import CALIBRATION
from geoloc.spec import EncoderSpec

WEIGHTS, SPEC, CARD = "weights.safetensors", "spec.json", "README.md"
TOWN_SEEDS = "town_seeds"
MAX_WEIGHTS_BYTES = 8 * 2**30


def read_spec(folder: Path) -> EncoderSpec:
    """The spec of a model folder. Raises ModelError."""
    try:
        return EncoderSpec.from_json((folder / SPEC).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as cause:
        raise ModelError(
            f"{folder} is no model: it lacks a readable {SPEC}; train one or take data/model."
        ) from cause


def load_encoder(folder: Path) -> TwinEncoder:
    """The encoder of a model folder, in evaluation mode on the CPU.

    Raises ModelError for a folder that is incomplete, damaged, or whose weights are not the ones
    that its spec names or do not fit it.
    """
    spec = read_spec(folder)
    try:
        path = folder / WEIGHTS
        if path.stat().st_size > MAX_WEIGHTS_BYTES:
            raise ModelError(f"{path} is over {MAX_WEIGHTS_BYTES >> 30} GiB; that is no geoloc model.")
        blob = path.read_bytes()
    except OSError as cause:
        raise ModelError(
            f"{folder} lacks a readable {WEIGHTS}; take the model again from its source."
        ) from cause
    if hashlib.sha256(blob).hexdigest() != spec.weights_sha256:
        raise ModelError(f"{path} is not what {SPEC} was written for; take the model again from its source.")
    encoder = TwinEncoder(spec)
    try:
        weights = {name: value.float() for name, value in load_tensors(blob).items()}
        if spec.shared:
            street = {name: value for name, value in weights.items() if name.startswith("street.")}
            weights |= {name.replace("street", "satellite", 1): value for name, value in street.items()}
        encoder.load_state_dict(weights)
    except (SafetensorError, RuntimeError) as cause:
        raise ModelError(f"{path} does not fit its {SPEC}; take the model again from its source.") from cause
    if not all(value.isfinite().all() for value in weights.values()):
        raise ModelError(f"{path} holds weights that are no numbers; take the model again or train it anew.")
    return encoder.eval()


def read_card(folder: Path) -> str:
    """A model's card, or that it has none that can be read."""
    try:
        return (folder / CARD).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return "It has none."


def averaged(one: TwinEncoder, other: TwinEncoder, share: float) -> TwinEncoder:
    """An encoder between two: `share` of the other's weights, the rest of the one's, norms' statistics too.

    A model that went on from another keeps more of what that knew than it does itself (WiSE-FT, Wortsman et
    al. 2022, equation 1). Raises ModelError for two of different specs.
    """
    specs = [dataclasses.replace(encoder.spec, weights_sha256="") for encoder in (one, other)]
    if specs[0] != specs[1]:
        raise ModelError("Only models of one spec can be averaged, one trained on from the other.")
    between, weights = TwinEncoder(specs[0]), other.state_dict()
    for name, value in one.state_dict().items():
        if value.is_floating_point():
            weights[name] = torch.lerp(value, weights[name], share)
    between.load_state_dict(weights)
    return between.eval()


def trained_towns(folder: Path) -> frozenset[int]:
    """The seeds of the synthetic towns that a model was trained on. Raises ModelError."""
    try:
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            seeds = json.loads((file.metadata() or {}).get(TOWN_SEEDS, "[]"))
        if not isinstance(seeds, list) or any(type(seed) is not int for seed in seeds):
            raise ValueError("town seeds that are no numbers")
        return frozenset(seeds)
    except (OSError, SafetensorError, ValueError, TypeError, RecursionError) as cause:
        raise ModelError(
            f"{folder / WEIGHTS} cannot be read; take the model again from its source."
        ) from cause


def save_encoder(
    encoder: TwinEncoder,
    folder: Path,
    card: str,
    town_seeds: frozenset[int] = frozenset(),
    *,
    dtype: torch.dtype = torch.float16,
) -> EncoderSpec:
    """Write a model folder and return its spec with the weights' sha256.

    town_seeds: of the synthetic towns it was trained on; they go into the weights' header. dtype: of the
    weights on disk, where it holds them; a norm's variance can be beyond float16, and stays as it is.
    Raises ModelError for weights that are no numbers, and nothing is written.

    Each file is replaced atomically, the spec last: a folder caught between two models refuses to
    load rather than mixing them, and a new one that was not finished is not there. What a calibration said of
    other weights goes with them.
    """
    new = not folder.exists()
    weights = {name: _stored(name, value, dtype) for name, value in _own_tensors(encoder).items()}
    blob = save_tensors(weights, {TOWN_SEEDS: json.dumps(sorted(town_seeds))})
    spec = dataclasses.replace(encoder.spec, weights_sha256=hashlib.sha256(blob).hexdigest())
    try:
        with atomic_path(folder / WEIGHTS) as temporary:
            temporary.write_bytes(blob)
        write_text(folder / CARD, card)
        (folder / CALIBRATION).unlink(missing_ok=True)
        write_text(folder / SPEC, spec.to_json())
    except BaseException:
        if new:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    return spec


def refuse_taken(out: Path) -> None:
    """Raise ModelError unless `out`, where a model is to go, is new or empty."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ModelError(f"{out} exists already; choose another --out.")


def _stored(name: str, value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A tensor as it is written. Raises ModelError where it holds what is no number."""
    if not value.isfinite().all():
        raise ModelError(
            f"The weights {name} are no numbers; take them again, or train anew with a lower learning_rate."
        )
    small = value.to(dtype) if value.is_floating_point() else value
    return (small if small.isfinite().all() else value).contiguous().cpu()


def _own_tensors(encoder: TwinEncoder) -> dict[str, torch.Tensor]:
    """The state, without the satellite encoder's where it is the street encoder."""
    shared = encoder.spec.shared
    return {
        name: value
        for name, value in encoder.state_dict().items()
        if not (shared and name.startswith("satellite."))
    }
