import errno
from pathlib import Path

import pytest
import torch

from geoloc.errors import GeolocError
from geoloc.training.checkpoint import RunState, load_state, save_state


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    save_state(tmp_path, model, optimizer, RunState(step=3))

    def full(path: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(GeolocError, match="disk is full"):
        save_state(tmp_path, model, optimizer, RunState(step=4))
    assert load_state(tmp_path, model, optimizer) == RunState(step=3)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.safetensors"]
