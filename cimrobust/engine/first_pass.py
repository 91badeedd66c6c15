"""The first run of a model whose work its shapes do not bound.

It is in a process of its own with limited memory and time.

onnxruntime follows the numbers of a file wherever they lead: a few bytes can make it loop without
end, or ask for all memory, and no other thread can stop a kernel that has begun. What a limited
process has finished once, this process may do too.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import select
import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from cimrobust.engine.watchdog import current_time_limit
from cimrobust.errors import CimrobustError, ModelNotCoveredError
from cimrobust.printable_text import printable

#: Share of the memory that is free when the run starts that it may take.
MEMORY_SHARE = 0.8

#: Seconds in which the process must be ready.
_START_SECONDS = 120.0

#: Memory that a run may take where the system does not tell how much is free.
_DEFAULT_BYTES = 8 * 2**30

_CODE = """
import io, json, resource, struct, sys
sys.path[:] = json.loads(sys.argv[1])
import numpy, onnxruntime
source, sink = sys.stdin.buffer, sys.stdout.buffer
def take():
    return source.read(struct.unpack("<Q", source.read(8))[0])
sink.write(b"!")
sink.flush()
head, model, feed = json.loads(take()), take(), dict(numpy.load(io.BytesIO(take())))
if sys.platform == "linux":  # macOS does not hold a process to its address space
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    soft = used + head["bytes"]
    soft = soft if hard == resource.RLIM_INFINITY else min(soft, hard)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
answer = b"+"
try:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    here = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(head["path"] or model, options, providers=here)
    run = onnxruntime.RunOptions()
    run.log_severity_level = 4
    session.run([head["output"]], feed, run)
except MemoryError:
    answer = b"-memory"
except Exception as err:
    text = str(err)
    lacking = any(word in text for word in ("bad_alloc", "bfc_arena", "allocate"))
    answer = b"-memory" if lacking else b"+"
sink.write(answer)
sink.flush()
"""


def check_first_pass(
    model: bytes | Path,
    feed: Mapping[str, Shaped[np.ndarray, "..."]],
    output: str,
    *,
    nodes: list[str],
) -> None:
    """Check that a model runs on one batch within the limits.

    Args:
        model: Serialised model, or the path of a model file.
        feed: One batch.
        output: Output asked for.
        nodes: Nodes whose work the file's shapes do not bound, for the message.

    Raises:
        ModelNotCoveredError: It does not. That it fails in another way is for the run that follows
            to say.
    """
    if any(
        array.dtype.kind in "OVU" for array in feed.values()
    ):  # strings and types that NumPy cannot store by itself
        return
    message = _message(model, feed, output)
    seconds = current_time_limit()
    command = [sys.executable, "-I", "-c", _CODE, json.dumps([path for path in sys.path if path])]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        answer = _answer(process, message, seconds)
    finally:
        process.kill()
        process.communicate()
    if (
        answer == b"" and process.returncode > 0
    ):  # not onnxruntime's fault: it would have ended by a signal
        raise CimrobustError(
            f"the process that tries the first run must work, got exit status {process.returncode}"
            f" from '{sys.executable}' (first run); check this Python installation and its memory"
        )
    problem = {
        None: f"did not run on one batch within {seconds:g} seconds",
        b"": f"ended the process that ran it by signal {-process.returncode}",
        b"-memory": "asked for more memory than there is",
    }.get(answer)
    if problem is not None:
        raise ModelNotCoveredError(
            f"model must run on one batch within limits of time and memory, got one that {problem}"
            f" (work that no shape of the file bounds: {_listed(nodes)}); bound it in the model, or"
            " give it more time (--time-limit)"
        )


def _listed(nodes: list[str]) -> str:
    return printable(", ".join(nodes[:5]) + (" and more" if len(nodes) > 5 else ""))


def _message(
    model: bytes | Path, feed: Mapping[str, Shaped[np.ndarray, "..."]], output: str
) -> bytes:
    content = io.BytesIO()
    np.savez(content, **feed)  # type: ignore[arg-type]
    head = {
        "bytes": _bytes_allowed(),
        "path": str(model.absolute()) if isinstance(model, Path) else None,
        "output": output,
    }
    parts = [
        json.dumps(head).encode(),
        b"" if isinstance(model, Path) else model,
        content.getvalue(),
    ]
    return b"".join(struct.pack("<Q", len(part)) + part for part in parts)


def _answer(process: subprocess.Popen[bytes], message: bytes, seconds: float) -> bytes | None:
    """Return what the process says.

    Nothing where it ended without a word, None where it says nothing in time.
    """
    assert process.stdin is not None
    assert process.stdout is not None
    if _next_byte(process, _START_SECONDS) == b"!":
        with contextlib.suppress(OSError):
            process.stdin.write(message)
            process.stdin.flush()
        first = _next_byte(process, seconds)
        if first is None:
            return None
        if first:
            return first + process.stdout.read()
    process.wait()
    return b""


def _next_byte(process: subprocess.Popen[bytes], seconds: float) -> bytes | None:
    """Return the next byte that the process writes.

    Nothing where it ended, None where none comes in time.
    """
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], seconds)
    return os.read(process.stdout.fileno(), 1) if ready else None


def _bytes_allowed() -> int:
    """Return the memory that a run may take."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(
            int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")
        )
    except (OSError, StopIteration, ValueError):
        return _DEFAULT_BYTES
    return int(MEMORY_SHARE * min(free, _cgroup_bytes()))


def _cgroup_bytes() -> float:
    """Return the memory that this process's control group leaves, infinite without a limit."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit, used = (
            (folder / "memory.max").read_text().strip(),
            (folder / "memory.current").read_text(),
        )
        return float("inf") if limit == "max" else max(0, int(limit) - int(used))
    except (OSError, ValueError):
        return float("inf")
