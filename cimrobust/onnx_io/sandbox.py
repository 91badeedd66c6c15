"""Shape inference on models nobody has vouched for, in a process of its own.

The memory and time of that process are limited.

ONNX shape inference is C++ code that follows the numbers of a file wherever they lead: a handful of
bytes can make it ask for all memory. What a limited process has finished once, this process may do
too.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import struct
import subprocess
import sys
import threading

from onnx import onnx_cpp2py_export as cpp

from cimrobust.errors import CimrobustError

#: Memory of the limited process, on top of what it starts with.
MAX_BYTES = 2**30

#: Seconds one model may take.
MAX_SECONDS = 30.0

#: Bytes that a model may become by it: what was inferred must be read by this process in the end.
MAX_INFERRED = MAX_BYTES // 4

# The inference itself is one extension module, which needs neither NumPy nor the rest of onnx.
_CODE = f"""
import resource, struct, sys
from importlib.util import module_from_spec, spec_from_file_location
spec = spec_from_file_location({cpp.__name__!r}, sys.argv[1])
inference = module_from_spec(spec)
spec.loader.exec_module(inference)
if sys.platform == "linux":  # macOS does not hold a process to its address space
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + {MAX_BYTES},) * 2)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
source, sink = sys.stdin.buffer, sys.stdout.buffer
sink.write(b"!")
sink.flush()
while len(head := source.read(8)) == 8:
    data = source.read(struct.unpack("<Q", head)[0])
    answer = b"+"
    for strict in (True, False):
        try:
            inferred = inference.shape_inference.infer_shapes(data, strict, strict, True)
            answer = b"-" if len(inferred) > {MAX_INFERRED} else answer
        except MemoryError:
            answer = b"-"
        except Exception as err:
            answer = b"-" if "bad_alloc" in str(err) or "length_error" in str(err) else answer
    sink.write(answer)
    sink.flush()
"""


class _Worker:
    """One limited process, asked for one model after the other."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        command = [
            sys.executable,
            "-I",
            "-S",
            "-c",
            _CODE,
            str(cpp.__file__),
        ]
        env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=env,
        )
        if not self._answers(b"!"):
            self.close()
            raise CimrobustError(
                f"the process that checks models must start, got none from '{sys.executable}'"
                " (shape inference); check this Python installation"
            )

    def finishes(self, model: bytes) -> bool:
        """Return whether inference of a model ends within the limits.

        After False the worker is of no more use.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(struct.pack("<Q", len(model)) + model)
            self._process.stdin.flush()
        except OSError:
            return False
        return self._answers(b"+")

    def _answers(self, expected: bytes) -> bool:
        """Return whether the process says `expected` next, in time."""
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], MAX_SECONDS)
        return bool(ready) and self._process.stdout.read(1) == expected

    def close(self) -> None:
        """End the process, if it is this process's own."""
        if self.owner != os.getpid():
            return
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


_lock = threading.Lock()
_workers: list[_Worker] = []


def inference_problem(model: bytes) -> str | None:
    """Return why this process must not infer a serialised model's shapes, None if it may."""
    with _lock:
        if not _workers or _workers[0].owner != os.getpid():
            _workers[:] = [_Worker()]
        if _workers[0].finishes(model):
            return None
        _stop()
    return (
        f"finding its shapes does not end within {MAX_BYTES // 2**30} GiB of memory and"
        f" {MAX_SECONDS:.0f} seconds"
    )


def _stop() -> None:
    for worker in _workers:
        worker.close()
    _workers.clear()


atexit.register(_stop)
