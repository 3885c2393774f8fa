"""A run's state in one safetensors file, so that it can go on exactly where it stopped."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from geoloc.atomic import atomic_path
from geoloc.errors import ModelError

CHECKPOINT = "checkpoint.safetensors"


@dataclass(frozen=True)
class RunState:
    """What a run must remember besides weights and the optimizer's moments.

    step: batches done in all. loss_sum, loss_steps: of the epoch so far. log: a line for every
    epoch done, with scores where it was validated. loss_scale: float16's.
    """

    step: int = 0
    loss_sum: float = 0.0
    loss_steps: int = 0
    log: tuple[dict[str, float], ...] = ()
    loss_scale: float = 65536.0

    @property
    def mean_loss(self) -> float:
        """Over the epoch so far."""
        return self.loss_sum / max(1, self.loss_steps)

    @property
    def scored(self) -> list[dict[str, float]]:
        """The lines of the epochs that were validated."""
        return [line for line in self.log if "recall@1" in line]

    @property
    def recall_at_1(self) -> float | None:
        """Of the last epoch validated; None where none is."""
        return self.scored[-1]["recall@1"] if self.scored else None

    @property
    def best(self) -> bool:
        """Whether the last epoch validated is as good as any before it."""
        return self.scored[-1]["recall@1"] >= max(line["recall@1"] for line in self.scored)

    def stepped(self, loss: float, loss_scale: float) -> "RunState":
        """After one more batch."""
        return dataclasses.replace(
            self,
            step=self.step + 1,
            loss_sum=self.loss_sum + loss,
            loss_steps=self.loss_steps + 1,
            loss_scale=loss_scale,
        )

    def ended(self, **scores: float) -> "RunState":
        """After an epoch's end, with what it scored."""
        line = {"step": self.step, "loss": self.mean_loss, **scores}
        return dataclasses.replace(self, log=(*self.log, line), loss_sum=0.0, loss_steps=0)


def save_state(run: Path, model: nn.Module, optimizer: torch.optim.Optimizer, state: RunState) -> None:
    """Replace the run's checkpoint, atomically."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in moments.items()}
    plain = torch.contiguous_format
    owned = {name: value.detach().cpu().clone(memory_format=plain) for name, value in tensors.items()}
    with atomic_path(run / CHECKPOINT) as temporary:
        temporary.write_bytes(save(owned, {"state": json.dumps(dataclasses.asdict(state))}))


def load_state(run: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> RunState | None:
    """Restore model and optimizer in place; None where no checkpoint was written yet. Raises ModelError."""
    path = run / CHECKPOINT
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            kept: dict[str, Any] = json.loads(file.metadata()["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        model.load_state_dict(_under("model.", tensors))
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in _under("optimizer.", tensors).items():
            index, _, moment = name.partition(".")
            moments.setdefault(int(index), {})[moment] = value
        optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
        return RunState(**{**kept, "log": tuple(kept["log"])})
    except (OSError, SafetensorError, RuntimeError, ValueError, KeyError, TypeError) as cause:
        raise _damaged(path, cause) from cause


def ended_epochs(run: Path) -> list[dict[str, float]]:
    """What the checkpoint says of the epochs that are done; nothing where there is none.

    Raises ModelError.
    """
    path = run / CHECKPOINT
    if not path.exists():
        return []
    try:
        with safe_open(path, framework="pt") as file:
            return list(json.loads(file.metadata()["state"])["log"])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as cause:
        raise _damaged(path, cause) from cause


def _damaged(path: Path, cause: Exception) -> ModelError:
    return ModelError(f"{path} is damaged or of another model ({cause}); start anew in another --out.")


def _under(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
