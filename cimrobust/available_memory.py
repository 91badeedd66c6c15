"""How much memory is left for what a file asks for."""

from __future__ import annotations

import os
import resource
from pathlib import Path

_CGROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)

#: Assumed where the system does not tell.
_UNKNOWN = 2**40


def available_memory() -> int:
    """Return the bytes that this process can still take.

    The least of what the machine, its container and `ulimit -v` leave.
    """
    return max(0, min(_machine(), _container(), _process()))


def is_about_memory(error: Exception) -> bool:
    """Tell whether an error says that there is no memory left.

    Torch and onnxruntime have no error of their own for it.
    """
    text = str(error)
    words = (
        "can't allocate memory",
        "bad_alloc",
        "bad allocation",
        "Failed to allocate memory",
        "CUDA out of memory",
    )
    return isinstance(error, MemoryError) or any(part in text for part in words)


def _machine() -> int:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        kilobytes = {
            name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)
        }
        return 1024 * kilobytes["MemAvailable"]
    except (OSError, ValueError, KeyError, IndexError):
        return _UNKNOWN


def _container() -> int:
    for limit, used in _CGROUPS:
        try:
            return int(limit.read_text(encoding="ascii")) - int(used.read_text(encoding="ascii"))
        except (OSError, ValueError):  # not this kind of container, or "max": no limit
            continue
    return _UNKNOWN


def _process() -> int:
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return _UNKNOWN
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return limit
    return limit - pages * os.sysconf("SC_PAGE_SIZE")
