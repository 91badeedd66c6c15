"""What this installation has, whether it computes correctly, and what will be slow on it."""

from __future__ import annotations

import importlib.util
import platform
from importlib import metadata
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import torch
from packaging.requirements import Requirement

from cimrobust import __version__, _native
from cimrobust.available_memory import available_memory
from cimrobust.engine.installation_records import Extra, Installation, Library
from cimrobust.engine.machine import this_machine
from cimrobust.engine.torch_device import why_no_cuda
from cimrobust.run import available_processors

if TYPE_CHECKING:
    from cimrobust.engine.machine_record import Machine

PACKAGE = "cimrobust"
#: What every extra gives, and the modules that must be importable for it.
EXTRAS: dict[str, tuple[str, tuple[str, ...]]] = {
    "bom": ("bills of materials", ("cyclonedx",)),
    "dask": ("trials on the workers of a cluster", ("distributed",)),
    "images": ("data sets from folders of images", ("PIL",)),
    "mlflow": ("certificates as runs of MLflow", ("mlflow",)),
    "pdf": ("certificates as PDF/A", ("weasyprint",)),
    "retrain": ("tuned re-training", ("optuna",)),
    "samples": ("building the sample networks again", ("sklearn", "onnxscript")),
    "sign": ("signatures with a key", ("securesystemslib", "in_toto_attestation")),
    "sign-sigstore": ("signatures with an identity", ("sigstore",)),
}
#: Memory below which networks of more than some million weights will not fit, bytes.
_LITTLE_MEMORY = 4 * 2**30


def doctor() -> Installation:
    """Examine this installation: versions, machine, extras, and a short product in torch.

    Returns:
        What there is, what does not work, and what will be slow.
    """
    machine, libraries = this_machine(), _libraries()
    processors, memory = available_processors(), available_memory()
    gpu, gpu_reason = _gpu()
    return Installation(
        version=__version__,
        python=platform.python_version(),
        machine=machine,
        processors=processors,
        memory_bytes=memory,
        gpu=gpu,
        gpu_reason=gpu_reason,
        kernel_instructions=[*reversed(_native.simd_levels())],
        providers=onnxruntime.get_available_providers(),
        libraries=libraries,
        extras=[_extra(name) for name in EXTRAS],
        problems=[*_wrong_versions(libraries), *_wrong_numbers()],
        slow=_slow(machine, processors, memory, gpu),
    )


def _libraries() -> list[Library]:
    from_index = metadata.requires(PACKAGE) or []
    return [_library(text) for text in from_index if Requirement(text).marker is None]


def _library(text: str) -> Library:
    """Return what is installed of a requirement such as ``numpy>=2.0``."""
    asked = Requirement(text)
    try:
        installed = metadata.version(asked.name)
    except metadata.PackageNotFoundError:
        installed = None
    return Library(
        name=asked.name,
        required=str(asked.specifier),
        installed=installed,
        is_accepted=installed is not None and asked.specifier.contains(installed, prereleases=True),
    )


def _extra(name: str) -> Extra:
    purpose, modules = EXTRAS[name]
    installed = all(importlib.util.find_spec(module) is not None for module in modules)
    return Extra(name=name, purpose=purpose, is_installed=installed)


def _gpu() -> tuple[str | None, str]:
    lacking = why_no_cuda()
    return (None, lacking) if lacking else (torch.cuda.get_device_name(0), "")


def _wrong_versions(libraries: list[Library]) -> list[str]:
    return [
        f"{library.name} must be {library.required or 'installed'}, got "
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


def _slow(machine: Machine, processors: int, memory: int, gpu: str | None) -> list[str]:
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
    return notes
