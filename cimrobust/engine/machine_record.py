"""The machine that a run computes on, as certificates state it."""

from __future__ import annotations

from cimrobust.records import Record, Rows


class Machine(Record):
    """What made it run: numbers may depend on it in their last bits.

    `instruction_sets` is null where the system does not say which there are.
    """

    processor: str
    """Name of the processor."""
    architecture: str
    """Instruction set architecture."""
    instruction_sets: Rows[str] | None
    """Instruction sets that results may depend on; null: the system does not say."""
    onnxruntime: str
    """Version of onnxruntime."""
    onnxruntime_build: str
    """Build information of onnxruntime."""
    operating_system: str | None = None
    """Operating system and C library; null: not stated."""
