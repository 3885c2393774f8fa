"""A build on a Ray cluster of two nodes, one of which is killed, ends in the bytes of a local one."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_world import make_world

from indexing.build import build_gallery
from indexing.manifest import live_folder
from indexing.verify import verify
from ui.cli import main

ROOT = Path(__file__).parents[2]


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def world(tmp_path_factory, tiny_spec):
    return make_world(tmp_path_factory.mktemp("world"), tiny_spec)


def arguments(world, out: Path, address: str) -> list[str]:
    return ["index", "build", str(world.ortho), "--model", str(world.model), "--out", str(out),
            "--stride-m", "2", "--engine", "ray", "--address", address]  # fmt: skip


def test_without_ray_the_error_says_what_to_install(world, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SystemExit) as exit:
        main(arguments(world, tmp_path / "g", "127.0.0.1:1"))
    assert exit.value.code == 2 and 'pip install "geoloc-crossview[ray]"' in capsys.readouterr().err


@pytest.mark.parametrize("half", [["--engine", "ray"], ["--address", "127.0.0.1:1"]])
def test_engine_and_address_belong_together(world, tmp_path, capsys, half):
    with pytest.raises(SystemExit) as exit:
        main([*arguments(world, tmp_path / "g", "x")[:-4], *half])
    assert exit.value.code == 2 and "belong together" in capsys.readouterr().err


CLUSTER = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
doomed = cluster.add_node(num_cpus=1)
print(cluster.address, flush=True)
sys.stdin.readline()
cluster.remove_node(doomed, allow_graceful=False)
print("killed", flush=True)
sys.stdin.readline()
cluster.shutdown()
"""


@pytest.mark.slow
def test_a_node_killed_mid_build_changes_no_byte(world, tmp_path):
    pytest.importorskip("ray", reason='pip install "geoloc-crossview[ray]" to test on a cluster')
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", CLUSTER], **pipes) as cluster:
        try:
            address = cluster.stdout.readline().strip()
            out = tmp_path / "ray"
            command = [sys.executable, "-m", "ui.cli", *arguments(world, out, address)]
            with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as build:
                while len(list(out.glob(".building-*/block-*.npz"))) < 3 and build.poll() is None:
                    time.sleep(0.05)
                assert build.poll() is None, build.stderr.read()
                cluster.stdin.write("kill\n")
                cluster.stdin.flush()
                assert cluster.stdout.readline() == "killed\n"
                blocks = len(list(out.glob(".building-*/block-*.npz")))
                assert build.wait(250) == 0, build.stderr.read()
        finally:
            cluster.communicate("end\n")
    build_gallery([world.ortho], world.model, tmp_path / "local", stride_m=2)
    assert 3 <= blocks < 25
    assert snapshot(live_folder(out)) == snapshot(live_folder(tmp_path / "local"))
    verify(out)
