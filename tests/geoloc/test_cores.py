"""A process counts the processors it may use, not the machine's."""

import os
from pathlib import Path

import pytest

from geoloc.cores import cores


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("max 100000", 6),
        ("200000 100000", 2),
        ("50000 100000", 1),
        ("900000 100000", 6),
        ("nonsense", 6),
        ("1 0", 6),
        (None, 6),
    ],
)
def test_the_least_of_affinity_and_the_containers_share(
    quota: str | None, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    path = tmp_path / "cpu.max"
    if quota is not None:
        path.write_text(quota + "\n")
    assert cores(path) == expected


def test_a_pinned_process_counts_one() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert cores() == 1
    finally:
        os.sched_setaffinity(0, before)
