"""The machine that a run computes on, as far as numbers can depend on it."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

import onnxruntime as ort

from cimrobust.engine.machine_record import Machine

_CPUINFO = Path("/proc/cpuinfo")
#: Instruction sets that onnxruntime chooses kernels by, under the names that Linux gives them: x86,
#: then Arm.
_SETS = (
    *(
        "sse4_1",
        "avx",
        "avx2",
        "fma",
        "avx_vnni",
        "avx512f",
        "avx512bw",
        "avx512_vnni",
        "avx512_bf16",
        "amx_int8",
        "amx_bf16",
    ),
    *("asimd", "asimddp", "i8mm", "bf16", "sve", "sme", "sme2"),
)
_NAMES = ("model name", "Processor", "cpu", "CPU part")


@cache
def this_machine() -> Machine:
    """Describe the machine that this process runs on."""
    fields = _fields(_read())
    processor = next((fields[name] for name in _NAMES if fields.get(name)), platform.processor())
    flags = fields.get("flags", fields.get("Features"))
    sets = None if flags is None else tuple(name for name in _SETS if name in flags.split())
    build = " ".join(str(ort.get_build_info()).removeprefix("ORT Build Info:").split())
    return Machine(
        processor=processor,
        architecture=platform.machine(),
        instruction_sets=sets,
        onnxruntime=ort.__version__,
        onnxruntime_build=build,
        operating_system=_operating_system(),
    )


def _operating_system() -> str:
    return " ".join(filter(None, (platform.system(), *platform.libc_ver())))


def _read() -> str:
    try:
        return _CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _fields(text: str) -> dict[str, str]:
    """Return what /proc/cpuinfo says of the first core."""
    pairs = (line.split(":", 1) for line in text.split("\n\n", 1)[0].splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}
