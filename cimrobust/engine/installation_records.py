"""What an installation has, as `cimrobust doctor` shows it."""

from __future__ import annotations

from cimrobust.engine.machine_record import Machine
from cimrobust.records import Record


class Library(Record):
    """One library that the package requires."""

    name: str
    """Its name on the package index."""
    required: str
    """Versions that the package accepts, as it declares them; empty: any."""
    installed: str | None
    """Version here; null: not installed."""
    is_accepted: bool
    """Whether that version is one of those."""


class Extra(Record):
    """One optional part of the package."""

    name: str
    """Its name, as in `pip install 'cimrobust[name]'`."""
    purpose: str
    """What it gives."""
    is_installed: bool
    """Whether everything that it needs can be imported."""


class Installation(Record):
    """What an installation has, what is wrong with it, and what will be slow on it."""

    version: str
    """Version of the package."""
    python: str
    """Version of Python."""
    machine: Machine
    """Processor, instruction sets, operating system."""
    processors: int
    """Processors that a process may use."""
    memory_bytes: int
    """Bytes of memory that a process can still take."""
    gpu: str | None
    """Name of the GPU that torch can use; null: there is none, see `gpu_reason`."""
    gpu_reason: str
    """Why there is none; empty where there is one."""
    kernel_instructions: list[str]
    """Instruction sets of the native kernel that run here, best first."""
    providers: list[str]
    """Execution providers of onnxruntime."""
    libraries: list[Library]
    """Libraries that the package requires."""
    extras: list[Extra]
    """Optional parts."""
    problems: list[str]
    """What does not work, each with what to do."""
    slow: list[str]
    """What works, and will be slow."""
