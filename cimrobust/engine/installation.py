"""What this installation has, whether it computes correctly, and what will be slow on it."""

from __future__ import annotations

import importlib.util
import os
import platform
from dataclasses import dataclass
from importlib import metadata

import numpy as np
import onnxruntime
import torch

from cimrobust import _native
from cimrobust.available_memory import available_memory
from cimrobust.engine.machine import this_machine
from cimrobust.engine.machine_record import Machine

PACKAGE = "cimrobust"
#: What every extra gives, and the modules that must be importable for it.
EXTRAS: dict[str, tuple[str, tuple[str, ...]]] = {
    "bom": ("bills of materials", ("cyclonedx",)),
    "images": ("data sets from folders of images", ("PIL",)),
    "pdf": ("certificates as PDF/A", ("weasyprint",)),
    "retrain": ("tuned re-training", ("optuna",)),
    "samples": ("building the sample networks again", ("sklearn", "onnxscript")),
    "sign": ("signatures with a key", ("securesystemslib", "in_toto_attestation")),
    "sign-sigstore": ("signatures with an identity", ("sigstore",)),
}
#: Memory below which networks of more than some million weights will not fit, bytes.
_LITTLE_MEMORY = 4 * 2**30


@dataclass(frozen=True)
class Library:
    """One library that the package requires.

    Attributes:
        name: Its name on the package index.
        required: Versions that the package accepts, as it declares them; empty: any.
        installed: Version here; None: not installed.
        is_accepted: Whether that version is one of those.
    """

    name: str
    required: str
    installed: str | None
    is_accepted: bool


@dataclass(frozen=True)
class Extra:
    """One optional part of the package.

    Attributes:
        name: Its name, as in ``pip install 'cimrobust[name]'``.
        purpose: What it gives.
        is_installed: Whether everything that it needs can be imported.
    """

    name: str
    purpose: str
    is_installed: bool


@dataclass(frozen=True)
class Installation:
    """What this installation has.

    Attributes:
        version: Version of the package.
        python: Version of Python.
        machine: Processor, instruction sets, operating system.
        processors: Processors that this process may use.
        memory_bytes: Bytes that this process can still take.
        gpu: Name of the GPU that torch can use; None: see `gpu_reason`.
        gpu_reason: Why there is none; empty where there is one.
        kernel_instructions: Instruction sets of the native kernel that run here, best first.
        providers: Execution providers of onnxruntime.
        libraries: Libraries that the package requires.
        extras: Optional parts.
        problems: What does not work, each with what to do.
        slow: What works, and will be slow.
    """

    version: str
    python: str
    machine: Machine
    processors: int
    memory_bytes: int
    gpu: str | None
    gpu_reason: str
    kernel_instructions: tuple[str, ...]
    providers: tuple[str, ...]
    libraries: tuple[Library, ...]
    extras: tuple[Extra, ...]
    problems: tuple[str, ...]
    slow: tuple[str, ...]


def examine_installation() -> Installation:
    """Examine this installation: versions, machine, extras, and a short product in torch."""
    machine, libraries = this_machine(), _libraries()
    processors, memory = _processors(), available_memory()
    gpu, gpu_reason = _gpu()
    return Installation(
        version=metadata.version(PACKAGE),
        python=platform.python_version(),
        machine=machine,
        processors=processors,
        memory_bytes=memory,
        gpu=gpu,
        gpu_reason=gpu_reason,
        kernel_instructions=tuple(reversed(_native.simd_levels())),
        providers=tuple(onnxruntime.get_available_providers()),
        libraries=libraries,
        extras=tuple(Extra(name, *_extra(name)) for name in EXTRAS),
        problems=(*_wrong_versions(libraries), *_wrong_numbers()),
        slow=_slow(machine, processors, memory, gpu),
    )


def _libraries() -> tuple[Library, ...]:
    from_index = metadata.requires(PACKAGE) or []
    return tuple(_library(text) for text in from_index if "extra ==" not in text)


def _library(text: str) -> Library:
    """Return what is installed of a requirement such as ``numpy>=2.0``."""
    length = next((at for at, sign in enumerate(text) if sign in "<>=!~[( ;"), len(text))
    name, required = text[:length], text[length:].strip()
    try:
        installed = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Library(name, required, None, is_accepted=False)
    return Library(name, required, installed, _accepts(required, installed))


def _accepts(required: str, installed: str) -> bool:
    """Tell whether a version keeps lower bounds, the only kind that the package declares."""
    bounds = [part.strip() for part in required.split(",") if part.strip()]
    return all(
        _numbers(installed) >= _numbers(bound[2:]) for bound in bounds if bound.startswith(">=")
    )


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.split("+", maxsplit=1)[0].split(".")
    return tuple(int("".join(filter(str.isdigit, part)) or 0) for part in parts)


def _extra(name: str) -> tuple[str, bool]:
    purpose, modules = EXTRAS[name]
    return purpose, all(importlib.util.find_spec(module) is not None for module in modules)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gpu() -> tuple[str | None, str]:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name(0), ""
    if torch.version.cuda is None:
        return None, "torch was built without CUDA"
    return None, f"torch, built for CUDA {torch.version.cuda}, finds no usable GPU or driver"


def _wrong_versions(libraries: tuple[Library, ...]) -> list[str]:
    return [
        f"{library.name} must be {library.required.lstrip('(').rstrip(')') or 'installed'}, got "
        f"{library.installed or 'none'}; pip install '{library.name}{library.required}'"
        for library in libraries
        if not library.is_accepted
    ]


def _wrong_numbers() -> list[str]:
    """Compute a small product of integers with torch and NumPy; both must be exact."""
    left = np.arange(-32, 32, dtype=np.float32).reshape(8, 8)
    exact = left.astype(np.int64) @ left.T.astype(np.int64)
    product = (torch.from_numpy(left) @ torch.from_numpy(left).T).numpy()
    if np.array_equal(product.astype(np.int64), exact):
        return []
    return ["torch must multiply small integers exactly, got other sums; install torch again"]


def _slow(machine: Machine, processors: int, memory: int, gpu: str | None) -> tuple[str, ...]:
    sets = machine.instruction_sets
    notes = []
    if processors == 1:
        notes.append("one processor only: trials run one after the other")
    if memory < _LITTLE_MEMORY:
        notes.append(
            f"{memory / 2**30:.1f} GiB of memory: large networks are refused, or get looser bounds"
        )
    if sets is not None and machine.architecture in ("x86_64", "AMD64"):
        if "avx2" not in sets:
            notes.append("no AVX2: the crossbar kernel runs its portable loops")
        if not {"avx_vnni", "avx512_vnni"} & set(sets):
            notes.append("no VNNI: integer networks run slower, with the same results")
    if gpu is None:
        notes.append("no GPU: searches of networks above some ten million weights take hours")
    return tuple(notes)
