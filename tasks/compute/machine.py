"""What this machine has for a training: free memory within the container's limit, free GPU memory."""

from __future__ import annotations

import os
from pathlib import Path

from tasks.compute.devices import Gpu, find_gpus

_CGROUPS = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))


def free_memory(*, meminfo: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that this process can still take: what the system has, and what its control group may use."""
    fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
    free = int(fields["MemAvailable"].split()[0]) * 1024
    for limit, used in _CGROUPS:
        try:
            most = (cgroup / limit).read_text().strip()
            now = int((cgroup / used).read_text()) - _reclaimable((cgroup / used).with_name("memory.stat"))
        except (OSError, ValueError):
            continue
        if most.isdigit():
            free = min(free, int(most) - now)
    return max(free, 0)


def _reclaimable(stat: Path) -> int:
    """Bytes of files that the group has read and the system can drop: they count as used, and are not."""
    try:
        fields = dict(line.split() for line in stat.read_text().splitlines())
    except (OSError, ValueError):
        return 0
    return int(fields.get("total_inactive_file", fields.get("inactive_file", 0)))


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def usable_gpus(gpus: str | int) -> tuple[list[Gpu], str]:
    """(GPUs, why there is none); none is looked for where the spec says 0."""
    return ([], "train.gpus is 0") if gpus == 0 else find_gpus()
