"""What a process computes with, as far as scores depend on it."""

from __future__ import annotations

from importlib import metadata

from cimrobust import __version__
from cimrobust.engine.machine import this_machine

#: Libraries that scores, or the network as it is read, may depend on.
_LIBRARIES = ("numpy", "onnxruntime", "torch")


def workplace() -> dict[str, str]:
    """Return versions and instruction sets of this process, by what messages call them."""
    machine = this_machine()
    sets = machine.instruction_sets
    libraries = [f"{name} {metadata.version(name)}" for name in _LIBRARIES]
    return {
        "versions": ", ".join([f"cimrobust {__version__}", *libraries]),
        "machine": f"{machine.architecture} {'unknown' if sets is None else ' '.join(sets)}",
    }
