"""How much memory is left for what a file asks for."""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cimrobust.errors import MemoryShortError, UsageError

_CGROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)

# Share of the free memory that stages plan with where no limit was given.
_SHARE = 0.6


class _Limit:
    """What the process may take; None: what is free. One for all threads, like the memory."""

    most_bytes: int | None = None


_limit = _Limit()

#: Assumed where the system does not tell.
_UNKNOWN = 2**40


def available_memory() -> int:
    """Return the bytes that this process can still take.

    The least of what the machine, its container and `ulimit -v` leave.
    """
    left = min(_machine(), _container(), _process())
    if _limit.most_bytes is not None:
        left = min(left, _limit.most_bytes - held_memory())
    return max(0, left)


def has_limit() -> bool:
    """Return whether the process was told what it may take."""
    return _limit.most_bytes is not None


def planned_memory() -> int:
    """Return the bytes that a stage may take: what the limit leaves, else 60 % of what is free."""
    return available_memory() if _limit.most_bytes is not None else int(_SHARE * available_memory())


def fitting_workers(workers: int, bytes_each: int, *, beside: int = 0) -> int:
    """Return how many of some threads can work at once; one always does.

    Args:
        workers: Threads that there are.
        bytes_each: What each of them needs.
        beside: Bytes that all of them share.
    """
    return max(min(workers, (planned_memory() - beside) // max(bytes_each, 1)), 1)


@contextmanager
def memory_limit(most_bytes: int) -> Iterator[None]:
    """Let this process take no more than so many bytes in all, as far as stages plan ahead.

    Changes no result: stages work in fewer threads or smaller parts, or refuse.
    """
    before = _limit.most_bytes
    _limit.most_bytes = most_bytes
    try:
        yield
    finally:
        _limit.most_bytes = before


def memory_size(text: str) -> int:
    """Return a size like 6G or 800M in bytes.

    Raises:
        UsageError: It is none, or zero.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([MG])", text.strip())
    size = 0.0 if found is None else float(found[1]) * {"M": 2**20, "G": 2**30}[found[2]]
    if size < 1:
        raise UsageError(
            f"memory must be like 6G or 800M and above zero, got '{text}' (--memory); write a"
            " number and M or G"
        )
    return int(size)


def held_memory() -> int:
    """Return the bytes that this process holds in memory now."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return pages * os.sysconf("SC_PAGE_SIZE")


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
        "out of memory",
        "CUBLAS_STATUS_ALLOC_FAILED",
    )
    return isinstance(error, MemoryError | MemoryShortError) or any(part in text for part in words)


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
