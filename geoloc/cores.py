"""How many processors there are for this process, in a job of a cluster or a container too."""

import os
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""A container's share, in microseconds of processors and of the clock: "200000 100000", or "max 100000"."""


def cores(quota: Path = QUOTA) -> int:
    """Those it may run on, or those that its container pays for where these are fewer; at least one."""
    usable = len(os.sched_getaffinity(0))
    try:
        spent, period = quota.read_text().split()
        return max(1, min(usable, int(spent) // int(period)))
    except (OSError, ValueError, ZeroDivisionError):
        return usable
