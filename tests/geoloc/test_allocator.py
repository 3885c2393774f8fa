"""What is freed and asked for again costs no page faults any more."""

import subprocess
import sys

import pytest

from geoloc import allocator

CHILD = """
import resource, sys
import numpy as np
from geoloc.allocator import hold_memory
if sys.argv[1] == "held":
    assert hold_memory()
def batch():
    [np.ones(1 << 20) for _ in range(4)]

for _ in range(3):
    batch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    batch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not allocator.hold_memory(), reason="no glibc here")
def test_freed_memory_is_used_again() -> None:
    faults = {
        how: int(subprocess.run([sys.executable, "-c", CHILD, how], capture_output=True, text=True).stdout)
        for how in ("held", "given back")
    }
    assert faults["held"] < faults["given back"] / 3


def test_without_glibc_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_: str) -> None:
        raise OSError("no such library")

    monkeypatch.setattr(allocator.ctypes, "CDLL", none)
    assert not allocator.hold_memory()
