"""Two processes over gloo, started as torchrun starts them, against one."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from geoloc.errors import DataError
from geoloc.training.ranks import ALONE, Ranks, all_ranks, norms_over_all
from geoloc.training.run_folder import read_log

RUNS, STEPS = ("plain", "chunks"), ("norms", "chunked norms", "shared")
CHILD = """
import os, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path[:0] = [sys.argv[1], *map(str, Path(sys.argv[1]).parents[:2])]
from safetensors.torch import save_file
from train_child import config, steps, tables
from geoloc.errors import GeolocError
from geoloc.training.train import train
folder, mode, *variants = sys.argv[2:]
folder = Path(folder)
if mode == "steps":
    for variant in variants:
        weights, losses = steps(variant)
        save_file({**weights, "losses": losses}, folder / f"{variant}.{os.environ['RANK']}")
    variants = ()
try:
    for variant in variants:
        train(config(variant), *tables(folder), folder / variant, resume=mode == "resume",
              report=lambda now: (print(now.step, flush=True), time.sleep(0.2 if mode == "slowly" else 0)))
except GeolocError as error:
    sys.exit(str(error))
"""


def start(folder: Path, mode: str, *variants: str, world: int) -> list[subprocess.Popen[str]]:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    folder.mkdir(exist_ok=True)
    words = [sys.executable, "-c", CHILD, str(Path(__file__).parent), str(folder), mode, *variants]
    told = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [
        subprocess.Popen(
            words,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **told, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(world)
    ]


def assert_alike(one: Path, two: Path) -> None:
    """Every loss, weight and moment, to 1e-5."""
    for ours, theirs in zip(read_log(two), read_log(one), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
    ours, theirs = (load_file(run / "checkpoint.safetensors") for run in (two, one))
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.allclose(value.double(), theirs[name].double(), atol=1e-5), name


def test_two_processes_are_one_and_survive_a_kill(tmp_path: Path) -> None:
    """One is killed within an epoch and the other says so; then both go on from the checkpoint."""
    (alone,) = start(tmp_path / "one", "new", *RUNS, world=1)
    first, second = start(tmp_path / "two", "slowly", "plain", world=2)
    with first, second:
        assert first.stdout is not None
        for line in first.stdout:
            if line.strip() == "6":
                second.kill()
                break
        _, said = first.communicate(timeout=100)
    assert (first.returncode, second.returncode) == (1, -signal.SIGKILL)
    assert "Another process of this run is gone" in said and "--resume" in said
    first, second = start(tmp_path / "two", "resume", *RUNS, world=2)
    with alone, first, second:
        ended = [process.communicate(timeout=200) for process in (alone, first, second)]
    assert [process.returncode for process in (alone, first, second)] == [0, 0, 0], ended
    assert ended[1][0].split()[0] in ("6", "7") and not ended[2][0], "it goes on, and one alone reports"
    for variant in RUNS:
        assert_alike(tmp_path / "one" / variant, tmp_path / "two" / variant)


def test_norms_see_all_processes(tmp_path: Path) -> None:
    """In float64: batch norms, alone and within timm's layers, over whole batches and chunks."""
    processes = [
        *start(tmp_path / "one", "steps", *STEPS, world=1),
        *start(tmp_path / "two", "steps", *STEPS, world=2),
    ]
    with processes[0], processes[1], processes[2]:
        ended = [process.communicate(timeout=200) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], ended
    for variant in STEPS:
        want = load_file(tmp_path / "one" / f"{variant}.0")
        for rank in range(2):
            found = load_file(tmp_path / "two" / f"{variant}.{rank}")
            assert found.keys() == want.keys()
            for name, value in found.items():
                assert torch.allclose(value.double(), want[name].double(), rtol=1e-5, atol=1e-5), name


class Twins(Ranks):
    """Two processes that hold the same images: together they see what each sees alone."""

    def gather(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.cat([rows, rows])

    def add(self, tensor: torch.Tensor) -> None:
        tensor *= 2


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
def test_a_norm_over_all_is_torchs_norm_of_the_whole(affine: bool, dtype: torch.dtype, near: float) -> None:
    torch.manual_seed(0)
    alone, joined = nn.BatchNorm2d(5, affine=affine), nn.BatchNorm2d(5, affine=affine)
    if affine:
        nn.init.normal_(alone.weight)
        nn.init.normal_(alone.bias)
    joined.load_state_dict(alone.state_dict())
    norms_over_all(nn.Sequential(joined), Twins(0, 2))
    images = (3 * torch.randn(4, 5, 6, 7) + 2).to(dtype).contiguous(memory_format=torch.channels_last)
    weights = torch.randn(4, 5, 6, 7).to(dtype)
    seen = []
    for norm in (alone, joined):
        given = images.clone().requires_grad_()
        out = norm(given)
        (out * weights).sum().backward()
        own = [one.grad for one in norm.parameters()]
        seen.append([out.detach(), given.grad, *own, norm.running_mean])
    for want, found in zip(*seen, strict=True):
        assert found.dtype == want.dtype
        assert torch.allclose(found.double(), want.double(), rtol=near, atol=near)
    assert torch.allclose(joined.running_var, alone.running_var, rtol=0.02)


def test_alone_nothing_is_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    for world in ("1", "4"):  # a cluster's own variables are not torchrun's
        monkeypatch.setenv("WORLD_SIZE", world)
        with all_ranks() as ranks:
            assert ranks is ALONE and ranks.first
    rows = torch.rand(3, 2)
    assert ALONE.gather(rows) is rows


def test_more_processes_than_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    told = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "x", "MASTER_PORT": "1"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(DataError, match="There are 1 GPUs"), all_ranks():
        pass
